//! RMSNorm over the features of each token.

use rayon::prelude::*;

use super::memory::{Act, Floats, check_act};
use super::sddmm::{add_partials, chunk_range, chunks};
use super::simd::TILE;
use super::simd::pointwise::{RmsNorm, RmsNormBackward};
use super::{Cpu, elementwise};
use crate::error::{Result, check_len};

pub(super) fn forward(
    cpu: &Cpu,
    x: &Act,
    gain: &Floats,
    eps: f32,
    y: &mut Act,
    rstd: &mut Act,
) -> Result<()> {
    check_len("rmsnorm", "gains", x.features(), gain.len())?;
    check_act("rmsnorm", y, x.features(), x.tokens())?;
    check_act("rmsnorm", rstd, 1, x.tokens())?;
    let n = x.tile_len();
    cpu.pool.install(|| {
        let rstd = rstd.data_mut().par_chunks_exact_mut(TILE);
        y.data_mut().par_chunks_exact_mut(n).zip(rstd).enumerate().for_each(|(i, (y, rstd))| {
            let kernel = RmsNorm { x: x.tile(i), gain, eps, y, rstd, bf16: cpu.bf16 };
            // SAFETY: the kernel checks its own bounds.
            unsafe { cpu.level.run(kernel) }
            // Tokens that do not exist have the root of eps, not the zero they must keep.
            rstd[TILE.min(x.tokens() - i * TILE)..].fill(0.0);
        });
    });
    Ok(())
}

pub(super) fn backward(
    cpu: &Cpu,
    dy: &Act,
    x: &Act,
    gain: &Floats,
    rstd: &Act,
    dx: &mut Act,
    dgain: &mut Floats,
) -> Result<()> {
    let features = x.features();
    check_len("rmsnorm_backward", "gains", features, gain.len())?;
    check_len("rmsnorm_backward", "gain gradients", features, dgain.len())?;
    check_act("rmsnorm_backward", dy, features, x.tokens())?;
    check_act("rmsnorm_backward", dx, features, x.tokens())?;
    check_act("rmsnorm_backward", rstd, 1, x.tokens())?;
    let tiles = x.tiles();
    if tiles == 0 {
        return Ok(());
    }
    let (count, n) = (chunks(tiles), x.tile_len());
    let mut shared = cpu.shared.lock().expect("a kernel panicked");
    shared.grow(count * features);
    let partials = &mut shared[..count * features];
    // Chunks of tiles are consecutive, so dx can be cut at their borders.
    let mut rest = dx.data_mut();
    let mut pieces = Vec::with_capacity(count);
    for c in 0..count {
        let (piece, tail) = rest.split_at_mut(chunk_range(tiles, count, c).len() * n);
        pieces.push(piece);
        rest = tail;
    }
    cpu.pool.install(|| {
        partials.par_chunks_exact_mut(features).zip(pieces).enumerate().for_each(
            |(c, (partial, piece))| {
                partial.fill(0.0);
                for (i, dx) in chunk_range(tiles, count, c).zip(piece.chunks_exact_mut(n)) {
                    let kernel = RmsNormBackward {
                        dy: dy.tile(i),
                        x: x.tile(i),
                        gain,
                        rstd: rstd.tile(i),
                        dx,
                        dgain: partial,
                    };
                    // SAFETY: the kernel checks its own bounds.
                    unsafe { cpu.level.run(kernel) }
                    elementwise::round_slice(cpu, dx);
                }
            },
        );
    });
    add_partials(partials, features, count, features, |f, g| dgain[f] += g);
    elementwise::round_slice(cpu, dgain);
    Ok(())
}
