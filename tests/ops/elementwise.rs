//! Residual sums, SwiGLU, rounding, norms of gradients, and copies to and from the backend.

use chtsl::backend::Backend;
use chtsl::config::Precision;

use crate::support::oracle;
use crate::support::{
    Fill, PRECISIONS, Source, Tolerance, act, assert_derivative, assert_refused, bf16, bounded,
    buf, dot, on_each, stale, take, wide,
};

/// (features, tokens): one element to several jobs of a flat pass.
const EXTENTS: [(usize, usize); 8] =
    [(1, 1), (3, 5), (5, 63), (2, 64), (7, 65), (3, 130), (300, 70), (4, 0)];

fn check_add<B: Backend>(
    backend: &B,
    precision: Precision,
    x: &[Vec<f32>; 2],
    (f, n): (usize, usize),
) {
    let [a, b] = x.each_ref().map(|x| act(backend, f, n, x));
    let mut y = stale(backend, f, n);
    backend.add(&a, &b, &mut y).unwrap();
    // One addition is rounded once, so nothing is left to tolerance.
    let want: Vec<f32> = x[0].iter().zip(&x[1]).map(|(a, b)| a + b).collect();
    let want = Source::new(0, precision).hold(want);
    assert_eq!(take(backend, y, f, n), want, "{}", backend.describe());
}

#[test]
fn sums_are_exact() {
    for precision in PRECISIONS {
        let mut s = Source::new(20, precision);
        for (f, n) in EXTENTS {
            let x = [s.normal(f * n, 1.0), s.normal(f * n, 3.0)];
            on_each!(precision, |backend| check_add(backend, precision, &x, (f, n)));
        }
    }
}

fn check_swiglu<B: Backend>(
    backend: &B,
    precision: Precision,
    [dy, gate, up]: [&[f32]; 3],
    (f, n): (usize, usize),
) {
    let name = |pass: &str| format!("{} {pass} {f} x {n}", backend.describe());
    let [d, g, u] = [dy, gate, up].map(|x| act(backend, f, n, x));
    // The exponential is good to four units, SiLU' has eight more operations.
    let tolerance = Tolerance { precision, terms: 16, roundings: 2 };
    let mut y = stale(backend, f, n);
    backend.swiglu_forward(&g, &u, &mut y).unwrap();
    let want = oracle::swiglu_forward(&bounded(gate), &bounded(up));
    tolerance.check(&name("swiglu"), &take(backend, y, f, n), &want);

    let (mut dgate, mut dup) = (stale(backend, f, n), stale(backend, f, n));
    backend.swiglu_backward(&d, &g, &u, &mut dgate, &mut dup).unwrap();
    let want = oracle::swiglu_backward(&bounded(dy), &bounded(gate), &bounded(up));
    tolerance.check(&name("dgate"), &take(backend, dgate, f, n), &want.0);
    tolerance.check(&name("dup"), &take(backend, dup, f, n), &want.1);
}

#[test]
fn swiglu_matches_the_loop() {
    for precision in PRECISIONS {
        let mut s = Source::new(21, precision);
        for (f, n) in EXTENTS {
            for fill in [Fill::Random, Fill::Zeros, Fill::Ramp] {
                let [dy, gate, up] = [0; 3].map(|_| s.fill(fill, f * n));
                on_each!(precision, |backend| {
                    check_swiglu(backend, precision, [&dy, &gate, &up], (f, n))
                });
            }
        }
        // Gates where e^-x leaves the range of f32 on either side.
        let gate = s.hold((0..500).map(|i| i as f32 - 250.0).collect());
        let (dy, up) = (s.normal(500, 1.0), s.normal(500, 1.0));
        on_each!(precision, |backend| {
            check_swiglu(backend, precision, [&dy, &gate, &up], (5, 100))
        });
    }
}

#[test]
fn swiglu_gradients_are_derivatives() {
    let mut s = Source::new(22, Precision::F32);
    let inputs = [wide(&s.normal(60, 2.0)), wide(&s.normal(60, 1.0))];
    let dy = wide(&s.normal(60, 1.0));
    let (dgate, dup) = oracle::swiglu_backward(&dy, &inputs[0], &inputs[1]);
    assert_derivative("swiglu", &inputs, &[dgate, dup], |i| {
        dot(&dy, &oracle::swiglu_forward(&i[0], &i[1]))
    });
}

fn check_round<B: Backend>(backend: &B, x: &[f32]) {
    let mut y = buf(backend, x);
    backend.round(&mut y).unwrap();
    let got = backend.read(&y).unwrap();
    for (x, y) in x.iter().zip(got) {
        let want = if backend.precision() == Precision::Bf16Pure { bf16(*x) } else { *x };
        assert_eq!(y.to_bits(), want.to_bits(), "{} {x:e}", backend.describe());
    }
}

