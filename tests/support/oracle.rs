//! Every operation as a plain loop over row-major arrays, generic over the number: f64 for central
//! differences, [`Bounded`] for values together with the error that f32 or bf16 may make in them.

use std::ops::{Add, Div, Mul, Neg, Sub};

use chtsl::backend::{NO_TARGET, branch_sums};
use chtsl::sparse::Pattern;

/// A real number.
pub trait Real:
    Copy
    + From<f64>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
{
    fn value(self) -> f64;
    /// f(x), given f(x) and f'(x).
    fn map(self, value: f64, slope: f64) -> Self;
    fn min(self, other: Self) -> Self;

    fn exp(self) -> Self {
        let e = self.value().exp();
        self.map(e, e)
    }
    fn ln(self) -> Self {
        self.map(self.value().ln(), 1.0 / self.value())
    }
    fn sqrt(self) -> Self {
        let root = self.value().sqrt();
        self.map(root, 0.5 / root)
    }
    fn abs(self) -> Self {
        self.map(self.value().abs(), self.value().signum())
    }
    fn sigmoid(self) -> Self {
        let s = 1.0 / (1.0 + (-self.value()).exp());
        self.map(s, s * (1.0 - s))
    }
}

impl Real for f64 {
    fn value(self) -> f64 {
        self
    }
    fn map(self, value: f64, _: f64) -> f64 {
        value
    }
    fn min(self, other: f64) -> f64 {
        f64::min(self, other)
    }
}

/// A number and the magnitude that its rounding errors are proportional to.
///
/// Of a sum of products it is Σ|a||b|; of f(x) it is |f(x)| + |f'(x)|·magnitude(x), as an error of
/// the argument arrives with that slope. If n roundings lie on the way to a number, its error is at
/// most about n·u·magnitude, u being the unit roundoff.
#[derive(Clone, Copy, Debug)]
pub struct Bounded {
    pub value: f64,
    pub magnitude: f64,
}

impl From<f64> for Bounded {
    fn from(value: f64) -> Self {
        Bounded { value, magnitude: value.abs() }
    }
}

impl Add for Bounded {
    type Output = Self;
    fn add(self, o: Self) -> Self {
        Bounded { value: self.value + o.value, magnitude: self.magnitude + o.magnitude }
    }
}

impl Neg for Bounded {
    type Output = Self;
    fn neg(self) -> Self {
        Bounded { value: -self.value, ..self }
    }
}

impl Sub for Bounded {
    type Output = Self;
    fn sub(self, o: Self) -> Self {
        self + -o
    }
}

impl Mul for Bounded {
    type Output = Self;
    fn mul(self, o: Self) -> Self {
        Bounded { value: self.value * o.value, magnitude: self.magnitude * o.magnitude }
    }
}

impl Div for Bounded {
    type Output = Self;
    fn div(self, o: Self) -> Self {
        let inverse = 1.0 / o.value;
        let growth = (o.magnitude * inverse).abs().max(1.0);
        self * Bounded { value: inverse, magnitude: inverse.abs() * growth }
    }
}

impl Real for Bounded {
    fn value(self) -> f64 {
        self.value
    }
    fn map(self, value: f64, slope: f64) -> Self {
        Bounded { value, magnitude: value.abs() + slope.abs() * self.magnitude }
    }
    fn min(self, o: Self) -> Self {
        let magnitude = self.magnitude.max(o.magnitude);
        Bounded { value: self.value.min(o.value), magnitude }
    }
}

/// Extents of a product: outputs, inputs, tokens.
pub type Extents = (usize, usize, usize);

fn zeros<R: Real>(n: usize) -> Vec<R> {
    vec![R::from(0.0); n]
}

/// `y = w·x`.
pub fn dense_forward<R: Real>(w: &[R], x: &[R], (rows, cols, tokens): Extents) -> Vec<R> {
    let mut y = zeros::<R>(rows * tokens);
    for m in 0..rows {
        for k in 0..cols {
            for n in 0..tokens {
                y[m * tokens + n] = y[m * tokens + n] + w[m * cols + k] * x[k * tokens + n];
            }
        }
    }
    y
}

