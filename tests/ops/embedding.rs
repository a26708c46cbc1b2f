//! Rows of a table into columns of an activation, and their gradients back.

use chtsl::backend::Backend;
use chtsl::config::Precision;

use crate::support::oracle;
use crate::support::{
    PRECISIONS, Source, Tolerance, act, assert_derivative, assert_refused, bounded, buf, dot,
    on_each, stale, take, wide,
};

struct Case {
    precision: Precision,
    features: usize,
    ids: Vec<u32>,
    table: Vec<f32>,
    dx: Vec<f32>,
    dtable: Vec<f32>,
}

fn check<B: Backend>(backend: &B, c: &Case) {
    let (f, n) = (c.features, c.ids.len());
    let what = format!("{} {f} x {n} {:?}", backend.describe(), c.precision);
    let mut x = stale(backend, f, n);
    backend.embedding_forward(&buf(backend, &c.table), &c.ids, &mut x).unwrap();
    // Copies are exact.
    assert_eq!(take(backend, x, f, n), {
        let copied = oracle::embedding_forward(&wide(&c.table), &c.ids, f);
        copied.iter().map(|x| *x as f32).collect::<Vec<_>>()
    });

    let mut dtable = buf(backend, &c.dtable);
    backend.embedding_backward(&c.ids, &act(backend, f, n, &c.dx), &mut dtable).unwrap();
    let mut want = bounded(&c.dtable);
    oracle::embedding_backward(&mut want, &c.ids, &bounded(&c.dx), f);
    // All tokens may have the same id.
    let tolerance = Tolerance { precision: c.precision, terms: n + 1, roundings: 1 };
    tolerance.check_parameter(backend, &what, &backend.read(&dtable).unwrap(), &want);
}

#[test]
fn rows_match_the_loop() {
    for precision in PRECISIONS {
        let mut s = Source::new(50, precision);
        for (vocab, features, tokens) in [
            (1, 1, 1),
            (1, 5, 63),
            (7, 31, 64),
            (300, 33, 65),
            (11, 64, 130),
            (40, 65, 300),
            (3, 4, 0),
        ] {
            let case = Case {
                precision,
                features,
                ids: (0..tokens).map(|_| s.below(vocab) as u32).collect(),
                table: s.normal(vocab * features, 1.0),
                dx: s.normal(features * tokens, 1.0),
                dtable: s.normal(vocab * features, 1.0),
            };
            on_each!(precision, |backend| check(backend, &case));
        }
    }
}

/// Tokens in order: (2²⁴ + 1) − 2²⁴ is 0 in f32, any other order of these three gives 1.
fn ordered<B: Backend>(backend: &B) {
    let big = 16_777_216.0;
    let mut dtable = buf(backend, &[0.0]);
    backend
        .embedding_backward(&[0; 3], &act(backend, 1, 3, &[big, 1.0, -big]), &mut dtable)
        .unwrap();
    assert_eq!(backend.read(&dtable).unwrap(), [0.0]);
}

#[test]
fn tokens_are_added_in_order() {
    on_each!(Precision::F32, |backend| ordered(backend));
}

#[test]
fn gradients_are_derivatives() {
    let (vocab, features, ids) = (4, 3, [2, 0, 2, 3, 2]);
    let mut s = Source::new(51, Precision::F32);
    let table = wide(&s.normal(vocab * features, 1.0));
    let dx = wide(&s.normal(features * ids.len(), 1.0));
    let mut gradient = vec![0.0; vocab * features];
    oracle::embedding_backward(&mut gradient, &ids, &dx, features);
    assert_derivative("embedding", &[table], &[gradient], |i| {
        dot(&dx, &oracle::embedding_forward(&i[0], &ids, features))
    });
}

fn refuse<B: Backend>(b: &B) {
    let (table, mut x) = (b.buf(12).unwrap(), stale(b, 3, 2));
    assert_refused("id", b.embedding_forward(&table, &[0, 4], &mut x));
    assert_refused("tokens", b.embedding_forward(&table, &[0, 1, 2], &mut x));
    assert_refused("table", b.embedding_forward(&b.buf(13).unwrap(), &[0, 1], &mut x));
    let mut dtable = b.buf(12).unwrap();
    assert_refused("id", b.embedding_backward(&[u32::MAX, 0], &x, &mut dtable));
    assert_refused("tokens", b.embedding_backward(&[1], &x, &mut dtable));
    assert_refused("dtable", b.embedding_backward(&[0, 1], &x, &mut b.buf(11).unwrap()));
}

#[test]
fn wrong_extents_are_errors() {
    on_each!(Precision::F32, |backend| refuse(backend));
}
