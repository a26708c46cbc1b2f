//! Hostile checkpoints: mutated files whose manifest has been made to agree again, so that the readers
//! behind the hashes are reached. Each ends in a typed error or in values that pass every check.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use chtsl::checkpoint::{self, Checkpoint};
use chtsl::rng::{Purpose, Stream};
use chtsl::train::{RunOptions, Trainer, load_model};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use crate::setup::{backend, config, dataset, never};

/// One of: a flipped bit, a changed byte, a cut, a repeated piece, a digit made larger.
fn mutate(bytes: &[u8], s: &Stream, n: u64) -> Vec<u8> {
    let mut out = bytes.to_vec();
    let at = s.below(4 * n, out.len() as u64) as usize;
    match s.below(4 * n + 1, 5) {
        0 => out[at] ^= 1 << s.below(4 * n + 2, 8),
        1 => out[at] = s.below(4 * n + 2, 256) as u8,
        2 => out.truncate(at),
        3 => {
            let piece = out[at..(at + 40).min(out.len())].to_vec();
            out.splice(at..at, piece);
        }
        _ => {
            if let Some(i) = (at..out.len()).find(|i| out[*i].is_ascii_digit()) {
                out.splice(i..i, *b"99");
            }
        }
    }
    out
}

/// Puts `bytes` in place of `file` and makes the manifest list them.
fn install(dir: &Path, file: &str, bytes: &[u8]) {
    std::fs::write(dir.join(file), bytes).unwrap();
    if file == "manifest.json" {
        return;
    }
    let path = dir.join("manifest.json");
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    manifest["files"][file]["bytes"] = bytes.len().into();
    manifest["files"][file]["xxh3"] = format!("{:016x}", xxh3_64(bytes)).into();
    std::fs::write(&path, manifest.to_string()).unwrap();
}

#[test]
fn mutated_checkpoints_never_panic() {
    let backend = backend(1);
    let c = config(&[
        "train.steps=5",
        "train.warmup=2",
        "train.eval_interval=0",
        "train.checkpoint_interval=0",
    ]);
    let data = dataset(&c, 721, 1);
    let tmp = tempfile::tempdir().unwrap();
    let options = || RunOptions { out: Some(tmp.path().into()), ..RunOptions::new(never()) };
    Trainer::new(&backend, &c, &data, None, options()).unwrap().run().unwrap();
    let dir = checkpoint::latest(tmp.path()).unwrap().unwrap().path;
    let (mut opened, mut refused) = (0, 0);
    let files =
        ["model.safetensors", "optim.safetensors", "state.json", "config.toml", "manifest.json"];
    for (which, file) in files.iter().enumerate() {
        let good = std::fs::read(dir.join(file)).unwrap();
        let manifest = std::fs::read(dir.join("manifest.json")).unwrap();
        let s = Stream::new(17, Purpose::Corpus, which as u32, 0);
        let full = std::env::var("CHTSL_FAULTS").as_deref() == Ok("full");
        for n in 0..if full { 1000 } else { 150 } {
            // Half of the safetensors mutants hit the header, where the structure is.
            let bad = if file.ends_with("safetensors") && n % 2 == 0 {
                let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
                [&mutate(&good[..header], &s, n)[..], &good[header..]].concat()
            } else {
                mutate(&good, &s, n)
            };
            install(&dir, file, &bad);
            let outcome = catch_unwind(AssertUnwindSafe(|| -> chtsl::Result<()> {
                let found = Checkpoint::open(&dir)?;
                load_model(&backend, &found, false)?;
                let own = RunOptions::new(never());
                Trainer::resume(&backend, &found.config, &found, &data, None, own).map(drop)
            }));
            match outcome.unwrap_or_else(|_| panic!("mutant {n} of {file} panicked")) {
                Ok(()) => opened += 1,
                Err(e) => {
                    refused += 1;
                    assert!(matches!(e.exit_code(), 2..=5), "mutant {n} of {file}: {e}");
                }
            }
            std::fs::write(dir.join("manifest.json"), &manifest).unwrap();
            std::fs::write(dir.join(file), &good).unwrap();
        }
    }
    // A flipped bit of a weight is another weight; nearly everything else is noticed.
    assert!(refused > 300 && opened > 20, "{refused} refused, {opened} opened");
}
