//! Dense products on tiles, all through the panel microkernel.

use rayon::prelude::*;

use super::memory::{Act, Floats, check_act};
use super::simd::{TILE, panel::Panel};
use super::{Cpu, elementwise};
use crate::error::{Result, check_len};

/// Rows of a weight gradient per job: 48 × 512 f32 stay in the second-level cache while all tiles
/// of tokens pass by.
const GRAD_ROWS: usize = 48;

pub(super) fn forward(cpu: &Cpu, w: &Floats, x: &Act, y: &mut Act) -> Result<()> {
    let (rows, cols) = (y.features(), x.features());
    check_len("dense_forward", "weights", rows * cols, w.len())?;
    check_act("dense_forward", y, rows, x.tokens())?;
    if rows == 0 || x.tokens() == 0 {
        return Ok(());
    }
    let n = y.tile_len();
    cpu.pool.install(|| {
        y.data_mut().par_chunks_exact_mut(n).enumerate().for_each(|(i, y)| {
            tile(cpu, w, rows, cols, x.tile(i), y);
            elementwise::round_slice(cpu, y);
        });
    });
    Ok(())
}

/// One tile of the forward product.
pub(super) fn tile(cpu: &Cpu, w: &[f32], rows: usize, cols: usize, x: &[f32], y: &mut [f32]) {
    assert!(w.len() >= rows * cols && x.len() >= cols * TILE && y.len() >= rows * TILE);
    let p = Panel {
        a: w.as_ptr(),
        row_stride: cols,
        col_stride: 1,
        b: x.as_ptr(),
        ldb: TILE,
        c: y.as_mut_ptr(),
        ldc: TILE,
        rows,
        depth: cols,
        accumulate: false,
    };
    // SAFETY: the assertion above covers the extents of a, b and c.
    unsafe { cpu.level.run(p) }
}

/// One tile of `dx (+)= wᵀ·dy`.
pub(super) fn tile_transposed(
    cpu: &Cpu,
    w: &[f32],
    rows: usize,
    cols: usize,
    dy: &[f32],
    dx: &mut [f32],
    accumulate: bool,
) {
    assert!(w.len() >= rows * cols && dx.len() >= cols * TILE && dy.len() >= rows * TILE);
    let p = Panel {
        a: w.as_ptr(),
        row_stride: 1,
        col_stride: cols,
        b: dy.as_ptr(),
        ldb: TILE,
        c: dx.as_mut_ptr(),
        ldc: TILE,
        rows: cols,
        depth: rows,
        accumulate,
    };
    // SAFETY: the assertion above covers the extents of a, b and c.
    unsafe { cpu.level.run(p) }
}

pub(super) fn backward_input(
    cpu: &Cpu,
    w: &Floats,
    dy: &Act,
    dx: &mut Act,
    accumulate: bool,
) -> Result<()> {
    let (rows, cols) = (dy.features(), dx.features());
    check_len("dense_backward_input", "weights", rows * cols, w.len())?;
    check_act("dense_backward_input", dx, cols, dy.tokens())?;
    if cols == 0 || dy.tokens() == 0 {
        return Ok(());
    }
    let n = dx.tile_len();
    cpu.pool.install(|| {
        dx.data_mut().par_chunks_exact_mut(n).enumerate().for_each(|(i, dx)| {
            tile_transposed(cpu, w, rows, cols, dy.tile(i), dx, accumulate);
            elementwise::round_slice(cpu, dx);
        });
    });
    Ok(())
}

pub(super) fn backward_weight(cpu: &Cpu, dy: &Act, x: &Act, dw: &mut Floats) -> Result<()> {
    let (rows, cols) = (dy.features(), x.features());
    check_len("dense_backward_weight", "weights", rows * cols, dw.len())?;
    check_act("dense_backward_weight", x, cols, dy.tokens())?;
    if rows == 0 || cols == 0 || dy.tokens() == 0 {
        return Ok(());
    }
    let padded = padded_cols(cols);
    let mut shared = cpu.shared.lock().expect("a kernel panicked");
    shared.grow(x.tiles() * padded * TILE);
    let xt = &mut shared[..x.tiles() * padded * TILE];
    cpu.pool.install(|| {
        xt.par_chunks_exact_mut(padded * TILE)
            .enumerate()
            .for_each(|(i, xt)| transpose_tile(x.tile(i), cols, xt));
        accumulate_weight_gradient(cpu, dy.data(), rows, cols, xt, dw);
    });
    elementwise::round_slice(cpu, dw);
    Ok(())
}

/// Columns rounded up to whole panels.
pub(super) fn padded_cols(cols: usize) -> usize {
    cols.div_ceil(TILE) * TILE
}

/// A tile (features × 64 tokens) as panels `[features/64][64 tokens][64 features]`.
pub(super) fn transpose_tile(x: &[f32], cols: usize, xt: &mut [f32]) {
    for (p, panel) in xt.chunks_exact_mut(TILE * TILE).enumerate() {
        let width = TILE.min(cols - p * TILE);
        for k in 0..width {
            let row = &x[(p * TILE + k) * TILE..][..TILE];
            for (t, &value) in row.iter().enumerate() {
                panel[t * TILE + k] = value;
            }
        }
        for row in panel.chunks_exact_mut(TILE) {
            row[width..].fill(0.0);
        }
    }
}

/// `dw += dy·xᵀ` over tiles: `dy` tiles of rows × 64, `xt` transposed tiles. Tiles in order, so the
/// sum does not depend on how rows are shared out. Runs inside the pool.
pub(super) fn accumulate_weight_gradient(
    cpu: &Cpu,
    dy: &[f32],
    rows: usize,
    cols: usize,
    xt: &[f32],
    dw: &mut [f32],
) {
    let padded = padded_cols(cols);
    let tiles = dy.len() / (rows * TILE);
    assert!(xt.len() >= tiles * padded * TILE && dw.len() >= rows * cols);
    dw[..rows * cols].par_chunks_mut(GRAD_ROWS * cols).enumerate().for_each(|(job, dw)| {
        let block = dw.len() / cols;
        let mut tail = [0.0f32; GRAD_ROWS * TILE];
        for i in 0..tiles {
            let dy = &dy[(i * rows + job * GRAD_ROWS) * TILE..][..block * TILE];
            for (p, panel) in
                xt[i * padded * TILE..][..padded * TILE].chunks_exact(TILE * TILE).enumerate()
            {
                let whole = (p + 1) * TILE <= cols;
                let product = Panel {
                    a: dy.as_ptr(),
                    row_stride: TILE,
                    col_stride: 1,
                    b: panel.as_ptr(),
                    ldb: TILE,
                    c: if whole { dw[p * TILE..].as_mut_ptr() } else { tail.as_mut_ptr() },
                    ldc: if whole { cols } else { TILE },
                    rows: block,
                    depth: TILE,
                    accumulate: whole,
                };
                // SAFETY: dy has `block` rows of 64, the panel 64 rows of 64; C is `block` rows of
                // dw with all 64 columns inside the matrix, or the tail buffer.
                unsafe { cpu.level.run(product) }
                if !whole {
                    for (row, tail) in dw.chunks_exact_mut(cols).zip(tail.chunks_exact(TILE)) {
                        for (d, t) in row[p * TILE..].iter_mut().zip(tail) {
                            *d += t;
                        }
                    }
                }
            }
        }
    });
}
