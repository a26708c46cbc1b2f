//! Sparse products on one tile of 64 tokens: gather-axpy per row and dots at the links.
//!
//! The columns are walked in blocks of about 256 features (64 KiB of the tile): a random mask reads
//! every input row about once per link, and with half of a block in the first-level cache S·X is a
//! fifth faster than over whole rows (benches/record/sparse-products.md).

use super::{Kernel, Simd, TILE};

/// Links by row (CSR, or CSC for the transposed product) with their values.
#[derive(Clone, Copy)]
pub struct Links {
    /// `blocks·rows + 1` positions: the links of row m in column block b are
    /// `starts[b·rows + m]..starts[b·rows + m + 1]`. Links of a block lie together: with gaps
    /// between the rows of a block the hardware prefetch fails and the gain is lost.
    pub starts: *const u32,
    /// Feature of the input tile that each link reads.
    pub indices: *const u32,
    /// Value of each link.
    pub values: *const f32,
    /// Number of rows.
    pub rows: usize,
    /// Number of column blocks, at least 1.
    pub blocks: usize,
}

impl Links {
    /// Positions of the links of row m in block b.
    ///
    /// # Safety
    /// `m < rows`, `b < blocks`.
    #[inline(always)]
    pub unsafe fn range(&self, m: usize, b: usize) -> (usize, usize) {
        // SAFETY: starts has blocks·rows + 1 entries.
        unsafe {
            let p = self.starts.add(b * self.rows + m);
            (*p as usize, *p.add(1) as usize)
        }
    }
}

/// `y[m] (+)= Σ_links value · x[index]` for every row m of one tile; sums in link order.
#[derive(Clone, Copy)]
pub struct SpmmTile {
    /// The matrix.
    pub w: Links,
    /// Input tile, features × 64.
    pub x: *const f32,
    /// Output tile, rows × 64.
    pub y: *mut f32,
    /// Add to y instead of overwriting it.
    pub accumulate: bool,
}

impl Kernel for SpmmTile {
    type Out = ();

    // SAFETY: the caller guarantees that indices stay within x and that y has `rows` rows.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        unsafe { if S::LANES == 16 { self.body::<S, 4>() } else { self.body::<S, 8>() } }
    }
}

impl SpmmTile {
    #[inline(always)]
    unsafe fn body<S: Simd, const N: usize>(self) {
        // SAFETY: as `run`.
        unsafe {
            for b in 0..self.w.blocks {
                for m in 0..self.w.rows {
                    let y = self.y.add(m * TILE);
                    let mut acc = [S::splat(0.0); N];
                    if b > 0 || self.accumulate {
                        for (v, a) in acc.iter_mut().enumerate() {
                            *a = S::load(y.add(v * S::LANES));
                        }
                    }
                    row::<S, N>(&self.w, m, b, self.x, &mut acc);
                    for (v, a) in acc.iter().enumerate() {
                        S::store(y.add(v * S::LANES), *a);
                    }
                }
            }
        }
    }
}

/// Adds block b of row m of the product to the accumulators, which hold 64 tokens.
///
/// # Safety
/// `m < w.rows`, `b < w.blocks`, every index names a feature of `x`, `N · LANES = 64`.
#[inline(always)]
pub unsafe fn row<S: Simd, const N: usize>(
    w: &Links,
    m: usize,
    b: usize,
    x: *const f32,
    acc: &mut [S::V; N],
) {
    // SAFETY: as documented.
    unsafe {
        let (start, end) = w.range(m, b);
        for i in start..end {
            let value = S::splat(*w.values.add(i));
            let p = x.add(*w.indices.add(i) as usize * TILE);
            for (v, a) in acc.iter_mut().enumerate() {
                *a = S::fma(value, S::load(p.add(v * S::LANES)), *a);
            }
        }
    }
}

/// `dvalues[link(m,k)] += Σ_tokens dy[m]·x[k]` over one tile.
#[derive(Clone, Copy)]
pub struct SddmmTile {
    /// The links; `values` is not read.
    pub w: Links,
    /// Gradient tile, rows × 64.
    pub dy: *const f32,
    /// Input tile, features × 64.
    pub x: *const f32,
    /// Gradient of each link.
    pub dvalues: *mut f32,
}

impl Kernel for SddmmTile {
    type Out = ();

    // SAFETY: the caller guarantees that dy has `rows` rows, indices stay within x and dvalues has
    // one element per link.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        unsafe { if S::LANES == 16 { self.body::<S, 4>() } else { self.body::<S, 8>() } }
    }
}

impl SddmmTile {
    #[inline(always)]
    unsafe fn body<S: Simd, const N: usize>(self) {
        // SAFETY: as `run`.
        unsafe {
            for b in 0..self.w.blocks {
                for m in 0..self.w.rows {
                    let dy = self.dy.add(m * TILE);
                    let mut g = [S::splat(0.0); N];
                    for (v, g) in g.iter_mut().enumerate() {
                        *g = S::load(dy.add(v * S::LANES));
                    }
                    dots::<S, N>(&self.w, m, b, &g, self.x, self.dvalues);
                }
            }
        }
    }
}

/// Adds the dots of one gradient row (in registers) with its linked inputs of block b to `dvalues`.
///
/// `LANES` links at a time: their partial vectors are summed by one transposing reduction, which
/// costs three instructions a link instead of a horizontal sum each.
///
/// # Safety
/// As [`row`]; `dvalues` has one element per link.
#[inline(always)]
pub unsafe fn dots<S: Simd, const N: usize>(
    w: &Links,
    m: usize,
    b: usize,
    g: &[S::V; N],
    x: *const f32,
    dvalues: *mut f32,
) {
    // SAFETY: as documented.
    unsafe {
        let (mut i, end) = w.range(m, b);
        let dot = |i: usize| {
            let p = x.add(*w.indices.add(i) as usize * TILE);
            let mut s = S::mul(g[0], S::load(p));
            for (v, g) in g.iter().enumerate().skip(1) {
                s = S::fma(*g, S::load(p.add(v * S::LANES)), s);
            }
            s
        };
        while i + S::LANES <= end {
            let mut partial = [S::splat(0.0); 16];
            for (j, s) in partial.iter_mut().enumerate().take(S::LANES) {
                *s = dot(i + j);
            }
            let out = dvalues.add(i);
            S::store(out, S::add(S::load(out), S::sum_each(&partial)));
            i += S::LANES;
        }
        while i < end {
            *dvalues.add(i) += S::sum(dot(i));
            i += 1;
        }
    }
}