/// `dx = wᵀ·dy`.
pub fn dense_backward_input<R: Real>(w: &[R], dy: &[R], (rows, cols, tokens): Extents) -> Vec<R> {
    let mut dx = zeros::<R>(cols * tokens);
    for m in 0..rows {
        for k in 0..cols {
            for n in 0..tokens {
                dx[k * tokens + n] = dx[k * tokens + n] + w[m * cols + k] * dy[m * tokens + n];
            }
        }
    }
    dx
}

/// `dw = dy·xᵀ`.
pub fn dense_backward_weight<R: Real>(dy: &[R], x: &[R], (rows, cols, tokens): Extents) -> Vec<R> {
    let mut dw = zeros::<R>(rows * cols);
    for m in 0..rows {
        for k in 0..cols {
            for n in 0..tokens {
                dw[m * cols + k] = dw[m * cols + k] + dy[m * tokens + n] * x[k * tokens + n];
            }
        }
    }
    dw
}

/// The matrix with its zeros: sparse products are dense products of it.
pub fn expand<R: Real>(pattern: &Pattern, values: &[R]) -> Vec<R> {
    let mut w = zeros::<R>(pattern.rows() * pattern.cols());
    for (&f, &v) in pattern.flat().iter().zip(values) {
        w[f as usize] = v;
    }
    w
}

/// Elements at the links, in CSR order.
pub fn at_links<R: Real>(pattern: &Pattern, w: &[R]) -> Vec<R> {
    pattern.flat().iter().map(|&f| w[f as usize]).collect()
}

/// Element by element.
pub fn add<R: Real>(a: &[R], b: &[R]) -> Vec<R> {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(&a, &b)| a + b).collect()
}

/// L = g·B·φ(A·x).
#[derive(Clone)]
pub struct LowRank<R> {
    pub a: Vec<R>,
    pub b: Vec<R>,
    pub rank: usize,
    pub silu: bool,
    pub scale: f64,
}

/// O = S + L; the sparse matrix with its zeros.
#[derive(Clone)]
pub struct Hybrid<R> {
    pub extents: Extents,
    pub sparse: Option<Vec<R>>,
    pub low_rank: Option<LowRank<R>>,
}

/// Results of [`hybrid_forward`].
pub struct HybridForward<R> {
    pub u: Vec<R>,
    pub phi: Vec<R>,
    pub s: Vec<R>,
    pub l: Vec<R>,
    pub o: Vec<R>,
    /// (COUNT, N).
    pub sums: Vec<R>,
}

/// Gradients of a hybrid; those of the sparse matrix at all positions.
pub struct HybridGrads<R> {
    pub ds: Vec<R>,
    pub dw: Vec<R>,
    pub da: Vec<R>,
    pub db: Vec<R>,
    pub dx: Vec<R>,
}

pub fn hybrid_forward<R: Real>(w: &Hybrid<R>, x: &[R]) -> HybridForward<R> {
    let (rows, cols, tokens) = w.extents;
    let s = match &w.sparse {
        Some(s) => dense_forward(s, x, w.extents),
        None => zeros(rows * tokens),
    };
    let (mut u, mut phi, mut l) = (vec![], vec![], zeros::<R>(rows * tokens));
    if let Some(low) = &w.low_rank {
        u = dense_forward(&low.a, x, (low.rank, cols, tokens));
        phi = u.iter().map(|&u| if low.silu { u * u.sigmoid() } else { u }).collect();
        l = dense_forward(&low.b, &phi, (rows, low.rank, tokens));
        l.iter_mut().for_each(|l| *l = R::from(low.scale) * *l);
    }
    let o = add(&s, &l);
    let mut sums = zeros::<R>(branch_sums::COUNT * tokens);
    for m in 0..rows {
        for n in 0..tokens {
            let (s, l) = (s[m * tokens + n], l[m * tokens + n]);
            let mut put = |row: usize, x: R| sums[row * tokens + n] = sums[row * tokens + n] + x;
            let overlap = s.abs().min(l.abs());
            put(branch_sums::DIFFERENCE, (s - l) * (s - l));
            // Where the sign of a branch is within its error, so is the overlap: an element that
            // is counted on one side only adds no more than its magnitude allows.
            let cancelled = s.value() * l.value() < 0.0;
            let sign = R::from(if cancelled { 1.0 } else { -1.0 });
            put(branch_sums::CANCELLED, (overlap + sign * overlap) * R::from(0.5));
            put(branch_sums::OVERLAP, overlap);
            put(branch_sums::SPARSE, s * s);
            put(branch_sums::LOW_RANK, l * l);
        }
    }
    HybridForward { u, phi, s, l, o, sums }
}

