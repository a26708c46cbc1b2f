//! Causal attention per (sequence, head), in blocks of 64 queries.
//!
//! Scores are kept transposed, keys × 64 queries, so that softmax runs over lanes without
//! horizontal sums and every product is a panel product. Only keys up to the block's end are
//! touched. The backward pass recomputes probabilities from the saved ln Σ exp.

use rayon::prelude::*;

use super::memory::{Act, Floats, check_act};
use super::rope::{self, RopeTable};
use super::simd::TILE;
use super::simd::panel::Panel;
use super::simd::pointwise::{ExpMinus, ScaleTokens, Softmax, SoftmaxBackward};
use super::{Cpu, elementwise};
use crate::backend::{AttentionShape, checks};
use crate::error::{Error, Result};

/// Raw view of an activation that jobs write disjoint (feature, token) rectangles of.
struct Output {
    p: *mut f32,
    features: usize,
}

// SAFETY: each job writes the rows of its own head and the tokens of its own sequence.
unsafe impl Sync for Output {}

impl Output {
    fn new(a: &mut Act) -> Self {
        Output { features: a.features(), p: a.data_mut().as_mut_ptr() }
    }

    /// Copies `rows` rows of `stride` (first `count` columns) to features `feature..`, tokens
    /// `token..token + count`.
    ///
    /// # Safety
    /// The rectangle lies inside the activation and no other job touches it.
    unsafe fn scatter(
        &self,
        feature: usize,
        token: usize,
        count: usize,
        rows: &[f32],
        stride: usize,
    ) {
        for (f, row) in rows.chunks_exact(stride).enumerate() {
            let mut done = 0;
            while done < count {
                let t = token + done;
                let run = (TILE - t % TILE).min(count - done);
                let at = ((t / TILE) * self.features + feature + f) * TILE + t % TILE;
                // SAFETY: as documented.
                unsafe {
                    std::ptr::copy_nonoverlapping(row[done..].as_ptr(), self.p.add(at), run);
                }
                done += run;
            }
        }
    }
}

/// Rows `feature..feature + d`, tokens `token..token + count` as (d, stride), rest zero.
fn gather(x: &Act, feature: usize, token: usize, count: usize, to: &mut [f32], stride: usize) {
    for (f, row) in to.chunks_exact_mut(stride).enumerate() {
        let mut done = 0;
        while done < count {
            let t = token + done;
            let run = (TILE - t % TILE).min(count - done);
            let at = x.at(feature + f, t);
            row[done..done + run].copy_from_slice(&x.data()[at..at + run]);
            done += run;
        }
        row[count..].fill(0.0);
    }
}

/// `c[rows, 0..64] (+)= Σ_k a(row, k)·b[k, 0..64]` with bounds checked.
#[allow(clippy::too_many_arguments)]
fn product(
    cpu: &Cpu,
    a: &[f32],
    (row_stride, col_stride): (usize, usize),
    b: &[f32],
    ldb: usize,
    c: &mut [f32],
    ldc: usize,
    (rows, depth): (usize, usize),
    accumulate: bool,
) {
    assert!(a.len() > (rows - 1) * row_stride + (depth - 1) * col_stride);
    assert!(b.len() >= (depth - 1) * ldb + TILE && c.len() >= (rows - 1) * ldc + TILE);
    let p = Panel {
        a: a.as_ptr(),
        row_stride,
        col_stride,
        b: b.as_ptr(),
        ldb,
        c: c.as_mut_ptr(),
        ldc,
        rows,
        depth,
        accumulate,
    };
    // SAFETY: asserted above.
    unsafe { cpu.level.run(p) }
}

/// One (sequence, head) with everything its kernels need.
struct Head<'a> {
    cpu: &'a Cpu,
    shape: &'a AttentionShape<'a>,
    sequence: usize,
    feature: usize,
    /// Tokens rounded up to whole blocks.
    padded: usize,
}

