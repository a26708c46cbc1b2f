//! Non-finite numbers never train; a healthy model can learn one batch by heart.

use chtsl::Error;
use chtsl::backend::{Backend, Cpu};
use chtsl::config::OnNonfinite;
use chtsl::model::Llama;
use chtsl::sparse::Pattern;
use chtsl::train::{RunOptions, Trainer};

use crate::program::rows;
use crate::setup::{backend, config, dataset, never, variants};

#[test]
fn one_batch_overfits() {
    for (name, mut c) in variants() {
        c.train.steps = 250;
        c.train.warmup = 10;
        c.train.rewarmup = 0;
        c.train.lr = 1e-2;
        c.train.batch = 4;
        c.train.eval_interval = 0;
        c.train.checkpoint_interval = 0;
        c.topology.update_interval = 25;
        c.method.lambda_align = 0.05;
        let backend = backend(2);
        let data = dataset(&c, 721, 1);
        let tmp = tempfile::tempdir().unwrap();
        let options = RunOptions {
            out: Some(tmp.path().into()),
            overfit_batch: true,
            ..RunOptions::new(never())
        };
        Trainer::new(&backend, &c, &data, None, options).unwrap().run().unwrap();
        let rows = rows(tmp.path());
        let losses: Vec<f64> = rows.iter().filter_map(|r| r["loss"].as_f64()).collect();
        assert!(losses[0] > 3.9, "{name}: starts near ln 61");
        let last = losses.last().unwrap();
        assert!(*last < 0.1, "{name}: ends at {last}");
    }
}

#[test]
fn a_non_finite_gradient_stops_before_the_update() {
    let c = config(&["train.steps=50", "train.warmup=0", "train.lr=1e3", "train.clip=0"]);
    let backend = backend(2);
    let data = dataset(&c, 721, 1);
    let tmp = tempfile::tempdir().unwrap();
    let options = RunOptions { out: Some(tmp.path().into()), ..RunOptions::new(never()) };
    let mut c = c;
    c.train.checkpoint_interval = 0;
    c.train.eval_interval = 0;
    // A learning rate of 1e3 alone may survive in f32, so one weight is made enormous.
    let mut trainer = Trainer::new(&backend, &c, &data, None, options).unwrap();
    let mut w = backend.read(&trainer.model.head.values).unwrap();
    w[5] = 3e38;
    w[6] = 3e38;
    backend.write(&mut trainer.model.head.values, &w).unwrap();
    let e = trainer.run().unwrap_err();
    assert!(matches!(e, Error::Diverged { .. }), "{e}");
    assert_eq!(e.exit_code(), 6);
    let Error::Diverged { step, .. } = e else { unreachable!() };
    assert_eq!(trainer.state.step, step - 1);
    assert_eq!(step, 1);
    let told = std::fs::read_to_string(tmp.path().join("diverged-step-1.json")).unwrap();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["samples"], serde_json::json!([0, c.train.batch]));
    let head = &told["tensors"]["lm_head.weight"];
    assert_eq!(head["weight"], serde_json::json!({"non_finite": 0, "largest": 3e38f32}));
    assert!(head["gradient"]["non_finite"].as_u64() > Some(0), "{head}");
    assert!(chtsl::checkpoint::latest(tmp.path()).unwrap().is_none(), "nothing broken is saved");
    let after = backend.read(&trainer.model.head.values).unwrap();
    assert_eq!(w, after, "weights are untouched");
}

#[test]
fn skipping_counts_and_gives_up() {
    let c =
        config(&["train.on_nonfinite=skip", "train.max_skips=3", "train.checkpoint_interval=0"]);
    let backend = backend(2);
    let data = dataset(&c, 721, 1);
    let mut trainer = Trainer::new(&backend, &c, &data, None, RunOptions::new(never())).unwrap();
    let poison = vec![f32::NAN; c.model.hidden];
    backend.write(&mut trainer.model.norm.values, &poison).unwrap();
    let e = trainer.run().unwrap_err();
    assert!(matches!(e, Error::Diverged { step: 4, .. }), "three skipped, the fourth ends it: {e}");
    assert_eq!(trainer.state.optimizer_steps, 0);
}

