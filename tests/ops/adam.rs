//! Adam and AdamW against the formula in f64, step by step and over a run.

use chtsl::backend::{AdamStep, Backend};
use chtsl::config::Precision;

use crate::support::oracle::Bounded;
use crate::support::{PRECISIONS, Source, Tolerance, assert_refused, buf, on_each, wide};

/// State of one parameter.
#[derive(Clone, Copy, Debug)]
struct State {
    p: f64,
    m: f64,
    v: f64,
}

/// Kingma & Ba, algorithm 1, with decay added to the gradient or taken off the weight.
fn formula(x: State, g: f64, s: &AdamStep, age: f64) -> State {
    let decay = |coupled: bool| if s.decoupled == coupled { 0.0 } else { s.weight_decay };
    let g = g * s.grad_scale + decay(true) * x.p;
    let m = s.beta1 * x.m + (1.0 - s.beta1) * g;
    let v = s.beta2 * x.v + (1.0 - s.beta2) * g * g;
    let (mh, vh) = (m / (1.0 - s.beta1.powf(age)), v / (1.0 - s.beta2.powf(age)));
    let p = x.p - s.lr * decay(false) * x.p - s.lr * mh / (vh.sqrt() + s.eps);
    State { p, m, v }
}

const LEN: usize = 131;

fn step(decoupled: bool, step: u64) -> AdamStep {
    AdamStep {
        lr: 3e-3,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weight_decay: 0.05,
        decoupled,
        step,
        grad_scale: 0.5,
    }
}

struct Case {
    precision: Precision,
    decoupled: bool,
    /// Ages before the first update.
    ages: Option<Vec<f32>>,
    p: Vec<f32>,
    gradients: Vec<Vec<f32>>,
}

/// Each update from the state that the backend itself holds.
fn single_steps<B: Backend>(backend: &B, c: &Case) {
    let mut p = buf(backend, &c.p);
    let [mut m, mut v] = [0; 2].map(|_| buf(backend, &[0.0; LEN]));
    let mut ages = c.ages.as_ref().map(|a| buf(backend, a));
    for (i, g) in c.gradients.iter().enumerate() {
        let read = |x: &B::Buf| wide(&backend.read(x).unwrap());
        let (p0, m0, v0) = (read(&p), read(&m), read(&v));
        let s = step(c.decoupled, i as u64 + 1);
        backend.adam(&mut p, &buf(backend, g), &mut m, &mut v, ages.as_mut(), s).unwrap();
        let age = |j: usize| c.ages.as_ref().map_or(0.0, |a| f64::from(a[j])) + i as f64 + 1.0;
        let mut want = [vec![], vec![], vec![]];
        for j in 0..LEN {
            let g = f64::from(g[j]);
            let x = formula(State { p: p0[j], m: m0[j], v: v0[j] }, g, &s, age(j));
            let clipped = (g * s.grad_scale).abs()
                + if s.decoupled { 0.0 } else { s.weight_decay * p0[j].abs() };
            let m = 0.9 * m0[j].abs() + 0.1 * clipped;
            // v has no cancellation, but (Δg)² is twice as large relatively.
            let v = 0.999 * v0[j] + 0.002 * clipped * clipped;
            let root = (x.v / (1.0 - s.beta2.powf(age(j)))).sqrt() + s.eps;
            // An error of v changes its root by half as much.
            let swing = m / (1.0 - s.beta1.powf(age(j))) * (1.0 + 0.5 * v / x.v.max(1e-300)) / root;
            want[0].push(Bounded { value: x.p, magnitude: 2.0 * p0[j].abs() + s.lr * swing });
            // m is updated as m + (1−β₁)(g − m): its own terms, not only those of the formula.
            want[1].push(Bounded { value: x.m, magnitude: m0[j].abs() + m });
            want[2].push(Bounded { value: x.v, magnitude: v });
        }
        let name = format!("{} update {i} decoupled {}", backend.describe(), c.decoupled);
        // In bf16 gradient, both moments, root, its correction, ε, shrunk and final weight.
        let t = Tolerance { precision: c.precision, terms: 12, roundings: 6 };
        for (x, (want, what)) in [&p, &m, &v].iter().zip(want.iter().zip(["p", "m", "v"])) {
            t.check_parameter(backend, &format!("{name} {what}"), &backend.read(x).unwrap(), want);
        }
    }
    if let (Some(before), Some(after)) = (&c.ages, ages) {
        let after = backend.read(&after).unwrap();
        let updates = c.gradients.len() as f32;
        assert!(before.iter().zip(&after).all(|(b, a)| b + updates == *a), "ages");
    }
}

