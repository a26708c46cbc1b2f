//! S·X, Sᵀ·X and the gradient at the links, beside the dense products of the same layer.

use chtsl::backend::{Hybrid, branch_sums};
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
        scatter(c, machine, (rows, cols));
        alignment(c, machine, (rows, cols));
    }
}

/// Scatter of the links and gather of their gradient, beside one copy of an activation of the same
/// number of elements.
fn scatter<B: Timed>(c: &mut Criterion, machine: &Machine<B>, (rows, cols): (usize, usize)) {
    let bk = &machine.backend;
    let new = |nnz| bk.buf(nnz).expect("memory");
    let probe = random(bk, rows, cols, DENSITIES[0]);
    if bk.scatter(&probe, &mut new(probe.pattern.nnz())).is_none() {
        return;
    }
    let mut g = group(c, machine, "scatter", (rows, cols));
    let (from, mut to) = (act(bk, 3, rows, cols), bk.act(rows, cols).expect("memory"));
    row(&mut g, bk, "copy", &mut || bk.copy(&from, &mut to).expect("runs"));
    for density in DENSITIES {
        let s = random(bk, rows, cols, density);
        let mut dv = new(s.pattern.nnz());
        row(&mut g, bk, &density.to_string(), &mut || {
            bk.scatter(&s, &mut dv).expect("this machine scatters").expect("runs");
        });
    }
    g.finish();
}

/// A product with links with and without the sums over the branches: what alignment and OCR cost where
/// there is no low-rank pass to ride on.
fn alignment<B: Timed>(c: &mut Criterion, machine: &Machine<B>, (rows, cols): (usize, usize)) {
    let (bk, n) = (&machine.backend, machine.tokens);
    let (x, mut o) = (act(bk, 3, cols, n), bk.act(rows, n).expect("memory"));
    let mut sums = bk.statistics(branch_sums::COUNT, n).expect("memory");
    let w = buf(bk, 5, rows * cols);
    let mut g = group(c, machine, "alignment", (rows, cols));
    row(&mut g, bk, "dense", &mut || bk.dense_forward(&w, &x, &mut o).expect("runs"));
    let s = random(bk, rows, cols, 0.10);
    let w = Hybrid { sparse: Some(&s), low_rank: None, rows, cols };
    for (name, with) in [("0.1", false), ("0.1+sums", true)] {
        row(&mut g, bk, name, &mut || {
            let sums = with.then_some(&mut sums);
            bk.hybrid_forward(&w, &x, None, &mut o, sums).expect("runs");
        });
    }
    g.finish();
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
