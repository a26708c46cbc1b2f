//! Remove-regrow events on the device. `include/topology.h`

use std::sync::Arc;

use super::bindings::{chtsl_draws, chtsl_links, chtsl_rank, chtsl_ties};
use super::launch::{launch, query};
use super::memory::{Buf, Index, Memory};
use super::runtime::Runtime;
use super::{Cuda, Scratch, spmm};
use crate::backend::{Csr, EvolveRules, Evolved, RemovalKeys};
use crate::config::{Regrowth, Selection};
use crate::error::{Error, Result, check_len};
use crate::rng::Stream;
use crate::sparse::{LinkChange, NEW, Pattern, Transposed};

/// Links in CSR with their position before the event.
struct Links {
    row_offsets: Memory,
    column_indices: Memory,
    source: Memory,
    rows: usize,
    cols: usize,
    nnz: usize,
}

impl Links {
    fn new(runtime: &Arc<dyn Runtime>, rows: usize, cols: usize, nnz: usize) -> Result<Self> {
        Ok(Links {
            row_offsets: words(runtime, rows + 1)?,
            column_indices: words(runtime, nnz)?,
            source: words(runtime, nnz)?,
            rows,
            cols,
            nnz,
        })
    }

    /// As launchers take it.
    fn raw(&self) -> chtsl_links {
        chtsl_links {
            offsets: self.row_offsets.pointer().cast(),
            indices: self.column_indices.pointer().cast(),
            rows: self.rows as u32,
            cols: self.cols as u32,
            nnz: self.nnz as u32,
        }
    }

    /// Adds the CSC form. Gives the positions before the event beside the index.
    fn transposed(self, cuda: &Cuda) -> Result<(Index, Memory)> {
        let runtime = &cuda.runtime;
        let scratch = query!(cuda, topology_transpose_words(self.rows as u32, self.cols as u32));
        let scratch = words(runtime, scratch as usize)?;
        let (col_offsets, row_indices, source) =
            (words(runtime, self.cols + 1)?, words(runtime, self.nnz)?, words(runtime, self.nnz)?);
        launch!(
            cuda,
            topology_transpose(
                self.raw(),
                scratch.pointer().cast(),
                col_offsets.pointer().cast(),
                row_indices.pointer().cast(),
                source.pointer().cast(),
            )
        )?;
        let Links { row_offsets, column_indices, source: before, rows, cols, nnz } = self;
        let index = Index {
            rows,
            cols,
            nnz,
            row_offsets,
            column_indices,
            col_offsets,
            row_indices,
            source,
        };
        Ok((index, before))
    }
}

/// Memory of `len` 32-bit words.
fn words(runtime: &Arc<dyn Runtime>, len: usize) -> Result<Memory> {
    Memory::new(runtime, 4 * len)
}

fn draws(stream: &Stream) -> chtsl_draws {
    let ([key_low, key_high], [purpose, event]) = stream.parts();
    chtsl_draws { key_low, key_high, purpose, event }
}

/// Keys drawn with an exponent, or the plain numbers.
fn rank(soft: Option<(f64, &Stream)>) -> chtsl_rank {
    let none = chtsl_draws { key_low: 0, key_high: 0, purpose: 0, event: 0 };
    match soft {
        Some((temperature, stream)) => chtsl_rank { draws: draws(stream), temperature, soft: 1 },
        None => chtsl_rank { draws: none, temperature: 1.0, soft: 0 },
    }
}

fn ties(stream: &Option<Stream>) -> chtsl_ties {
    match stream {
        Some(stream) => chtsl_ties { draws: draws(stream), random: 1 },
        None => chtsl_ties { draws: rank(None).draws, random: 0 },
    }
}