/// Ties to even, carries into the exponent, subnormals, signed zeros, infinity; then random bits.
#[test]
fn rounding_is_to_nearest_even() {
    let hard = [0x3F80_8000u32, 0x3F81_8000, 0x3F80_7FFF, 0x3F80_8001, 0x3FFF_FFFF, 0x7F7F_7FFF];
    let mut x: Vec<f32> = hard.iter().flat_map(|b| [*b, b | 1 << 31]).map(f32::from_bits).collect();
    x.extend([0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, 1e-40, -3e-45]);
    let stream = chtsl::rng::Stream::new(23, chtsl::rng::Purpose::Init, 0, 0);
    let random = (0..4000).map(|i| f32::from_bits(stream.words(i)[0]));
    x.extend(random.filter(|x| x.is_finite()));
    for precision in PRECISIONS {
        for len in [0, 1, 15, 17, x.len()] {
            on_each!(precision, |backend| check_round(backend, &x[..len]));
        }
    }
}

fn check_sum<B: Backend>(backend: &B, x: &[f32]) {
    let want: f64 = x.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
    let got = backend.sum_squares(&buf(backend, x)).unwrap();
    // All terms are positive: n additions in f64, in any order.
    let allowed = (x.len() + 1) as f64 * f64::EPSILON * want;
    assert!((got - want).abs() <= allowed, "{}: {got} for {want}", backend.describe());
}

fn check_non_finite<B: Backend>(backend: &B) {
    for (at, bad) in [(0, f32::NAN), (40_000, f32::INFINITY), (49_999, f32::NEG_INFINITY)] {
        let mut x = vec![1.0; 50_000];
        x[at] = bad;
        assert!(!backend.sum_squares(&buf(backend, &x)).unwrap().is_finite());
    }
    // f32 squares would overflow here.
    check_sum(backend, &[1e30, -2e30]);
}

#[test]
fn sums_of_squares() {
    let mut s = Source::new(24, Precision::F32);
    for n in [0, 1, 7, 8, 9, 1000, 16_384, 50_001] {
        let x = s.normal(n, 1.0);
        on_each!(Precision::F32, |backend| check_sum(backend, &x));
    }
    on_each!(Precision::F32, |backend| check_non_finite(backend));
}

fn round_trip<B: Backend>(b: &B, x: &[f32], (f, n): (usize, usize)) {
    let a = act(b, f, n, x);
    assert_eq!(b.read_act(&a).unwrap(), x);
    for t in 0..n {
        let column: Vec<f32> = (0..f).map(|i| x[i * n + t]).collect();
        assert_eq!(b.read_token(&a, t).unwrap(), column);
    }
    let mut y = buf(b, x);
    assert_eq!((b.len(&y), b.read(&y).unwrap()), (x.len(), x.to_vec()));
    b.zero(&mut y).unwrap();
    assert_eq!(b.read(&y).unwrap(), vec![0.0; x.len()]);
    assert_eq!(b.read_act(&b.act(f, n).unwrap()).unwrap(), vec![0.0; x.len()]);
    assert_eq!(b.read(&b.buf(f * n).unwrap()).unwrap(), vec![0.0; x.len()]);
    let mut copied = stale(b, f, n);
    b.copy(&a, &mut copied).unwrap();
    assert_eq!(take(b, copied, f, n), x);
    let mut zeroed = stale(b, f, n);
    b.zero_act(&mut zeroed).unwrap();
    assert_eq!(take(b, zeroed, f, n), vec![0.0; f * n]);
    take(b, a, f, n);
}

#[test]
fn copies_return_what_was_written() {
    for (f, n) in EXTENTS {
        let x = Source::new(25, Precision::F32).normal(f * n, 1.0);
        on_each!(Precision::F32, |backend| round_trip(backend, &x, (f, n)));
    }
}

fn refuse<B: Backend>(b: &B) {
    let new = |f, n| stale(b, f, n);
    let (x, mut y, mut z) = (new(3, 9), new(3, 9), new(3, 9));
    assert_refused("copy", b.copy(&new(3, 8), &mut y));
    assert_refused("add a", b.add(&new(4, 9), &x, &mut y));
    assert_refused("add b", b.add(&x, &new(3, 8), &mut y));
    assert_refused("gate", b.swiglu_forward(&new(3, 8), &x, &mut y));
    assert_refused("up", b.swiglu_forward(&x, &new(2, 9), &mut y));
    assert_refused("dy", b.swiglu_backward(&new(3, 10), &x, &x, &mut y, &mut z));
    assert_refused("dup", b.swiglu_backward(&x, &x, &x, &mut y, &mut new(4, 9)));
    assert_refused("write_act", b.write_act(&mut y, &[0.0; 26]));
    assert_refused("write", b.write(&mut b.buf(3).unwrap(), &[0.0; 2]));
    assert_refused("read_token", b.read_token(&x, 9));
}

#[test]
fn wrong_extents_are_errors() {
    on_each!(Precision::F32, |backend| refuse(backend));
}
