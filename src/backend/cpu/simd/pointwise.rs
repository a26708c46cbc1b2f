//! Element-wise kernels over slices whose length is a multiple of 16.

use super::math::sigmoid;
use super::{Kernel, Simd, TILE};

/// `y = a + b`.
pub struct Add<'a> {
    /// First summand.
    pub a: &'a [f32],
    /// Second summand.
    pub b: &'a [f32],
    /// Sum.
    pub y: &'a mut [f32],
}

impl Kernel for Add<'_> {
    type Out = ();
    // SAFETY: lengths are compared here; indices stay below them.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        assert!(self.a.len() == self.y.len() && self.b.len() == self.y.len());
        assert!(self.y.len().is_multiple_of(16));
        unsafe {
            let (a, b, y) = (self.a.as_ptr(), self.b.as_ptr(), self.y.as_mut_ptr());
            for i in (0..self.y.len()).step_by(S::LANES) {
                S::store(y.add(i), S::add(S::load(a.add(i)), S::load(b.add(i))));
            }
        }
    }
}

/// Rounds to bf16 in place; any length.
pub struct Round<'a> {
    /// Values.
    pub x: &'a mut [f32],
}

impl Kernel for Round<'_> {
    type Out = ();
    // SAFETY: indices stay below the length.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        unsafe {
            let p = self.x.as_mut_ptr();
            let whole = self.x.len() / S::LANES * S::LANES;
            for i in (0..whole).step_by(S::LANES) {
                S::store(p.add(i), S::to_bf16(S::load(p.add(i))));
            }
            for x in &mut self.x[whole..] {
                *x = half::bf16::from_f32(*x).to_f32();
            }
        }
    }
}

/// `y = SiLU(gate)·up`.
pub struct Swiglu<'a> {
    /// Gate.
    pub gate: &'a [f32],
    /// Up.
    pub up: &'a [f32],
    /// Product.
    pub y: &'a mut [f32],
    /// Round SiLU and product to bf16.
    pub bf16: bool,
}

impl Kernel for Swiglu<'_> {
    type Out = ();
    // SAFETY: lengths are compared here; indices stay below them.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        assert!(self.gate.len() == self.y.len() && self.up.len() == self.y.len());
        assert!(self.y.len().is_multiple_of(16));
        unsafe {
            let (gate, up, y) = (self.gate.as_ptr(), self.up.as_ptr(), self.y.as_mut_ptr());
            for i in (0..self.y.len()).step_by(S::LANES) {
                let g = S::load(gate.add(i));
                let mut silu = S::mul(g, sigmoid::<S>(g));
                if self.bf16 {
                    silu = S::to_bf16(silu);
                }
                let mut out = S::mul(silu, S::load(up.add(i)));
                if self.bf16 {
                    out = S::to_bf16(out);
                }
                S::store(y.add(i), out);
            }
        }
    }
}

/// `dgate = dy·up·SiLU'(gate)`, `dup = dy·SiLU(gate)`.
pub struct SwigluBackward<'a> {
    /// Gradient of the product.
    pub dy: &'a [f32],
    /// Gate.
    pub gate: &'a [f32],
    /// Up.
    pub up: &'a [f32],
    /// Gradient of gate.
    pub dgate: &'a mut [f32],
    /// Gradient of up.
    pub dup: &'a mut [f32],
    /// Round both to bf16.
    pub bf16: bool,
}

