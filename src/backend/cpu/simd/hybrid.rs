//! One tile of O = S + L and of its backward pass, fused: S and L of a row live in registers only.

use super::math::sigmoid;
use super::panel::{Panel, panel};
use super::sparse::{Links, SpmmTile, dots, row};
use super::{Kernel, Simd, TILE};
use crate::backend::branch_sums;

/// Rows whose dL is kept at a time in the backward pass: 64 × 64 f32 = 16 KiB.
pub const BACKWARD_ROWS: usize = 64;

/// The low-rank branch of one projection.
#[derive(Clone, Copy)]
pub struct LowRankTile {
    /// A, (rank, cols).
    pub a: *const f32,
    /// B, (rows, rank).
    pub b: *const f32,
    /// Rank, at least 1.
    pub rank: usize,
    /// SiLU between the factors.
    pub silu: bool,
    /// g.
    pub scale: f32,
    /// u = A·x of this tile, rank × 64: written by the forward pass, read by the backward one.
    pub u: *mut f32,
    /// Scratch for φ(u), rank × 64.
    pub phi: *mut f32,
}

/// Forward tile: `o = S + L`, optionally the per-token branch sums.
#[derive(Clone, Copy)]
pub struct HybridForward {
    /// Sparse branch.
    pub w: Option<Links>,
    /// Low-rank branch.
    pub low: Option<LowRankTile>,
    /// Input tile, cols × 64.
    pub x: *const f32,
    /// Output tile, rows × 64.
    pub o: *mut f32,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Branch sums of this tile, 5 × 64, or null.
    pub sums: *mut f32,
    /// Round S, L and O to bf16.
    pub bf16: bool,
}

#[inline(always)]
unsafe fn rounded<S: Simd>(bf16: bool, x: S::V) -> S::V {
    // SAFETY: register arithmetic.
    unsafe { if bf16 { S::to_bf16(x) } else { x } }
}

/// φ(u) into the scratch.
#[inline(always)]
unsafe fn activate<S: Simd>(low: &LowRankTile, bf16: bool) {
    // SAFETY: u and phi have rank × 64 elements.
    unsafe {
        let mut i = 0;
        while i < low.rank * TILE {
            let u = S::load(low.u.add(i));
            let phi = if low.silu { S::mul(u, sigmoid::<S>(u)) } else { u };
            S::store(low.phi.add(i), rounded::<S>(bf16, phi));
            i += S::LANES;
        }
    }
}

/// g·Σ_r B[m,r]·φ_r for 64 tokens.
#[inline(always)]
unsafe fn low_rank_row<S: Simd, const N: usize>(
    low: &LowRankTile,
    m: usize,
    bf16: bool,
) -> [S::V; N] {
    // SAFETY: m < rows, phi is filled.
    unsafe {
        let mut l = [S::splat(0.0); N];
        let b = low.b.add(m * low.rank);
        for r in 0..low.rank {
            let weight = S::splat(*b.add(r));
            let phi = low.phi.add(r * TILE);
            for (v, l) in l.iter_mut().enumerate() {
                *l = S::fma(weight, S::load(phi.add(v * S::LANES)), *l);
            }
        }
        let g = S::splat(low.scale);
        for l in &mut l {
            *l = rounded::<S>(bf16, S::mul(g, *l));
        }
        l
    }
}

impl Kernel for HybridForward {
    type Out = ();

    // SAFETY: the caller guarantees the extents named at the fields.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        unsafe { if S::LANES == 16 { self.body::<S, 4>() } else { self.body::<S, 8>() } }
    }
}

