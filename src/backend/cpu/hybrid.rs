//! O = S + L, forward and backward, one fused pass per tile.

use rayon::prelude::*;

use super::memory::{Act, check_act};
use super::sddmm::{add_partials, chunk_range, chunks};
use super::simd::TILE;
use super::simd::hybrid::{BACKWARD_ROWS, HybridBackward, HybridForward, LowRankTile};
use super::{Cpu, elementwise};
use crate::backend::{Hybrid, HybridGrads, LowRank, branch_sums, checks};
use crate::config::Activation;
use crate::error::Result;

fn low_tile(low: &LowRank<Cpu>, u: *mut f32, phi: *mut f32) -> LowRankTile {
    LowRankTile {
        a: low.a.as_ptr(),
        b: low.b.as_ptr(),
        rank: low.rank,
        silu: low.activation == Activation::Silu,
        scale: low.scale,
        u,
        phi,
    }
}

pub(super) fn forward(
    cpu: &Cpu,
    w: &Hybrid<Cpu>,
    x: &Act,
    u: Option<&mut Act>,
    o: &mut Act,
    sums: Option<&mut Act>,
) -> Result<()> {
    let extents = u.as_deref().map(Act::extents);
    let rank = checks::hybrid("hybrid_forward", cpu, w, x.extents(), extents, o.extents())?;
    if let Some(s) = &sums {
        check_act("hybrid_forward", s, branch_sums::COUNT, x.tokens())?;
    }
    if w.rows == 0 || x.tokens() == 0 {
        return Ok(());
    }
    let tiles = x.tiles();
    let u = Tiles::new(u, tiles);
    let sums = Tiles::new(sums, tiles);
    let n = o.features() * TILE;
    cpu.pool.install(|| {
        o.data_mut().par_chunks_exact_mut(n).enumerate().for_each(|(i, o)| {
            cpu.with_scratch(rank * TILE, |phi| {
                let s = sums.get(i);
                if !s.is_null() {
                    // SAFETY: tile i of an activation of COUNT features, used by this job alone.
                    unsafe { std::ptr::write_bytes(s, 0, branch_sums::COUNT * TILE) };
                }
                let kernel = HybridForward {
                    w: w.sparse.map(|s| s.index.rows.links()),
                    low: w.low_rank.as_ref().map(|l| low_tile(l, u.get(i), phi.as_mut_ptr())),
                    x: x.tile(i).as_ptr(),
                    o: o.as_mut_ptr(),
                    rows: w.rows,
                    cols: w.cols,
                    sums: s,
                    bf16: cpu.bf16,
                };
                // SAFETY: `check` compared every extent; tile i of u and sums belongs to this job.
                unsafe { cpu.level.run(kernel) }
            });
        });
    });
    Ok(())
}

/// Tile pointers of an optional activation, handed out to jobs that each use one tile.
struct Tiles(*mut f32, usize);

// SAFETY: every job takes another tile, so no two threads touch the same elements.
unsafe impl Send for Tiles {}
// SAFETY: as above.
unsafe impl Sync for Tiles {}

impl Tiles {
    fn new(a: Option<&mut Act>, tiles: usize) -> Self {
        match a {
            Some(a) => {
                debug_assert_eq!(a.tiles(), tiles);
                Tiles(a.data_mut().as_mut_ptr(), a.tile_len())
            }
            None => Tiles(std::ptr::null_mut(), 0),
        }
    }

    fn get(&self, i: usize) -> *mut f32 {
        self.0.wrapping_add(i * self.1)
    }
}

