//! One projection O = S + L with alignment, trained through two topology events on the CPU and on the
//! emulated device: forward, backward, Adam, removal and regrowth, moved values and moments.
//!
//! In f32 both must choose the same links and stay as close as rounding allows; in bf16 the CPU's
//! link changes are replayed, since links drawn from differently rounded weights part for good.

#[allow(dead_code, unused_imports, unused_macros)] // shared with the tests of operations
#[path = "../support/mod.rs"]
mod support;

use chtsl::backend::{AdamStep, Backend, Cpu, Evolved, branch_sums};
use chtsl::config::{AlignReduction, Config, Precision, layers};
use chtsl::layer::alignment::{self, Alignment, MicroBatch};
use chtsl::layer::{ParamKind, Projection, Sparse};
use chtsl::model::init::RandomInit;
use chtsl::rng::{Purpose, Stream};
use chtsl::sparse::Pattern;
use chtsl::topology::{self, EventInput, LinkChange};

use support::emulated;

const ROWS: usize = 48;
const COLS: usize = 40;
const TOKENS: usize = 136;
const STEPS: u64 = 24;
const EVENTS: [u64; 2] = [6, 12];

fn config() -> Config {
    let sets = [
        "model.hidden=40",
        "model.intermediate=48",
        "model.layers=1",
        "model.heads=2",
        "model.vocab=61",
        "model.seq_len=24",
        "train.steps=24",
        "train.warmup=0",
        "method.connectivity_sparsity=0.7",
        "method.rank=6",
        "topology.zeta=0.3",
    ];
    layers::resolve(None, None, &sets.map(String::from)).expect("a configuration")
}

/// What one training leaves behind.
#[derive(Debug)]
struct Trace {
    /// Task loss and weighted alignment of every update.
    losses: Vec<f64>,
    changes: Vec<LinkChange>,
    /// Values, A and B after the last update.
    parameters: [Vec<f32>; 3],
}

/// Inputs of the task: x, and what O should be.
struct Task {
    x: Vec<f32>,
    wanted: Vec<f32>,
}

impl Task {
    /// Both can be held in bf16.
    fn new() -> Self {
        let draw = |layer, n: usize| -> Vec<f32> {
            let s = Stream::new(5, Purpose::Init, layer, 0);
            (0..n as u64).map(|i| support::bf16(s.normal(i) as f32)).collect()
        };
        Task { x: draw(1, COLS * TOKENS), wanted: draw(2, ROWS * TOKENS) }
    }
}

/// Trains on ½·Σ(O − wanted)² / N + λ·align. Links change by `replay` where given, else by the rules.
/// `jitter` multiplies every value by 1 ± 2⁻²⁴ after each update: how far rounding alone drives a run.
fn train<B: Backend>(
    backend: &B,
    task: &Task,
    replay: Option<&[LinkChange]>,
    jitter: Option<u32>,
) -> Trace {
    let config = config();
    let name = "model.layers.0.mlp.up_proj".to_string();
    let mut source = RandomInit::new(&config);
    let mut layer =
        Projection::new(backend, &config, name, (ROWS, COLS), &mut source, true).expect("a layer");
    let alignment =
        Alignment { reduction: AlignReduction::TokenL2, lambda: 0.5, projections: [true; 7] };
    let targets = [0u32; TOKENS];
    let batch = MicroBatch {
        targets: &targets,
        sequences: 1,
        seq_len: TOKENS,
        target_divisor: TOKENS as f64,
        micro_batches: 1,
        starts: None,
    };
    let x = support::act(backend, COLS, TOKENS, &task.x);
    let act = |features| backend.act(features, TOKENS).expect("memory");
    let (mut o, mut d_o, mut dx) = (act(ROWS), act(ROWS), act(COLS));
    let mut u = act(layer.rank());
    let mut sums = backend.statistics(branch_sums::COUNT, TOKENS).expect("memory");
    let mut coefficients = backend.statistics(1, TOKENS).expect("memory");
    let mut trace = Trace { losses: vec![], changes: vec![], parameters: Default::default() };
    for t in 1..=STEPS {
        layer
            .visit(&mut |p| backend.zero(p.grad))
            .and_then(|()| layer.forward(backend, &x, Some(&mut u), &mut o, Some(&mut sums)))
            .expect("a forward pass");
        let out = backend.read_act(&o).expect("readable");
        let difference: Vec<f32> = out.iter().zip(&task.wanted).map(|(o, w)| o - w).collect();
        let task_loss: f64 =
            difference.iter().map(|d| f64::from(*d).powi(2)).sum::<f64>() / (2.0 * TOKENS as f64);
        let branch = backend.read_act(&sums).expect("readable");
        let align = alignment::value(alignment.reduction, &branch, ROWS, &batch);
        trace.losses.push(task_loss + alignment.lambda * align);
        let c = alignment::coefficients(&alignment, &branch, ROWS, &batch);
        let gradient: Vec<f32> = difference.iter().map(|d| d / TOKENS as f32).collect();
        backend
            .write_act(&mut coefficients, &c)
            .and_then(|()| backend.write_act(&mut d_o, &gradient))
            .and_then(|()| {
                let c = Some(&coefficients);
                layer.backward(backend, &x, Some(&u), &o, c, &mut d_o, &mut dx, false)
            })
            .expect("a backward pass");
        let step = AdamStep {
            lr: 3e-3,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.0,
            decoupled: true,
            step: t,
            grad_scale: 1.0,
        };
        layer
            .visit(&mut |p| backend.adam(p.values, p.grad, p.m, p.v, p.ages, step))
            .expect("an update");
        if let Some(seed) = jitter {
            let s = Stream::new(u64::from(seed), Purpose::Init, 3, t as u32);
            layer
                .visit(&mut |p| {
                    let mut values = backend.read(p.values)?;
                    for (i, v) in values.iter_mut().enumerate() {
                        *v *= 1.0 + (s.below(i as u64, 3) as f32 - 1.0) * f32::EPSILON / 2.0;
                    }
                    backend.write(p.values, &values)
                })
                .expect("readable");
        }
        layer.pack(backend).expect("packed");
        if EVENTS.contains(&t) {
            let change = evolve(backend, &config, &mut layer, t, replay, trace.changes.len());
            trace.changes.push(change);
        }
    }
    let mut parameters = vec![];
    layer
        .visit(&mut |p| {
            assert!(matches!(
                p.kind,
                ParamKind::Sparse | ParamKind::LowRankA | ParamKind::LowRankB
            ));
            parameters.push(backend.read(p.values)?);
            Ok(())
        })
        .expect("readable");
    trace.parameters = parameters.try_into().expect("values, A and B");
    trace
}

