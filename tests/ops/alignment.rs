//! The alignment term: branch sums of the forward pass, coefficients of the backward pass.

use chtsl::backend::{Backend, Csr, Hybrid, LowRank, branch_sums};
use chtsl::config::{Activation, Precision};
use chtsl::sparse::Pattern;

use super::low_rank::{Case, check, check_derivatives, plans};
use crate::support::{PRECISIONS, act, buf, on_each, stale, stale_statistics, statistics};

#[test]
fn aligned_projections_match_the_loops() {
    for precision in PRECISIONS {
        for (seed, plan) in plans(true).into_iter().enumerate() {
            let case = Case::new(100 + seed as u64, precision, plan);
            on_each!(precision, |backend| check(backend, &case));
        }
    }
}

#[test]
fn gradients_are_derivatives() {
    check_derivatives(true);
}

/// Two outputs, one input of value 1, three tokens: S = (3, -2)·x, L = (-1, -4)·x.
fn by_hand<B: Backend>(backend: &B) {
    let pattern = Pattern::full(2, 1);
    let sparse = Csr::new(backend, pattern, &[3.0, -2.0]).unwrap();
    let (a, b) = (buf(backend, &[2.0]), buf(backend, &[-1.0, -4.0]));
    let low = LowRank { a: &a, b: &b, rank: 1, activation: Activation::Identity, scale: 0.5 };
    let w = Hybrid { sparse: Some(&sparse), low_rank: Some(low), rows: 2, cols: 1 };
    let x = act(backend, 1, 3, &[1.0, 0.0, -2.0]);
    let (mut u, mut o) = (stale(backend, 1, 3), stale(backend, 2, 3));
    let mut sums = stale_statistics(backend, branch_sums::COUNT, 3);
    backend.hybrid_forward(&w, &x, Some(&mut u), &mut o, Some(&mut sums)).unwrap();
    assert_eq!(backend.read_act(&o).unwrap(), [2.0, 0.0, -4.0, -6.0, 0.0, 12.0]);
    let sums = backend.read_act(&sums).unwrap();
    let row = |i: usize| &sums[i * 3..][..3];
    // (3+1)² + (-2+4)²; the first output cancels min(3, 1), the second agrees in min(2, 4).
    assert_eq!(row(branch_sums::DIFFERENCE), [20.0, 0.0, 80.0]);
    assert_eq!(row(branch_sums::CANCELLED), [1.0, 0.0, 2.0]);
    assert_eq!(row(branch_sums::OVERLAP), [3.0, 0.0, 6.0]);
    assert_eq!(row(branch_sums::SPARSE), [13.0, 0.0, 52.0]);
    assert_eq!(row(branch_sums::LOW_RANK), [17.0, 0.0, 68.0]);
}

#[test]
fn branch_sums_by_hand() {
    for precision in PRECISIONS {
        on_each!(precision, |backend| by_hand(backend));
    }
}

/// Coefficients of zero are no coefficients.
#[test]
fn zero_coefficients_leave_the_gradient_alone() {
    on_each!(Precision::F32, |backend| zero_coefficients(backend));
}

fn zero_coefficients<B: Backend>(backend: &B) {
    let sparse = Csr::new(backend, Pattern::full(3, 2), &[0.5; 6]).unwrap();
    let (a, b) = (buf(backend, &[1.0, -2.0]), buf(backend, &[1.0, 2.0, 3.0]));
    let run = |zero: bool| {
        let low = LowRank { a: &a, b: &b, rank: 1, activation: Activation::Silu, scale: 1.5 };
        let w = Hybrid { sparse: Some(&sparse), low_rank: Some(low), rows: 3, cols: 2 };
        let x = act(backend, 2, 2, &[1.0, 2.0, 3.0, 4.0]);
        let (mut u, mut o) = (stale(backend, 1, 2), stale(backend, 3, 2));
        backend.hybrid_forward(&w, &x, Some(&mut u), &mut o, None).unwrap();
        let mut d_o = act(backend, 3, 2, &[1.0, -1.0, 2.0, -2.0, 3.0, -3.0]);
        let mut dx = stale(backend, 2, 2);
        let c = zero.then(|| statistics(backend, 1, 2, &[0.0; 2]));
        let [mut dv, mut da, mut db] = [6, 2, 3].map(|n| buf(backend, &vec![0.0; n]));
        let grads = chtsl::backend::HybridGrads {
            values: Some(&mut dv),
            a: Some(&mut da),
            b: Some(&mut db),
        };
        backend
            .hybrid_backward(&w, &x, Some(&u), &o, c.as_ref(), &mut d_o, &mut dx, false, grads)
            .unwrap();
        let mut all = backend.read_act(&dx).unwrap();
        all.extend(backend.read_act(&d_o).unwrap());
        for g in [dv, da, db] {
            all.extend(backend.read(&g).unwrap());
        }
        all
    };
    assert_eq!(run(true), run(false));
}
