//! Causal attention: forward, gradients, documents, decoding with a cache.

use chtsl::backend::{AttentionShape, Backend};
use chtsl::config::Precision;

use crate::support::oracle::{self, Attention, Bounded};
use crate::support::{
    Fill, PRECISIONS, Source, Tolerance, act, assert_derivative, assert_refused, bounded, dot,
    on_each, stale, stale_statistics, take, wide,
};

pub fn shape(s: &Attention) -> AttentionShape<'_> {
    AttentionShape {
        sequences: s.sequences,
        seq_len: s.seq_len,
        heads: s.heads,
        head_dim: s.head_dim,
        starts: s.starts.as_deref(),
    }
}

/// Documents of random length, the first from position 0.
fn documents(s: &mut Source, a: &mut Attention) {
    let mut starts = vec![];
    for _ in 0..a.sequences {
        let mut start = 0;
        for t in 0..a.seq_len {
            if t > 0 && s.below(1 + a.seq_len / 4) == 0 {
                start = t as u32;
            }
            starts.push(start);
        }
    }
    a.starts = Some(starts);
}

struct Case {
    what: String,
    precision: Precision,
    a: Attention,
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    d_out: Vec<f32>,
    forward: (Vec<Bounded>, Vec<Bounded>),
    backward: [Vec<Bounded>; 3],
}

impl Case {
    fn new(s: &mut Source, precision: Precision, a: Attention, fill: Fill) -> Self {
        let n = a.features() * a.tokens();
        let [q, k, v, d_out] = [0; 4].map(|_| s.fill(fill, n));
        let [bq, bk, bv, bd] = [&q, &k, &v, &d_out].map(|x| bounded(x));
        Case {
            what: format!("{a:?} {fill:?} {precision:?}"),
            precision,
            forward: oracle::attention_forward(&a, &bq, &bk, &bv),
            backward: oracle::attention_backward(&a, &bq, &bk, &bv, &bd),
            a,
            q,
            k,
            v,
            d_out,
        }
    }
}

fn check<B: Backend>(backend: &B, c: &Case) {
    let (f, n, heads) = (c.a.features(), c.a.tokens(), c.a.heads);
    let name = |pass: &str| format!("{} {pass} {}", backend.describe(), c.what);
    // A score is a sum over the head's width of rotated features, a softmax a sum over positions;
    // the magnitudes carry scores into probabilities. The backward pass repeats both once.
    let forward =
        Tolerance { precision: c.precision, terms: c.a.head_dim + c.a.seq_len + 24, roundings: 1 };
    let backward = Tolerance { terms: 2 * forward.terms, roundings: 2, ..forward };
    let [q, k, v, d_out] = [&c.q, &c.k, &c.v, &c.d_out].map(|x| act(backend, f, n, x));
    let (mut out, mut lse) = (stale(backend, f, n), stale_statistics(backend, heads, n));
    backend.attention_forward(shape(&c.a), c.a.base, &q, &k, &v, &mut out, &mut lse).unwrap();
    forward.check(&name("out"), &backend.read_act(&out).unwrap(), &c.forward.0);
    forward.statistic(&name("lse"), &backend.read_act(&lse).unwrap(), &c.forward.1);

    let [mut dq, mut dk, mut dv] = [0; 3].map(|_| stale(backend, f, n));
    backend
        .attention_backward(
            shape(&c.a),
            c.a.base,
            &q,
            &k,
            &v,
            &out,
            &lse,
            &d_out,
            &mut dq,
            &mut dk,
            &mut dv,
        )
        .unwrap();
    for ((got, want), what) in [dq, dk, dv].into_iter().zip(&c.backward).zip(["dq", "dk", "dv"]) {
        backward.check(&name(what), &take(backend, got, f, n), want);
    }
    take(backend, out, f, n);
    take(backend, lse, heads, n);
}

