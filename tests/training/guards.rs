//! Non-finite numbers never train; a healthy model can learn one batch by heart.

use chtsl::Error;
use chtsl::backend::Backend;
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
    assert!(tmp.path().join(format!("diverged-step-{step}.json")).exists());
    assert!(chtsl::checkpoint::latest(tmp.path()).unwrap().is_none(), "nothing broken is saved");
    let after = backend.read(&trainer.model.head.values).unwrap();
    if step == 1 {
        assert_eq!(w, after, "weights are untouched");
    }
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
    crate::resume::run(&backend, &c, &data, &val, &cut, &[131, 9, 11]);
    crate::resume::equal("cut at 131, 140 and 151", &whole, &cut);
    let text = std::fs::read_to_string(whole.join("metrics.jsonl")).unwrap();
    let skipped = text.lines().filter(|l| l.contains("standard deviations above")).count();
    assert!((5..30).contains(&skipped), "{skipped} of the 32 updates after a full window");
    let state = &chtsl::checkpoint::latest(&whole).unwrap().unwrap().state;
    assert_eq!(state.optimizer_steps + skipped as u64, state.step);
}