/// Bits of every weight and moment, ages and links of every parameter.
fn snapshot(backend: &Cpu, model: &mut Llama<Cpu>) -> Vec<(String, Vec<u32>, Option<Pattern>)> {
    let mut all = Vec::new();
    let bits = |data: Vec<f32>| data.into_iter().map(f32::to_bits);
    model
        .visit(&mut |p| {
            let mut numbers: Vec<u32> = bits(backend.read(p.values)?).collect();
            numbers.extend(bits(backend.read(p.m)?).chain(bits(backend.read(p.v)?)));
            if let Some(ages) = &p.ages {
                numbers.extend(bits(backend.read(ages)?));
            }
            all.push((p.name.to_string(), numbers, p.pattern.cloned()));
            Ok(())
        })
        .unwrap();
    all
}

/// Puts `x` at the front of the weights of `name`; returns what was there.
fn poison(backend: &Cpu, model: &mut Llama<Cpu>, name: &str, x: f32) -> f32 {
    let mut before = None;
    model
        .visit(&mut |p| {
            if p.name == name {
                let mut w = backend.read(p.values)?;
                before = Some(std::mem::replace(&mut w[0], x));
                backend.write(p.values, &w)?;
            }
            Ok(())
        })
        .unwrap();
    before.expect(name)
}

/// F12: an update that meets a non-finite number changes no weight, moment or link, whether it is the
/// first one, a later one, or one with a topology event (every fourth).
#[test]
fn a_skipped_update_changes_nothing() {
    for (name, mut c) in variants() {
        c.train.on_nonfinite = OnNonfinite::Skip;
        let backend = backend(1);
        let data = dataset(&c, 721, 1);
        let options = RunOptions { stop_after: Some(1), ..RunOptions::new(never()) };
        let mut trainer = Trainer::new(&backend, &c, &data, None, options).unwrap();
        let step = |trainer: &mut Trainer<Cpu>| {
            let e = trainer.run().unwrap_err();
            assert!(matches!(e, Error::Stopped { .. }), "{name}: {e}");
        };
        let places = ["model.norm.weight", "model.layers.1.input_layernorm.weight"];
        let plan =
            [(1, places[0], f32::NAN), (4, places[1], f32::INFINITY), (6, places[1], f32::NAN)];
        for t in 1..=12u64 {
            let Some((_, place, x)) = plan.into_iter().find(|(at, ..)| *at == t) else {
                step(&mut trainer);
                continue;
            };
            let before = snapshot(&backend, &mut trainer.model);
            let state = trainer.state.clone();
            let kept = poison(&backend, &mut trainer.model, place, x);
            step(&mut trainer);
            poison(&backend, &mut trainer.model, place, kept);
            let after = snapshot(&backend, &mut trainer.model);
            for (a, b) in before.iter().zip(&after) {
                assert!(a == b, "{name}, update {t}: {} changed", a.0);
            }
            assert_eq!(trainer.state.optimizer_steps, state.optimizer_steps, "{name}, update {t}");
            let batch = c.train.batch as u64;
            assert_eq!(trainer.state.samples, state.samples + batch, "{name}, update {t}");
            assert_eq!(trainer.state.skipped_in_a_row, 1, "{name}, update {t}");
        }
        assert_eq!(trainer.state.skipped_in_a_row, 0, "{name}");
        // Twelve updates, three skipped; where events replace updates, those at 8 and 12 (4 was skipped).
        let replaced = if c.topology.event_replaces_step { 2 } else { 0 };
        assert_eq!(trainer.state.optimizer_steps, 9 - replaced, "{name}");
    }
}

/// F12: non-finite weights never become a checkpoint.
#[test]
fn broken_weights_are_not_saved() {
    let c = config(&["train.checkpoint_interval=0", "train.eval_interval=0"]);
    let backend = backend(1);
    let data = dataset(&c, 721, 1);
    let tmp = tempfile::tempdir().unwrap();
    let options = RunOptions {
        out: Some(tmp.path().into()),
        stop_after: Some(3),
        ..RunOptions::new(never())
    };
    let mut trainer = Trainer::new(&backend, &c, &data, None, options).unwrap();
    assert!(trainer.run().is_err());
    let place = "model.layers.0.mlp.up_proj.weight";
    trainer.state.step += 1;
    for x in [f32::NAN, f32::NEG_INFINITY] {
        let kept = poison(&backend, &mut trainer.model, place, x);
        let e = trainer.save().unwrap_err();
        assert!(e.exit_code() == 6 && e.to_string().contains(place), "{e}");
        poison(&backend, &mut trainer.model, place, kept);
    }
    let folders = std::fs::read_dir(tmp.path().join("checkpoints")).unwrap();
    let names: Vec<_> = folders.map(|e| e.unwrap().file_name()).collect();
    assert_eq!(names, ["step-00000003"], "the one before, and nothing half done");
    trainer.save().unwrap();
}