impl Kernel for SwigluBackward<'_> {
    type Out = ();
    // SAFETY: lengths are compared here; indices stay below them.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let n = self.dy.len();
        assert!(self.gate.len() == n && self.up.len() == n && n.is_multiple_of(16));
        assert!(self.dgate.len() == n && self.dup.len() == n);
        unsafe {
            let (dy, gate, up) = (self.dy.as_ptr(), self.gate.as_ptr(), self.up.as_ptr());
            let (dgate, dup) = (self.dgate.as_mut_ptr(), self.dup.as_mut_ptr());
            for i in (0..n).step_by(S::LANES) {
                let (d, g) = (S::load(dy.add(i)), S::load(gate.add(i)));
                let (one, s) = (S::splat(1.0), sigmoid::<S>(g));
                let slope = S::mul(s, S::fma(g, S::sub(one, s), one));
                let mut to_gate = S::mul(S::mul(d, S::load(up.add(i))), slope);
                let mut to_up = S::mul(d, S::mul(g, s));
                if self.bf16 {
                    to_gate = S::to_bf16(to_gate);
                    to_up = S::to_bf16(to_up);
                }
                S::store(dgate.add(i), to_gate);
                S::store(dup.add(i), to_up);
            }
        }
    }
}

/// RMSNorm of one tile: `rstd = (mean x² + eps)^-½`, `y = x·rstd·gain`.
pub struct RmsNorm<'a> {
    /// Input tile, features × 64.
    pub x: &'a [f32],
    /// Gains, one per feature.
    pub gain: &'a [f32],
    /// Epsilon.
    pub eps: f32,
    /// Output tile.
    pub y: &'a mut [f32],
    /// 64 reciprocal roots.
    pub rstd: &'a mut [f32],
    /// Round x·rstd and y to bf16.
    pub bf16: bool,
}

impl Kernel for RmsNorm<'_> {
    type Out = ();
    // SAFETY: lengths are compared here; indices stay below them.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let features = self.gain.len();
        assert!(self.x.len() == features * TILE && self.y.len() == features * TILE);
        assert!(self.rstd.len() == TILE);
        unsafe {
            let (x, y) = (self.x.as_ptr(), self.y.as_mut_ptr());
            for v in (0..TILE).step_by(S::LANES) {
                let mut ss = S::splat(0.0);
                for f in 0..features {
                    let a = S::load(x.add(f * TILE + v));
                    ss = S::fma(a, a, ss);
                }
                let mean = S::mul(ss, S::splat(1.0 / features as f32));
                let rstd = S::div(S::splat(1.0), S::sqrt(S::add(mean, S::splat(self.eps))));
                S::store(self.rstd.as_mut_ptr().add(v), rstd);
                for f in 0..features {
                    let mut a = S::mul(S::load(x.add(f * TILE + v)), rstd);
                    if self.bf16 {
                        a = S::to_bf16(a);
                    }
                    a = S::mul(a, S::splat(self.gain[f]));
                    if self.bf16 {
                        a = S::to_bf16(a);
                    }
                    S::store(y.add(f * TILE + v), a);
                }
            }
        }
    }
}

/// Backward of one RMSNorm tile; adds to dx and dgain.
pub struct RmsNormBackward<'a> {
    /// Gradient tile, features × 64.
    pub dy: &'a [f32],
    /// Input tile.
    pub x: &'a [f32],
    /// Gains.
    pub gain: &'a [f32],
    /// 64 reciprocal roots.
    pub rstd: &'a [f32],
    /// Gradient of the input tile, accumulated.
    pub dx: &'a mut [f32],
    /// Gradient of the gains, accumulated.
    pub dgain: &'a mut [f32],
}

impl Kernel for RmsNormBackward<'_> {
    type Out = ();
    // SAFETY: lengths are compared here; indices stay below them.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let features = self.gain.len();
        let n = features * TILE;
        assert!(self.dy.len() == n && self.x.len() == n && self.dx.len() == n);
        assert!(self.rstd.len() == TILE && self.dgain.len() == features);
        unsafe {
            let (dy, x, dx) = (self.dy.as_ptr(), self.x.as_ptr(), self.dx.as_mut_ptr());
            for v in (0..TILE).step_by(S::LANES) {
                let rstd = S::load(self.rstd.as_ptr().add(v));
                let mut dot = S::splat(0.0);
                for f in 0..features {
                    let i = f * TILE + v;
                    let product = S::mul(S::load(dy.add(i)), S::load(x.add(i)));
                    dot = S::fma(product, S::splat(self.gain[f]), dot);
                    self.dgain[f] += S::sum(S::mul(product, rstd));
                }
                // dx = r·(g∘dy) − x·r³·⟨g∘dy, x⟩/H.
                let r3 = S::mul(rstd, S::mul(rstd, rstd));
                let c = S::mul(S::mul(r3, dot), S::splat(1.0 / features as f32));
                for f in 0..features {
                    let i = f * TILE + v;
                    let through = S::mul(S::mul(S::load(dy.add(i)), S::splat(self.gain[f])), rstd);
                    let delta = S::sub(through, S::mul(c, S::load(x.add(i))));
                    S::store(dx.add(i), S::add(S::load(dx.add(i)), delta));
                }
            }
        }
    }
}

