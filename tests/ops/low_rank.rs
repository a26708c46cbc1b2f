//! Hybrid projections O = S + L without alignment: either branch alone and both.

use chtsl::backend::{Backend, Csr, Hybrid, HybridGrads, LowRank, branch_sums};
use chtsl::config::{Activation, Precision};
use chtsl::sparse::Pattern;

use crate::support::oracle::{self, Bounded, Extents};
use crate::support::{
    PRECISIONS, Source, Tolerance, act, assert_derivative, assert_refused, bounded, buf, dot,
    on_each, stale, stale_statistics, statistics, take, wide,
};

/// What a projection consists of.
#[derive(Clone, Debug)]
pub struct Plan {
    pub extents: Extents,
    /// Density of the sparse branch; above 1 stands for empty, full and random rows in turn.
    pub density: Option<f64>,
    /// Rank, SiLU or identity, g.
    pub low_rank: Option<(usize, Activation, f32)>,
    /// With branch sums, coefficients and the alignment gradient.
    pub aligned: bool,
}

/// Inputs of one projection, the leftovers that gradients are added to, and the wanted results.
pub struct Case {
    what: String,
    precision: Precision,
    plan: Plan,
    pattern: Option<Pattern>,
    values: Vec<f32>,
    a: Vec<f32>,
    b: Vec<f32>,
    x: Vec<f32>,
    d_o: Vec<f32>,
    coefficients: Vec<f32>,
    dx: Vec<f32>,
    grads: [Vec<f32>; 3],
    forward: oracle::HybridForward<Bounded>,
    backward: oracle::HybridGrads<Bounded>,
}

impl Case {
    pub fn new(seed: u64, precision: Precision, plan: Plan) -> Self {
        let (rows, cols, tokens) = plan.extents;
        let mut s = Source::new(seed, precision);
        let pattern = plan
            .density
            .map(|d| if d > 1.0 { s.uneven(rows, cols) } else { s.pattern(rows, cols, d) });
        let nnz = pattern.as_ref().map_or(0, Pattern::nnz);
        let (rank, activation, scale) = plan.low_rank.unwrap_or((0, Activation::Identity, 1.0));
        // Branches of order 1, so that neither drowns in the other's rounding.
        let spread = |n: usize| 1.0 / (n.max(1) as f64).sqrt();
        let values = s.normal(nnz, spread(nnz / rows));
        let a = s.normal(rank * cols, spread(cols));
        let b = s.normal(rows * rank, spread(rank));
        let x = s.normal(cols * tokens, 1.0);
        let d_o = s.normal(rows * tokens, 1.0);
        let coefficients = s.normal(tokens, 0.5);
        let dx = s.normal(cols * tokens, 1.0);
        let grads = [nnz, rank * cols, rows * rank].map(|n| s.normal(n, 1.0));
        let hybrid = oracle::Hybrid {
            extents: plan.extents,
            sparse: pattern.as_ref().map(|p| oracle::expand(p, &bounded(&values))),
            low_rank: plan.low_rank.map(|_| oracle::LowRank {
                a: bounded(&a),
                b: bounded(&b),
                rank,
                silu: activation == Activation::Silu,
                scale: f64::from(scale),
            }),
        };
        let c = plan.aligned.then(|| bounded(&coefficients));
        Case {
            what: format!("{plan:?} {precision:?}"),
            forward: oracle::hybrid_forward(&hybrid, &bounded(&x)),
            backward: oracle::hybrid_backward(&hybrid, &bounded(&x), c.as_deref(), &bounded(&d_o)),
            precision,
            plan,
            pattern,
            values,
            a,
            b,
            x,
            d_o,
            coefficients,
            dx,
            grads,
        }
    }
}

