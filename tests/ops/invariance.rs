//! What holds across operations: results depend neither on the number of threads nor on which other
//! tokens share a batch.

use chtsl::backend::{
    AdamStep, Backend, Csr, Hybrid, HybridGrads, LowRank, NO_TARGET, branch_sums,
};
use chtsl::config::{Activation, Precision};
use chtsl::sparse::Pattern;

use super::attention::{plain, shape};
use crate::support::{
    PRECISIONS, Source, act, buf, columns, cpus, on_each, stale, stale_statistics, statistics, take,
};

const ROWS: usize = 50;
const COLS: usize = 40;
const RANK: usize = 5;
/// Tokens per sequence: batches of one, three, four and nine are off the tile or on it.
const SEQ: usize = 21;
const HEADS: usize = 4;

/// Inputs of every operation over some tokens.
struct World {
    tokens: usize,
    pattern: Pattern,
    values: Vec<f32>,
    w: Vec<f32>,
    a: Vec<f32>,
    b: Vec<f32>,
    gain: Vec<f32>,
    /// Four activations over inputs, four over outputs, one coefficient per token.
    x: [Vec<f32>; 4],
    y: [Vec<f32>; 4],
    c: Vec<f32>,
    ids: Vec<u32>,
}

impl World {
    fn new(precision: Precision, tokens: usize) -> Self {
        let mut s = Source::new(80, precision);
        let pattern = s.uneven(ROWS, COLS);
        World {
            tokens,
            values: s.normal(pattern.nnz(), 0.3),
            pattern,
            w: s.normal(ROWS * COLS, 0.2),
            a: s.normal(RANK * COLS, 0.2),
            b: s.normal(ROWS * RANK, 0.4),
            gain: s.normal(COLS, 1.0),
            x: [0; 4].map(|_| s.normal(COLS * tokens, 1.0)),
            y: [0; 4].map(|_| s.normal(ROWS * tokens, 1.0)),
            c: s.normal(tokens, 0.5),
            ids: (0..tokens).map(|_| s.below(ROWS) as u32).collect(),
        }
    }

    /// The same with the first `n` tokens only.
    fn first(&self, n: usize) -> Self {
        let cut = |x: &[f32]| columns(x, self.tokens, n);
        World {
            tokens: n,
            pattern: self.pattern.clone(),
            values: self.values.clone(),
            w: self.w.clone(),
            a: self.a.clone(),
            b: self.b.clone(),
            gain: self.gain.clone(),
            x: self.x.each_ref().map(|x| cut(x)),
            y: self.y.each_ref().map(|y| cut(y)),
            c: cut(&self.c),
            ids: self.ids[..n].to_vec(),
        }
    }
}

/// A result: row-major per token, or a buffer or number that sums over tokens.
#[derive(Debug, PartialEq)]
enum Output {
    PerToken(Vec<f32>),
    Summed(Vec<f64>),
}

