//! Element-wise operations: residual sums, SwiGLU, rounding, norms of gradients.

use rayon::prelude::*;

use super::Cpu;
use super::memory::{Act, Floats, check_act};
use super::simd::pointwise::{Add, Round, Swiglu, SwigluBackward};
use crate::error::Result;

/// Elements per job of flat passes.
pub(super) const CHUNK: usize = 1 << 14;

/// Rounds a slice to bf16 if that is the working precision.
pub(super) fn round_slice(cpu: &Cpu, x: &mut [f32]) {
    if cpu.bf16 {
        // SAFETY: the kernel checks its own bounds.
        unsafe { cpu.level.run(Round { x }) }
    }
}

pub(super) fn round_to_bf16(cpu: &Cpu, x: &mut Floats) {
    round_slice(cpu, x);
}

pub(super) fn sum_squares(cpu: &Cpu, x: &Floats) -> f64 {
    let partial: Vec<f64> = cpu.pool.install(|| {
        x.par_chunks(CHUNK)
            .map(|c| {
                // Eight interleaved sums: vectorisable, and the same order everywhere.
                let mut lanes = [0.0f64; 8];
                for part in c.chunks(8) {
                    for (l, &v) in lanes.iter_mut().zip(part) {
                        *l += f64::from(v) * f64::from(v);
                    }
                }
                lanes.iter().sum::<f64>()
            })
            .collect()
    });
    partial.iter().sum()
}

pub(super) fn add(cpu: &Cpu, a: &Act, b: &Act, y: &mut Act) -> Result<()> {
    check_act("add", a, y.features(), y.tokens())?;
    check_act("add", b, y.features(), y.tokens())?;
    let (a, b) = (a.data(), b.data());
    cpu.pool.install(|| {
        y.data_mut().par_chunks_mut(CHUNK).enumerate().for_each(|(i, y)| {
            let range = i * CHUNK..i * CHUNK + y.len();
            // SAFETY: the kernel checks its own bounds.
            unsafe { cpu.level.run(Add { a: &a[range.clone()], b: &b[range], y }) }
            round_slice(cpu, y);
        });
    });
    Ok(())
}

pub(super) fn swiglu_forward(cpu: &Cpu, gate: &Act, up: &Act, y: &mut Act) -> Result<()> {
    check_act("swiglu", gate, y.features(), y.tokens())?;
    check_act("swiglu", up, y.features(), y.tokens())?;
    let (gate, up) = (gate.data(), up.data());
    cpu.pool.install(|| {
        y.data_mut().par_chunks_mut(CHUNK).enumerate().for_each(|(i, y)| {
            let range = i * CHUNK..i * CHUNK + y.len();
            let (gate, up) = (&gate[range.clone()], &up[range]);
            // SAFETY: the kernel checks its own bounds.
            unsafe { cpu.level.run(Swiglu { gate, up, y, bf16: cpu.bf16 }) }
        });
    });
    Ok(())
}

pub(super) fn swiglu_backward(
    cpu: &Cpu,
    dy: &Act,
    gate: &Act,
    up: &Act,
    dgate: &mut Act,
    dup: &mut Act,
) -> Result<()> {
    for x in [gate, up, &*dgate, &*dup] {
        check_act("swiglu_backward", x, dy.features(), dy.tokens())?;
    }
    let (dy, gate, up) = (dy.data(), gate.data(), up.data());
    cpu.pool.install(|| {
        let dup = dup.data_mut().par_chunks_mut(CHUNK);
        dgate.data_mut().par_chunks_mut(CHUNK).zip(dup).enumerate().for_each(
            |(i, (dgate, dup))| {
                let range = i * CHUNK..i * CHUNK + dup.len();
                let kernel = SwigluBackward {
                    dy: &dy[range.clone()],
                    gate: &gate[range.clone()],
                    up: &up[range],
                    dgate,
                    dup,
                    bf16: cpu.bf16,
                };
                // SAFETY: the kernel checks its own bounds.
                unsafe { cpu.level.run(kernel) }
            },
        );
    });
    Ok(())
}
