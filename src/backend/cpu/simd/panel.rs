//! The dense microkernel: a strided matrix times a panel of 64 columns.
//!
//! Tiles of activations are such panels already, so nothing is packed: layers multiply straight
//! from the tile, and the small products of the low-rank branch and of attention use the same code.

use super::{Kernel, Simd, TILE};

/// Depth of one pass over the panel: 128 rows of 64 columns are 32 KiB, so the panel stays in the
/// first-level cache while all rows of A pass by.
const DEPTH: usize = 128;

/// `C[m, 0..64] (+)= Σ_k A[m·row_stride + k·col_stride] · B[k·ldb, 0..64]`.
///
/// Sums run over k in order within blocks of 128, blocks in order; without `accumulate` the first
/// block overwrites C.
#[derive(Clone, Copy)]
pub struct Panel {
    /// A, `rows`×`depth`.
    pub a: *const f32,
    /// Elements between rows of A.
    pub row_stride: usize,
    /// Elements between columns of A.
    pub col_stride: usize,
    /// B, `depth` rows of 64.
    pub b: *const f32,
    /// Elements between rows of B.
    pub ldb: usize,
    /// C, `rows` rows of 64.
    pub c: *mut f32,
    /// Elements between rows of C.
    pub ldc: usize,
    /// Rows of A and C.
    pub rows: usize,
    /// Columns of A, rows of B.
    pub depth: usize,
    /// Add to C instead of overwriting it.
    pub accumulate: bool,
}

impl Kernel for Panel {
    type Out = ();

    // SAFETY: the caller guarantees that a, b and c cover the extents named above.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        unsafe { panel::<S>(&self) }
    }
}

/// Body of [`Panel`], for kernels that fuse it.
///
/// # Safety
/// `a`, `b` and `c` cover the extents that the fields describe; C overlaps neither A nor B.
#[inline(always)]
pub unsafe fn panel<S: Simd>(p: &Panel) {
    // SAFETY: block bounds stay within rows, depth and 64 columns.
    unsafe {
        if p.depth == 0 {
            if !p.accumulate {
                for m in 0..p.rows {
                    std::ptr::write_bytes(p.c.add(m * p.ldc), 0, TILE);
                }
            }
            return;
        }
        let mut k = 0;
        while k < p.depth {
            let depth = DEPTH.min(p.depth - k);
            let load = p.accumulate || k > 0;
            let mut m = 0;
            while m + S::ROWS <= p.rows {
                match S::ROWS {
                    6 => block::<S, 6>(p, m, k, depth, load),
                    _ => block::<S, 2>(p, m, k, depth, load),
                }
                m += S::ROWS;
            }
            match p.rows - m {
                5 => block::<S, 5>(p, m, k, depth, load),
                4 => block::<S, 4>(p, m, k, depth, load),
                3 => block::<S, 3>(p, m, k, depth, load),
                2 => block::<S, 2>(p, m, k, depth, load),
                1 => block::<S, 1>(p, m, k, depth, load),
                _ => {}
            }
            k += depth;
        }
    }
}

/// R rows × N vectors of columns in registers, over `depth` terms; all 64 columns in turn.
#[inline(always)]
unsafe fn block<S: Simd, const R: usize>(p: &Panel, m: usize, k: usize, depth: usize, load: bool) {
    // SAFETY: as the caller; four vectors fit 32 registers beside six rows, two fit 16.
    unsafe {
        if S::LANES == 16 {
            columns::<S, R, 4>(p, m, k, depth, load);
        } else {
            columns::<S, R, 2>(p, m, k, depth, load);
        }
    }
}

#[inline(always)]
unsafe fn columns<S: Simd, const R: usize, const N: usize>(
    p: &Panel,
    m: usize,
    k: usize,
    depth: usize,
    load: bool,
) {
    // SAFETY: m + R <= rows, k + depth <= p.depth, column groups tile the 64 columns.
    unsafe {
        let mut column = 0;
        while column < TILE {
            let c = p.c.add(m * p.ldc + column);
            let mut acc = [[S::splat(0.0); N]; R];
            if load {
                for (r, row) in acc.iter_mut().enumerate() {
                    for (v, x) in row.iter_mut().enumerate() {
                        *x = S::load(c.add(r * p.ldc + v * S::LANES));
                    }
                }
            }
            let mut a = p.a.add(m * p.row_stride + k * p.col_stride);
            let mut b = p.b.add(k * p.ldb + column);
            for _ in 0..depth {
                let mut x = [S::splat(0.0); N];
                for (v, x) in x.iter_mut().enumerate() {
                    *x = S::load(b.add(v * S::LANES));
                }
                for (r, row) in acc.iter_mut().enumerate() {
                    let w = S::splat(*a.add(r * p.row_stride));
                    for v in 0..N {
                        row[v] = S::fma(w, x[v], row[v]);
                    }
                }
                a = a.wrapping_add(p.col_stride);
                b = b.wrapping_add(p.ldb);
            }
            for (r, row) in acc.iter().enumerate() {
                for (v, x) in row.iter().enumerate() {
                    S::store(c.add(r * p.ldc + v * S::LANES), *x);
                }
            }
            column += N * S::LANES;
        }
    }
}