/// Everything is queued at once; the host waits when it fetches the links. Matrices that 32 bits
/// cannot number, or whose scores could overflow, are left to the host.
pub(super) fn evolve(
    cuda: &Cuda,
    w: &Csr<Cuda>,
    rules: &EvolveRules,
) -> Result<Option<Evolved<Cuda>>> {
    spmm::check("topology event", w)?;
    let (rows, cols, nnz) = (w.index.rows, w.index.cols, w.index.nnz);
    let EvolveRules { keep, target_nnz: target, .. } = *rules;
    let Some(size) = rows.checked_mul(cols).filter(|&size| size < u32::MAX as usize) else {
        return Ok(None);
    };
    if 2 * keep + rows + cols >= 1 << 28 {
        return Ok(None);
    }
    if keep > nnz || keep > target || target > size {
        let expected = format!("links kept <= {nnz}, links after <= {size}");
        return Err(Error::shape("topology event", expected, format!("{keep}, {target}")));
    }
    let runtime = &cuda.runtime;
    let (links, removal_ties) = (w.index.csr(), ties(&rules.removal_ties));
    let removal = match &rules.removal {
        RemovalKeys::Magnitude => rank(None),
        RemovalKeys::SoftMagnitude { temperature, draws } => rank(Some((*temperature, draws))),
    };

    let (keys, refused) = (Memory::new(runtime, 8 * nnz)?, words(runtime, 1)?);
    let cut = Memory::new(runtime, query!(cuda, topology_cut_bytes()) as usize)?;
    let (link_keys, threshold) = (keys.pointer().cast::<u64>(), cut.pointer());
    let values = w.values.raw();
    launch!(
        cuda,
        topology_removal_keys(links, values, removal, link_keys, refused.pointer().cast())
    )?;
    launch!(cuda, topology_select(links, link_keys, 1, keep as u32, removal_ties, threshold))?;
    let kept = Links::new(runtime, rows, cols, keep)?;
    launch!(
        cuda,
        topology_keep(
            links,
            link_keys,
            removal_ties,
            threshold,
            kept.row_offsets.pointer().cast(),
            kept.column_indices.pointer().cast(),
            kept.source.pointer().cast(),
        )
    )?;
    let after = if target > keep { regrow(cuda, w, rules, kept, threshold)? } else { kept };
    let (index, before) = after.transposed(cuda)?;

    let mut bad = [0u32];
    refused.read(0, &mut bad)?;
    if bad[0] != NEW {
        let mut weight = [0f32];
        w.values.memory.read(4 * bad[0] as usize, &mut weight)?;
        return Err(rules.unrankable(bad[0] as usize, weight[0]));
    }
    let mut source = vec![0; target];
    before.read(0, &mut source)?;
    let change = LinkChange::new(&w.pattern, keep, target, index.pattern()?, source);
    Ok(Some(Evolved { change, index }))
}

/// Scores what is missing in `rest` and joins it with the best of that.
fn regrow(
    cuda: &Cuda,
    w: &Csr<Cuda>,
    rules: &EvolveRules,
    rest: Links,
    threshold: *mut std::ffi::c_void,
) -> Result<Links> {
    let Regrowth::Ch2L3n = rules.regrowth;
    let runtime = &cuda.runtime;
    let (rows, cols, missing) = (rest.rows, rest.cols, rules.target_nnz - rest.nnz);
    let growth = match rules.regrow_select {
        Selection::Topk => rank(None),
        Selection::Soft => rank(Some((rules.regrow_temperature, &rules.regrow_draws))),
    };
    let ties = ties(&rules.regrow_ties);
    let (rest, _) = rest.transposed(cuda)?;
    let positives = Memory::new(runtime, 8)?;
    let positive = positives.pointer().cast::<u64>();
    let scores = cuda.scratch(Scratch::Dense, 8 * rows * cols)?;
    let keys = scores.pointer().cast::<u64>();
    launch!(cuda, topology_scores(rest.csr(), rest.csc(), keys, positive, cuda.version))?;
    launch!(
        cuda,
        topology_regrowth_keys(rows as u32, cols as u32, positive, missing as u32, growth, keys)
    )?;
    launch!(cuda, topology_select(rest.csr(), keys, 0, missing as u32, ties, threshold))?;
    let after = Links::new(runtime, rows, cols, rules.target_nnz)?;
    launch!(
        cuda,
        topology_join(
            w.index.csr(),
            keys,
            ties,
            threshold,
            after.row_offsets.pointer().cast(),
            after.column_indices.pointer().cast(),
            after.source.pointer().cast(),
        )
    )?;
    Ok(after)
}

pub(super) fn migrate(cuda: &Cuda, change: &LinkChange, arrays: &mut [&mut Buf]) -> Result<()> {
    let (count, previous) = (change.source.len(), change.previous_nnz());
    let source = Memory::from_slice(&cuda.runtime, &change.source)?;
    let from = source.pointer().cast::<u32>().cast_const();
    for array in arrays {
        check_len("migrate", "entries", previous, array.len)?;
        let new = Buf::new(&cuda.runtime, count)?;
        launch!(
            cuda,
            topology_migrate(from, count as u32, array.raw(), previous as u32, new.raw())
        )?;
        **array = new;
    }
    Ok(())
}

impl Index {
    /// The links, copied back.
    pub fn pattern(&self) -> Result<Pattern> {
        let (mut row_offsets, mut column_indices) = (vec![0; self.rows + 1], vec![0; self.nnz]);
        self.row_offsets.read(0, &mut row_offsets)?;
        self.column_indices.read(0, &mut column_indices)?;
        Pattern::new(self.rows, self.cols, row_offsets, column_indices)
    }

    /// The links column by column, copied back.
    pub fn transposed(&self) -> Result<Transposed> {
        let mut t = Transposed {
            col_offsets: vec![0; self.cols + 1],
            row_indices: vec![0; self.nnz],
            source: vec![0; self.nnz],
        };
        self.col_offsets.read(0, &mut t.col_offsets)?;
        self.row_indices.read(0, &mut t.row_indices)?;
        self.source.read(0, &mut t.source)?;
        Ok(t)
    }
}
