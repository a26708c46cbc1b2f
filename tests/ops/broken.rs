//! A non-finite number must reach the result, and with it the loss, where it is noticed: an exponential
//! that clamps it away would let a broken weight train on.

use chtsl::backend::{Backend, Hybrid, LowRank};
use chtsl::config::Activation;

use crate::attention::{plain, shape};
use crate::support::{PRECISIONS, act, buf, on_each, stale, stale_statistics};

const BAD: [f32; 2] = [f32::NAN, f32::INFINITY];

/// `n` tokens of `f` features of moderate size, one of them replaced.
fn one_bad(f: usize, n: usize, at: (usize, usize), bad: f32) -> Vec<f32> {
    let mut x: Vec<f32> = (0..f * n).map(|i| 0.5 - (i * 7 % 11) as f32 / 8.0).collect();
    x[at.0 * n + at.1] = bad;
    x
}

/// Whether every one of these elements of an activation with `n` tokens is none.
fn none_finite(x: &[f32], n: usize, features: std::ops::Range<usize>, token: usize) -> bool {
    features.into_iter().all(|f| !x[f * n + token].is_finite())
}

fn attention<B: Backend>(backend: &B, bad: f32) {
    let a = plain(1, 20, 2, 8);
    let (f, n, token) = (a.features(), a.tokens(), 5);
    let good = one_bad(f, n, (0, 0), 0.1);
    for which in 0..3 {
        // In the first head.
        let inputs = [0, 1, 2].map(|i| {
            let x = if i == which { one_bad(f, n, (3, token), bad) } else { good.clone() };
            act(backend, f, n, &x)
        });
        let [q, k, v] = &inputs;
        let (mut out, mut lse) = (stale(backend, f, n), stale_statistics(backend, 2, n));
        backend.attention_forward(shape(&a), a.base, q, k, v, &mut out, &mut lse).unwrap();
        let out = backend.read_act(&out).unwrap();
        let what = format!("{}: {bad} in {}", backend.describe(), ["q", "k", "v"][which]);
        // A key is read by all later tokens, a value in its own feature.
        let features = if which == 2 { 3..4 } else { 0..8 };
        assert!(none_finite(&out, n, features, token), "{what}");
        assert!(out[8 * n..].iter().all(|x| x.is_finite()), "{what}: the other head");
    }
}

fn loss<B: Backend>(backend: &B, bad: f32) {
    let (vocab, f, n) = (40, 16, 6);
    let targets = vec![3; n];
    for in_head in [false, true] {
        let w = one_bad(vocab, f, (7, 2), if in_head { bad } else { 0.1 });
        let x = one_bad(f, n, (2, 4), if in_head { 0.1 } else { bad });
        let (w, x) = (buf(backend, &w), act(backend, f, n, &x));
        let got = backend.cross_entropy_eval(&w, &x, &targets).unwrap();
        assert!(!got.loss.is_finite(), "{}: {bad}: {got:?}", backend.describe());
        let (mut dx, mut dw) = (stale(backend, f, n), buf(backend, &vec![0.0; vocab * f]));
        let got = backend.cross_entropy_train(&w, &x, &targets, 0.1, &mut dx, &mut dw).unwrap();
        assert!(!got.loss.is_finite(), "{}: {bad}: {got:?}", backend.describe());
        let squares = backend.sum_squares(&dw).unwrap();
        assert!(!squares.is_finite(), "{}: {bad}: gradient {squares}", backend.describe());
    }
}

fn gates<B: Backend>(backend: &B) {
    let (f, n) = (5, 70);
    let gate = act(backend, f, n, &one_bad(f, n, (2, 66), f32::NAN));
    let up = act(backend, f, n, &one_bad(f, n, (0, 0), 0.1));
    let mut y = stale(backend, f, n);
    backend.swiglu_forward(&gate, &up, &mut y).unwrap();
    let y = backend.read_act(&y).unwrap();
    assert!(y[2 * n + 66].is_nan(), "{}", backend.describe());

    // SiLU between the factors of a low-rank branch.
    let (rows, cols, rank) = (9, 12, 4);
    let (a, b) = (buf(backend, &vec![0.25; rank * cols]), buf(backend, &vec![0.5; rows * rank]));
    let low_rank = LowRank { a: &a, b: &b, rank, activation: Activation::Silu, scale: 1.0 };
    let w = Hybrid { sparse: None, low_rank: Some(low_rank), rows, cols };
    let x = act(backend, cols, n, &one_bad(cols, n, (7, 66), f32::NAN));
    let (mut u, mut o) = (stale(backend, rank, n), stale(backend, rows, n));
    backend.hybrid_forward(&w, &x, Some(&mut u), &mut o, None).unwrap();
    let o = backend.read_act(&o).unwrap();
    assert!(none_finite(&o, n, 0..rows, 66), "{}", backend.describe());
}

#[test]
fn non_finite_numbers_reach_the_result() {
    for precision in PRECISIONS {
        on_each!(precision, |backend| {
            BAD.iter().for_each(|bad| attention(backend, *bad));
            BAD.iter().for_each(|bad| loss(backend, *bad));
            gates(backend);
        });
    }
}
