//! Sparse products, forward and transposed.

use chtsl::backend::cuda::Strategy;
use chtsl::backend::{Backend, Csr};
use chtsl::config::Precision;
use chtsl::sparse::Pattern;
use chtsl_emulation::Order;
use proptest::prelude::*;

use crate::support::emulated;
use crate::support::oracle::{self, Bounded};
use crate::support::{
    Fill, PRECISIONS, Source, Tolerance, act, assert_derivative, assert_refused, bounded, dot,
    on_each, stale, take, wide,
};

/// Patterns with what can go wrong in a walk over blocks of columns: no link, all links, rows of
/// both kinds, one to six blocks, bands that leave blocks of a row empty.
pub fn patterns(s: &mut Source) -> Vec<(String, Pattern, usize)> {
    let mut all = vec![
        ("1 x 1".into(), Pattern::full(1, 1), 1),
        ("1 x 1 without links".into(), s.pattern(1, 1, 0.0), 1),
        ("no links".into(), s.pattern(9, 70, 0.0), 65),
        ("full".into(), Pattern::full(33, 65), 63),
        ("one row".into(), s.pattern(1, 400, 0.3), 64),
        ("one column".into(), s.pattern(400, 1, 0.3), 64),
        ("uneven rows".into(), s.uneven(40, 300), 130),
        ("uneven columns".into(), s.uneven(300, 40), 3),
        ("a band in blocks".into(), s.band(128, 1376, 0.05), 7),
        ("a band".into(), s.band(60, 100, 0.1), 65),
        ("no tokens".into(), s.pattern(5, 6, 0.5), 0),
        ("no rows".into(), s.pattern(0, 6, 0.0), 3),
        ("no columns".into(), s.pattern(6, 0, 0.0), 3),
        ("512 x 1376".into(), s.pattern(512, 1376, 0.05), 5),
        ("1376 x 512".into(), s.pattern(1376, 512, 0.05), 3),
    ];
    for cols in [100, 256, 400, 1376] {
        for density in [0.02, 0.1, 0.5] {
            let name = format!("24 x {cols} at {density}");
            all.push((name, s.pattern(24, cols, density), 66));
        }
    }
    all
}

struct Case {
    what: String,
    precision: Precision,
    pattern: Pattern,
    tokens: usize,
    values: Vec<f32>,
    x: Vec<f32>,
    dy: Vec<f32>,
    dx: Vec<f32>,
    want_y: Vec<Bounded>,
    want_dx: Vec<Bounded>,
}

impl Case {
    fn new(
        s: &mut Source,
        precision: Precision,
        (name, pattern, tokens): (String, Pattern, usize),
        fill: Fill,
    ) -> Self {
        let (rows, cols) = (pattern.rows(), pattern.cols());
        let values = s.fill(fill, pattern.nnz());
        let (x, dy) = (s.fill(fill, cols * tokens), s.fill(fill, rows * tokens));
        let w = oracle::expand(&pattern, &bounded(&values));
        let extents = (rows, cols, tokens);
        Case {
            what: format!("{name} {fill:?} {precision:?}"),
            precision,
            tokens,
            values,
            dx: s.normal(cols * tokens, 1.0),
            want_y: oracle::dense_forward(&w, &bounded(&x), extents),
            want_dx: oracle::dense_backward_input(&w, &bounded(&dy), extents),
            pattern,
            x,
            dy,
        }
    }
}