/// F12: a broken moment ends the run at the first checkpoint that is due: more training would not heal it.
#[test]
fn broken_moments_are_not_saved() {
    let c = config(&["train.checkpoint_interval=4", "train.eval_interval=0"]);
    let backend = backend(1);
    let data = dataset(&c, 721, 1);
    let tmp = tempfile::tempdir().unwrap();
    let options = RunOptions { out: Some(tmp.path().into()), ..RunOptions::new(never()) };
    let mut trainer = Trainer::new(&backend, &c, &data, None, options).unwrap();
    let place = "lm_head.weight";
    trainer
        .model
        .visit(&mut |p| {
            let mut v = backend.read(p.v)?;
            // Infinite, so that its weight stands still and the loss stays finite.
            v[1] = if p.name == place { f32::INFINITY } else { v[1] };
            backend.write(p.v, &v)
        })
        .unwrap();
    let e = trainer.run().unwrap_err();
    assert!(e.exit_code() == 6 && e.to_string().contains("lm_head.weight.v"), "{e}");
    assert_eq!(trainer.state.step, 4);
    assert!(chtsl::checkpoint::list(tmp.path()).unwrap().is_empty());
}

#[test]
fn links_keep_their_number_and_newcomers_start_clean() {
    let c = config(&["train.steps=40", "topology.zeta=0.3"]);
    let backend = backend(2);
    let data = dataset(&c, 721, 1);
    let tmp = tempfile::tempdir().unwrap();
    let options = RunOptions {
        out: Some(tmp.path().into()),
        stop_after: Some(8),
        ..RunOptions::new(never())
    };
    let mut trainer = Trainer::new(&backend, &c, &data, None, options).unwrap();
    assert!(trainer.run().is_err());
    let (mut newcomers, mut veterans) = (0, 0);
    trainer
        .model
        .visit(&mut |p| {
            let Some(pattern) = p.pattern else { return Ok(()) };
            let target = (0.25 * (pattern.rows() * pattern.cols()) as f64).round() as usize;
            assert_eq!(pattern.nnz(), target, "{}", p.name);
            let ages = backend.read(p.ages.unwrap())?;
            let (w, m, v) = (backend.read(p.values)?, backend.read(p.m)?, backend.read(p.v)?);
            for (i, age) in ages.iter().enumerate() {
                if *age == 0.0 {
                    assert_eq!((w[i], m[i], v[i]), (0.0, 0.0, 0.0), "{} {i}", p.name);
                    newcomers += 1;
                } else {
                    veterans += usize::from(w[i] != 0.0);
                }
            }
            Ok(())
        })
        .unwrap();
    assert!(newcomers > 100 && veterans > 1000, "{newcomers} {veterans}");
    let events = rows(tmp.path()).iter().filter(|r| r["kind"] == "topology").count();
    assert_eq!(events, 2 * 14, "two events in eight updates, a row per matrix");
}

/// F13: updates that stand out are skipped, and a resumed run skips the same ones.
#[test]
fn spikes_are_skipped_alike_after_a_resume() {
    // Half a standard deviation: about a third of all updates count as spikes.
    let c = config(&["train.steps=160", "train.skip_z=0.5", "train.checkpoint_interval=0"]);
    let (data, val) = (dataset(&c, 721, 1), dataset(&c, 400, 2));
    let backend = backend(2);
    let tmp = tempfile::tempdir().unwrap();
    let (whole, cut) = (tmp.path().join("whole"), tmp.path().join("cut"));
    crate::resume::run(&backend, &c, &data, &val, &whole, &[]);
    // While the window fills, when it just has, and later.
    crate::resume::run(&backend, &c, &data, &val, &cut, &[60, 71, 9, 11]);
    crate::resume::equal("cut at 60, 131, 140 and 151", &whole, &cut);
    let text = std::fs::read_to_string(whole.join("metrics.jsonl")).unwrap();
    let skipped = text.lines().filter(|l| l.contains("standard deviations above")).count();
    assert!((5..30).contains(&skipped), "{skipped} of the 32 updates after a full window");
    let state = &chtsl::checkpoint::latest(&whole).unwrap().unwrap().state;
    assert_eq!(state.optimizer_steps + skipped as u64, state.step);
}
