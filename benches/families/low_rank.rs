//! O = S + L with alignment, forward and backward, beside the dense layer's passes: what fusing the
//! branches and their sums costs and saves.

use chtsl::backend::{Hybrid, HybridGrads, LowRank, branch_sums};
use chtsl::config::Activation;
use criterion::Criterion;

use crate::inputs::{SHAPES, act, buf, random};
use crate::machine::{Machine, Timed};
use crate::sparse::{group, row};

/// (density, rank) of the published 60M and 130M settings at 0.95, 0.9, 0.85, 0.7 sparsity.
const BRANCHES: [(f64, usize); 4] = [(0.05, 16), (0.10, 32), (0.15, 48), (0.30, 48)];

pub fn groups<B: Timed>(c: &mut Criterion, machine: &Machine<B>) {
    let (bk, n) = (&machine.backend, machine.tokens);
    for (rows, cols) in SHAPES {
        let (x, d_o) = (act(bk, 3, cols, n), act(bk, 4, rows, n));
        let new = |features| bk.act(features, n).expect("memory");
        let (mut o, mut dx, mut scratch) = (new(rows), new(cols), new(rows));
        let mut sums = bk.statistics(branch_sums::COUNT, n).expect("memory");
        let mut coefficients = bk.statistics(1, n).expect("memory");
        bk.write_act(&mut coefficients, &vec![1e-3; n]).expect("the right length");
        let w = buf(bk, 5, rows * cols);
        let mut dw = bk.buf(rows * cols).expect("memory");

        for backward in [false, true] {
            let pass = if backward { "backward" } else { "forward" };
            let mut g = group(c, machine, &format!("low_rank_{pass}"), (rows, cols));
            row(&mut g, bk, "dense", &mut || match backward {
                false => bk.dense_forward(&w, &x, &mut o).expect("runs"),
                true => {
                    bk.dense_backward_weight(&d_o, &x, &mut dw).expect("runs");
                    bk.dense_backward_input(&w, &d_o, &mut dx, false).expect("runs");
                }
            });
            for (density, rank) in BRANCHES {
                let s = random(bk, rows, cols, density);
                let (a, b) = (buf(bk, 6, rank * cols), buf(bk, 7, rows * rank));
                let zero = |len| bk.buf(len).expect("memory");
                let (mut dv, mut da, mut db) =
                    (zero(s.pattern.nnz()), zero(rank * cols), zero(rows * rank));
                let activation = Activation::Silu;
                let low_rank = Some(LowRank { a: &a, b: &b, rank, activation, scale: 1.0 });
                let w = Hybrid { sparse: Some(&s), low_rank, rows, cols };
                let mut u = new(rank);
                bk.hybrid_forward(&w, &x, Some(&mut u), &mut o, Some(&mut sums)).expect("runs");
                row(&mut g, bk, &format!("{density}+r{rank}"), &mut || {
                    if !backward {
                        let (u, sums) = (Some(&mut u), Some(&mut sums));
                        return bk.hybrid_forward(&w, &x, u, &mut o, sums).expect("runs");
                    }
                    bk.copy(&d_o, &mut scratch).expect("runs");
                    let grads =
                        HybridGrads { values: Some(&mut dv), a: Some(&mut da), b: Some(&mut db) };
                    let (u, c) = (Some(&u), Some(&coefficients));
                    bk.hybrid_backward(&w, &x, u, &o, c, &mut scratch, &mut dx, false, grads)
                        .expect("runs");
                });
            }
            g.finish();
        }
    }
}