fn check<B: Backend>(backend: &B, c: &Case) {
    let (rows, cols, tokens) = (c.pattern.rows(), c.pattern.cols(), c.tokens);
    let name = |pass: &str| format!("{} {pass} {}", backend.describe(), c.what);
    // A sum over the links of a row; zeros of the loop round nothing.
    let longest = |degrees: &mut dyn Iterator<Item = usize>| Tolerance {
        precision: c.precision,
        terms: degrees.max().unwrap_or(0) + 2,
        roundings: 1,
    };
    let by_row = longest(&mut (0..rows).map(|m| c.pattern.row(m).len()));
    let by_col = longest(&mut c.pattern.column_degrees().iter().map(|d| *d as usize));
    let w = Csr::new(backend, c.pattern.clone(), &c.values).unwrap();
    let x = act(backend, cols, tokens, &c.x);
    let dy = act(backend, rows, tokens, &c.dy);

    let mut y = stale(backend, rows, tokens);
    backend.spmm(&w, &x, &mut y).unwrap();
    by_row.check(&name("forward"), &take(backend, y, rows, tokens), &c.want_y);

    let mut dx = stale(backend, cols, tokens);
    backend.spmm_transposed(&w, &dy, &mut dx, false).unwrap();
    by_col.check(&name("transposed"), &take(backend, dx, cols, tokens), &c.want_dx);

    let mut dx = act(backend, cols, tokens, &c.dx);
    backend.spmm_transposed(&w, &dy, &mut dx, true).unwrap();
    let want = oracle::add(&c.want_dx, &bounded(&c.dx));
    by_col.check(&name("accumulated"), &take(backend, dx, cols, tokens), &want);
}

#[test]
fn products_match_the_loops() {
    for precision in PRECISIONS {
        let mut s = Source::new(3, precision);
        for case in patterns(&mut s) {
            let case = Case::new(&mut s, precision, case, Fill::Random);
            on_each!(precision, |backend| check(backend, &case));
        }
        for fill in [Fill::Zeros, Fill::Ones, Fill::Ramp] {
            let pattern = s.pattern(20, 530, 0.2);
            let case = Case::new(&mut s, precision, (String::new(), pattern, 65), fill);
            on_each!(precision, |backend| check(backend, &case));
        }
    }
}

/// The naive scatter, which no other backend of these tests takes.
#[test]
fn naive_scratch_matches_the_loops() {
    for precision in PRECISIONS {
        let mut s = Source::new(11, precision);
        let backend = emulated::backend(precision, Order::Reverse, Strategy::Dense, 1);
        for case in patterns(&mut s).into_iter().filter(|(_, p, _)| p.rows() < 512) {
            check(&backend, &Case::new(&mut s, precision, case, Fill::Random));
        }
    }
}

fn repack<B: Backend>(backend: &B, pattern: &Pattern, values: [&[f32]; 2], x: &[f32]) {
    let (rows, cols) = (pattern.rows(), pattern.cols());
    let product = |w: &Csr<B>| {
        let (x, mut y) = (act(backend, cols, 3, x), stale(backend, rows, 3));
        let mut dx = stale(backend, cols, 3);
        backend.spmm(w, &x, &mut y).unwrap();
        backend.spmm_transposed(w, &y, &mut dx, false).unwrap();
        (backend.read_act(&y).unwrap(), backend.read_act(&dx).unwrap())
    };
    let mut w = Csr::new(backend, pattern.clone(), values[0]).unwrap();
    let before = product(&w);
    backend.write(&mut w.values, values[1]).unwrap();
    backend.pack(&mut w).unwrap();
    let after = product(&w);
    assert_ne!(before, after);
    assert_eq!(after, product(&Csr::new(backend, pattern.clone(), values[1]).unwrap()));
}

/// Both directions see values that changed after the upload.
#[test]
fn pack_refreshes_every_copy() {
    let mut s = Source::new(4, Precision::F32);
    let pattern = s.pattern(30, 600, 0.2);
    let (a, b) = (s.normal(pattern.nnz(), 1.0), s.normal(pattern.nnz(), 1.0));
    let x = s.normal(600 * 3, 1.0);
    on_each!(Precision::F32, |backend| repack(backend, &pattern, [&a, &b], &x));
}

#[test]
fn gradients_are_derivatives() {
    let mut s = Source::new(5, Precision::F32);
    let pattern = s.uneven(6, 8);
    let extents = (6, 8, 5);
    let inputs = [wide(&s.normal(pattern.nnz(), 1.0)), wide(&s.normal(40, 1.0))];
    let dy = wide(&s.normal(30, 1.0));
    let w = oracle::expand(&pattern, &inputs[0]);
    let dw = oracle::dense_backward_weight(&dy, &inputs[1], extents);
    let gradients =
        [oracle::at_links(&pattern, &dw), oracle::dense_backward_input(&w, &dy, extents)];
    assert_derivative("sparse", &inputs, &gradients, |i| {
        let w = oracle::expand(&pattern, &i[0]);
        dot(&dy, &oracle::dense_forward(&w, &i[1], extents))
    });
}

