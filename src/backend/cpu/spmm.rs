//! Sparse products: the blocked index of a matrix and the forward and transposed products.

use rayon::prelude::*;

use super::memory::{Act, Floats, check_act};
use super::simd::TILE;
use super::simd::sparse::{Links, SpmmTile};
use super::{Cpu, elementwise};
use crate::backend::Csr;
use crate::error::Result;
use crate::sparse::Pattern;

/// Width of a column block: 256 features are 64 KiB of a tile. Narrower blocks would sit in the
/// first-level cache altogether but leave too few links per row.
const BLOCK: usize = 256;

/// Links of one direction, grouped by column block, with a packed copy of the values.
pub(super) struct Blocked {
    rows: usize,
    blocks: usize,
    starts: Vec<u32>,
    indices: Vec<u32>,
    /// CSR position of each link.
    pub(super) source: Vec<u32>,
    values: Floats,
}

impl Blocked {
    fn new(
        rows: usize,
        cols: usize,
        offsets: &[u32],
        indices: &[u32],
        source: impl Fn(usize) -> u32,
    ) -> Result<Self> {
        let nnz = indices.len();
        // At least eight links per row and block, else the loop around them costs more than it saves.
        let most = (nnz / (8 * rows).max(1)).max(1);
        let blocks = ((cols + BLOCK / 2) / BLOCK).clamp(1, most);
        let width = cols.div_ceil(blocks).max(1);
        let mut starts = Vec::with_capacity(blocks * rows + 1);
        let (mut blocked, mut from) = (Vec::with_capacity(nnz), Vec::with_capacity(nnz));
        let mut next: Vec<u32> = offsets[..rows].to_vec();
        for b in 0..blocks {
            for m in 0..rows {
                starts.push(blocked.len() as u32);
                let mut i = next[m] as usize;
                while i < offsets[m + 1] as usize && (indices[i] as usize) < (b + 1) * width {
                    blocked.push(indices[i]);
                    from.push(source(i));
                    i += 1;
                }
                next[m] = i as u32;
            }
        }
        starts.push(nnz as u32);
        debug_assert_eq!(blocked.len(), nnz);
        let values = Floats::new(nnz)?;
        Ok(Blocked { rows, blocks, starts, indices: blocked, source: from, values })
    }

    fn bytes(&self) -> usize {
        4 * (self.starts.len() + self.indices.len() + self.source.len() + self.values.len())
    }

    fn pack(&mut self, values: &[f32]) {
        for (v, &s) in self.values.iter_mut().zip(&self.source) {
            *v = values[s as usize];
        }
    }

    /// Pointers for the kernels; valid while `self` lives.
    pub(super) fn links(&self) -> Links {
        Links {
            starts: self.starts.as_ptr(),
            indices: self.indices.as_ptr(),
            values: self.values.as_ptr(),
            rows: self.rows,
            blocks: self.blocks,
        }
    }
}

/// Both directions of a sparse matrix.
pub struct BlockedIndex {
    /// By output.
    pub(super) rows: Blocked,
    /// By input.
    pub(super) cols: Blocked,
}

impl BlockedIndex {
    pub(super) fn new(p: &Pattern) -> Result<Self> {
        let t = p.transposed();
        Ok(BlockedIndex {
            rows: Blocked::new(p.rows(), p.cols(), p.row_offsets(), p.column_indices(), |i| {
                i as u32
            })?,
            cols: Blocked::new(p.cols(), p.rows(), &t.col_offsets, &t.row_indices, |i| {
                t.source[i]
            })?,
        })
    }

    /// Bytes of both directions, packed values included.
    pub(super) fn bytes(&self) -> usize {
        self.rows.bytes() + self.cols.bytes()
    }

    pub(super) fn pack(&mut self, values: &[f32]) {
        self.rows.pack(values);
        self.cols.pack(values);
    }
}

pub(super) fn forward(cpu: &Cpu, w: &Csr<Cpu>, x: &Act, y: &mut Act) -> Result<()> {
    check_act("spmm", x, w.pattern.cols(), x.tokens())?;
    check_act("spmm", y, w.pattern.rows(), x.tokens())?;
    product(cpu, &w.index.rows, x, y, false);
    Ok(())
}

pub(super) fn transposed(
    cpu: &Cpu,
    w: &Csr<Cpu>,
    dy: &Act,
    dx: &mut Act,
    accumulate: bool,
) -> Result<()> {
    check_act("spmm_transposed", dy, w.pattern.rows(), dy.tokens())?;
    check_act("spmm_transposed", dx, w.pattern.cols(), dy.tokens())?;
    product(cpu, &w.index.cols, dy, dx, accumulate);
    Ok(())
}

fn product(cpu: &Cpu, w: &Blocked, x: &Act, y: &mut Act, accumulate: bool) {
    if y.features() == 0 || y.tokens() == 0 {
        return;
    }
    let n = y.features() * TILE;
    cpu.pool.install(|| {
        y.data_mut().par_chunks_exact_mut(n).enumerate().for_each(|(i, y)| {
            let kernel =
                SpmmTile { w: w.links(), x: x.tile(i).as_ptr(), y: y.as_mut_ptr(), accumulate };
            // SAFETY: a Pattern's indices are below its dimensions, which the callers compared with
            // the features of x and y; both tiles belong to the same 64 tokens.
            unsafe { cpu.level.run(kernel) }
            elementwise::round_slice(cpu, y);
        });
    });
}