/// Gradients of `⟨dO, O⟩ + ½ Σ_n c_n Σ_m (S−L)²`.
pub fn hybrid_backward<R: Real>(
    w: &Hybrid<R>,
    x: &[R],
    coefficients: Option<&[R]>,
    d_o: &[R],
) -> HybridGrads<R> {
    let (rows, cols, tokens) = w.extents;
    let f = hybrid_forward(w, x);
    let (mut ds, mut dl) = (d_o.to_vec(), d_o.to_vec());
    if let Some(c) = coefficients {
        for i in 0..rows * tokens {
            let pull = c[i % tokens] * (f.s[i] - f.l[i]);
            ds[i] = ds[i] + pull;
            dl[i] = dl[i] - pull;
        }
    }
    let (mut dw, mut dx) = (vec![], zeros::<R>(cols * tokens));
    if let Some(s) = &w.sparse {
        dw = dense_backward_weight(&ds, x, w.extents);
        dx = dense_backward_input(s, &ds, w.extents);
    }
    let (mut da, mut db) = (vec![], vec![]);
    if let Some(low) = &w.low_rank {
        dl.iter_mut().for_each(|d| *d = R::from(low.scale) * *d);
        let extents = (rows, low.rank, tokens);
        db = dense_backward_weight(&dl, &f.phi, extents);
        let mut du = dense_backward_input(&low.b, &dl, extents);
        if low.silu {
            for (d, &u) in du.iter_mut().zip(&f.u) {
                *d = *d * silu_slope(u);
            }
        }
        let extents = (low.rank, cols, tokens);
        da = dense_backward_weight(&du, x, extents);
        dx = add(&dx, &dense_backward_input(&low.a, &du, extents));
    }
    HybridGrads { ds, dw, da, db, dx }
}

/// SiLU'(x) = σ(x)·(1 + x·(1 − σ(x))).
fn silu_slope<R: Real>(x: R) -> R {
    let (s, one) = (x.sigmoid(), R::from(1.0));
    s * (one + x * (one - s))
}

/// `SiLU(gate)∘up`.
pub fn swiglu_forward<R: Real>(gate: &[R], up: &[R]) -> Vec<R> {
    gate.iter().zip(up).map(|(&g, &u)| g * g.sigmoid() * u).collect()
}

/// (dgate, dup).
pub fn swiglu_backward<R: Real>(dy: &[R], gate: &[R], up: &[R]) -> (Vec<R>, Vec<R>) {
    let all = || dy.iter().zip(gate).zip(up);
    (
        all().map(|((&d, &g), &u)| d * u * silu_slope(g)).collect(),
        all().map(|((&d, &g), _)| d * (g * g.sigmoid())).collect(),
    )
}

/// (y, rstd).
pub fn rmsnorm_forward<R: Real>(x: &[R], gain: &[R], eps: f64, tokens: usize) -> (Vec<R>, Vec<R>) {
    let features = gain.len();
    let rstd: Vec<R> = (0..tokens)
        .map(|n| {
            let squares = (0..features).map(|f| x[f * tokens + n] * x[f * tokens + n]);
            let sum = squares.fold(R::from(0.0), |a, b| a + b);
            R::from(1.0) / (sum * R::from(1.0 / features as f64) + R::from(eps)).sqrt()
        })
        .collect();
    let y = (0..features * tokens).map(|i| x[i] * rstd[i % tokens] * gain[i / tokens]).collect();
    (y, rstd)
}

/// (dx, dgain): `dx = r·(g∘dy) − x·r³·⟨g∘dy, x⟩/H`.
pub fn rmsnorm_backward<R: Real>(
    dy: &[R],
    x: &[R],
    gain: &[R],
    eps: f64,
    tokens: usize,
) -> (Vec<R>, Vec<R>) {
    let features = gain.len();
    let (_, rstd) = rmsnorm_forward(x, gain, eps, tokens);
    let (mut dx, mut dgain) = (zeros::<R>(features * tokens), zeros::<R>(features));
    for (n, &r) in rstd.iter().enumerate() {
        let mut inner = R::from(0.0);
        for f in 0..features {
            let i = f * tokens + n;
            inner = inner + gain[f] * dy[i] * x[i];
            dgain[f] = dgain[f] + dy[i] * x[i] * r;
        }
        let inner = inner * R::from(1.0 / features as f64);
        for (f, &g) in gain.iter().enumerate() {
            let i = f * tokens + n;
            dx[i] = r * g * dy[i] - x[i] * (r * r * r) * inner;
        }
    }
    (dx, dgain)
}