/// Every operation once.
fn run<B: Backend>(bk: &B, w: &World) -> Vec<(&'static str, Output)> {
    let n = w.tokens;
    let mut all = vec![];
    let mut tokens = |what, x: B::Act, features| {
        all.push((what, Output::PerToken(take(bk, x, features, n))));
    };
    let sum =
        |x: &B::Buf| Output::Summed(bk.read(x).unwrap().iter().map(|x| f64::from(*x)).collect());
    let mut sums = vec![];
    let [x0, x1, x2, x3] = w.x.each_ref().map(|x| act(bk, COLS, n, x));
    let [y0, y1, ..] = w.y.each_ref().map(|y| act(bk, ROWS, n, y));
    let new = |features| stale(bk, features, n);
    let zeros = |n: usize| buf(bk, &vec![0.0; n]);

    let dense = buf(bk, &w.w);
    let (mut y, mut dx, mut dw) = (new(ROWS), new(COLS), zeros(ROWS * COLS));
    bk.dense_forward(&dense, &x0, &mut y).unwrap();
    bk.dense_backward_input(&dense, &y0, &mut dx, false).unwrap();
    bk.dense_backward_weight(&y0, &x0, &mut dw).unwrap();
    tokens("dense_forward", y, ROWS);
    tokens("dense_backward_input", dx, COLS);
    sums.push(("dense_backward_weight", sum(&dw)));
    sums.push(("sum_squares", Output::Summed(vec![bk.sum_squares(&dw).unwrap()])));

    let csr = Csr::new(bk, w.pattern.clone(), &w.values).unwrap();
    let (mut y, mut dx, mut dv) = (new(ROWS), new(COLS), zeros(w.pattern.nnz()));
    bk.spmm(&csr, &x0, &mut y).unwrap();
    bk.spmm_transposed(&csr, &y0, &mut dx, false).unwrap();
    bk.sddmm(&csr, &y0, &x0, &mut dv).unwrap();
    tokens("spmm", y, ROWS);
    tokens("spmm_transposed", dx, COLS);
    sums.push(("sddmm", sum(&dv)));

    let (a, b) = (buf(bk, &w.a), buf(bk, &w.b));
    let low = LowRank { a: &a, b: &b, rank: RANK, activation: Activation::Silu, scale: 0.5 };
    let hybrid = Hybrid { sparse: Some(&csr), low_rank: Some(low), rows: ROWS, cols: COLS };
    let (mut u, mut o, mut s) = (new(RANK), new(ROWS), stale_statistics(bk, branch_sums::COUNT, n));
    bk.hybrid_forward(&hybrid, &x0, Some(&mut u), &mut o, Some(&mut s)).unwrap();
    let (mut d_o, mut dx) = (act(bk, ROWS, n, &w.y[0]), act(bk, COLS, n, &w.x[1]));
    let c = statistics(bk, 1, n, &w.c);
    let [mut dv, mut da, mut db] = [w.pattern.nnz(), RANK * COLS, ROWS * RANK].map(zeros);
    let grads = HybridGrads { values: Some(&mut dv), a: Some(&mut da), b: Some(&mut db) };
    bk.hybrid_backward(&hybrid, &x0, Some(&u), &o, Some(&c), &mut d_o, &mut dx, true, grads)
        .unwrap();
    tokens("hybrid_forward u", u, RANK);
    tokens("hybrid_forward o", o, ROWS);
    tokens("hybrid_forward sums", s, branch_sums::COUNT);
    tokens("hybrid_backward dS", d_o, ROWS);
    tokens("hybrid_backward dx", dx, COLS);
    sums.extend([("hybrid dvalues", sum(&dv)), ("hybrid dA", sum(&da)), ("hybrid dB", sum(&db))]);

    let (mut y, mut dgate, mut dup, mut z) = (new(ROWS), new(ROWS), new(ROWS), new(ROWS));
    bk.add(&y0, &y1, &mut z).unwrap();
    bk.swiglu_forward(&y0, &y1, &mut y).unwrap();
    bk.swiglu_backward(&z, &y0, &y1, &mut dgate, &mut dup).unwrap();
    let results = ["add", "swiglu_forward", "dgate", "dup"].into_iter().zip([z, y, dgate, dup]);
    results.for_each(|(what, x)| tokens(what, x, ROWS));

    let gain = buf(bk, &w.gain);
    let (mut y, mut rstd) = (new(COLS), stale_statistics(bk, 1, n));
    let (mut dx, mut dgain) = (act(bk, COLS, n, &w.x[2]), zeros(COLS));
    bk.rmsnorm_forward(&x0, &gain, 1e-6, &mut y, &mut rstd).unwrap();
    bk.rmsnorm_backward(&x1, &x0, &gain, &rstd, &mut dx, &mut dgain).unwrap();
    tokens("rmsnorm_forward", y, COLS);
    tokens("rstd", rstd, 1);
    tokens("rmsnorm_backward", dx, COLS);
    sums.push(("dgain", sum(&dgain)));

    let s = plain(n / SEQ, SEQ, HEADS, COLS / HEADS);
    let (mut out, mut lse) = (new(COLS), stale_statistics(bk, HEADS, n));
    let [mut dq, mut dk, mut dv] = [0; 3].map(|_| new(COLS));
    bk.attention_forward(shape(&s), s.base, &x0, &x1, &x2, &mut out, &mut lse).unwrap();
    bk.attention_backward(
        shape(&s),
        s.base,
        &x0,
        &x1,
        &x2,
        &out,
        &lse,
        &x3,
        &mut dq,
        &mut dk,
        &mut dv,
    )
    .unwrap();
    tokens("lse", lse, HEADS);
    let results = ["attention_forward", "dq", "dk", "dv"].into_iter().zip([out, dq, dk, dv]);
    results.for_each(|(what, x)| tokens(what, x, COLS));
    let one = plain(n, 1, HEADS, COLS / HEADS);
    let (mut cache, mut out) = (bk.cache(n, 2, COLS).unwrap(), new(COLS));
    for (position, x) in [&x0, &x1].into_iter().enumerate() {
        bk.attention_decode(shape(&one), one.base, position, x, x, x, &mut cache, &mut out)
            .unwrap();
    }
    tokens("attention_decode", out, COLS);

    let (mut x, mut dtable) = (new(COLS), zeros(ROWS * COLS));
    bk.embedding_forward(&dense, &w.ids, &mut x).unwrap();
    bk.embedding_backward(&w.ids, &x0, &mut dtable).unwrap();
    tokens("embedding_forward", x, COLS);
    sums.push(("embedding_backward", sum(&dtable)));

    let mut targets = w.ids.clone();
    targets.iter_mut().skip(3).step_by(7).for_each(|t| *t = NO_TARGET);
    let (mut dx, mut dw) = (new(COLS), zeros(ROWS * COLS));
    let train = bk.cross_entropy_train(&dense, &x0, &targets, 0.25, &mut dx, &mut dw).unwrap();
    let eval = bk.cross_entropy_eval(&dense, &x0, &targets).unwrap();
    tokens("cross_entropy dx", dx, COLS);
    let losses = vec![train.loss, train.targets as f64, eval.loss];
    sums.extend([("loss", Output::Summed(losses)), ("cross_entropy dw", sum(&dw))]);

    for by_age in [false, true] {
        // Flat and longer than one job.
        let long = w.x[0].repeat(20_000 / w.x[0].len() + 1);
        let [mut p, mut m] = [0; 2].map(|_| buf(bk, &long));
        let mut v = buf(bk, &vec![0.5; long.len()]);
        let mut ages = by_age.then(|| zeros(long.len()));
        let step = AdamStep {
            lr: 0.01,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: 0.1,
            decoupled: true,
            step: 3,
            grad_scale: 1.0,
        };
        bk.adam(&mut p, &buf(bk, &long), &mut m, &mut v, ages.as_mut(), step).unwrap();
        sums.extend([p, m, v].iter().map(|x| ("adam", sum(x))));
    }
    all.extend(sums);
    all
}