#[test]
fn updates_match_the_formula() {
    for precision in PRECISIONS {
        let mut s = Source::new(70, precision);
        for decoupled in [false, true] {
            let old = (0..LEN).map(|i| [0.0, 1.0, 7.0, 900.0, 30_000.0, 3e6][i % 6]).collect();
            for ages in [None, Some(vec![0.0; LEN]), Some(old)] {
                let p = s.normal(LEN, 1.0);
                let mut gradients: Vec<Vec<f32>> = (0..6).map(|_| s.normal(LEN, 0.3)).collect();
                gradients.iter_mut().for_each(|g| g[5] = 0.0);
                let case = Case { precision, decoupled, ages, p, gradients };
                on_each!(precision, |backend| single_steps(backend, &case));
            }
        }
    }
}

/// A run of updates on its own, in f32.
fn whole_run<B: Backend>(backend: &B, c: &Case) {
    let mut p = buf(backend, &c.p);
    let [mut m, mut v] = [0; 2].map(|_| buf(backend, &[0.0; LEN]));
    let mut states: Vec<State> =
        c.p.iter().map(|&p| State { p: f64::from(p), m: 0.0, v: 0.0 }).collect();
    let mut allowed = vec![0.0; LEN];
    for (i, g) in c.gradients.iter().enumerate() {
        let t = i as f64 + 1.0;
        let s = step(c.decoupled, i as u64 + 1);
        backend.adam(&mut p, &buf(backend, g), &mut m, &mut v, None, s).unwrap();
        for (j, x) in states.iter_mut().enumerate() {
            *x = formula(*x, f64::from(g[j]), &s, t);
            // After t updates moments are off by 4t roundings of their largest gradient, which is
            // at most √t times the root of v; the weight is rounded twice an update.
            let units = s.lr * (4.0 * t + 8.0) * t.sqrt() + 2.0 * x.p.abs();
            allowed[j] += units * 2f64.powi(-24);
        }
    }
    for (j, (got, x)) in backend.read(&p).unwrap().iter().zip(&states).enumerate() {
        let error = (f64::from(*got) - x.p).abs();
        assert!(error <= allowed[j], "{} {j}: {got} for {}", backend.describe(), x.p);
    }
}

#[test]
fn runs_match_the_formula() {
    let mut s = Source::new(71, Precision::F32);
    for decoupled in [false, true] {
        let p = s.normal(LEN, 1.0);
        let gradients = (0..60).map(|_| s.normal(LEN, 0.3)).collect();
        let case = Case { precision: Precision::F32, decoupled, ages: None, p, gradients };
        on_each!(Precision::F32, |backend| whole_run(backend, &case));
    }
}

/// Elements of one age step exactly like a run at that step, whatever the count of the others.
fn ages_are_steps<B: Backend>(backend: &B, p0: &[f32], g: &[f32]) {
    let n = p0.len();
    let run = |ages: Option<f32>, step_number: u64| {
        let mut p = buf(backend, p0);
        let (mut m, mut v) = (buf(backend, g), buf(backend, &vec![0.25; n]));
        let mut ages = ages.map(|a| {
            let mut all = vec![a; n];
            all[n - 1] = 4000.0;
            buf(backend, &all)
        });
        let s = step(true, step_number);
        backend.adam(&mut p, &buf(backend, g), &mut m, &mut v, ages.as_mut(), s).unwrap();
        backend.read(&p).unwrap()[..n - 1].to_vec()
    };
    for age in [1u64, 2, 50, 1000] {
        let (a, b) = (run(Some(age as f32 - 1.0), 7), run(None, age));
        for (a, b) in a.iter().zip(&b) {
            // The same formula, whether or not the machine fuses its products.
            assert!((a - b).abs() <= 4.0 * f32::EPSILON * b.abs().max(1.0), "{a} {b} at {age}");
        }
    }
}

#[test]
fn an_age_is_a_step_number() {
    let mut s = Source::new(72, Precision::F32);
    let (p, g) = (s.normal(33, 1.0), s.normal(33, 1.0));
    on_each!(Precision::F32, |backend| ages_are_steps(backend, &p, &g));
}

fn refuse<B: Backend>(b: &B) {
    let run = |n: [usize; 4], ages: Option<usize>| {
        let [mut p, g, mut m, mut v] = n.map(|n| b.buf(n).unwrap());
        let mut ages = ages.map(|n| b.buf(n).unwrap());
        b.adam(&mut p, &g, &mut m, &mut v, ages.as_mut(), step(true, 1))
    };
    run([0; 4], None).unwrap();
    assert_refused("gradients", run([5, 4, 5, 5], None));
    assert_refused("first moments", run([5, 5, 6, 5], None));
    assert_refused("second moments", run([5, 5, 5, 1], None));
    assert_refused("ages", run([5, 5, 5, 5], Some(4)));
}

#[test]
fn wrong_extents_are_errors() {
    on_each!(Precision::F32, |backend| refuse(backend));
}
