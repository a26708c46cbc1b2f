//! Token embedding: rows of a table into columns of an activation and back.

use rayon::prelude::*;

use super::memory::{Act, Floats, check_act};
use super::simd::TILE;
use super::{Cpu, elementwise};
use crate::backend::checks;
use crate::error::Result;

/// Features per job of the backward pass; every job walks all tokens in order.
const FEATURES: usize = 32;

pub(super) fn forward(cpu: &Cpu, table: &Floats, ids: &[u32], x: &mut Act) -> Result<()> {
    let features = x.features();
    check_act("embedding", x, features, ids.len())?;
    checks::ids("embedding", table.len(), ids, features)?;
    let n = x.tile_len();
    cpu.pool.install(|| {
        x.data_mut().par_chunks_exact_mut(n).zip(ids.par_chunks(TILE)).for_each(|(x, ids)| {
            for (t, &id) in ids.iter().enumerate() {
                let row = &table[id as usize * features..][..features];
                for (f, &value) in row.iter().enumerate() {
                    x[f * TILE + t] = value;
                }
            }
        });
    });
    Ok(())
}

pub(super) fn backward(cpu: &Cpu, ids: &[u32], dx: &Act, dtable: &mut Floats) -> Result<()> {
    let features = dx.features();
    check_act("embedding_backward", dx, features, ids.len())?;
    checks::ids("embedding_backward", dtable.len(), ids, features)?;
    let jobs = features.div_ceil(FEATURES);
    let table = Table(dtable.as_mut_ptr());
    cpu.pool.install(|| {
        (0..jobs).into_par_iter().for_each(|job| {
            let first = job * FEATURES;
            let width = FEATURES.min(features - first);
            let table = &table;
            for (i, ids) in ids.chunks(TILE).enumerate() {
                let tile = &dx.tile(i)[first * TILE..][..width * TILE];
                for (t, &id) in ids.iter().enumerate() {
                    // SAFETY: ids were checked against the table; this job alone touches the
                    // features first..first + width of every row.
                    let row = unsafe {
                        std::slice::from_raw_parts_mut(
                            table.0.add(id as usize * features + first),
                            width,
                        )
                    };
                    for (f, d) in row.iter_mut().enumerate() {
                        *d += tile[f * TILE + t];
                    }
                }
            }
        });
    });
    elementwise::round_slice(cpu, dtable);
    Ok(())
}

struct Table(*mut f32);
// SAFETY: jobs write disjoint feature ranges.
unsafe impl Sync for Table {}