fn evolve<B: Backend>(
    backend: &B,
    config: &Config,
    layer: &mut Projection<B>,
    t: u64,
    replay: Option<&[LinkChange]>,
    number: usize,
) -> LinkChange {
    let Sparse::Links(s) = &mut layer.sparse else { unreachable!("a sparse branch") };
    let evolved = match replay {
        Some(changes) => {
            let change = changes[number].clone();
            Evolved { index: backend.index(&change.pattern).expect("an index"), change }
        }
        None => {
            let rules = topology::rules(&EventInput {
                config: &config.topology,
                seed: config.train.seed,
                layer: 0,
                t,
                steps: STEPS,
                target_nnz: s.csr.pattern.nnz(),
                pattern: &s.csr.pattern,
                weights: &[],
            });
            topology::evolve(backend, &s.csr, &rules.expect("rules")).expect("an event")
        }
    };
    let change = s.evolve(backend, evolved).expect("moved");
    assert!(change.removed > 10 && change.regrown == change.removed);
    change
}

fn cpu() -> Cpu {
    Cpu::new(2, Precision::F32).expect("a backend")
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn in_f32_links_are_the_cpus_and_values_differ_by_rounding() {
    let task = Task::new();
    let want = train(&cpu(), &task, None, None);
    assert!(want.losses[STEPS as usize - 1] < 0.9 * want.losses[0], "{:?}", want.losses);
    // Every operation of an update rounds each value a few times; the drift of runs whose values are
    // moved by one rounding per update, times the roundings on the longest chain (sums over inputs,
    // ranks, outputs and tokens add up like a root), bounds what another order of sums may do.
    let chain = ((COLS + 6 + ROWS + TOKENS) as f64).sqrt() * 4.0;
    let drifts: Vec<Trace> =
        (0..4).map(|seed| train(&cpu(), &task, Some(&want.changes), Some(seed))).collect();
    for (name, cuda) in emulated::named(Precision::F32) {
        let got = train(&cuda, &task, None, None);
        assert_eq!(got.changes, want.changes, "{name}: other links");
        for i in 0..3 {
            let drift = drifts
                .iter()
                .map(|d| distance(&d.parameters[i], &want.parameters[i]))
                .fold(0.0, f64::max);
            let off = distance(&got.parameters[i], &want.parameters[i]);
            assert!(
                off <= chain * drift,
                "{name}, parameter {i}: {off:e} beyond {chain} x {drift:e}"
            );
        }
        for (t, (g, w)) in got.losses.iter().zip(&want.losses).enumerate() {
            assert!((g - w).abs() <= 1e-5 * w, "{name}, loss {t}: {g} {w}");
        }
    }
}

#[test]
fn in_bf16_losses_follow_the_cpus_over_its_link_changes() {
    let task = Task::new();
    let want = train(&cpu(), &task, None, None);
    for (name, cuda) in emulated::named(Precision::Bf16Pure) {
        let got = train(&cuda, &task, Some(&want.changes), None);
        // O is rounded twice (S, then S + L) and its weights once: three independent roundings of
        // 2⁻⁹ relative to O, doubled by the square. The rest averages out over 6,528 elements.
        let tolerance = 2.0 * 3f64.sqrt() * 2f64.powi(-9);
        for (t, (g, w)) in got.losses.iter().zip(&want.losses).enumerate() {
            assert!((g - w).abs() <= tolerance * w, "{name}, loss {t}: {g} for {w}");
        }
        let last = STEPS as usize - 1;
        assert!(got.losses[last] < 0.9 * got.losses[0], "{name}: {:?}", got.losses);
    }
}

/// The test's own rule for tolerances: a run that rounds differently does drift, and not by much.
#[test]
fn rounding_alone_moves_a_run_a_little() {
    let task = Task::new();
    let a = train(&cpu(), &task, None, None);
    let b = train(&cpu(), &task, Some(&a.changes), Some(1));
    let moved = distance(&a.parameters[0], &b.parameters[0]);
    let size = distance(&a.parameters[0], &vec![0.0; a.parameters[0].len()]);
    assert!(moved > 0.0 && moved < 1e-4 * size, "{moved:e} of {size:e}");
    let links = |t: &Trace| t.changes.iter().map(|c| c.pattern.clone()).collect::<Vec<Pattern>>();
    assert_eq!(links(&a), links(&b));
}
