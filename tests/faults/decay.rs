//! F24, F25: bits that rot, and files of other versions.

use std::path::{Path, PathBuf};

use chtsl::checkpoint::state::FORMAT;

use crate::program::{chtsl, newest, path, prepare, pretrain, run, text};
use crate::{count, told};

fn trained() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let tmp = tempfile::tempdir().unwrap();
    let data = prepare(tmp.path());
    let out = tmp.path().join("run");
    let done = pretrain(&data, &out, &["--set", "train.steps=4"]).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    (tmp, data, out)
}

/// One flipped bit in any file of a checkpoint or a dataset is noticed, and the file named.
#[test]
fn one_flipped_bit_is_noticed() {
    let (_tmp, data, out) = trained();
    let mut flips = 0;
    let mut try_folder = |folder: &Path, command: &[&str], code: i32| {
        for entry in std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()) {
            let name = entry.file_name().unwrap().to_str().unwrap().to_string();
            if name.starts_with('.') || entry.is_dir() {
                continue;
            }
            let good = std::fs::read(&entry).unwrap();
            for i in 0..count(6, 100) {
                let mut bad = good.clone();
                let at = (i * 7919 + i * bad.len() / count(6, 100)) % bad.len();
                bad[at] ^= 1 << (i % 8);
                std::fs::write(&entry, &bad).unwrap();
                let done = run(command);
                let said = text(&done);
                let known = done.status.code() == Some(code) && said.contains(&name);
                assert!(known, "{name} bit {i} of byte {at}: {said}");
                assert!(!said.contains("panicked"), "{name}: {said}");
                flips += 1;
            }
            std::fs::write(&entry, &good).unwrap();
        }
    };
    let checkpoint = newest(&out);
    try_folder(&checkpoint, &["inspect", path(&checkpoint), "--verify"], 4);
    try_folder(&data, &["inspect", path(&data)], 3);
    // What was exported carries the hash of its numbers.
    let [exported, imported] = ["exported", "imported"].map(|name| out.with_file_name(name));
    let done = run(&["export", "--checkpoint", path(&out), "--out", path(&exported)]);
    assert!(done.status.success(), "{}", text(&done));
    let file = exported.join("model.safetensors");
    let good = std::fs::read(&file).unwrap();
    let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
    for i in 0..count(6, 100) {
        let mut bad = good.clone();
        bad[header + i * (good.len() - header) / count(6, 100)] ^= 1 << (i % 8);
        std::fs::write(&file, &bad).unwrap();
        let done = run(&["import", "--from", path(&exported), "--out", path(&imported)]);
        let said = text(&done);
        assert_eq!(done.status.code(), Some(4), "{said}");
        assert!(said.contains("model.safetensors: damaged") && !imported.exists(), "{said}");
        flips += 1;
    }
    told(&format!(
        "F24: {flips} flipped bits in checkpoints, datasets and exported weights, each noticed by name"
    ));
}

/// The checkpoint of a format, as the program of its time wrote it.
fn stored(format: u32) -> PathBuf {
    let folder = format!("tests/golden/checkpoint/format-{format}");
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

/// A checkpoint of every format so far can be read; one of a later format is refused as such.
#[test]
fn formats_of_the_past_and_of_the_future() {
    for format in 1..=FORMAT {
        let old = stored(format);
        let done = run(&["inspect", path(&old), "--verify", "--json"]);
        assert!(done.status.success(), "{}", text(&done));
        let v: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!((v["step"].as_u64(), v["parameters"].as_u64()), (Some(3), Some(PARAMETERS)));
        let words = ["generate", "--checkpoint", path(&old), "--prompt", "The"];
        let done = chtsl().args(words).args(["--max-tokens", "8"]).output().unwrap();
        assert!(done.status.success(), "{}", text(&done));
    }

    let tmp = tempfile::tempdir().unwrap();
    let later = tmp.path().join("step-00000003");
    std::fs::create_dir(&later).unwrap();
    for entry in std::fs::read_dir(stored(FORMAT)).unwrap().map(|e| e.unwrap()) {
        std::fs::copy(entry.path(), later.join(entry.file_name())).unwrap();
    }
    let manifest = later.join("manifest.json");
    let text_of = std::fs::read_to_string(&manifest).unwrap();
    std::fs::write(
        &manifest,
        text_of.replacen(&format!("\"format\": {FORMAT}"), "\"format\": 99", 1),
    )
    .unwrap();
    let done = run(&["inspect", path(&later)]);
    let said = text(&done);
    assert_eq!(done.status.code(), Some(4), "{said}");
    assert!(said.contains("99") && said.contains("format"), "{said}");
    told(&format!("F25: formats 1 to {FORMAT} are read, format 99 is refused by its number"));
}

/// Numbers of the stored model.
const PARAMETERS: u64 = 4740;
