//! Gradients at the links: sampled products of dy and x.

use chtsl::backend::cuda::Strategy;
use chtsl::backend::{Backend, Csr};
use chtsl::config::Precision;
use chtsl::sparse::Pattern;
use chtsl_emulation::Order;

use super::spmm::patterns;
use crate::support::emulated;
use crate::support::oracle::{self, Bounded};
use crate::support::{
    Fill, PRECISIONS, Source, Tolerance, act, assert_refused, bounded, buf, on_each, stale,
};

struct Case {
    what: String,
    precision: Precision,
    pattern: Pattern,
    tokens: usize,
    dy: Vec<f32>,
    x: Vec<f32>,
    before: Vec<f32>,
    want: Vec<Bounded>,
}

impl Case {
    fn new(
        s: &mut Source,
        precision: Precision,
        (name, pattern, tokens): (String, Pattern, usize),
        fill: Fill,
    ) -> Self {
        let (rows, cols) = (pattern.rows(), pattern.cols());
        let (dy, x) = (s.fill(fill, rows * tokens), s.fill(fill, cols * tokens));
        let before = s.normal(pattern.nnz(), 1.0);
        let extents = (rows, cols, tokens);
        let dw = oracle::dense_backward_weight(&bounded(&dy), &bounded(&x), extents);
        let want = oracle::add(&oracle::at_links(&pattern, &dw), &bounded(&before));
        let what = format!("{name} {fill:?} {precision:?}");
        Case { what, precision, pattern, tokens, dy, x, before, want }
    }
}

fn check<B: Backend>(backend: &B, c: &Case) {
    // The values play no part: zeros would show if they did.
    let w = Csr::new(backend, c.pattern.clone(), &vec![0.0; c.pattern.nnz()]).unwrap();
    let dy = act(backend, c.pattern.rows(), c.tokens, &c.dy);
    let x = act(backend, c.pattern.cols(), c.tokens, &c.x);
    let mut dvalues = buf(backend, &c.before);
    backend.sddmm(&w, &dy, &x, &mut dvalues).unwrap();
    let tolerance = Tolerance { precision: c.precision, terms: c.tokens + 2, roundings: 1 };
    let what = format!("{} {}", backend.describe(), c.what);
    tolerance.check_parameter(backend, &what, &backend.read(&dvalues).unwrap(), &c.want);
}

#[test]
fn products_match_the_loops() {
    for precision in PRECISIONS {
        let mut s = Source::new(6, precision);
        let mut cases = patterns(&mut s);
        // Eighteen tiles of tokens: several partial gradients are added up.
        cases.push(("many tokens".into(), s.pattern(12, 300, 0.3), 1100));
        for case in cases {
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

/// The naive gather, which no other backend of these tests takes.
#[test]
fn naive_gather_matches_the_loops() {
    for precision in PRECISIONS {
        let mut s = Source::new(12, precision);
        let backend = emulated::backend(precision, Order::Reverse, Strategy::Dense, 1);
        for case in patterns(&mut s).into_iter().filter(|(_, p, _)| p.rows() < 512) {
            check(&backend, &Case::new(&mut s, precision, case, Fill::Random));
        }
    }
}

fn refuse<B: Backend>(b: &B) {
    let pattern = Pattern::from_flat(4, 5, &[1, 7, 13]).unwrap();
    let w = Csr::new(b, pattern, &[1.0; 3]).unwrap();
    let (dy, x, mut d) = (stale(b, 4, 9), stale(b, 5, 9), b.buf(3).unwrap());
    assert_refused("dy", b.sddmm(&w, &x, &x, &mut d));
    assert_refused("x", b.sddmm(&w, &dy, &dy, &mut d));
    assert_refused("tokens", b.sddmm(&w, &dy, &stale(b, 5, 10), &mut d));
    assert_refused("dvalues", b.sddmm(&w, &dy, &x, &mut b.buf(4).unwrap()));
}

#[test]
fn wrong_extents_are_errors() {
    on_each!(Precision::F32, |backend| refuse(backend));
}
