//! Head and cross-entropy: loss, gradients, positions without target, large logits.

use chtsl::backend::{Backend, LossSum, NO_TARGET};
use chtsl::config::Precision;

use crate::support::oracle::{self, Bounded};
use crate::support::{
    PRECISIONS, Source, Tolerance, act, assert_derivative, assert_refused, bounded, buf, on_each,
    stale, take, wide,
};

struct Case {
    what: String,
    precision: Precision,
    features: usize,
    scale: f32,
    w: Vec<f32>,
    x: Vec<f32>,
    targets: Vec<u32>,
    dw: Vec<f32>,
    want: (Bounded, Vec<Bounded>, Vec<Bounded>),
}

impl Case {
    fn new(
        precision: Precision,
        (vocab, features, tokens): (usize, usize, usize),
        spread: f64,
    ) -> Self {
        let mut s = Source::new(60, precision);
        let w = s.normal(vocab * features, spread);
        let x = s.normal(features * tokens, 1.0);
        let targets: Vec<u32> = (0..tokens)
            .map(|_| if s.below(5) == 0 { NO_TARGET } else { s.below(vocab) as u32 })
            .collect();
        let scale = s.hold(vec![0.37])[0];
        let want =
            oracle::cross_entropy(&bounded(&w), &bounded(&x), &targets, f64::from(scale), features);
        let what = format!("{vocab} x {features} x {tokens}, {spread}, {precision:?}");
        let dw = s.normal(vocab * features, 0.1);
        Case { what, precision, features, scale, w, x, targets, dw, want }
    }
}

fn check<B: Backend>(backend: &B, c: &Case) {
    let (f, n, vocab) = (c.features, c.targets.len(), c.w.len() / c.features);
    let name = |pass: &str| format!("{} {pass} {}", backend.describe(), c.what);
    let (w, x) = (buf(backend, &c.w), act(backend, f, n, &c.x));
    let (mut dx, mut dw) = (stale(backend, f, n), buf(backend, &c.dw));
    let got = backend.cross_entropy_train(&w, &x, &c.targets, c.scale, &mut dx, &mut dw).unwrap();
    // A logit is a sum over features, a softmax one over the vocabulary; the gradient adds another
    // sum. In bf16 logits, their gradients and the results are rounded.
    let terms = f + vocab + 16;
    let t = Tolerance { precision: c.precision, terms: terms + n.max(vocab), roundings: 3 };
    t.check(&name("dx"), &take(backend, dx, f, n), &c.want.1);
    let want = oracle::add(&c.want.2, &bounded(&c.dw));
    t.check_parameter(backend, &name("dw"), &backend.read(&dw).unwrap(), &want);
    // The loss is summed in f64; f32 holds what is compared here to one more unit.
    let loss = Tolerance { precision: c.precision, terms, roundings: 1 };
    loss.statistic(&name("loss"), &[got.loss as f32], &[c.want.0]);
    let targets = c.targets.iter().filter(|t| **t != NO_TARGET).count();
    assert_eq!(got.targets, targets as u64);
    assert_eq!(backend.cross_entropy_eval(&w, &x, &c.targets).unwrap(), got, "{}", c.what);
}

#[test]
fn loss_and_gradients_match_the_loop() {
    for precision in PRECISIONS {
        for extents in [
            (1, 1, 1),
            (2, 3, 5),
            (50, 17, 63),
            (65, 64, 64),
            (33, 8, 65),
            (129, 65, 130),
            // Beyond the 512 tokens of one chunk.
            (70, 10, 600),
            (7, 5, 0),
        ] {
            let case = Case::new(precision, extents, 1.0 / (extents.1 as f64).sqrt());
            on_each!(precision, |backend| check(backend, &case));
        }
    }
    // Logits of hundreds: nothing may overflow, most probabilities are zero.
    let case = Case::new(Precision::F32, (40, 16, 70), 40.0);
    on_each!(Precision::F32, |backend| check(backend, &case));
}

/// With a head of zeros every token is equally likely: the loss is ln V, exactly by definition.
fn uniform<B: Backend>(backend: &B) {
    let w = buf(backend, &[0.0; 12]);
    let x = act(backend, 4, 2, &[1.0; 8]);
    let loss = backend.cross_entropy_eval(&w, &x, &[2, 0]).unwrap();
    assert!((loss.loss - 2.0 * 3f64.ln()).abs() <= 1e-15, "{loss:?}");
}

/// No target, no loss, no gradient.
fn nothing<B: Backend>(backend: &B) {
    let (w, x) = (buf(backend, &[1.0; 12]), act(backend, 4, 2, &[1.0; 8]));
    let (mut dx, mut dw) = (stale(backend, 4, 2), buf(backend, &[0.5; 12]));
    let got = backend.cross_entropy_train(&w, &x, &[NO_TARGET; 2], 1.0, &mut dx, &mut dw).unwrap();
    assert_eq!(got, LossSum::default());
    assert_eq!(backend.read_act(&dx).unwrap(), [0.0; 8]);
    assert_eq!(backend.read(&dw).unwrap(), [0.5; 12]);
}

#[test]
fn edge_cases_by_hand() {
    on_each!(Precision::F32, |backend| uniform(backend));
    on_each!(Precision::F32, |backend| nothing(backend));
}

#[test]
fn gradients_are_derivatives() {
    let (vocab, features, scale) = (7, 4, 0.8);
    let targets = [3, NO_TARGET, 0, 6, 3];
    let mut s = Source::new(61, Precision::F32);
    let inputs =
        [wide(&s.normal(features * targets.len(), 1.0)), wide(&s.normal(vocab * features, 1.0))];
    let (_, dx, dw) = oracle::cross_entropy(&inputs[1], &inputs[0], &targets, scale, features);
    assert_derivative("cross-entropy", &inputs, &[dx, dw], |i| {
        scale * oracle::cross_entropy(&i[1], &i[0], &targets, scale, features).0
    });
}

fn refuse<B: Backend>(b: &B) {
    let (w, x) = (b.buf(12).unwrap(), stale(b, 4, 2));
    assert_refused("weights", b.cross_entropy_eval(&b.buf(13).unwrap(), &x, &[0, 1]));
    assert_refused("targets", b.cross_entropy_eval(&w, &x, &[0]));
    assert_refused("a target", b.cross_entropy_eval(&w, &x, &[0, 3]));
    let none = b.buf(0).unwrap();
    assert_refused("an empty head", b.cross_entropy_eval(&none, &x, &[NO_TARGET; 2]));
    let train = |targets: &[u32], scale: f32, dx: usize, dw: usize| {
        let (mut dx, mut dw) = (stale(b, dx, 2), b.buf(dw).unwrap());
        b.cross_entropy_train(&w, &x, targets, scale, &mut dx, &mut dw)
    };
    train(&[2, NO_TARGET], 1.0, 4, 12).unwrap();
    assert_refused("a target", train(&[3, 0], 1.0, 4, 12));
    assert_refused("dx", train(&[2, 0], 1.0, 3, 12));
    assert_refused("dw", train(&[2, 0], 1.0, 4, 8));
    assert_refused("scale", train(&[2, 0], f32::NAN, 4, 12));
    let (mut dx, mut dw) = (stale(b, 4, 2), b.buf(0).unwrap());
    let empty = b.cross_entropy_train(&none, &x, &[NO_TARGET; 2], 1.0, &mut dx, &mut dw);
    assert_refused("an empty head", empty);
}

#[test]
fn wrong_extents_are_errors() {
    on_each!(Precision::F32, |backend| refuse(backend));
}
