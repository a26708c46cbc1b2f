//! `metrics.csv` and the TensorBoard files: they say what `metrics.jsonl` says, after a crash too.

use std::path::Path;

use serde_json::Value;

#[path = "support/program.rs"]
mod program;

use program::{newest, prepare, pretrain, rows, text};

/// A number in base 128, taken off the front.
fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut x, mut shift) = (0, 0);
    loop {
        let (first, rest) = bytes.split_first().expect("a whole number");
        *bytes = rest;
        x |= u64::from(first & 0x7f) << shift;
        shift += 7;
        if *first < 0x80 {
            return x;
        }
    }
}

/// Fields of a protocol buffer: number, value if it is one, bytes if not.
fn fields(mut bytes: &[u8]) -> Vec<(u64, u64, &[u8])> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let (mut value, mut size) = (0, 0);
        match key & 7 {
            0 => value = varint(&mut bytes),
            1 => size = 8,
            2 => size = varint(&mut bytes) as usize,
            5 => size = 4,
            other => panic!("wire type {other}"),
        }
        let (content, rest) = bytes.split_at(size);
        found.push((key >> 3, value, content));
        bytes = rest;
    }
    found
}

/// Tag, step and value of everything that TensorBoard shows of a run. Its rule (`_Purge` in
/// `event_accumulator.py`): a session start voids what came before it, of its step and later ones.
fn shown(run: &Path) -> Vec<(String, u64, f32)> {
    let list = std::fs::read_dir(run.join("tensorboard")).unwrap();
    let mut files: Vec<_> = list.map(|e| e.unwrap().path()).collect();
    files.sort();
    let mut points: Vec<(String, u64, f32)> = Vec::new();
    for file in files {
        let bytes = std::fs::read(file).unwrap();
        let mut at = 0;
        while at < bytes.len() {
            let size = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            let event = fields(&bytes[at + 12..at + 12 + size]);
            at += 12 + size + 4;
            let field = |number: u64| event.iter().find(|f| f.0 == number);
            let step = field(2).unwrap().1;
            if field(7).is_some() {
                points.retain(|(_, before, _)| *before < step);
            }
            let Some((_, _, summary)) = field(5) else { continue };
            for (_, _, value) in fields(summary) {
                let (tag, number) = (fields(value)[0].2, fields(value)[1].2);
                let tag = String::from_utf8(tag.to_vec()).unwrap();
                points.push((tag, step, f32::from_le_bytes(number.try_into().unwrap())));
            }
        }
        assert_eq!(at, bytes.len(), "whole records");
    }
    points
}

/// All three files say the same.
fn agree(out: &Path) {
    let table = std::fs::read_to_string(out.join("metrics.csv")).unwrap();
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    let names = reader.headers().unwrap().clone();
    let at = |name: &str| names.iter().position(|n| n == name).unwrap();
    let lines: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let rows = rows(out);
    let want: Vec<&Value> =
        rows.iter().filter(|r| r["kind"] == "train" || r["kind"] == "eval").collect();
    assert_eq!(lines.len(), want.len());
    for (line, row) in lines.iter().zip(&want) {
        assert_eq!(line[at("step")], row["step"].to_string());
        assert_eq!(line[at("loss")].parse::<f64>().ok(), row["loss"].as_f64());
    }
    let shown = shown(out);
    for (kind, key) in [("train", "loss"), ("train", "lr"), ("eval", "ppl"), ("eval", "loss")] {
        let tag = format!("{kind}/{key}");
        let curve: Vec<(u64, f32)> =
            shown.iter().filter(|p| p.0 == tag).map(|(_, step, x)| (*step, *x)).collect();
        let of_rows = rows.iter().filter(|r| r["kind"] == kind);
        let want: Vec<(u64, f32)> = of_rows
            .map(|r| (r["step"].as_u64().unwrap(), r[key].as_f64().unwrap() as f32))
            .collect();
        assert_eq!(curve, want, "{tag}");
    }
}

#[test]
fn table_and_events_follow_a_run_through_a_crash() {
    let tmp = tempfile::tempdir().unwrap();
    let (data, out) = (prepare(tmp.path()), tmp.path().join("run"));
    let often = ["--set", "train.eval_interval=4", "--set", "train.checkpoint_interval=4"];
    let steps = [&often[..], &["--set", "train.steps=12"]].concat();
    let done = pretrain(&data, &out, &[&steps[..], &["--csv", "--tensorboard"]].concat())
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", text(&done));
    agree(&out);
    // As if it had died after its last rows, before the checkpoint of step 12. Evaluated and saved at
    // step 8, it goes on behind that, a longer run now with other learning rates; it need not be told
    // again what to write.
    std::fs::remove_dir_all(newest(&out)).unwrap();
    let longer = ["--resume", "auto", "--set", "train.steps=16", "--allow-change", "train.steps"];
    let done = pretrain(&data, &out, &[&often[..], &longer].concat()).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    assert!(out.join("metrics.superseded.jsonl").exists());
    let evaluated: Vec<Value> =
        rows(&out).iter().filter(|r| r["kind"] == "eval").map(|r| r["step"].clone()).collect();
    assert_eq!(evaluated, [4, 8, 12, 16]);
    agree(&out);
    // A run that never had them gets none.
    let plain = tmp.path().join("plain");
    let done = pretrain(&data, &plain, &["--set", "train.steps=4"]).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    assert!(!plain.join("metrics.csv").exists() && !plain.join("tensorboard").exists());
}