impl Head<'_> {
    fn token(&self) -> usize {
        self.sequence * self.shape.seq_len
    }

    fn load(&self, x: &Act, to: &mut [f32]) {
        gather(x, self.feature, self.token(), self.shape.seq_len, to, self.padded);
    }

    /// Loads q or k, rotated; q also scaled by d^-½.
    fn load_rotated(&self, x: &Act, table: &RopeTable, scale: f32, to: &mut [f32]) {
        self.load(x, to);
        table.rotate(to, self.padded, false);
        if scale != 1.0 {
            to.iter_mut().for_each(|x| *x *= scale);
        }
    }

    /// Scores of query block `i0` for keys `0..i0 + 64`, masked entries -inf.
    fn scores(&self, q: &[f32], k: &[f32], i0: usize, scores: &mut [f32]) {
        let (d, keys) = (self.shape.head_dim, i0 + TILE);
        let n = self.padded;
        product(self.cpu, k, (1, n), &q[i0..], n, scores, TILE, (keys, d), false);
        for i in 0..TILE {
            for j in i0 + i + 1..keys {
                scores[j * TILE + i] = f32::NEG_INFINITY;
            }
            if let Some(starts) = self.shape.starts
                && i0 + i < self.shape.seq_len
            {
                for j in 0..starts[self.token() + i0 + i] as usize {
                    scores[j * TILE + i] = f32::NEG_INFINITY;
                }
            }
        }
    }

    /// Queries of block `i0` that exist.
    fn live(&self, i0: usize) -> usize {
        TILE.min(self.shape.seq_len - i0)
    }
}

fn check(op: &'static str, s: &AttentionShape, acts: &[&Act]) -> Result<usize> {
    checks::attention(op, s, acts.iter().map(|a| a.extents()))
}

pub(super) fn forward(
    cpu: &Cpu,
    shape: AttentionShape,
    rope_base: f64,
    [q, k, v]: [&Act; 3],
    out: &mut Act,
    lse: &mut Act,
) -> Result<()> {
    let tokens = check("attention_forward", &shape, &[q, k, v, &*out])?;
    check_act("attention_forward", lse, shape.heads, tokens)?;
    if tokens == 0 {
        return Ok(());
    }
    let d = shape.head_dim;
    let padded = shape.seq_len.next_multiple_of(TILE);
    let table = rope::cached(cpu, d, rope_base, shape.seq_len);
    let (out, lse) = (Output::new(out), Output::new(lse));
    cpu.pool.install(|| {
        (0..shape.sequences * shape.heads).into_par_iter().for_each(|job| {
            let head = Head {
                cpu,
                shape: &shape,
                sequence: job / shape.heads,
                feature: job % shape.heads * d,
                padded,
            };
            let (out, lse) = (&out, &lse);
            cpu.with_scratch(3 * d * padded + padded * TILE + d * TILE, |scratch| {
                let (qs, rest) = scratch.split_at_mut(d * padded);
                let (ks, rest) = rest.split_at_mut(d * padded);
                let (vs, rest) = rest.split_at_mut(d * padded);
                let (scores, block) = rest.split_at_mut(padded * TILE);
                head.load_rotated(q, &table, 1.0 / (d as f32).sqrt(), qs);
                head.load_rotated(k, &table, 1.0, ks);
                head.load(v, vs);
                for i0 in (0..shape.seq_len).step_by(TILE) {
                    let keys = i0 + TILE;
                    let scores = &mut scores[..keys * TILE];
                    head.scores(qs, ks, i0, scores);
                    let (mut max, mut sum) = ([0.0; TILE], [0.0; TILE]);
                    // SAFETY: the kernels check their own bounds.
                    unsafe {
                        cpu.level.run(Softmax { logits: scores, max: &mut max, sum: &mut sum });
                    }
                    product(cpu, vs, (padded, 1), scores, TILE, block, TILE, (d, keys), false);
                    let inverse: [f32; TILE] = std::array::from_fn(|i| 1.0 / sum[i]);
                    // SAFETY: as above.
                    unsafe { cpu.level.run(ScaleTokens { x: block, factors: &inverse }) }
                    elementwise::round_slice(cpu, block);
                    let saved: [f32; TILE] = std::array::from_fn(|i| {
                        (f64::from(max[i]) + libm::log(f64::from(sum[i]))) as f32
                    });
                    let (token, live) = (head.token() + i0, head.live(i0));
                    // SAFETY: this head and these tokens belong to this job.
                    unsafe {
                        out.scatter(head.feature, token, live, block, TILE);
                        lse.scatter(job % shape.heads, token, live, &saved, TILE);
                    }
                }
            });
        });
    });
    Ok(())
}