/// Extents of one attention call; `starts` as in the backend's shape.
#[derive(Clone, Debug)]
pub struct Attention {
    pub sequences: usize,
    pub seq_len: usize,
    pub heads: usize,
    pub head_dim: usize,
    pub starts: Option<Vec<u32>>,
    pub base: f64,
}

/// q, k, v or a gradient, one head of one sequence as (T, d).
type Head<R> = Vec<Vec<R>>;

impl Attention {
    pub fn tokens(&self) -> usize {
        self.sequences * self.seq_len
    }

    pub fn features(&self) -> usize {
        self.heads * self.head_dim
    }

    fn at(&self, sequence: usize, head: usize, t: usize, f: usize) -> usize {
        (head * self.head_dim + f) * self.tokens() + sequence * self.seq_len + t
    }

    fn head<R: Real>(&self, x: &[R], sequence: usize, head: usize) -> Head<R> {
        let row = |t| (0..self.head_dim).map(|f| x[self.at(sequence, head, t, f)]).collect();
        (0..self.seq_len).map(row).collect()
    }

    /// Rotates pairs (i, i + d/2) by t·base^(-2i/d); `turn` -1 rotates back.
    fn rotate<R: Real>(&self, x: &Head<R>, turn: f64) -> Head<R> {
        let half = self.head_dim / 2;
        let mut y = x.clone();
        for (t, (from, to)) in x.iter().zip(&mut y).enumerate() {
            for i in 0..half {
                let angle = t as f64 * self.base.powf(-2.0 * i as f64 / self.head_dim as f64);
                let (cos, sin) = (R::from(angle.cos()), R::from(turn * angle.sin()));
                to[i] = from[i] * cos - from[i + half] * sin;
                to[i + half] = from[i + half] * cos + from[i] * sin;
            }
        }
        y
    }

    fn first(&self, sequence: usize, t: usize) -> usize {
        self.starts.as_ref().map_or(0, |s| s[sequence * self.seq_len + t] as usize)
    }

    /// Probabilities of query t over keys first..=t, and ln Σ exp of its scores.
    fn probabilities<R: Real>(
        &self,
        q: &Head<R>,
        k: &Head<R>,
        sequence: usize,
        t: usize,
    ) -> (Vec<R>, R) {
        let scale = R::from(1.0 / (self.head_dim as f64).sqrt());
        let scores: Vec<R> = (self.first(sequence, t)..=t)
            .map(|j| {
                let terms = q[t].iter().zip(&k[j]).map(|(&a, &b)| a * b);
                terms.fold(R::from(0.0), |a, b| a + b) * scale
            })
            .collect();
        let max = scores.iter().fold(f64::NEG_INFINITY, |a, b| a.max(b.value()));
        let weights: Vec<R> = scores.iter().map(|&s| (s - R::from(max)).exp()).collect();
        let sum = weights.iter().fold(R::from(0.0), |a, &b| a + b);
        let p = weights.iter().map(|&w| w / sum).collect();
        (p, R::from(max) + sum.ln())
    }
}

/// (out, lse).
pub fn attention_forward<R: Real>(s: &Attention, q: &[R], k: &[R], v: &[R]) -> (Vec<R>, Vec<R>) {
    let mut out = zeros::<R>(s.features() * s.tokens());
    let mut lse = zeros::<R>(s.heads * s.tokens());
    for b in 0..s.sequences {
        for h in 0..s.heads {
            let q = s.rotate(&s.head(q, b, h), 1.0);
            let k = s.rotate(&s.head(k, b, h), 1.0);
            let v = s.head(v, b, h);
            for t in 0..s.seq_len {
                let (p, l) = s.probabilities(&q, &k, b, t);
                lse[h * s.tokens() + b * s.seq_len + t] = l;
                for (&p, v) in p.iter().zip(&v[s.first(b, t)..]) {
                    for (f, &v) in v.iter().enumerate() {
                        let i = s.at(b, h, t, f);
                        out[i] = out[i] + p * v;
                    }
                }
            }
        }
    }
    (out, lse)
}