pub fn plain(sequences: usize, seq_len: usize, heads: usize, head_dim: usize) -> Attention {
    Attention { sequences, seq_len, heads, head_dim, starts: None, base: 10_000.0 }
}

#[test]
fn attention_matches_the_loop() {
    for precision in PRECISIONS {
        let mut s = Source::new(40, precision);
        for (sequences, seq_len, heads, head_dim) in [
            (1, 1, 1, 2),
            (3, 1, 2, 4),
            (2, 3, 2, 4),
            (1, 63, 2, 8),
            (2, 64, 1, 6),
            (2, 65, 2, 16),
            (1, 130, 3, 10),
            (3, 37, 1, 64),
            (0, 5, 2, 4),
        ] {
            for split in [false, true] {
                let mut a = plain(sequences, seq_len, heads, head_dim);
                if split {
                    documents(&mut s, &mut a);
                }
                let case = Case::new(&mut s, precision, a, Fill::Random);
                on_each!(precision, |backend| check(backend, &case));
            }
        }
        for fill in [Fill::Zeros, Fill::Ones, Fill::Ramp] {
            let case = Case::new(&mut s, precision, plain(2, 70, 2, 6), fill);
            on_each!(precision, |backend| check(backend, &case));
        }
    }
}

#[test]
fn gradients_are_derivatives() {
    let mut s = Source::new(41, Precision::F32);
    for split in [false, true] {
        let mut a = plain(2, 5, 2, 4);
        if split {
            a.starts = Some(vec![0, 0, 2, 2, 2, 0, 1, 1, 3, 4]);
        }
        let n = a.features() * a.tokens();
        let inputs = [0; 3].map(|_| wide(&s.normal(n, 1.0)));
        let d_out = wide(&s.normal(n, 1.0));
        let gradients = oracle::attention_backward(&a, &inputs[0], &inputs[1], &inputs[2], &d_out);
        assert_derivative("attention", &inputs, &gradients, |i| {
            dot(&d_out, &oracle::attention_forward(&a, &i[0], &i[1], &i[2]).0)
        });
    }
}

/// Decoding token by token against one pass over the whole sequence and against the loop.
fn decode<B: Backend>(backend: &B, precision: Precision, a: &Attention, x: &[Vec<f32>; 3]) {
    let (f, n, t) = (a.features(), a.tokens(), a.seq_len);
    let [bq, bk, bv] = x.each_ref().map(|x| bounded(x));
    let (want, _) = oracle::attention_forward(a, &bq, &bk, &bv);
    let [q, k, v] = x.each_ref().map(|x| act(backend, f, n, x));
    let (mut full, mut lse) = (stale(backend, f, n), stale_statistics(backend, a.heads, n));
    backend.attention_forward(shape(a), a.base, &q, &k, &v, &mut full, &mut lse).unwrap();
    let full = backend.read_act(&full).unwrap();

    let mut cache = backend.cache(a.sequences, t + 2, f).unwrap();
    let one = Attention { seq_len: 1, ..a.clone() };
    let tolerance = Tolerance { precision, terms: a.head_dim + t + 24, roundings: 1 };
    let b = a.sequences;
    for position in 0..t {
        let pick = |i: usize| (i / b) * n + (i % b) * t + position;
        let [q, k, v] = x.each_ref().map(|x| {
            let column: Vec<f32> = (0..f * b).map(|i| x[pick(i)]).collect();
            act(backend, f, b, &column)
        });
        let mut out = stale(backend, f, b);
        backend
            .attention_decode(shape(&one), a.base, position, &q, &k, &v, &mut cache, &mut out)
            .unwrap();
        let what = format!("{} decode {a:?} at {position}", backend.describe());
        let want: Vec<Bounded> = (0..f * b).map(|i| want[pick(i)]).collect();
        let got = take(backend, out, f, b);
        tolerance.check(&what, &got, &want);
        // The full pass is off by as much again.
        let twice = Tolerance { terms: 2 * tolerance.terms, roundings: 2, ..tolerance };
        let full = (0..f * b)
            .map(|i| Bounded { value: f64::from(full[pick(i)]), magnitude: want[i].magnitude });
        twice.check(&what, &got, &full.collect::<Vec<_>>());
    }
}

