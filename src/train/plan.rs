//! What a configuration costs before anything is allocated: numbers, bytes, FLOPs, from its shapes alone.
//!
//! Bytes are those of the CPU backend in f32, and of a CUDA device in bf16 with f32 master weights. A
//! test holds them against a model that exists. Left out are the token shards, which are mapped: the
//! system shows them as memory of the process once they have been read, and takes them back when
//! memory is short.

use super::account::{Bytes, Parameters};
use crate::config::{Config, Precision};
use crate::error::Result;
use crate::sparse::budget::{links, projection_shapes};

/// Memory of a process beside its model, in bytes: code, libraries, tokenizer, leftovers of the allocator.
/// The peaks of eight runs of 4 layers x 256 (Linux x86-64, dense and CHTsL, a vocabulary of 8192) had 19
/// to 26 MB beyond the rest of their plans and the mapped shards.
const PROGRAM: u64 = 24 << 20;

/// Where a model would live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Home {
    /// The host's memory, f32 throughout.
    Cpu,
    /// A CUDA device, bf16 activations and copies of the weights.
    Cuda,
}

/// The costs of a configuration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Trained numbers.
    pub parameters: Parameters,
    /// Numbers of the projections if they were full matrices.
    pub dense_projections: u64,
    /// Numbers of the same model with full matrices.
    pub dense_total: u64,
    /// Bytes on [`Home::Cpu`] or [`Home::Cuda`].
    pub bytes: Bytes,
    /// Scratch that operations keep, in bytes: dense forms of matrices, logits of a chunk, partial sums.
    pub scratch: u64,
    /// Scratch that each thread has beside it: logits of a tile, one head of the attention.
    pub scratch_per_thread: u64,
    /// Bytes that writing a checkpoint takes for a moment: all of it, and two copies of its largest
    /// tensor. Zero on a device: that moment is the host's.
    pub saving: u64,
    /// Bytes of the process beside the model. Zero on a device.
    pub program: u64,
    /// Bytes of one checkpoint on disk.
    pub checkpoint: u64,
    /// FLOPs per token of forward and backward pass.
    pub flops: u64,
    /// The same with full matrices.
    pub dense_flops: u64,
}

impl Plan {
    /// Costs of `config` on `home`.
    ///
    /// Errors: `Error::Config` when density, rank and sparsity contradict each other.
    pub fn new(config: &Config, home: Home) -> Result<Self> {
        let (m, method, budget) = (&config.model, &config.method, config.budget()?);
        let (dense_projections, ends, norms) = m.dense_parameters();
        let shapes = projection_shapes(m.hidden, m.intermediate);
        let mut n = Parameters { ends: ends as u64, norms: norms as u64, ..Default::default() };
        let (mut offsets, mut matrix_links, mut largest) = (0, 0, m.vocab * m.hidden);
        for (rows, cols) in shapes {
            if method.dense {
                n.dense += (m.layers * rows * cols) as u64;
                largest = largest.max(rows * cols);
                continue;
            }
            if method.sparse {
                let links = links(rows, cols, budget.connectivity_sparsity);
                matrix_links = matrix_links.max(links);
                n.links += (m.layers * links) as u64;
                offsets += (m.layers * (rows + cols)) as u64;
            }
            if method.low_rank {
                n.low_rank += (m.layers * budget.rank * (rows + cols)) as u64;
            }
        }
        let full = n.total() - n.links;
        let (cpu, bf16) = (home == Home::Cpu, config.train.precision == Precision::Bf16Pure);
        // Master values; a device also holds what its products read, in bf16.
        let copies = if cpu { 0 } else { 2 * (full - n.norms) };
        // Column and row index of the host's pattern; both directions of the backend's index with the
        // CSR position of each link; on the CPU two packed copies of the values.
        let per_link = if cpu { 4 + 2 * 12 } else { 4 + 12 };
        let bytes = Bytes {
            weights: 4 * n.total() + copies,
            gradients: 4 * n.total(),
            moments: 8 * n.total() + 4 * n.links,
            indices: per_link * n.links + 8 * offsets,
            activations: activations(config, home)?,
        };
        let stored = if bf16 { 2 } else { 4 };
        // Weights and moments; indices and ages of links; a bit per position that was ever active.
        let ever_active = if n.links > 0 { dense_projections as u64 / 8 } else { 0 };
        let checkpoint =
            3 * stored * n.total() + (4 + 4) * n.links + 4 * offsets + ever_active + (1 << 16);
        let rank = if method.low_rank && !method.dense { budget.rank } else { 0 };
        let (scratch, scratch_per_thread) = scratch(config, rank, matrix_links, home);
        // Forward 2, backward 4 per weight; attention 12·h·T/2 per token and layer (causal).
        let attention = (6 * m.layers * m.hidden * m.seq_len) as u64;
        let head = (6 * m.vocab * m.hidden) as u64;
        Ok(Plan {
            parameters: n,
            dense_projections: dense_projections as u64,
            dense_total: (dense_projections + ends + norms) as u64,
            bytes,
            scratch,
            scratch_per_thread,
            saving: if cpu { checkpoint + 2 * 4 * largest as u64 } else { 0 },
            program: if cpu { PROGRAM } else { 0 },
            checkpoint,
            flops: 6 * (n.links + n.low_rank + n.dense) + head + attention,
            dense_flops: 6 * dense_projections as u64 + head + attention,
        })
    }

    /// Memory of a run with `threads` threads, in bytes: everything at once, as it is while a checkpoint
    /// is written. Mapped token shards come on top of it as far as memory is free.
    pub fn memory(&self, threads: usize) -> u64 {
        let threads = threads as u64 * self.scratch_per_thread;
        self.bytes.total() + self.scratch + threads + self.saving + self.program
    }
}