/// `t[i, j] = x[j, i]` for a 64 × 64 block.
fn transpose(x: &[f32], t: &mut [f32]) {
    for j in 0..TILE {
        for i in 0..TILE {
            t[i * TILE + j] = x[j * TILE + i];
        }
    }
}

pub(super) fn backward(
    cpu: &Cpu,
    shape: AttentionShape,
    rope_base: f64,
    [q, k, v, out, d_out]: [&Act; 5],
    lse: &Act,
    [dq, dk, dv]: [&mut Act; 3],
) -> Result<()> {
    const OP: &str = "attention_backward";
    let tokens = check(OP, &shape, &[q, k, v, out, d_out, &*dq, &*dk, &*dv])?;
    check_act(OP, lse, shape.heads, tokens)?;
    if tokens == 0 {
        return Ok(());
    }
    let d = shape.head_dim;
    let scale = 1.0 / (d as f32).sqrt();
    let padded = shape.seq_len.next_multiple_of(TILE);
    let table = rope::cached(cpu, d, rope_base, shape.seq_len);
    let (dq, dk, dv) = (Output::new(dq), Output::new(dk), Output::new(dv));
    cpu.pool.install(|| {
        (0..shape.sequences * shape.heads).into_par_iter().for_each(|job| {
            let head = Head {
                cpu,
                shape: &shape,
                sequence: job / shape.heads,
                feature: job % shape.heads * d,
                padded,
            };
            let (dq, dk, dv) = (&dq, &dk, &dv);
            let len = 7 * d * padded + 2 * padded * TILE + d * TILE + TILE * TILE;
            cpu.with_scratch(len, |scratch| {
                let (heads, rest) = scratch.split_at_mut(7 * d * padded);
                let mut parts = heads.chunks_exact_mut(d * padded);
                let mut next = || parts.next().expect("seven parts");
                let (qs, ks, vs, gs) = (next(), next(), next(), next());
                let (dqs, dks, dvs) = (next(), next(), next());
                let (p, rest) = rest.split_at_mut(padded * TILE);
                let (dp, rest) = rest.split_at_mut(padded * TILE);
                let (block, turned) = rest.split_at_mut(d * TILE);
                head.load(out, dqs); // O, only for δ; overwritten block by block below
                head.load_rotated(q, &table, scale, qs);
                head.load_rotated(k, &table, 1.0, ks);
                head.load(v, vs);
                head.load(d_out, gs);
                dks.fill(0.0);
                dvs.fill(0.0);
                for i0 in (0..shape.seq_len).step_by(TILE) {
                    let keys = i0 + TILE;
                    let (p, dp) = (&mut p[..keys * TILE], &mut dp[..keys * TILE]);
                    let mut delta = [0.0f32; TILE];
                    for f in 0..d {
                        let (o, g) = (&dqs[f * padded + i0..], &gs[f * padded + i0..]);
                        for i in 0..TILE {
                            delta[i] += o[i] * g[i];
                        }
                    }
                    let mut saved = [0.0f32; TILE];
                    let live = head.live(i0);
                    gather(lse, job % shape.heads, head.token() + i0, live, &mut saved, TILE);
                    head.scores(qs, ks, i0, p);
                    // SAFETY: the kernels check their own bounds.
                    unsafe { cpu.level.run(ExpMinus { x: p, scale: 1.0, lse: &saved }) }
                    product(cpu, vs, (1, padded), &gs[i0..], padded, dp, TILE, (keys, d), false);
                    // SAFETY: as above.
                    unsafe { cpu.level.run(SoftmaxBackward { p, dp, delta: &delta }) }
                    product(cpu, ks, (padded, 1), dp, TILE, block, TILE, (d, keys), false);
                    for (to, from) in dqs.chunks_exact_mut(padded).zip(block.chunks_exact(TILE)) {
                        for (x, y) in to[i0..i0 + TILE].iter_mut().zip(from) {
                            *x = y * scale;
                        }
                    }
                    for j0 in (0..keys).step_by(TILE) {
                        let pass = |x: &[f32], a: &[f32], to: &mut [f32], turned: &mut [f32]| {
                            transpose(&x[j0 * TILE..(j0 + TILE) * TILE], turned);
                            let (a, c) = (&a[i0..], &mut to[j0..]);
                            let strides = (padded, 1);
                            product(cpu, a, strides, turned, TILE, c, padded, (d, TILE), true);
                        };
                        pass(dp, qs, dks, turned);
                        pass(p, gs, dvs, turned);
                    }
                }
                table.rotate(dqs, padded, true);
                table.rotate(dks, padded, true);
                for x in [&mut *dqs, &mut *dks, &mut *dvs] {
                    elementwise::round_slice(cpu, x);
                }
                let (token, count) = (head.token(), shape.seq_len);
                // SAFETY: this head and these tokens belong to this job.
                unsafe {
                    dq.scatter(head.feature, token, count, dqs, padded);
                    dk.scatter(head.feature, token, count, dks, padded);
                    dv.scatter(head.feature, token, count, dvs, padded);
                }
            });
        });
    });
    Ok(())
}