#[allow(clippy::too_many_arguments)]
pub(super) fn backward(
    cpu: &Cpu,
    w: &Hybrid<Cpu>,
    x: &Act,
    u: Option<&Act>,
    o: &Act,
    coefficients: Option<&Act>,
    d_o: &mut Act,
    dx: &mut Act,
    accumulate: bool,
    grads: HybridGrads<Cpu>,
) -> Result<()> {
    const OP: &str = "hybrid_backward";
    let rank = checks::hybrid(OP, cpu, w, x.extents(), u.map(Act::extents), o.extents())?;
    check_act(OP, d_o, w.rows, x.tokens())?;
    check_act(OP, dx, w.cols, x.tokens())?;
    let given = coefficients.map(|c| (c.extents(), x.tokens()));
    checks::hybrid_grads(OP, cpu, w, rank, given, &grads)?;
    let nnz = w.sparse.map_or(0, |s| s.pattern.nnz());
    let HybridGrads { values, a, b } = grads;
    let tiles = x.tiles();
    if tiles == 0 {
        return Ok(());
    }
    let count = chunks(tiles);
    let round16 = |n: usize| n.next_multiple_of(16);
    let (len_v, len_a, len_b) = (round16(nnz), round16(rank * w.cols), round16(rank * w.rows));
    // At least one line: without links there is no gradient, but dx is still written.
    let stride = (len_v + len_a + len_b).max(16);
    let mut shared = cpu.shared.lock().expect("a kernel panicked");
    shared.grow(count * stride);
    let partials = &mut shared[..count * stride];
    let (d_o, dx) = (Tiles::new(Some(d_o), tiles), Tiles::new(Some(dx), tiles));
    cpu.pool.install(|| {
        partials.par_chunks_exact_mut(stride).enumerate().for_each(|(c, partial)| {
            partial.fill(0.0);
            let (dvalues, rest) = partial.split_at_mut(len_v);
            let (da, db) = rest.split_at_mut(len_a);
            cpu.with_scratch((2 * rank + BACKWARD_ROWS) * TILE, |scratch| {
                let (phi, rest) = scratch.split_at_mut(rank * TILE);
                let (dphi, dl) = rest.split_at_mut(rank * TILE);
                for i in chunk_range(tiles, count, c) {
                    let kernel = HybridBackward {
                        w: w.sparse.map(|s| s.index.rows.links()),
                        wt: w.sparse.map(|s| s.index.cols.links()),
                        low: w.low_rank.as_ref().map(|l| {
                            let u = u.expect("checked").tile(i).as_ptr();
                            // The backward kernel only reads u.
                            low_tile(l, u.cast_mut(), phi.as_mut_ptr())
                        }),
                        x: x.tile(i).as_ptr(),
                        o: o.tile(i).as_ptr(),
                        coefficients: coefficients.map_or(std::ptr::null(), |c| c.tile(i).as_ptr()),
                        d_o: d_o.get(i),
                        dx: dx.get(i),
                        accumulate,
                        rows: w.rows,
                        cols: w.cols,
                        dvalues: dvalues.as_mut_ptr(),
                        da: da.as_mut_ptr(),
                        db: db.as_mut_ptr(),
                        dphi: dphi.as_mut_ptr(),
                        dl: dl.as_mut_ptr(),
                        bf16: cpu.bf16,
                    };
                    // SAFETY: `check` and the lines above compared every extent; tile i belongs to
                    // one chunk, whose partial gradients and scratch are this job's alone.
                    unsafe { cpu.level.run(kernel) }
                }
            });
        });
    });
    if let (Some(s), Some(values)) = (w.sparse, values) {
        let source = &s.index.rows.source;
        add_partials(partials, stride, count, nnz, |i, g| values[source[i] as usize] += g);
        elementwise::round_slice(cpu, values);
    }
    if let (Some(a), Some(b)) = (a, b) {
        let cols = w.cols;
        add_partials(&partials[len_v..], stride, count, rank * cols, |i, g| {
            a[(i % rank) * cols + i / rank] += g; // partials hold the transpose
        });
        add_partials(&partials[len_v + len_a..], stride, count, rank * w.rows, |i, g| b[i] += g);
        elementwise::round_slice(cpu, a);
        elementwise::round_slice(cpu, b);
    }
    Ok(())
}