/// Turns a tile of logits (vocab × 64) into `e^(l − max)`, with max and sum per token.
pub struct Softmax<'a> {
    /// Logits on entry, exponentials on return.
    pub logits: &'a mut [f32],
    /// 64 maxima.
    pub max: &'a mut [f32],
    /// 64 sums of exponentials.
    pub sum: &'a mut [f32],
}

impl Kernel for Softmax<'_> {
    type Out = ();
    // SAFETY: lengths are compared here; indices stay below them.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let rows = self.logits.len() / TILE;
        assert!(self.max.len() == TILE && self.sum.len() == TILE);
        unsafe {
            let p = self.logits.as_mut_ptr();
            let (max, sum) = (self.max.as_mut_ptr(), self.sum.as_mut_ptr());
            for v in (0..TILE).step_by(S::LANES) {
                S::store(max.add(v), S::splat(f32::NEG_INFINITY));
                S::store(sum.add(v), S::splat(0.0));
            }
            for r in 0..rows {
                for v in (0..TILE).step_by(S::LANES) {
                    let m = S::max(S::load(p.add(r * TILE + v)), S::load(max.add(v)));
                    S::store(max.add(v), m);
                }
            }
            for r in 0..rows {
                for v in (0..TILE).step_by(S::LANES) {
                    let at = p.add(r * TILE + v);
                    let e = super::math::exp::<S>(S::sub(S::load(at), S::load(max.add(v))));
                    S::store(at, e);
                    S::store(sum.add(v), S::add(S::load(sum.add(v)), e));
                }
            }
        }
    }
}

/// Multiplies every row of a tile (rows × 64) by 64 factors, one per token.
pub struct ScaleTokens<'a> {
    /// Tile.
    pub x: &'a mut [f32],
    /// 64 factors.
    pub factors: &'a [f32],
}

impl Kernel for ScaleTokens<'_> {
    type Out = ();
    // SAFETY: lengths are compared here; indices stay below them.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        assert!(self.factors.len() == TILE && self.x.len().is_multiple_of(TILE));
        unsafe {
            let (p, f) = (self.x.as_mut_ptr(), self.factors.as_ptr());
            for r in 0..self.x.len() / TILE {
                for v in (0..TILE).step_by(S::LANES) {
                    let at = p.add(r * TILE + v);
                    S::store(at, S::mul(S::load(at), S::load(f.add(v))));
                }
            }
        }
    }
}

/// `p = e^(s·scale − lse)` of a tile of scores, in place (attention's recomputed probabilities).
pub struct ExpMinus<'a> {
    /// Scores (rows × 64) on entry, probabilities on return.
    pub x: &'a mut [f32],
    /// Factor on the scores.
    pub scale: f32,
    /// 64 subtrahends.
    pub lse: &'a [f32],
}

impl Kernel for ExpMinus<'_> {
    type Out = ();
    // SAFETY: lengths are compared here; indices stay below them.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        assert!(self.lse.len() == TILE && self.x.len().is_multiple_of(TILE));
        unsafe {
            let (p, l, scale) = (self.x.as_mut_ptr(), self.lse.as_ptr(), S::splat(self.scale));
            for r in 0..self.x.len() / TILE {
                for v in (0..TILE).step_by(S::LANES) {
                    let at = p.add(r * TILE + v);
                    let s = S::sub(S::mul(S::load(at), scale), S::load(l.add(v)));
                    S::store(at, super::math::exp::<S>(s));
                }
            }
        }
    }
}

