//! Head and cross-entropy in chunks of tokens: logits of at most [`CHUNK_TILES`] tiles exist at once.

use rayon::prelude::*;

use super::gemm::{accumulate_weight_gradient, padded_cols, tile, tile_transposed, transpose_tile};
use super::memory::{Act, Floats, check_act};
use super::simd::TILE;
use super::simd::pointwise::{ScaleTokens, Softmax};
use super::{Cpu, elementwise};
use crate::backend::{LossSum, NO_TARGET, checks};
use crate::error::{Error, Result, check_len};

/// Tiles whose logits are held at once: 512 tokens amortise one pass over the gradient of the head.
const CHUNK_TILES: usize = 8;

/// Loss of one tile from its logits; leaves exponentials and their sums behind.
fn tile_loss(cpu: &Cpu, logits: &mut [f32], targets: &[u32], sum: &mut [f32]) -> LossSum {
    let mut target_logit = [0.0f32; TILE];
    for (t, &y) in targets.iter().enumerate() {
        if y != NO_TARGET {
            target_logit[t] = logits[y as usize * TILE + t];
        }
    }
    let mut max = [0.0f32; TILE];
    // SAFETY: the kernel checks its own bounds.
    unsafe { cpu.level.run(Softmax { logits, max: &mut max, sum }) }
    let mut total = LossSum::default();
    for (t, &y) in targets.iter().enumerate() {
        if y != NO_TARGET {
            let lse = f64::from(max[t]) + libm::log(f64::from(sum[t]));
            total.loss += lse - f64::from(target_logit[t]);
            total.targets += 1;
        }
    }
    total
}

fn add_up(parts: impl IntoIterator<Item = LossSum>) -> LossSum {
    parts.into_iter().fold(LossSum::default(), |a, b| LossSum {
        loss: a.loss + b.loss,
        targets: a.targets + b.targets,
    })
}

pub(super) fn eval(cpu: &Cpu, w: &Floats, x: &Act, targets: &[u32]) -> Result<LossSum> {
    let vocab = checks::head("cross_entropy", w.len(), x.extents(), targets)?;
    let parts: Vec<LossSum> = cpu.pool.install(|| {
        targets
            .par_chunks(TILE)
            .enumerate()
            .map(|(i, targets)| {
                cpu.with_scratch(vocab * TILE, |logits| {
                    tile(cpu, w, vocab, x.features(), x.tile(i), logits);
                    elementwise::round_slice(cpu, logits);
                    tile_loss(cpu, logits, targets, &mut [0.0; TILE])
                })
            })
            .collect()
    });
    Ok(add_up(parts))
}

pub(super) fn train(
    cpu: &Cpu,
    w: &Floats,
    x: &Act,
    targets: &[u32],
    scale: f32,
    dx: &mut Act,
    dw: &mut Floats,
) -> Result<LossSum> {
    let vocab = checks::head("cross_entropy", w.len(), x.extents(), targets)?;
    let features = x.features();
    check_act("cross_entropy", dx, features, x.tokens())?;
    check_len("cross_entropy", "weight gradients", w.len(), dw.len())?;
    if !scale.is_finite() {
        return Err(Error::shape("cross_entropy", "a finite scale", scale));
    }
    let (n, padded) = (features * TILE, padded_cols(features) * TILE);
    let mut shared = cpu.shared.lock().expect("a kernel panicked");
    let mut total = LossSum::default();
    for first in (0..x.tiles()).step_by(CHUNK_TILES) {
        let tiles = CHUNK_TILES.min(x.tiles() - first);
        shared.grow(tiles * (vocab * TILE + padded));
        let (logits, rest) = shared.split_at_mut(tiles * vocab * TILE);
        let xt = &mut rest[..tiles * padded];
        let targets = &targets[first * TILE..targets.len().min((first + tiles) * TILE)];
        let dx = &mut dx.data_mut()[first * n..(first + tiles) * n];
        let parts: Vec<LossSum> = cpu.pool.install(|| {
            logits
                .par_chunks_exact_mut(vocab * TILE)
                .zip(xt.par_chunks_exact_mut(padded))
                .zip(dx.par_chunks_exact_mut(n))
                .zip(targets.par_chunks(TILE))
                .enumerate()
                .map(|(i, (((logits, xt), dx), targets))| {
                    let x = x.tile(first + i);
                    tile(cpu, w, vocab, features, x, logits);
                    elementwise::round_slice(cpu, logits);
                    let mut factors = [0.0f32; TILE];
                    let loss = tile_loss(cpu, logits, targets, &mut factors);
                    for (t, f) in factors.iter_mut().enumerate() {
                        let live = targets.get(t).is_some_and(|&y| y != NO_TARGET);
                        *f = if live { scale / *f } else { 0.0 };
                    }
                    // SAFETY: the kernel checks its own bounds.
                    unsafe { cpu.level.run(ScaleTokens { x: logits, factors: &factors }) }
                    for (t, &y) in targets.iter().enumerate() {
                        if y != NO_TARGET {
                            logits[y as usize * TILE + t] -= scale;
                        }
                    }
                    elementwise::round_slice(cpu, logits);
                    tile_transposed(cpu, w, vocab, features, logits, dx, false);
                    elementwise::round_slice(cpu, dx);
                    transpose_tile(x, features, xt);
                    loss
                })
                .collect()
        });
        total = add_up([total].into_iter().chain(parts));
        cpu.pool.install(|| accumulate_weight_gradient(cpu, logits, vocab, features, xt, dw));
    }
    elementwise::round_slice(cpu, dw);
    Ok(total)
}