/// Keys and values of past tokens, (sequence, feature, position).
pub struct KvCache {
    k: Floats,
    v: Floats,
    sequences: usize,
    max_len: usize,
    features: usize,
}

impl KvCache {
    pub(super) fn new(sequences: usize, max_len: usize, features: usize) -> Result<Self> {
        let len = sequences * max_len * features;
        Ok(KvCache { k: Floats::new(len)?, v: Floats::new(len)?, sequences, max_len, features })
    }
}

pub(super) fn decode(
    cpu: &Cpu,
    shape: AttentionShape,
    rope_base: f64,
    position: usize,
    [q, k, v]: [&Act; 3],
    cache: &mut KvCache,
    out: &mut Act,
) -> Result<()> {
    const OP: &str = "attention_decode";
    check(OP, &shape, &[q, k, v, &*out])?;
    let (d, features) = (shape.head_dim, shape.heads * shape.head_dim);
    if shape.seq_len != 1 || cache.sequences != shape.sequences || cache.features != features {
        return Err(Error::shape(OP, "one token per cached sequence", shape.seq_len));
    }
    if position >= cache.max_len {
        return Err(Error::shape(OP, format!("position below {}", cache.max_len), position));
    }
    let table = RopeTable::new(d, rope_base, position, 1);
    let (len, seen) = (cache.max_len, position + 1);
    let out = Output::new(out);
    cpu.pool.install(|| {
        let values = cache.v.par_chunks_exact_mut(features * len);
        cache.k.par_chunks_exact_mut(features * len).zip(values).enumerate().for_each(
            |(s, (keys, values))| {
                let (mut query, mut key) = (vec![0.0; d], vec![0.0; d]);
                let (mut scores, mut result) = (vec![0.0f32; seen], vec![0.0f32; d]);
                for h in 0..shape.heads {
                    gather(q, h * d, s, 1, &mut query, 1);
                    gather(k, h * d, s, 1, &mut key, 1);
                    gather(v, h * d, s, 1, &mut result, 1);
                    table.rotate(&mut query, 1, false);
                    table.rotate(&mut key, 1, false);
                    let rows = h * d * len..(h + 1) * d * len;
                    let (keys, values) = (&mut keys[rows.clone()], &mut values[rows]);
                    scores.fill(0.0);
                    for f in 0..d {
                        keys[f * len + position] = key[f];
                        values[f * len + position] = result[f];
                        let x = query[f] / (d as f32).sqrt();
                        for (s, k) in scores.iter_mut().zip(&keys[f * len..]) {
                            *s += x * k;
                        }
                    }
                    let max = scores.iter().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
                    scores.iter_mut().for_each(|s| *s = libm::expf(*s - max));
                    let sum: f32 = scores.iter().sum();
                    for (f, r) in result.iter_mut().enumerate() {
                        let dot: f32 =
                            scores.iter().zip(&values[f * len..]).map(|(a, b)| a * b).sum();
                        *r = dot / sum;
                    }
                    elementwise::round_slice(cpu, &mut result);
                    // SAFETY: column s of these rows belongs to this job.
                    unsafe { out.scatter(h * d, s, 1, &result, 1) }
                }
            },
        );
    });
    Ok(())
}
