//! Dense products: forward and both gradients.

use chtsl::backend::Backend;
use chtsl::config::Precision;

use crate::support::oracle::{self, Bounded, Extents};
use crate::support::{
    Fill, PRECISIONS, Source, Tolerance, act, assert_derivative, assert_refused, bounded, buf, dot,
    on_each, stale, take, wide,
};

/// Off the microkernel's rows (6, 2), its depth (128), the tile of tokens (64), the rows of a
/// gradient job (48), and the model's own; extents of zero are no error.
const EXTENTS: [Extents; 14] = [
    (1, 1, 1),
    (3, 5, 7),
    (6, 128, 64),
    (7, 129, 65),
    (17, 63, 130),
    (49, 65, 63),
    (64, 64, 64),
    (97, 260, 3),
    (5, 40, 700),
    (512, 1376, 5),
    (1376, 512, 2),
    (0, 4, 3),
    (4, 0, 3),
    (4, 3, 0),
];

struct Case {
    what: String,
    precision: Precision,
    extents: Extents,
    w: Vec<f32>,
    x: Vec<f32>,
    dy: Vec<f32>,
    dx: Vec<f32>,
    dw: Vec<f32>,
    want_y: Vec<Bounded>,
    want_dx: Vec<Bounded>,
    want_dw: Vec<Bounded>,
}

impl Case {
    fn new(precision: Precision, extents: Extents, fill: Fill) -> Self {
        let (rows, cols, tokens) = extents;
        let mut s = Source::new(1, precision);
        let (w, x) = (s.fill(fill, rows * cols), s.fill(fill, cols * tokens));
        let dy = s.fill(fill, rows * tokens);
        let (bw, bx, bdy) = (bounded(&w), bounded(&x), bounded(&dy));
        Case {
            what: format!("{extents:?} {fill:?} {precision:?}"),
            precision,
            extents,
            dx: s.normal(cols * tokens, 1.0),
            dw: s.normal(rows * cols, 1.0),
            want_y: oracle::dense_forward(&bw, &bx, extents),
            want_dx: oracle::dense_backward_input(&bw, &bdy, extents),
            want_dw: oracle::dense_backward_weight(&bdy, &bx, extents),
            w,
            x,
            dy,
        }
    }

    fn tolerance(&self, sum: usize) -> Tolerance {
        Tolerance { precision: self.precision, terms: sum + 2, roundings: 1 }
    }
}

fn check<B: Backend>(backend: &B, c: &Case) {
    let (rows, cols, tokens) = c.extents;
    let name = |pass: &str| format!("{} {pass} {}", backend.describe(), c.what);
    let w = buf(backend, &c.w);
    let x = act(backend, cols, tokens, &c.x);
    let dy = act(backend, rows, tokens, &c.dy);

    let mut y = stale(backend, rows, tokens);
    backend.dense_forward(&w, &x, &mut y).unwrap();
    let y = take(backend, y, rows, tokens);
    c.tolerance(cols).check(&name("forward"), &y, &c.want_y);

    let mut dx = stale(backend, cols, tokens);
    backend.dense_backward_input(&w, &dy, &mut dx, false).unwrap();
    let dx = take(backend, dx, cols, tokens);
    c.tolerance(rows).check(&name("dx"), &dx, &c.want_dx);

    let mut dx = act(backend, cols, tokens, &c.dx);
    backend.dense_backward_input(&w, &dy, &mut dx, true).unwrap();
    let dx = take(backend, dx, cols, tokens);
    let want = oracle::add(&c.want_dx, &bounded(&c.dx));
    c.tolerance(rows).check(&name("accumulated dx"), &dx, &want);

    let mut dw = buf(backend, &c.dw);
    backend.dense_backward_weight(&dy, &x, &mut dw).unwrap();
    let want = oracle::add(&c.want_dw, &bounded(&c.dw));
    c.tolerance(tokens).check_parameter(backend, &name("dw"), &backend.read(&dw).unwrap(), &want);
}

#[test]
fn products_match_the_loops() {
    for precision in PRECISIONS {
        for extents in EXTENTS {
            let case = Case::new(precision, extents, Fill::Random);
            on_each!(precision, |backend| check(backend, &case));
        }
        for fill in [Fill::Zeros, Fill::Ones, Fill::Ramp] {
            let case = Case::new(precision, (13, 65, 70), fill);
            on_each!(precision, |backend| check(backend, &case));
        }
    }
}

#[test]
fn gradients_are_derivatives() {
    let extents = (5, 7, 6);
    let mut s = Source::new(2, Precision::F32);
    let inputs = [wide(&s.normal(35, 1.0)), wide(&s.normal(42, 1.0))];
    let dy = wide(&s.normal(30, 1.0));
    let gradients = [
        oracle::dense_backward_weight(&dy, &inputs[1], extents),
        oracle::dense_backward_input(&inputs[0], &dy, extents),
    ];
    assert_derivative("dense", &inputs, &gradients, |i| {
        dot(&dy, &oracle::dense_forward(&i[0], &i[1], extents))
    });
}

fn refuse<B: Backend>(b: &B) {
    let (x, mut y) = (stale(b, 5, 9), stale(b, 4, 9));
    let (w, mut dw) = (b.buf(20).unwrap(), b.buf(20).unwrap());
    assert_refused("weights", b.dense_forward(&b.buf(21).unwrap(), &x, &mut y));
    assert_refused("tokens", b.dense_forward(&w, &stale(b, 5, 8), &mut y));
    let mut dx = stale(b, 5, 10);
    assert_refused("dx tokens", b.dense_backward_input(&w, &y, &mut dx, false));
    let mut dx = stale(b, 6, 9);
    assert_refused("dx features", b.dense_backward_input(&w, &y, &mut dx, true));
    assert_refused("dw", b.dense_backward_weight(&y, &x, &mut b.buf(19).unwrap()));
    assert_refused("x tokens", b.dense_backward_weight(&y, &stale(b, 5, 10), &mut dw));
}

#[test]
fn wrong_extents_are_errors() {
    on_each!(Precision::F32, |backend| refuse(backend));
}