/// `dp = p·(dp − delta)` of a tile of probabilities and their gradients (softmax backward).
pub struct SoftmaxBackward<'a> {
    /// Probabilities, rows × 64.
    pub p: &'a [f32],
    /// Gradient of the probabilities on entry, of the scores on return.
    pub dp: &'a mut [f32],
    /// 64 inner products ⟨dO, O⟩.
    pub delta: &'a [f32],
}

impl Kernel for SoftmaxBackward<'_> {
    type Out = ();
    // SAFETY: lengths are compared here; indices stay below them.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        assert!(self.delta.len() == TILE && self.p.len() == self.dp.len());
        assert!(self.p.len().is_multiple_of(TILE));
        unsafe {
            let (p, dp, delta) = (self.p.as_ptr(), self.dp.as_mut_ptr(), self.delta.as_ptr());
            for r in 0..self.p.len() / TILE {
                for v in (0..TILE).step_by(S::LANES) {
                    let i = r * TILE + v;
                    let d = S::sub(S::load(dp.add(i)), S::load(delta.add(v)));
                    S::store(dp.add(i), S::mul(S::load(p.add(i)), d));
                }
            }
        }
    }
}

/// Adam over one slice.
pub struct Adam<'a> {
    /// Parameters.
    pub p: &'a mut [f32],
    /// Gradients.
    pub g: &'a [f32],
    /// First moments.
    pub m: &'a mut [f32],
    /// Second moments.
    pub v: &'a mut [f32],
    /// Coefficients.
    pub n: crate::backend::adam::AdamNumbers,
}

impl Kernel for Adam<'_> {
    type Out = ();
    // SAFETY: lengths are compared here; indices stay below them.
    #[inline(always)]
    unsafe fn run<S: Simd>(self) {
        let len = self.p.len();
        assert!(self.g.len() == len && self.m.len() == len && self.v.len() == len);
        let n = self.n;
        unsafe {
            let (p, g) = (self.p.as_mut_ptr(), self.g.as_ptr());
            let (m, v) = (self.m.as_mut_ptr(), self.v.as_mut_ptr());
            let whole = len / S::LANES * S::LANES;
            for i in (0..whole).step_by(S::LANES) {
                let weight = S::load(p.add(i));
                let grad = S::mul(S::load(g.add(i)), S::splat(n.grad_scale));
                let grad = S::fma(S::splat(n.coupled_decay), weight, grad);
                let m1 = S::load(m.add(i));
                let m1 = S::fma(S::splat(n.one_minus_beta1), S::sub(grad, m1), m1);
                let v1 = S::mul(S::splat(n.beta2), S::load(v.add(i)));
                let v1 = S::fma(S::mul(S::splat(n.one_minus_beta2), grad), grad, v1);
                let root = S::mul(S::sqrt(v1), S::splat(n.root_correction));
                let step = S::div(m1, S::add(root, S::splat(n.eps)));
                let shrunk = S::mul(weight, S::splat(n.shrink));
                S::store(m.add(i), m1);
                S::store(v.add(i), v1);
                S::store(p.add(i), S::fma(S::splat(-n.step_size), step, shrunk));
            }
            for i in whole..len {
                let weight = self.p[i];
                let grad = self.g[i] * n.grad_scale + n.coupled_decay * weight;
                let m1 = self.m[i] + n.one_minus_beta1 * (grad - self.m[i]);
                let v1 = n.beta2 * self.v[i] + n.one_minus_beta2 * grad * grad;
                self.m[i] = m1;
                self.v[i] = v1;
                self.p[i] = weight * n.shrink
                    - n.step_size * (m1 / (v1.sqrt() * n.root_correction + n.eps));
            }
        }
    }
}