#[test]
fn decoding_equals_the_full_pass() {
    for precision in PRECISIONS {
        let mut s = Source::new(43, precision);
        for a in [plain(1, 1, 1, 2), plain(3, 9, 2, 6), plain(2, 70, 1, 8)] {
            let x = [0; 3].map(|_| s.normal(a.features() * a.tokens(), 1.0));
            on_each!(precision, |backend| decode(backend, precision, &a, &x));
        }
    }
}

fn refuse<B: Backend>(b: &B) {
    let new = |f, n| stale(b, f, n);
    let s = plain(2, 3, 2, 4);
    let run = |s: &Attention, q: (usize, usize), v: (usize, usize), lse: (usize, usize)| {
        let (q, v) = (new(q.0, q.1), new(v.0, v.1));
        let (mut out, mut lse) = (new(s.features(), s.tokens()), stale_statistics(b, lse.0, lse.1));
        b.attention_forward(shape(s), s.base, &q, &q, &v, &mut out, &mut lse)
    };
    run(&s, (8, 6), (8, 6), (2, 6)).unwrap();
    assert_refused("q features", run(&s, (4, 6), (8, 6), (2, 6)));
    assert_refused("v tokens", run(&s, (8, 6), (8, 5), (2, 6)));
    assert_refused("lse", run(&s, (8, 6), (8, 6), (1, 6)));
    let odd = Attention { heads: 1, head_dim: 3, ..s.clone() };
    assert_refused("odd heads", run(&odd, (3, 6), (3, 6), (1, 6)));
    let few = Attention { starts: Some(vec![0; 5]), ..s.clone() };
    assert_refused("starts", run(&few, (8, 6), (8, 6), (2, 6)));
    let late = Attention { starts: Some(vec![0, 2, 0, 0, 0, 0]), ..s.clone() };
    assert_refused("a start behind its token", run(&late, (8, 6), (8, 6), (2, 6)));

    let (x, lse) = (new(8, 6), stale_statistics(b, 2, 6));
    let [mut dq, mut dk, mut dv] = [new(8, 6), new(8, 6), new(8, 5)];
    assert_refused(
        "dv",
        b.attention_backward(
            shape(&s),
            s.base,
            &x,
            &x,
            &x,
            &x,
            &lse,
            &x,
            &mut dq,
            &mut dk,
            &mut dv,
        ),
    );
    let (wrong, mut dv) = (new(3, 6), new(8, 6));
    assert_refused(
        "saved lse",
        b.attention_backward(
            shape(&s),
            s.base,
            &x,
            &x,
            &x,
            &x,
            &wrong,
            &x,
            &mut dq,
            &mut dk,
            &mut dv,
        ),
    );

    let one = Attention { seq_len: 1, ..s.clone() };
    let (x, mut out) = (new(8, 2), new(8, 2));
    let mut decode = |cache: (usize, usize, usize), position, s: &Attention| {
        let mut cache = b.cache(cache.0, cache.1, cache.2).unwrap();
        b.attention_decode(shape(s), s.base, position, &x, &x, &x, &mut cache, &mut out)
    };
    decode((2, 4, 8), 3, &one).unwrap();
    assert_refused("position", decode((2, 4, 8), 4, &one));
    assert_refused("cached sequences", decode((3, 4, 8), 0, &one));
    assert_refused("cached features", decode((2, 4, 6), 0, &one));
    let pair = Attention { sequences: 1, seq_len: 2, ..s };
    assert_refused("two tokens at once", decode((1, 4, 8), 0, &pair));
}

#[test]
fn wrong_extents_are_errors() {
    on_each!(Precision::F32, |backend| refuse(backend));
}