/// Activations of one micro-batch and their gradients.
fn activations(config: &Config, home: Home) -> Result<u64> {
    let (m, method, budget) = (&config.model, &config.method, config.budget()?);
    let (tile, size) = if home == Home::Cpu { (64, 4) } else { (128, 2) };
    let tokens = (config.train.micro_batch * m.seq_len).next_multiple_of(tile) as u64;
    let both = method.sparse && method.low_rank && !method.dense && budget.rank > 0;
    let aligned = config.method.aligned()?.map(|a| a && both);
    let rank = if method.low_rank && !method.dense { budget.rank } else { 0 };
    let (h, f) = (m.hidden, m.intermediate);
    let kept = usize::from(aligned[3]) * h + usize::from(aligned[6]) * h;
    // q, k, v, gate, up; the residual stream twice; the attention's output; u of each projection.
    let block = (3 * h + 2 * f + kept) + 2 * h + h + 7 * rank;
    // x0, xf and the gradients of both ends; norm, product and branch outputs and the shared gradients.
    let shared = 4 * h + (2 * h + f) + (6 * h + 3 * f);
    // Numbers per token that stay f32: log-sums, norms, coefficients, sums.
    let statistics = m.layers * (m.heads + 2 + aligned.iter().filter(|a| **a).count());
    let sums = if both { crate::backend::branch_sums::COUNT } else { 0 };
    let wide = size * (m.layers * block + shared) as u64;
    Ok(tokens * (wide + 4 * (statistics + sums + 2) as u64))
}

/// Scratch of operations, and that of each thread.
///
/// The CPU's operations share one area, as large as the largest of them asks for, and each thread has
/// one. The sizes repeat those in `backend/cpu` (tiles of 64 tokens, the head in chunks of 8 tiles,
/// partial gradients of 1 to 16 chunks of tiles); the test below runs them and compares.
fn scratch(config: &Config, rank: usize, matrix_links: usize, home: Home) -> (u64, u64) {
    let (m, method) = (&config.model, &config.method);
    let tokens = config.train.micro_batch * m.seq_len;
    let (h, f) = (m.hidden, m.intermediate);
    if home == Home::Cuda {
        // A dense f32 gradient of the largest projection, its bf16 form, logits of a chunk.
        return ((6 * h * f + 2 * m.vocab * tokens.min(8192)) as u64, 0);
    }
    const TILE: usize = 64;
    let tiles = tokens.div_ceil(TILE);
    let chunks = (tiles / 4).clamp(1, 16);
    let panels = |features: usize| features.next_multiple_of(TILE);
    let head = tiles.min(8) * (m.vocab + panels(h)) * TILE;
    let products = if method.dense {
        tiles * panels(h.max(f)) * TILE
    } else {
        let line = |n: usize| n.next_multiple_of(16);
        chunks * (line(matrix_links) + line(rank * h) + line(rank * h.max(f)))
    };
    let (d, padded) = (m.head_dim(), m.seq_len.next_multiple_of(TILE));
    let attention = 7 * d * padded + 2 * padded * TILE + d * TILE + TILE * TILE;
    let branches = if method.dense { 0 } else { (2 * rank + TILE) * TILE };
    let of_thread = (m.vocab * TILE).max(attention).max(branches);
    (4 * head.max(products).max(chunks * h) as u64, 4 * of_thread as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::{Backend, Cpu};
    use crate::config::layers;
    use crate::layer::MicroBatch;
    use crate::model::{Activations, ForwardOptions, Llama, RandomInit};
    use crate::train::account;

    #[test]
    fn what_is_planned_is_what_is_there() {
        for sets in [
            &["method.total_sparsity=0.8"][..],
            &["method.name=dense"],
            &["method.name=cola"],
            &["method.name=chts"],
            &["method.align_layers=qk"],
        ] {
            let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
            let mut config = layers::resolve(Some("tiny"), None, &sets).unwrap();
            config.train.micro_batch = 2;
            let plan = Plan::new(&config, Home::Cpu).unwrap();
            let cpu = Cpu::new(1, config.train.precision).unwrap();
            let mut model = Llama::new(&cpu, &config, &mut RandomInit::new(&config), true).unwrap();
            let mut acts = Activations::new(&cpu, &model, 2 * config.model.seq_len, true).unwrap();
            let (n, bytes) = account::count(&cpu, &mut model, &mut acts).unwrap();
            assert_eq!(n, plan.parameters, "{sets:?}");
            for ((class, planned), (_, there)) in
                plan.bytes.classes().into_iter().zip(bytes.classes())
            {
                // Offsets of column blocks are the backend's own business.
                let tolerance = if class == "indices" { there / 20 } else { 0 };
                assert!(
                    planned.abs_diff(there) <= tolerance,
                    "{sets:?} {class}: {planned} {there}"
                );
            }
            assert_eq!(cpu.device_memory(), None);
            let sequences = config.train.micro_batch;
            let ids = vec![1; sequences * config.model.seq_len];
            let micro = MicroBatch {
                targets: &ids,
                sequences,
                seq_len: config.model.seq_len,
                target_divisor: 1.0,
                micro_batches: 1,
                starts: None,
            };
            let options = ForwardOptions::default();
            model.forward(&cpu, &ids, &micro, options, &mut acts).unwrap();
            model.loss(&cpu, &micro, &acts).unwrap();
            model.loss_and_backward(&cpu, &ids, &micro, false, &mut acts).unwrap();
            let scratch = plan.scratch + plan.scratch_per_thread;
            assert_eq!(
                cpu.scratch_bytes() as u64,
                scratch,
                "{sets:?}: one thread's and the shared"
            );
        }
    }
}