/// ⟨W·x, y⟩ = ⟨x, Wᵀ·y⟩, and a full pattern is a dense matrix.
fn adjoint<B: Backend>(
    backend: &B,
    pattern: &Pattern,
    values: &[f32],
    x: &[f32],
    dy: &[f32],
    n: usize,
) {
    let (rows, cols) = (pattern.rows(), pattern.cols());
    let w = Csr::new(backend, pattern.clone(), values).unwrap();
    let (xa, dya) = (act(backend, cols, n, x), act(backend, rows, n, dy));
    let (mut y, mut dx) = (stale(backend, rows, n), stale(backend, cols, n));
    backend.spmm(&w, &xa, &mut y).unwrap();
    backend.spmm_transposed(&w, &dya, &mut dx, false).unwrap();
    let (y, dx) = (wide(&backend.read_act(&y).unwrap()), wide(&backend.read_act(&dx).unwrap()));
    let (left, right) = (dot(&y, &wide(dy)), dot(&wide(x), &dx));
    let absolute = |v: &[f32]| v.iter().map(|v| f64::from(v.abs())).collect::<Vec<_>>();
    let size = oracle::dense_forward(
        &oracle::expand(pattern, &absolute(values)),
        &absolute(x),
        (rows, cols, n),
    );
    let size = dot(&size, &absolute(dy));
    let allowed = (rows + cols + 4) as f64 * 2f64.powi(-24) * size;
    assert!((left - right).abs() <= allowed, "{}: {left} {right}", backend.describe());

    if pattern.nnz() == rows * cols {
        let mut dense = stale(backend, rows, n);
        backend.dense_forward(&w.values, &xa, &mut dense).unwrap();
        let want = oracle::dense_forward(
            &oracle::expand(pattern, &bounded(values)),
            &bounded(x),
            (rows, cols, n),
        );
        for ((y, d), w) in y.iter().zip(backend.read_act(&dense).unwrap()).zip(&want) {
            let allowed = 2.0 * (cols + 2) as f64 * 2f64.powi(-24) * w.magnitude;
            assert!((y - f64::from(d)).abs() <= allowed);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn transposed_is_the_adjoint(
        rows in 1usize..90, cols in 1usize..700, tokens in 1usize..140,
        density in prop_oneof![Just(1.0), Just(0.0), 0.0f64..0.6], seed in any::<u64>(),
    ) {
        let mut s = Source::new(seed, Precision::F32);
        let pattern = s.pattern(rows, cols, density);
        let values = s.normal(pattern.nnz(), 1.0);
        let (x, dy) = (s.normal(cols * tokens, 1.0), s.normal(rows * tokens, 1.0));
        on_each!(Precision::F32, |backend| {
            adjoint(backend, &pattern, &values, &x, &dy, tokens)
        });
    }
}

fn refuse<B: Backend>(b: &B) {
    let pattern = Pattern::from_flat(4, 5, &[1, 7, 13]).unwrap();
    assert_refused("values", Csr::new(b, pattern.clone(), &[1.0; 4]));
    let mut w = Csr::new(b, pattern, &[1.0; 3]).unwrap();
    let (x, mut y) = (stale(b, 5, 9), stale(b, 4, 9));
    assert_refused("x", b.spmm(&w, &stale(b, 4, 9), &mut y));
    assert_refused("y", b.spmm(&w, &x, &mut stale(b, 5, 9)));
    assert_refused("tokens", b.spmm(&w, &x, &mut stale(b, 4, 8)));
    assert_refused("dy", b.spmm_transposed(&w, &x, &mut stale(b, 5, 9), false));
    assert_refused("dx", b.spmm_transposed(&w, &y, &mut stale(b, 5, 65), true));
    w.values = b.buf(4).unwrap();
    assert_refused("packed values", b.pack(&mut w));
}

#[test]
fn wrong_extents_are_errors() {
    on_each!(Precision::F32, |backend| refuse(backend));
}
