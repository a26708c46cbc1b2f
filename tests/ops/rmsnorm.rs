//! RMSNorm and its gradients, which are added to the residual stream's.

use chtsl::backend::Backend;
use chtsl::config::Precision;

use crate::support::oracle::{self, Bounded};
use crate::support::{
    Fill, PRECISIONS, Source, Tolerance, act, assert_derivative, assert_refused, bounded, buf, dot,
    on_each, stale, stale_statistics, take, wide,
};

const EPS: f32 = 1e-6;

struct Case {
    what: String,
    precision: Precision,
    extents: (usize, usize),
    x: Vec<f32>,
    gain: Vec<f32>,
    dy: Vec<f32>,
    dx: Vec<f32>,
    dgain: Vec<f32>,
    forward: (Vec<Bounded>, Vec<Bounded>),
    backward: (Vec<Bounded>, Vec<Bounded>),
}

impl Case {
    fn new(precision: Precision, (f, n): (usize, usize), fill: Fill) -> Self {
        let mut s = Source::new(30, precision);
        let x = s.fill(fill, f * n);
        let (gain, dy) = (s.normal(f, 1.0), s.normal(f * n, 1.0));
        let (bx, bg, bdy) = (bounded(&x), bounded(&gain), bounded(&dy));
        Case {
            what: format!("{f} x {n} {fill:?} {precision:?}"),
            precision,
            extents: (f, n),
            dx: s.normal(f * n, 1.0),
            dgain: s.normal(f, 1.0),
            forward: oracle::rmsnorm_forward(&bx, &bg, f64::from(EPS), n),
            backward: oracle::rmsnorm_backward(&bdy, &bx, &bg, f64::from(EPS), n),
            x,
            gain,
            dy,
        }
    }
}

fn check<B: Backend>(backend: &B, c: &Case) {
    let (f, n) = c.extents;
    let name = |pass: &str| format!("{} {pass} {}", backend.describe(), c.what);
    // A sum of squares over features, its mean and root; in bf16 x·rstd and y are rounded.
    let forward = Tolerance { precision: c.precision, terms: f + 8, roundings: 2 };
    let x = act(backend, f, n, &c.x);
    let gain = buf(backend, &c.gain);
    let (mut y, mut rstd) = (stale(backend, f, n), stale_statistics(backend, 1, n));
    backend.rmsnorm_forward(&x, &gain, EPS, &mut y, &mut rstd).unwrap();
    forward.check(&name("y"), &take(backend, y, f, n), &c.forward.0);
    forward.statistic(&name("rstd"), &backend.read_act(&rstd).unwrap(), &c.forward.1);

    // rstd enters cubed; a second sum over features or tokens follows.
    let t = Tolerance { precision: c.precision, terms: 4 * f + n + 16, roundings: 1 };
    let dy = act(backend, f, n, &c.dy);
    let (mut dx, mut dgain) = (act(backend, f, n, &c.dx), buf(backend, &c.dgain));
    backend.rmsnorm_backward(&dy, &x, &gain, &rstd, &mut dx, &mut dgain).unwrap();
    let want = oracle::add(&c.backward.0, &bounded(&c.dx));
    t.check(&name("dx"), &take(backend, dx, f, n), &want);
    let want = oracle::add(&c.backward.1, &bounded(&c.dgain));
    t.check_parameter(backend, &name("dgain"), &backend.read(&dgain).unwrap(), &want);
    take(backend, rstd, 1, n);
}

#[test]
fn norms_match_the_loop() {
    for precision in PRECISIONS {
        let extents = [(1, 1), (3, 5), (8, 63), (16, 64), (17, 65), (512, 9), (9, 1100), (4, 0)];
        for extents in extents {
            let case = Case::new(precision, extents, Fill::Random);
            on_each!(precision, |backend| check(backend, &case));
        }
        // Tokens of zeros: rstd is eps^-½.
        for fill in [Fill::Zeros, Fill::Ones, Fill::Ramp] {
            let case = Case::new(precision, (40, 70), fill);
            on_each!(precision, |backend| check(backend, &case));
        }
    }
}

#[test]
fn gradients_are_derivatives() {
    let (f, n, eps) = (7, 5, 0.1);
    let mut s = Source::new(31, Precision::F32);
    let inputs = [wide(&s.normal(f * n, 1.0)), wide(&s.normal(f, 1.0))];
    let dy = wide(&s.normal(f * n, 1.0));
    let (dx, dgain) = oracle::rmsnorm_backward(&dy, &inputs[0], &inputs[1], eps, n);
    assert_derivative("rmsnorm", &inputs, &[dx, dgain], |i| {
        dot(&dy, &oracle::rmsnorm_forward(&i[0], &i[1], eps, n).0)
    });
}

fn refuse<B: Backend>(b: &B) {
    let new = |f, n| stale(b, f, n);
    let (x, mut y, mut rstd) = (new(3, 9), new(3, 9), stale_statistics(b, 1, 9));
    let (gain, mut dgain) = (b.buf(3).unwrap(), b.buf(3).unwrap());
    let wrong = b.buf(4).unwrap();
    assert_refused("gain", b.rmsnorm_forward(&x, &wrong, EPS, &mut y, &mut rstd));
    assert_refused("y", b.rmsnorm_forward(&x, &gain, EPS, &mut new(3, 8), &mut rstd));
    assert_refused(
        "rstd",
        b.rmsnorm_forward(&x, &gain, EPS, &mut y, &mut stale_statistics(b, 2, 9)),
    );
    let mut short = b.buf(2).unwrap();
    assert_refused("dgain", b.rmsnorm_backward(&x, &x, &gain, &rstd, &mut y, &mut short));
    assert_refused("dy", b.rmsnorm_backward(&new(4, 9), &x, &gain, &rstd, &mut y, &mut dgain));
    let mut dx = new(3, 10);
    assert_refused("dx", b.rmsnorm_backward(&x, &x, &gain, &rstd, &mut dx, &mut dgain));
    let rstd = stale_statistics(b, 1, 8);
    assert_refused("saved rstd", b.rmsnorm_backward(&x, &x, &gain, &rstd, &mut y, &mut dgain));
}

#[test]
fn wrong_extents_are_errors() {
    on_each!(Precision::F32, |backend| refuse(backend));
}
