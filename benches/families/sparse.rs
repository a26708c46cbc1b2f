//! S·X, Sᵀ·X and the gradient at the links, beside the dense products of the same layer.

use criterion::{BenchmarkGroup, Criterion, Throughput, measurement::WallTime};

use crate::inputs::{DENSITIES, SHAPES, act, buf, random};
use crate::machine::{Machine, Timed};

type Group<'a> = BenchmarkGroup<'a, WallTime>;

pub fn groups<B: Timed>(c: &mut Criterion, machine: &Machine<B>) {
    let (bk, n) = (&machine.backend, machine.tokens);
    for (rows, cols) in SHAPES {
        let (x, dy) = (act(bk, 3, cols, n), act(bk, 4, rows, n));
        let (mut y, mut dx) = (bk.act(rows, n).expect("memory"), bk.act(cols, n).expect("memory"));
        let w = buf(bk, 5, rows * cols);
        let mut dw = bk.buf(rows * cols).expect("memory");
        let mut g = group(c, machine, "spmm", (rows, cols));
        row(&mut g, bk, "dense", &mut || bk.dense_forward(&w, &x, &mut y).expect("runs"));
        for density in DENSITIES {
            let s = random(bk, rows, cols, density);
            row(&mut g, bk, &density.to_string(), &mut || bk.spmm(&s, &x, &mut y).expect("runs"));
        }
        g.finish();
        let mut g = group(c, machine, "spmm_transposed", (rows, cols));
        row(&mut g, bk, "dense", &mut || {
            bk.dense_backward_input(&w, &dy, &mut dx, false).expect("runs");
        });
        for density in DENSITIES {
            let s = random(bk, rows, cols, density);
            row(&mut g, bk, &density.to_string(), &mut || {
                bk.spmm_transposed(&s, &dy, &mut dx, false).expect("runs");
            });
        }
        g.finish();
        let mut g = group(c, machine, "sddmm", (rows, cols));
        row(&mut g, bk, "dense", &mut || {
            bk.dense_backward_weight(&dy, &x, &mut dw).expect("runs");
        });
        for density in DENSITIES {
            let s = random(bk, rows, cols, density);
            let mut dv = bk.buf(s.pattern.nnz()).expect("memory");
            row(&mut g, bk, &density.to_string(), &mut || {
                bk.sddmm(&s, &dy, &x, &mut dv).expect("runs");
            });
        }
        g.finish();
    }
}

/// A group whose throughput is the work of the dense product.
pub fn group<'a, B: Timed>(
    c: &'a mut Criterion,
    machine: &Machine<B>,
    family: &str,
    (rows, cols): (usize, usize),
) -> Group<'a> {
    let name = format!("{family}/{}/{rows}x{cols}", machine.backend.name());
    let mut g = c.benchmark_group(name);
    g.throughput(Throughput::Elements(2 * (rows * cols * machine.tokens) as u64));
    g
}

/// One row of a group, timed by the machine's own clock.
pub fn row<B: Timed>(g: &mut Group, backend: &B, name: &str, work: &mut dyn FnMut()) {
    g.bench_function(name, |b| b.iter_custom(|n| backend.time(n, work)));
}