/// Both passes with and without accumulation of dx.
pub fn check<B: Backend>(backend: &B, c: &Case) {
    let (rows, cols, tokens) = c.plan.extents;
    let name = |pass: &str| format!("{} {pass} {}", backend.describe(), c.what);
    let sparse = c.pattern.clone().map(|p| Csr::new(backend, p, &c.values).unwrap());
    let (a, b) = (buf(backend, &c.a), buf(backend, &c.b));
    let (rank, activation, scale) = c.plan.low_rank.unwrap_or((0, Activation::Identity, 1.0));
    let low = c.plan.low_rank.is_some();
    let w = Hybrid {
        sparse: sparse.as_ref(),
        low_rank: low.then_some(LowRank { a: &a, b: &b, rank, activation, scale }),
        rows,
        cols,
    };
    // The longest chain: a sum over inputs, SiLU (its exponential is good to four units), a sum
    // over ranks, and backward a sum over outputs and one over tokens. In bf16 u, φ, L and O are
    // rounded one after the other; backward further dL, dφ, du and the result.
    let chain = cols + rank + 12;
    let forward = Tolerance { precision: c.precision, terms: chain, roundings: 4 };
    let backward = Tolerance { precision: c.precision, terms: chain + rows + tokens, roundings: 8 };

    let x = act(backend, cols, tokens, &c.x);
    let mut u = low.then(|| stale(backend, rank, tokens));
    let mut o = stale(backend, rows, tokens);
    let mut sums = c.plan.aligned.then(|| stale_statistics(backend, branch_sums::COUNT, tokens));
    backend.hybrid_forward(&w, &x, u.as_mut(), &mut o, sums.as_mut()).unwrap();
    forward.check(&name("O"), &backend.read_act(&o).unwrap(), &c.forward.o);
    if let Some(sums) = sums {
        let sums = take(backend, sums, branch_sums::COUNT, tokens);
        let each = sums.chunks_exact(tokens).zip(c.forward.sums.chunks_exact(tokens));
        // Squares double the relative error of a branch; the sum runs over outputs.
        let t = Tolerance { terms: 2 * chain + rows, roundings: 6, ..forward };
        each.enumerate().for_each(|(i, (got, want))| {
            t.statistic(&name(&format!("branch sum {i}")), got, want);
        });
    }

    for accumulate in [false, true] {
        let mut d_o = act(backend, rows, tokens, &c.d_o);
        let mut dx = act(backend, cols, tokens, &c.dx);
        let [mut dv, mut da, mut db] = c.grads.each_ref().map(|g| buf(backend, g));
        let coefficients = c.plan.aligned.then(|| statistics(backend, 1, tokens, &c.coefficients));
        // Without coefficients the output is not read: anything of its extents will do.
        let leftovers = stale(backend, rows, tokens);
        let grads = HybridGrads {
            values: sparse.is_some().then_some(&mut dv),
            a: low.then_some(&mut da),
            b: low.then_some(&mut db),
        };
        backend
            .hybrid_backward(
                &w,
                &x,
                u.as_ref(),
                if c.plan.aligned { &o } else { &leftovers },
                coefficients.as_ref(),
                &mut d_o,
                &mut dx,
                accumulate,
                grads,
            )
            .unwrap();
        let want = if accumulate {
            oracle::add(&c.backward.dx, &bounded(&c.dx))
        } else {
            c.backward.dx.clone()
        };
        backward.check(&name("dx"), &take(backend, dx, cols, tokens), &want);
        backward.check(&name("dS"), &take(backend, d_o, rows, tokens), &c.backward.ds);
        let dw = c.pattern.as_ref().map_or(vec![], |p| oracle::at_links(p, &c.backward.dw));
        let wants = [&dw, &c.backward.da, &c.backward.db];
        for ((got, want), (before, what)) in
            [dv, da, db].iter().zip(wants).zip(c.grads.iter().zip(["dvalues", "dA", "dB"]))
        {
            let want = oracle::add(want, &bounded(before));
            backward.check_parameter(backend, &name(what), &backend.read(got).unwrap(), &want);
        }
    }
    take(backend, o, rows, tokens);
    if let Some(u) = u {
        forward.check(&name("u"), &take(backend, u, rank, tokens), &c.forward.u);
    }
}

