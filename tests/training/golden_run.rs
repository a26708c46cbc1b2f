//! Ten steps on the portable path, compared exactly with stored losses, and within rounding on the
//! other paths. `CHTSL_BLESS=1` stores them anew, after a change that is meant to change them.

use std::path::PathBuf;

use chtsl::backend::cpu::Level;
use chtsl::backend::{Backend, Cpu};
use chtsl::config::{Config, Precision};
use chtsl::sparse::Pattern;
use chtsl::train::{RunOptions, Trainer};
use serde_json::{Value, json};

use crate::program::rows;
use crate::setup::{dataset, links, never, portable, variants};

/// Trains to the end; losses and gradient norm of every update, and the links.
pub fn trained<B: Backend>(backend: &B, c: &Config) -> (Vec<Value>, Vec<Pattern>) {
    let data = dataset(c, 721, 1);
    let tmp = tempfile::tempdir().unwrap();
    let options = RunOptions { out: Some(tmp.path().into()), ..RunOptions::new(never()) };
    let mut trainer = Trainer::new(backend, c, &data, None, options).unwrap();
    trainer.run().unwrap();
    let losses = rows(tmp.path())
        .iter()
        .filter(|r| r["kind"] == "train")
        .map(|r| json!({"loss": r["loss"], "loss_align": r["loss_align"], "grad_norm": r["grad_norm"]}))
        .collect();
    (losses, links(&trainer.model))
}

fn losses(backend: &Cpu, c: &Config) -> Vec<Value> {
    trained(backend, c).0
}

pub fn ten_steps() -> Vec<(&'static str, Config)> {
    let mut list = variants();
    for (_, c) in &mut list {
        c.train.steps = 10;
        c.topology.end_fraction = 1.0;
        c.train.checkpoint_interval = 0;
    }
    let mut pure = list[0].1.clone();
    pure.train.precision = Precision::Bf16Pure;
    list.push(("bf16_pure", pure));
    list
}

fn on(level: Level, c: &Config) -> Cpu {
    Cpu::with_level(2, c.train.precision, level).unwrap()
}

#[test]
fn golden_ten_step_losses() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/run/ten_steps.json");
    let mut now = serde_json::Map::new();
    for (name, c) in ten_steps() {
        now.insert(name.into(), losses(&on(Level::Portable, &c), &c).into());
    }
    let now = Value::Object(now);
    if std::env::var_os("CHTSL_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, serde_json::to_string_pretty(&now).unwrap() + "\n").unwrap();
    }
    let stored: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(stored, now, "bit for bit on the portable path");
}

#[test]
fn every_simd_level_agrees_within_rounding() {
    for (name, mut c) in ten_steps() {
        if c.train.precision == Precision::Bf16Pure {
            continue; // Its roundings to 8 bits amplify any difference; only the portable path is exact.
        }
        // Without events: links drawn from weights that differ in the last bit may differ.
        c.topology.update_interval = 0;
        let want = losses(&portable(), &c);
        for level in Level::available() {
            let got = losses(&on(level, &c), &c);
            for (t, (g, w)) in got.iter().zip(&want).enumerate() {
                let (g, w) = (g["loss"].as_f64().unwrap(), w["loss"].as_f64().unwrap());
                // Sums of up to 192 terms differ by 1e-5 at most per product; Adam divides by the root
                // of tiny second moments, so ten updates multiply that by about ten.
                assert!((g - w).abs() < 1e-4 * w, "{name} {level:?} step {t}: {g} {w}");
            }
        }
    }
}