impl HybridForward {
    #[inline(always)]
    unsafe fn body<S: Simd, const N: usize>(self) {
        // SAFETY: as `run`.
        unsafe {
            if let Some(low) = &self.low {
                panel::<S>(&Panel {
                    a: low.a,
                    row_stride: self.cols,
                    col_stride: 1,
                    b: self.x,
                    ldb: TILE,
                    c: low.u,
                    ldc: TILE,
                    rows: low.rank,
                    depth: self.cols,
                    accumulate: false,
                });
                if self.bf16 {
                    round_in_place::<S>(low.u, low.rank * TILE);
                }
                activate::<S>(low, self.bf16);
            }
            // All column blocks but the last go through memory; the last one is fused with L.
            let last = self.w.map_or(0, |w| w.blocks - 1);
            if let Some(w) = self.w
                && last > 0
            {
                let w = Links { blocks: last, ..w };
                SpmmTile { w, x: self.x, y: self.o, accumulate: false }.run::<S>();
            }
            for m in 0..self.rows {
                let o = self.o.add(m * TILE);
                let mut s = [S::splat(0.0); N];
                if let Some(w) = &self.w {
                    if last > 0 {
                        for (v, s) in s.iter_mut().enumerate() {
                            *s = S::load(o.add(v * S::LANES));
                        }
                    }
                    row::<S, N>(w, m, last, self.x, &mut s);
                }
                let Some(low) = &self.low else {
                    for (v, s) in s.iter().enumerate() {
                        S::store(o.add(v * S::LANES), rounded::<S>(self.bf16, *s));
                    }
                    continue;
                };
                let l = low_rank_row::<S, N>(low, m, self.bf16);
                for v in 0..N {
                    s[v] = rounded::<S>(self.bf16, s[v]);
                    let sum = rounded::<S>(self.bf16, S::add(s[v], l[v]));
                    S::store(o.add(v * S::LANES), sum);
                }
                if !self.sums.is_null() {
                    self.add_sums::<S, N>(&s, &l);
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn add_sums<S: Simd, const N: usize>(&self, s: &[S::V; N], l: &[S::V; N]) {
        // SAFETY: sums has 5 × 64 elements.
        unsafe {
            for v in 0..N {
                let zero = S::splat(0.0);
                let add = |which: usize, x: S::V| {
                    let p = self.sums.add(which * TILE + v * S::LANES);
                    S::store(p, S::add(S::load(p), x));
                };
                let d = S::sub(s[v], l[v]);
                let overlap = S::min(S::abs(s[v]), S::abs(l[v]));
                add(branch_sums::DIFFERENCE, S::mul(d, d));
                add(branch_sums::CANCELLED, S::where_less(S::mul(s[v], l[v]), zero, overlap));
                add(branch_sums::OVERLAP, overlap);
                add(branch_sums::SPARSE, S::mul(s[v], s[v]));
                add(branch_sums::LOW_RANK, S::mul(l[v], l[v]));
            }
        }
    }
}

/// Rounds `len` elements (a multiple of 64) to bf16.
///
/// # Safety
/// `p` is valid for `len` elements.
#[inline(always)]
pub unsafe fn round_in_place<S: Simd>(p: *mut f32, len: usize) {
    // SAFETY: as documented.
    unsafe {
        let mut i = 0;
        while i < len {
            S::store(p.add(i), S::to_bf16(S::load(p.add(i))));
            i += S::LANES;
        }
    }
}

/// Backward tile; gradients go to partial sums of the chunk that the tile belongs to.
#[derive(Clone, Copy)]
pub struct HybridBackward {
    /// Sparse branch by output, for the gradients at the links.
    pub w: Option<Links>,
    /// Sparse branch by input, for dx.
    pub wt: Option<Links>,
    /// Low-rank branch; `u` is read.
    pub low: Option<LowRankTile>,
    /// Input tile, cols × 64.
    pub x: *const f32,
    /// Output tile, rows × 64; read only with `coefficients`.
    pub o: *const f32,
    /// Alignment coefficient per token, 64, or null.
    pub coefficients: *const f32,
    /// dO on entry, dS on return; rows × 64.
    pub d_o: *mut f32,
    /// dx tile, cols × 64.
    pub dx: *mut f32,
    /// Add to dx.
    pub accumulate: bool,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// Partial gradient per link, in the order of `w`.
    pub dvalues: *mut f32,
    /// Partial gradient of A, transposed: (cols, rank).
    pub da: *mut f32,
    /// Partial gradient of B, (rows, rank).
    pub db: *mut f32,
    /// Scratch: dφ, rank × 64.
    pub dphi: *mut f32,
    /// Scratch: dL of [`BACKWARD_ROWS`] rows.
    pub dl: *mut f32,
    /// Round gradients to bf16.
    pub bf16: bool,
}

impl Kernel for HybridBackward {
    type Out = ();

    // SAFETY: the caller guarantees the extents named at the fields.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        unsafe { if S::LANES == 16 { self.body::<S, 4>() } else { self.body::<S, 8>() } }
    }
}

impl HybridBackward {
    #[inline(always)]
    unsafe fn body<S: Simd, const N: usize>(self) {
        // SAFETY: as `run`.
        unsafe {
            if let Some(low) = &self.low {
                activate::<S>(low, self.bf16);
                let mut m = 0;
                while m < self.rows {
                    let rows = BACKWARD_ROWS.min(self.rows - m);
                    self.split_gradient::<S, N>(low, m, rows);
                    // dφ (+)= Bᵀ·dL over these rows.
                    panel::<S>(&Panel {
                        a: low.b.add(m * low.rank),
                        row_stride: 1,
                        col_stride: low.rank,
                        b: self.dl,
                        ldb: TILE,
                        c: self.dphi,
                        ldc: TILE,
                        rows: low.rank,
                        depth: rows,
                        accumulate: m > 0,
                    });
                    m += rows;
                }
                self.through_activation::<S>(low);
                self.factor_gradient_a::<S, N>(low);
            }
            if let Some(wt) = self.wt {
                SpmmTile { w: wt, x: self.d_o, y: self.dx, accumulate: self.accumulate }.run::<S>();
            }
            if let Some(low) = &self.low {
                panel::<S>(&Panel {
                    a: low.a,
                    row_stride: 1,
                    col_stride: self.cols,
                    b: self.dphi,
                    ldb: TILE,
                    c: self.dx,
                    ldc: TILE,
                    rows: self.cols,
                    depth: low.rank,
                    accumulate: self.accumulate || self.wt.is_some(),
                });
            }
            if self.bf16 {
                round_in_place::<S>(self.dx, self.cols * TILE);
            }
            if let Some(w) = &self.w {
                for b in 0..w.blocks {
                    for m in 0..self.rows {
                        let g = load_row::<S, N>(self.d_o.add(m * TILE));
                        dots::<S, N>(w, m, b, &g, self.x, self.dvalues);
                    }
                }
            }
        }
    }

    /// dS and g·dL of `rows` rows from m on, and dB of these rows.
    #[inline(always)]
    unsafe fn split_gradient<S: Simd, const N: usize>(
        &self,
        low: &LowRankTile,
        m: usize,
        rows: usize,
    ) {
        // SAFETY: m + rows <= self.rows, rows <= BACKWARD_ROWS.
        unsafe {
            let scale = S::splat(low.scale);
            for i in 0..rows {
                let d_o = self.d_o.add((m + i) * TILE);
                let mut dl = load_row::<S, N>(d_o);
                if !self.coefficients.is_null() {
                    let o = load_row::<S, N>(self.o.add((m + i) * TILE));
                    let l = low_rank_row::<S, N>(low, m + i, self.bf16);
                    for v in 0..N {
                        // D = S − L = O − 2L.
                        let d = S::fma(S::splat(-2.0), l[v], o[v]);
                        let cd = S::mul(S::load(self.coefficients.add(v * S::LANES)), d);
                        let ds = rounded::<S>(self.bf16, S::add(dl[v], cd));
                        dl[v] = rounded::<S>(self.bf16, S::sub(dl[v], cd));
                        S::store(d_o.add(v * S::LANES), ds);
                    }
                }
                for (v, dl) in dl.iter_mut().enumerate() {
                    *dl = S::mul(scale, *dl);
                    S::store(self.dl.add(i * TILE + v * S::LANES), *dl);
                }
                let db = self.db.add((m + i) * low.rank);
                dense_dots::<S, N>(&dl, low.phi, low.rank, db);
            }
        }
    }

    /// dφ → du in place.
    #[inline(always)]
    unsafe fn through_activation<S: Simd>(&self, low: &LowRankTile) {
        // SAFETY: dphi and u have rank × 64 elements.
        unsafe {
            let mut i = 0;
            while i < low.rank * TILE {
                let mut d = rounded::<S>(self.bf16, S::load(self.dphi.add(i)));
                if low.silu {
                    // SiLU'(u) = σ(u)·(1 + u·(1 − σ(u))).
                    let u = S::load(low.u.add(i));
                    let sg = sigmoid::<S>(u);
                    let one = S::splat(1.0);
                    let slope = S::mul(sg, S::fma(u, S::sub(one, sg), one));
                    d = rounded::<S>(self.bf16, S::mul(d, slope));
                }
                S::store(self.dphi.add(i), d);
                i += S::LANES;
            }
        }
    }

    /// dAᵀ[k, :] += Σ_t x[k,t]·du[:,t]: each input row is loaded once for all ranks.
    #[inline(always)]
    unsafe fn factor_gradient_a<S: Simd, const N: usize>(&self, low: &LowRankTile) {
        // SAFETY: da has cols × rank elements.
        unsafe {
            for k in 0..self.cols {
                let x = load_row::<S, N>(self.x.add(k * TILE));
                dense_dots::<S, N>(&x, self.dphi, low.rank, self.da.add(k * low.rank));
            }
        }
    }
}

#[inline(always)]
unsafe fn load_row<S: Simd, const N: usize>(p: *const f32) -> [S::V; N] {
    // SAFETY: the caller's row has 64 elements.
    unsafe {
        let mut row = [S::splat(0.0); N];
        for (v, r) in row.iter_mut().enumerate() {
            *r = S::load(p.add(v * S::LANES));
        }
        row
    }
}

/// `out[r] += ⟨g, rows[r]⟩` for `count` consecutive rows of 64.
#[inline(always)]
unsafe fn dense_dots<S: Simd, const N: usize>(
    g: &[S::V; N],
    rows: *const f32,
    count: usize,
    out: *mut f32,
) {
    // SAFETY: rows has count × 64 elements, out has count.
    unsafe {
        let dot = |r: usize| {
            let p = rows.add(r * TILE);
            let mut s = S::mul(g[0], S::load(p));
            for (v, g) in g.iter().enumerate().skip(1) {
                s = S::fma(*g, S::load(p.add(v * S::LANES)), s);
            }
            s
        };
        let mut r = 0;
        while r + S::LANES <= count {
            let mut partial = [S::splat(0.0); 16];
            for (j, s) in partial.iter_mut().enumerate().take(S::LANES) {
                *s = dot(r + j);
            }
            S::store(out.add(r), S::add(S::load(out.add(r)), S::sum_each(&partial)));
            r += S::LANES;
        }
        while r < count {
            *out.add(r) += S::sum(dot(r));
            r += 1;
        }
    }
}