/// All combinations of branches over shapes off the tile, off the rows of one backward pass (64)
/// and off the vector width.
pub fn plans(aligned: bool) -> Vec<Plan> {
    let (silu, identity) = (Activation::Silu, Activation::Identity);
    let plan = |extents, density, low_rank| Plan { extents, density, low_rank, aligned };
    let mut all = vec![
        plan((1, 1, 1), Some(1.0), Some((1, silu, 1.0))),
        plan((5, 3, 63), Some(0.0), Some((3, identity, 2.0))),
        plan((65, 40, 64), Some(0.3), Some((16, silu, 0.5))),
        plan((130, 300, 65), Some(0.2), Some((17, silu, -1.5))),
        plan((64, 70, 130), Some(2.0), Some((3, identity, 0.25))),
        plan((40, 600, 66), Some(0.15), Some((16, silu, 1.0))),
        plan((33, 20, 65), None, Some((17, silu, 0.7))),
        plan((70, 33, 5), None, Some((1, identity, 1.0))),
        plan((16, 24, 1100), Some(0.4), Some((3, silu, 1.0))),
        plan((512, 1376, 3), Some(0.05), Some((16, silu, 1.0))),
        plan((1376, 512, 2), Some(0.05), Some((32, identity, 1.0))),
    ];
    if !aligned {
        all.extend([
            plan((1, 1, 1), Some(1.0), None),
            plan((37, 520, 65), Some(0.1), None),
            plan((37, 52, 65), Some(0.0), None),
            plan((60, 90, 130), Some(2.0), None),
            plan((20, 20, 63), Some(1.0), None),
        ]);
    }
    all
}

#[test]
fn projections_match_the_loops() {
    for precision in PRECISIONS {
        for (seed, plan) in plans(false).into_iter().enumerate() {
            let case = Case::new(seed as u64, precision, plan);
            on_each!(precision, |backend| check(backend, &case));
        }
    }
}

/// The loop's gradients of values, A, B and x against differences of
/// `⟨dO, O⟩ + ½ Σ c·Σ (S−L)²`.
pub fn check_derivatives(aligned: bool) {
    let extents = (5, 6, 4);
    let mut s = Source::new(8, Precision::F32);
    let pattern = s.uneven(5, 6);
    let rank = 3;
    let inputs = [pattern.nnz(), rank * 6, 5 * rank, 6 * 4].map(|n| wide(&s.normal(n, 0.7)));
    let d_o = wide(&s.normal(20, 1.0));
    let c = wide(&s.normal(4, 1.0));
    let c = aligned.then_some(&c[..]);
    for silu in [false, true] {
        let hybrid = |i: &[Vec<f64>]| oracle::Hybrid {
            extents,
            sparse: Some(oracle::expand(&pattern, &i[0])),
            low_rank: Some(oracle::LowRank {
                a: i[1].clone(),
                b: i[2].clone(),
                rank,
                silu,
                scale: 1.7,
            }),
        };
        let g = oracle::hybrid_backward(&hybrid(&inputs), &inputs[3], c, &d_o);
        let gradients = [oracle::at_links(&pattern, &g.dw), g.da, g.db, g.dx];
        assert_derivative("hybrid", &inputs, &gradients, |i| {
            let f = oracle::hybrid_forward(&hybrid(i), &i[3]);
            let pull = c.map_or(0.0, |c| dot(c, &f.sums[branch_sums::DIFFERENCE * 4..][..4]) / 2.0);
            dot(&d_o, &f.o) + pull
        });
    }
}

#[test]
fn gradients_are_derivatives() {
    check_derivatives(false);
}

