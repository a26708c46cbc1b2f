//! Stopped anywhere and resumed equals never stopped, bit for bit, in metrics and weights.

use std::path::Path;

use chtsl::Error;
use chtsl::backend::Backend;
use chtsl::checkpoint;
use chtsl::config::Config;
use chtsl::data::Dataset;
use chtsl::train::{RunOptions, Trainer};

use crate::program::rows;
use crate::setup::{backend, dataset, never, variants};

fn options(dir: &Path, stop_after: Option<u64>) -> RunOptions<'static> {
    RunOptions { out: Some(dir.into()), stop_after, ..RunOptions::new(never()) }
}

/// Runs to the end, in pieces of the given lengths, resuming from the newest checkpoint.
pub fn run<B: Backend>(
    backend: &B,
    c: &Config,
    data: &Dataset,
    val: &Dataset,
    dir: &Path,
    cuts: &[u64],
) {
    std::fs::create_dir_all(dir).unwrap();
    for (i, cut) in cuts.iter().map(|c| Some(*c)).chain([None]).enumerate() {
        let options = options(dir, cut);
        let mut trainer = if i == 0 {
            Trainer::new(backend, c, data, Some(val), options).unwrap()
        } else {
            let found = checkpoint::latest(dir).unwrap().unwrap();
            Trainer::resume(backend, c, &found, data, Some(val), options).unwrap()
        };
        match (trainer.run(), cut) {
            (Ok(_), None) => {}
            (Err(Error::Stopped { .. }), Some(_)) => {}
            (other, _) => panic!("{other:?}"),
        }
    }
}

/// Content of the newest checkpoint.
pub fn content(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let found = checkpoint::latest(dir).unwrap().unwrap();
    let mut files: Vec<_> = std::fs::read_dir(&found.path)
        .unwrap()
        .map(|e| e.unwrap())
        .map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap()))
        .collect();
    files.sort();
    files
}

pub fn equal(what: &str, a: &Path, b: &Path) {
    assert_eq!(rows(a), rows(b), "{what}: metrics");
    for ((name, x), (other, y)) in content(a).iter().zip(&content(b)) {
        assert_eq!(name, other);
        assert!(x == y, "{what}: {name} differs");
    }
}

#[test]
fn resumed_runs_equal_uninterrupted_ones() {
    let backend = backend(2);
    for (name, c) in variants() {
        // 30 packed rows of 24 tokens (fewer documents): 24 updates of 8 cross several epochs.
        let (data, val) = (dataset(&c, 721, 1), dataset(&c, 400, 2));
        let tmp = tempfile::tempdir().unwrap();
        let whole = tmp.path().join("whole");
        run(&backend, &c, &data, &val, &whole, &[]);
        // Events come at 4, 8, 12 and 16 (T_end 18), the warm-up lasts 6 updates, epochs end after
        // 3.75 updates: mid-warm-up, before, on and after an event, then several cuts in one run.
        for cuts in [&[2][..], &[7], &[8], &[9], &[15], &[1, 1, 2, 3, 4, 5, 7]] {
            let dir = tmp.path().join(format!("{cuts:?}"));
            run(&backend, &c, &data, &val, &dir, cuts);
            equal(&format!("{name} cut at {cuts:?}"), &whole, &dir);
        }
    }
}

#[test]
fn threads_logging_and_saving_change_nothing() {
    let (_, c) = variants().remove(0);
    let (data, val) = (dataset(&c, 721, 1), dataset(&c, 400, 2));
    let tmp = tempfile::tempdir().unwrap();
    let (one, three) = (tmp.path().join("1"), tmp.path().join("3"));
    run(&backend(1), &c, &data, &val, &one, &[]);
    run(&backend(3), &c, &data, &val, &three, &[]);
    equal("1 and 3 threads", &one, &three);

    let mut quiet = c.clone();
    quiet.train.log_interval = 7;
    quiet.train.eval_interval = 0;
    quiet.train.checkpoint_interval = 0;
    let dir = tmp.path().join("quiet");
    run(&backend(2), &quiet, &data, &val, &dir, &[]);
    let weights = |dir: &Path| {
        content(dir).into_iter().filter(|(n, _)| n.ends_with("safetensors")).collect::<Vec<_>>()
    };
    assert!(weights(&one) == weights(&dir), "logging or evaluating less often changed the weights");
}

#[test]
fn damaged_checkpoints_are_named_and_skipped() {
    let (_, c) = variants().remove(0);
    let backend = backend(2);
    let (data, val) = (dataset(&c, 721, 1), dataset(&c, 400, 2));
    let tmp = tempfile::tempdir().unwrap();
    run(&backend, &c, &data, &val, tmp.path(), &[]);
    let list = checkpoint::list(tmp.path()).unwrap();
    assert_eq!(list.iter().map(|(s, _)| *s).collect::<Vec<_>>(), [20, 24], "two are kept");
    let newest = &list[1].1;
    for file in ["model.safetensors", "optim.safetensors", "state.json", "manifest.json"] {
        let path = newest.join(file);
        let good = std::fs::read(&path).unwrap();
        for bad in [good[..good.len() / 2].to_vec(), flip(&good), Vec::new()] {
            std::fs::write(&path, bad).unwrap();
            let e = checkpoint::find(newest).err().expect("damage is noticed");
            assert_eq!(e.exit_code(), 4, "{e}");
            assert!(e.to_string().contains(file), "{e}");
            assert_eq!(checkpoint::latest(tmp.path()).unwrap().unwrap().state.step, 20);
        }
        std::fs::write(&path, good).unwrap();
    }
    assert_eq!(checkpoint::latest(tmp.path()).unwrap().unwrap().state.step, 24);
}

fn flip(bytes: &[u8]) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let middle = out.len() / 2;
    out[middle] ^= 1;
    out
}

#[test]
fn a_resume_refuses_other_data_and_other_settings() {
    let (_, c) = variants().remove(0);
    let backend = backend(2);
    let (data, val) = (dataset(&c, 721, 1), dataset(&c, 400, 2));
    let tmp = tempfile::tempdir().unwrap();
    run(&backend, &c, &data, &val, tmp.path(), &[]);
    let found = checkpoint::latest(tmp.path()).unwrap().unwrap();
    let other = dataset(&c, 721, 9);
    let o = options(tmp.path(), None);
    let e = Trainer::resume(&backend, &c, &found, &other, None, o).err().unwrap();
    assert_eq!(e.exit_code(), 4, "{e}");

    let change = |f: &dyn Fn(&mut Config), allowed: &[&str]| {
        let mut new = c.clone();
        f(&mut new);
        let allowed: Vec<String> = allowed.iter().map(|s| s.to_string()).collect();
        chtsl::train::changes_on_resume(&c, &new, &allowed)
    };
    assert!(change(&|_| (), &[]).unwrap().is_empty());
    assert_eq!(change(&|c| c.train.eval_interval = 3, &[]).unwrap().len(), 1);
    let e = change(&|c| c.train.lr = 1.0, &[]).unwrap_err().to_string();
    assert!(e.contains("train.lr") && e.contains("--allow-change"), "{e}");
    assert_eq!(change(&|c| c.train.lr = 1.0, &["train.lr"]).unwrap().len(), 1);
    let both = |c: &mut Config| {
        c.model.hidden = 64;
        c.train.seed = 9;
    };
    let e = change(&both, &["model.hidden", "train.seed"]).unwrap_err().to_string();
    assert!(e.contains("model.hidden: 48 -> 64") && e.contains("train.seed"), "{e}");
}
