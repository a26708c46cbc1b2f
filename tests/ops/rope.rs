//! Rotary embedding, seen through the saved ln Σ exp of attention scores.

use chtsl::backend::Backend;
use chtsl::config::Precision;

use super::attention::{plain, shape};
use crate::support::oracle::Attention;
use crate::support::{Source, act, on_each, stale, stale_statistics};

/// (out, lse) of one head on the backend.
fn run<B: Backend>(backend: &B, a: &Attention, x: [&[f32]; 3]) -> (Vec<f32>, Vec<f32>) {
    let (f, n) = (a.features(), a.tokens());
    let [q, k, v] = x.map(|x| act(backend, f, n, x));
    let (mut out, mut lse) = (stale(backend, f, n), stale_statistics(backend, a.heads, n));
    backend.attention_forward(shape(a), a.base, &q, &k, &v, &mut out, &mut lse).unwrap();
    (backend.read_act(&out).unwrap(), backend.read_act(&lse).unwrap())
}

/// One token: rotation by position 0 changes nothing, the output is v, the score q·k/√d.
fn single<B: Backend>(backend: &B) {
    let (q, k, v) = ([1.0, 2.0, 3.0, 4.0], [0.5, -1.0, 2.0, 0.25], [9.0, 8.0, 7.0, 6.0]);
    let (out, lse) = run(backend, &plain(1, 1, 1, 4), [&q, &k, &v]);
    assert_eq!(out, v);
    assert!((lse[0] - 2.75).abs() <= 8.0 * f32::EPSILON, "{lse:?}");
}

/// Features i and i + d/2 turn together by t·base^(-2i/d): d = 4, base 100, so angles t and t/10.
///
/// q and k live in one pair each time; their product at positions s ≤ t is cos((t-s)·frequency).
fn pairs<B: Backend>(backend: &B) {
    for (pair, frequency) in [([0, 2], 1.0f64), ([1, 3], 0.1)] {
        // k is of length 2 along the pair's first feature, q along the first, then the second.
        for (along, phase) in [(0, 0.0), (1, std::f64::consts::FRAC_PI_2)] {
            let tokens = 5;
            let (mut q, mut k) = (vec![0.0; 4 * tokens], vec![0.0; 4 * tokens]);
            q[pair[along] * tokens..][..tokens].fill(3.0);
            k[pair[0] * tokens..][..tokens].fill(2.0);
            let a = Attention { base: 100.0, ..plain(1, tokens, 1, 4) };
            let (_, lse) = run(backend, &a, [&q, &k, &k]);
            for (t, &got) in lse.iter().enumerate() {
                let score = |s: usize| 3.0 * ((t - s) as f64 * frequency + phase).cos();
                let want = (0..=t).map(|s| score(s).exp()).sum::<f64>().ln();
                assert!(
                    (f64::from(got) - want).abs() <= 1e-5,
                    "{} pair {pair:?} along {along} at {t}: {got} for {want}",
                    backend.describe()
                );
            }
        }
    }
}

/// Scores depend on distances alone: the same document further back in the sequence gives the same
/// output. `starts` cuts off what precedes it.
fn shifted<B: Backend>(backend: &B, x: [&[f32]; 3], len: usize, shift: usize) {
    let a = plain(1, len, 1, 8);
    let (want, _) = run(backend, &a, x);
    let total = len + shift;
    let moved = x.map(|x| {
        x.chunks(len).flat_map(|row| [vec![5.0; shift], row.to_vec()].concat()).collect::<Vec<_>>()
    });
    let starts = Some((0..total).map(|t| if t < shift { 0 } else { shift as u32 }).collect());
    let b = Attention { starts, ..plain(1, total, 1, 8) };
    let (got, _) = run(backend, &b, [&moved[0], &moved[1], &moved[2]]);
    for f in 0..8 {
        for t in 0..len {
            let (g, w) = (got[f * total + shift + t], want[f * len + t]);
            // Cosines and sines of both positions are off by half a unit each; a score of d = 8
            // terms of order 3 moves probabilities by 8·3·ε, and |v| stays below 4.
            let allowed = 4.0 * 24.0 * 4.0 * f32::EPSILON;
            assert!((g - w).abs() <= allowed, "{} {f} {t}: {g} {w}", backend.describe());
        }
    }
}

#[test]
fn one_token_is_not_turned() {
    on_each!(Precision::F32, |backend| single(backend));
}

#[test]
fn halves_turn_by_their_frequency() {
    on_each!(Precision::F32, |backend| pairs(backend));
}

#[test]
fn only_distances_matter() {
    let mut s = Source::new(45, Precision::F32);
    for (len, shift) in [(2, 1), (20, 63), (70, 100)] {
        let x = [0; 3].map(|_| s.normal(8 * len, 1.0));
        on_each!(Precision::F32, |backend| shifted(backend, [&x[0], &x[1], &x[2]], len, shift));
    }
}

/// The table of one shape must not serve another base, width or length.
fn alternate<B: Backend>(backend: &B, x: &[f32]) {
    let shapes = [
        plain(1, 12, 1, 4),
        Attention { base: 7.0, ..plain(1, 12, 1, 4) },
        plain(1, 6, 1, 8),
        plain(2, 6, 1, 4),
    ];
    let fresh: Vec<_> = shapes.iter().map(|a| run(backend, a, [x, x, x])).collect();
    assert_ne!(fresh[0], fresh[1]);
    assert_ne!(fresh[0], fresh[3]);
    for (a, want) in shapes.iter().zip(&fresh).rev() {
        assert_eq!(&run(backend, a, [x, x, x]), want);
    }
}

#[test]
fn tables_belong_to_their_shape() {
    let x = Source::new(46, Precision::F32).normal(48, 1.0);
    on_each!(Precision::F32, |backend| alternate(backend, &x));
}