fn refuse<B: Backend>(bk: &B) {
    let pattern = Pattern::from_flat(4, 5, &[1, 7, 13]).unwrap();
    let s = Csr::new(bk, pattern, &[1.0; 3]).unwrap();
    let (a, b) = (bk.buf(10).unwrap(), bk.buf(8).unwrap());
    let low = |rank| Some(LowRank { a: &a, b: &b, rank, activation: Activation::Silu, scale: 1.0 });
    let both = || Hybrid { sparse: Some(&s), low_rank: low(2), rows: 4, cols: 5 };
    let new = |f, n| stale(bk, f, n);
    let (x, mut u, mut o) = (new(5, 9), new(2, 9), new(4, 9));
    let none = Hybrid { sparse: None, low_rank: None, rows: 4, cols: 5 };
    assert_refused("no branch", bk.hybrid_forward(&none, &x, None, &mut o, None));
    assert_refused("no u", bk.hybrid_forward(&both(), &x, None, &mut o, None));
    let wrong = Hybrid { low_rank: low(3), ..both() };
    assert_refused("rank", bk.hybrid_forward(&wrong, &x, Some(&mut u), &mut o, None));
    let wrong = Hybrid { rows: 3, ..both() };
    let mut short = new(3, 9);
    assert_refused("rows", bk.hybrid_forward(&wrong, &x, Some(&mut u), &mut short, None));
    let mut u8 = new(2, 8);
    assert_refused("u", bk.hybrid_forward(&both(), &x, Some(&mut u8), &mut o, None));
    assert_refused("x", bk.hybrid_forward(&both(), &new(6, 9), Some(&mut u), &mut o, None));
    assert_refused("o", bk.hybrid_forward(&both(), &x, Some(&mut u), &mut new(4, 7), None));
    let mut sums = stale_statistics(bk, 4, 9);
    let refused = bk.hybrid_forward(&both(), &x, Some(&mut u), &mut o, Some(&mut sums));
    assert_refused("sums", refused);

    // (elements of dvalues, dA, dB; features and tokens of dO, of dx, of c).
    let backward = |n: [Option<usize>; 3], d: (usize, usize), dx: (usize, usize), c: usize| {
        let [mut v, mut a, mut b] = n.map(|n| n.map(|n| bk.buf(n).unwrap()));
        let grads = HybridGrads { values: v.as_mut(), a: a.as_mut(), b: b.as_mut() };
        let (mut d_o, mut dx) = (new(d.0, d.1), new(dx.0, dx.1));
        let c = stale_statistics(bk, 1, c);
        let (u, o) = (new(2, 9), new(4, 9));
        bk.hybrid_backward(&both(), &x, Some(&u), &o, Some(&c), &mut d_o, &mut dx, false, grads)
    };
    let right = [Some(3), Some(10), Some(8)];
    backward(right, (4, 9), (5, 9), 9).unwrap();
    for n in [
        [None, Some(10), Some(8)],
        [Some(4), Some(10), Some(8)],
        [Some(3), None, Some(8)],
        [Some(3), Some(9), Some(8)],
        [Some(3), Some(10), None],
        [Some(3), Some(10), Some(10)],
    ] {
        assert_refused("gradients", backward(n, (4, 9), (5, 9), 9));
    }
    assert_refused("dO", backward(right, (5, 9), (5, 9), 9));
    assert_refused("dx", backward(right, (4, 9), (4, 9), 9));
    assert_refused("coefficients", backward(right, (4, 9), (5, 9), 8));
    let sparse = Hybrid { low_rank: None, ..both() };
    let (mut v, mut d_o, mut dx) = (bk.buf(3).unwrap(), new(4, 9), new(5, 9));
    let grads = HybridGrads { values: Some(&mut v), a: None, b: None };
    let c = stale_statistics(bk, 1, 9);
    let alone =
        bk.hybrid_backward(&sparse, &x, None, &o, Some(&c), &mut d_o, &mut dx, false, grads);
    assert_refused("alignment without a low-rank branch", alone);
}

#[test]
fn wrong_extents_are_errors() {
    on_each!(Precision::F32, |backend| refuse(backend));
}