/// (dq, dk, dv).
pub fn attention_backward<R: Real>(
    s: &Attention,
    q: &[R],
    k: &[R],
    v: &[R],
    d_out: &[R],
) -> [Vec<R>; 3] {
    let mut grads: [Vec<R>; 3] = std::array::from_fn(|_| zeros::<R>(s.features() * s.tokens()));
    let scale = R::from(1.0 / (s.head_dim as f64).sqrt());
    let inner = |a: &[R], b: &[R]| a.iter().zip(b).fold(R::from(0.0), |sum, (&a, &b)| sum + a * b);
    for b in 0..s.sequences {
        for h in 0..s.heads {
            let q = s.rotate(&s.head(q, b, h), 1.0);
            let k = s.rotate(&s.head(k, b, h), 1.0);
            let (v, g) = (s.head(v, b, h), s.head(d_out, b, h));
            let zero: Head<R> = vec![zeros(s.head_dim); s.seq_len];
            let (mut dq, mut dk, mut dv) = (zero.clone(), zero.clone(), zero);
            for t in 0..s.seq_len {
                let (p, _) = s.probabilities(&q, &k, b, t);
                let first = s.first(b, t);
                let dp: Vec<R> = (first..=t).map(|j| inner(&g[t], &v[j])).collect();
                let delta = inner(&p, &dp);
                for (i, j) in (first..=t).enumerate() {
                    let ds = p[i] * (dp[i] - delta) * scale;
                    for f in 0..s.head_dim {
                        dq[t][f] = dq[t][f] + ds * k[j][f];
                        dk[j][f] = dk[j][f] + ds * q[t][f];
                        dv[j][f] = dv[j][f] + p[i] * g[t][f];
                    }
                }
            }
            let parts = [s.rotate(&dq, -1.0), s.rotate(&dk, -1.0), dv];
            for (grad, part) in grads.iter_mut().zip(&parts) {
                for t in 0..s.seq_len {
                    for f in 0..s.head_dim {
                        grad[s.at(b, h, t, f)] = part[t][f];
                    }
                }
            }
        }
    }
    grads
}

/// Columns of x are rows of the table.
pub fn embedding_forward<R: Real>(table: &[R], ids: &[u32], features: usize) -> Vec<R> {
    (0..features)
        .flat_map(|f| ids.iter().map(move |&id| table[id as usize * features + f]))
        .collect()
}

/// `dtable[ids[n]] += dx[:, n]` onto a given table.
pub fn embedding_backward<R: Real>(dtable: &mut [R], ids: &[u32], dx: &[R], features: usize) {
    for (n, &id) in ids.iter().enumerate() {
        for f in 0..features {
            let i = id as usize * features + f;
            dtable[i] = dtable[i] + dx[f * ids.len() + n];
        }
    }
}

/// (loss sum, dx, dw) of softmax cross-entropy on logits w·x.
pub fn cross_entropy<R: Real>(
    w: &[R],
    x: &[R],
    targets: &[u32],
    scale: f64,
    features: usize,
) -> (R, Vec<R>, Vec<R>) {
    let (vocab, tokens) = (w.len() / features, targets.len());
    let extents = (vocab, features, tokens);
    let logits = dense_forward(w, x, extents);
    let mut d = zeros::<R>(vocab * tokens);
    let mut loss = R::from(0.0);
    for (n, &target) in targets.iter().enumerate().filter(|(_, t)| **t != NO_TARGET) {
        let logit = |i: usize| logits[i * tokens + n];
        let max = (0..vocab).fold(f64::NEG_INFINITY, |a, i| a.max(logit(i).value()));
        let e: Vec<R> = (0..vocab).map(|i| (logit(i) - R::from(max)).exp()).collect();
        let sum = e.iter().fold(R::from(0.0), |a, &b| a + b);
        loss = loss + (R::from(max) + sum.ln() - logit(target as usize));
        for (i, &e) in e.iter().enumerate() {
            let hot = if i == target as usize { 1.0 } else { 0.0 };
            d[i * tokens + n] = R::from(scale) * (e / sum - R::from(hot));
        }
    }
    (loss, dense_backward_input(w, &d, extents), dense_backward_weight(&d, x, extents))
}
