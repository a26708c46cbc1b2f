//! Sampled dense-dense product: weight gradients at the links.

use rayon::prelude::*;

use super::memory::{Act, Floats, check_act};
use super::simd::sparse::SddmmTile;
use super::{Cpu, elementwise};
use crate::backend::Csr;
use crate::error::{Result, check_len};

/// Number of chunks that the tiles of an operation are cut into for partial gradients: enough for the
/// cores of one socket, few enough that adding the partial sums stays cheap. A function of the
/// number of tiles alone, so results do not depend on threads.
pub(super) fn chunks(tiles: usize) -> usize {
    (tiles / 4).clamp(1, 16)
}

/// Tiles of chunk `c` of `count`.
pub(super) fn chunk_range(tiles: usize, count: usize, c: usize) -> std::ops::Range<usize> {
    c * tiles / count..(c + 1) * tiles / count
}

/// Adds `count` partial arrays of `len` to `out[target(i)]`, partial after partial.
pub(super) fn add_partials(
    partials: &[f32],
    stride: usize,
    count: usize,
    len: usize,
    mut add: impl FnMut(usize, f32),
) {
    for i in 0..len {
        let mut sum = partials[i];
        for c in 1..count {
            sum += partials[c * stride + i];
        }
        add(i, sum);
    }
}

pub(super) fn sddmm(
    cpu: &Cpu,
    w: &Csr<Cpu>,
    dy: &Act,
    x: &Act,
    dvalues: &mut Floats,
) -> Result<()> {
    check_act("sddmm", dy, w.pattern.rows(), x.tokens())?;
    check_act("sddmm", x, w.pattern.cols(), x.tokens())?;
    check_len("sddmm", "gradients", w.pattern.nnz(), dvalues.len())?;
    let (nnz, tiles) = (w.pattern.nnz(), x.tiles());
    if nnz == 0 || tiles == 0 {
        return Ok(());
    }
    let (count, stride) = (chunks(tiles), nnz.next_multiple_of(16));
    let mut shared = cpu.shared.lock().expect("a kernel panicked");
    shared.grow(count * stride);
    let partials = &mut shared[..count * stride];
    cpu.pool.install(|| {
        partials.par_chunks_exact_mut(stride).enumerate().for_each(|(c, partial)| {
            partial.fill(0.0);
            for i in chunk_range(tiles, count, c) {
                let kernel = SddmmTile {
                    w: w.index.rows.links(),
                    dy: dy.tile(i).as_ptr(),
                    x: x.tile(i).as_ptr(),
                    dvalues: partial.as_mut_ptr(),
                };
                // SAFETY: extents were compared with the pattern; the partial has nnz elements.
                unsafe { cpu.level.run(kernel) }
            }
        });
    });
    let source = &w.index.rows.source;
    add_partials(partials, stride, count, nnz, |i, g| dvalues[source[i] as usize] += g);
    elementwise::round_slice(cpu, dvalues);
    Ok(())
}
