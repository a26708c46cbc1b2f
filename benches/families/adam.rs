//! Adam over a dense matrix and over the links of a sparse one.

use chtsl::backend::AdamStep;
use criterion::{Criterion, Throughput};

use crate::inputs::{DENSITIES, SHAPES, buf};
use crate::machine::{Machine, Timed};
use crate::sparse::row;

pub fn groups<B: Timed>(c: &mut Criterion, machine: &Machine<B>) {
    let bk = &machine.backend;
    let step = AdamStep {
        lr: 1e-3,
        beta1: 0.9,
        beta2: 0.95,
        eps: 1e-8,
        weight_decay: 0.0,
        decoupled: true,
        step: 100,
        grad_scale: 1.0,
    };
    for (rows, cols) in SHAPES {
        let mut g = c.benchmark_group(format!("adam/{}/{rows}x{cols}", bk.name()));
        g.throughput(Throughput::Elements((rows * cols) as u64));
        for density in [1.0].into_iter().chain(DENSITIES) {
            let n = (density * (rows * cols) as f64).round() as usize;
            let zero = || bk.buf(n).expect("memory");
            let (mut p, grad, mut m, mut v, mut ages) =
                (buf(bk, 1, n), buf(bk, 2, n), zero(), zero(), zero());
            let name = if density == 1.0 { "dense".into() } else { density.to_string() };
            row(&mut g, bk, &name, &mut || {
                let ages = (density < 1.0).then_some(&mut ages);
                bk.adam(&mut p, &grad, &mut m, &mut v, ages, step).expect("runs");
            });
        }
        g.finish();
    }
}