/// 840 tokens are 14 tiles: gradients are cut into several partial sums.
#[test]
fn results_do_not_depend_on_threads() {
    for precision in PRECISIONS {
        let world = World::new(precision, 40 * SEQ);
        let all: Vec<_> = cpus(precision).iter().map(|cpu| (cpu, run(cpu, &world))).collect();
        for (cpu, one) in &all {
            let others = all.iter().filter(|(c, _)| c.level() == cpu.level());
            for (other, many) in others.filter(|(c, _)| c.threads() > cpu.threads()) {
                for ((what, a), (_, b)) in one.iter().zip(many) {
                    assert!(a == b, "{what}: {} and {} differ", cpu.describe(), other.describe());
                }
            }
        }
        assert!(all.iter().any(|(c, _)| c.threads() == 1));
        assert!(all.iter().any(|(c, _)| c.threads() > 1));
    }
}

fn check_batches<B: Backend>(backend: &B, world: &World) {
    let whole = run(backend, world);
    for sequences in [1, 3, 4, 9] {
        let n = sequences * SEQ;
        for ((what, part), (_, whole)) in run(backend, &world.first(n)).iter().zip(&whole) {
            if let (Output::PerToken(part), Output::PerToken(whole)) = (part, whole) {
                let same = *part == columns(whole, world.tokens, n);
                assert!(same, "{what} of {n} tokens: {}", backend.describe());
            }
        }
    }
}

/// The first tokens of a batch give the same bits alone, whether or not they fill their tile.
#[test]
fn tokens_do_not_depend_on_their_batch() {
    for precision in PRECISIONS {
        let world = World::new(precision, 10 * SEQ);
        on_each!(precision, |backend| check_batches(backend, &world));
    }
}
