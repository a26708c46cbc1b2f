//! The program as a user runs it, on a corpus and a model that take a second.
#![allow(dead_code)] // each test program uses its share

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

pub fn chtsl() -> Command {
    let mut c = Command::new(env!("CARGO_BIN_EXE_chtsl"));
    c.env_remove("CHTSL_SIMD").stdin(Stdio::null());
    c
}

pub fn run(args: &[&str]) -> Output {
    chtsl().args(args).output().unwrap()
}

pub fn text(out: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

pub fn ok(args: &[&str]) -> String {
    let out = run(args);
    assert!(out.status.success(), "{args:?}: {}", text(&out));
    String::from_utf8(out.stdout).unwrap()
}

pub fn path(p: &Path) -> &str {
    p.to_str().unwrap()
}

pub fn tiny_corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/tiny.jsonl")
}

/// A dataset folder from the corpus in the repository.
pub fn prepare(dir: &Path) -> PathBuf {
    let data = dir.join("data");
    let input = tiny_corpus();
    ok(&[
        "prepare",
        "--input",
        path(&input),
        "--train-tokenizer",
        "300",
        "--val-fraction",
        "0.3",
        "--out",
        path(&data),
    ]);
    data
}

pub const SMALL: [&str; 26] = [
    "--set",
    "model.hidden=32",
    "--set",
    "model.intermediate=48",
    "--set",
    "model.layers=2",
    "--set",
    "model.heads=2",
    "--set",
    "model.vocab=300",
    "--set",
    "model.seq_len=16",
    "--set",
    "train.batch=4",
    "--set",
    "train.micro_batch=2",
    "--set",
    "train.warmup=3",
    "--set",
    "method.connectivity_sparsity=0.7",
    "--set",
    "method.rank=2",
    "--set",
    "topology.update_interval=4",
    "--set",
    "train.log_interval=1",
];

pub fn pretrain(data: &Path, out: &Path, extra: &[&str]) -> Command {
    let mut c = chtsl();
    c.args(["pretrain", "--data", path(data), "--out", path(out)]).args(SMALL).args(extra);
    c
}

/// Rows without notes and wall-clock values.
pub fn rows(dir: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(dir.join("metrics.jsonl")).unwrap();
    text.lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap())
        .filter(|r| r["kind"] != "note")
        .map(|mut r| {
            r.as_object_mut().unwrap().remove("time");
            r
        })
        .collect()
}

pub fn newest(dir: &Path) -> PathBuf {
    let mut list: Vec<_> = std::fs::read_dir(dir.join("checkpoints"))
        .unwrap()
        .map(|e| e.unwrap().path())
        .filter(|p| p.file_name().unwrap().to_str().unwrap().starts_with("step-"))
        .collect();
    list.sort();
    list.pop().unwrap()
}

pub fn assert_same_run(a: &Path, b: &Path) {
    assert_eq!(rows(a), rows(b));
    for file in ["model.safetensors", "optim.safetensors", "state.json"] {
        let (x, y) = (newest(a).join(file), newest(b).join(file));
        assert!(std::fs::read(x).unwrap() == std::fs::read(y).unwrap(), "{file} differs");
    }
}

/// Updates after which the checkpoints of a run were made, oldest first.
pub fn listed(run: &Path) -> Vec<u64> {
    chtsl::checkpoint::list(run).unwrap().into_iter().map(|(step, _)| step).collect()
}

/// The same of a run that stands still. Each has to be whole.
pub fn saved(run: &Path) -> Vec<u64> {
    for (_, path) in chtsl::checkpoint::list(run).unwrap() {
        chtsl::checkpoint::Checkpoint::open(&path).unwrap_or_else(|e| panic!("{e}"));
    }
    listed(run)
}

/// The last update that the metrics of a run, which may end in a torn line, tell of; 0 = none.
pub fn last_row(run: &Path) -> u64 {
    let bytes = std::fs::read(run.join("metrics.jsonl")).unwrap_or_default();
    bytes
        .split(|b| *b == b'\n')
        .filter_map(|line| serde_json::from_slice::<Value>(line).ok())
        .filter(|row| row["kind"] == "train")
        .filter_map(|row| row["step"].as_u64())
        .max()
        .unwrap_or(0)
}

/// What is left in a run's folder of checkpoints beside whole ones.
pub fn staged(run: &Path) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(run.join("checkpoints")) else { return Vec::new() };
    entries
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with("step-"))
        .collect()
}

/// Copies a folder.
pub fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").args(["-r", path(from), path(to)]).status();
    assert!(done.unwrap().success(), "{}", from.display());
}

pub fn wait_until(what: &str, mut done: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("{what} never happened");
}

pub fn spawn(mut c: Command) -> Child {
    c.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

pub fn lines(out: &Path) -> usize {
    std::fs::read_to_string(out.join("metrics.jsonl")).map_or(0, |t| t.lines().count())
}
