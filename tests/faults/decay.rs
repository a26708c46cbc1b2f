//! F24, F25: bits that rot, and files of other versions.

use std::path::{Path, PathBuf};

use chtsl::checkpoint::Checkpoint;
use chtsl::checkpoint::folder::read_manifest;
use chtsl::checkpoint::state::FORMAT;
use chtsl::data::{Dataset, DatasetOptions, Split};
use xxhash_rust::xxh3::xxh3_64;

use crate::program::{chtsl, copy, newest, path, prepare, pretrain, run, text};
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
    let import = || run(&["import", "--from", path(&exported), "--out", path(&imported)]);
    let weights = || std::fs::read(newest(&imported).join("model.safetensors")).unwrap();
    assert!(import().status.success());
    let same = weights();
    std::fs::remove_dir_all(&imported).unwrap();
    let mut harmless = 0;
    for file in ["model.safetensors", "chtsl/links.safetensors"] {
        let file = exported.join(file);
        if !file.exists() {
            continue;
        }
        let good = std::fs::read(&file).unwrap();
        let header = 8 + u64::from_le_bytes(good[..8].try_into().unwrap()) as usize;
        let n = count(6, 100);
        let places = (0..n).map(|i| header + i * (good.len() - header) / n);
        for (i, at) in places.chain((0..n).map(|i| i * header / n)).enumerate() {
            let mut bad = good.clone();
            bad[at] ^= 1 << (i % 8);
            std::fs::write(&file, &bad).unwrap();
            let done = import();
            let said = text(&done);
            if at < header && done.status.success() {
                // A word of the header that says nothing of the numbers.
                assert!(weights() == same, "bit {i} of byte {at}: other weights");
                std::fs::remove_dir_all(&imported).unwrap();
                harmless += 1;
                continue;
            }
            assert_eq!(done.status.code(), Some(4), "bit {i} of byte {at}: {said}");
            assert!(at < header || said.contains("safetensors: damaged"), "{said}");
            // A name that is not what it was is missed in the folder.
            assert!(said.contains(path(&exported)) && !imported.exists(), "{said}");
            flips += 1;
        }
        std::fs::write(&file, &good).unwrap();
    }
    told(&format!(
        "F24: {flips} flipped bits in checkpoints, datasets and exported weights, each noticed by name; \
         {harmless} in headers that change no number"
    ));
}

/// The checkpoint of a format, as the program of its time wrote it.
fn stored(format: u32) -> PathBuf {
    let folder = format!("tests/golden/checkpoint/format-{format}");
    Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)
}

/// A run folder in which the stored checkpoint of `format` was made from `data`.
fn adopted(format: u32, data: &Path, tmp: &Path) -> PathBuf {
    let run = tmp.join(format!("run-{format}"));
    let folder = run.join("checkpoints/step-00000003");
    std::fs::create_dir_all(folder.parent().unwrap()).unwrap();
    copy(&stored(format), &folder);
    // Of this dataset, as far as the checkpoint can tell.
    let Checkpoint { mut state, config, .. } = Checkpoint::open(&folder).unwrap();
    let options = DatasetOptions::from_config(&config);
    let dataset = Dataset::open(&[data.to_path_buf()], Split::Train, &options).unwrap();
    state.dataset_fingerprint = dataset.fingerprint();
    state.tokenizer_hash = dataset.tokenizer().unwrap().map(|t| t.hash());
    let bytes = serde_json::to_vec(&state).unwrap();
    std::fs::write(folder.join("state.json"), &bytes).unwrap();
    let mut manifest = read_manifest(&folder).unwrap();
    let entry = manifest.files.get_mut("state.json").unwrap();
    (entry.bytes, entry.xxh3) = (bytes.len() as u64, format!("{:016x}", xxh3_64(&bytes)));
    manifest.checksum = manifest.checksum.is_some().then(|| manifest.digest());
    std::fs::write(folder.join("manifest.json"), serde_json::to_vec(&manifest).unwrap()).unwrap();
    run
}

/// A checkpoint of every format so far can be read; one of a later format is refused as such.
#[test]
fn formats_of_the_past_and_of_the_future() {
    let tmp = tempfile::tempdir().unwrap();
    let data = tmp.path().join("data");
    let input = crate::program::tiny_corpus();
    let words = ["--train-tokenizer", "270", "--val-fraction", "0.3", "--out", path(&data)];
    let done = chtsl().args(["prepare", "--input", path(&input)]).args(words).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    let mut ends = Vec::new();
    for format in 1..=FORMAT {
        let old = stored(format);
        let done = run(&["inspect", path(&old), "--verify", "--json"]);
        assert!(done.status.success(), "{}", text(&done));
        let v: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!((v["step"].as_u64(), v["parameters"].as_u64()), (Some(3), Some(PARAMETERS)));
        let words = ["generate", "--checkpoint", path(&old), "--prompt", "The"];
        let done = chtsl().args(words).args(["--max-tokens", "8"]).output().unwrap();
        assert!(done.status.success(), "{}", text(&done));
        // And gone on with: the same run, whatever the format it was kept in.
        let run = adopted(format, &data, tmp.path());
        let mut more = chtsl();
        more.args(["pretrain", "--data", path(&data), "--out", path(&run), "--resume", "auto"]);
        more.args(["--set", "train.steps=6", "--allow-change", "train.steps"]);
        let done = more.output().unwrap();
        assert!(done.status.success(), "{}", text(&done));
        ends.push(std::fs::read(newest(&run).join("model.safetensors")).unwrap());
    }
    assert!(ends.windows(2).all(|w| w[0] == w[1]), "formats go on alike");

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
    let reason =
        format!("format 99 written by version 0.1.0, this program reads formats 1 to {FORMAT}");
    assert!(said.contains(&reason), "{said}");
    told(&format!("F25: formats 1 to {FORMAT} are read and gone on with, format 99 is refused"));
}

/// Numbers of the stored model.
const PARAMETERS: u64 = 4740;
