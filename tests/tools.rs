//! The commands around training: what they print and draw, from outside.

#[path = "support/program.rs"]
mod program;

use std::path::Path;
use std::process::Command;

use program::{chtsl, ok, path, prepare, pretrain, rows, run, text};
use serde_json::Value;

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&ok(args)).unwrap()
}

/// A finished run of twelve updates with all extras.
fn trained(dir: &Path) -> (std::path::PathBuf, std::path::PathBuf, String) {
    let data = prepare(dir);
    let out = dir.join("run");
    let extra = ["--set", "train.steps=12", "--csv", "--tensorboard"];
    let done = pretrain(&data, &out, &extra).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    (data, out, String::from_utf8(done.stdout).unwrap())
}

#[test]
fn a_run_ends_with_an_account_of_itself() {
    let tmp = tempfile::tempdir().unwrap();
    let (_, out, said) = trained(tmp.path());
    // hidden 32, intermediate 48, 2 layers, vocabulary 300.
    for part in [
        "12 steps",
        "tokens/s",
        "embedding and head 19200",
        "norms 160",
        "sparse products",
        "low-rank",
        "attention",
        "head and loss",
        "topology",
        "optimizer",
        "data",
        "rest",
        "weights",
        "gradients",
        "moments",
        "indices",
        "activations",
        "validation perplexity",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    #[cfg(target_os = "linux")]
    assert!(said.contains("peak memory"), "{said}");
    let line = said.lines().find_map(|l| l.strip_prefix("time: ")).unwrap();
    let share = |part: &str| part.trim_end_matches(" %").rsplit(' ').next()?.parse::<f64>().ok();
    let total: f64 = line.split(", ").filter_map(share).sum();
    assert!((total - 100.0).abs() < 1.0, "{line}: {total}");
    // The rows hold the same split in milliseconds.
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let row: Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
    let (split, step) = (&row["time"]["split_ms"], row["time"]["step_ms"].as_f64().unwrap());
    let sum: f64 = split.as_object().unwrap().values().map(|v| v.as_f64().unwrap()).sum();
    assert!(sum > 0.0 && sum < 1.5 * step + 50.0, "{row}");
}

#[test]
fn the_table_and_the_events_say_what_the_metrics_say() {
    let tmp = tempfile::tempdir().unwrap();
    let (data, out, _) = trained(tmp.path());
    // A resumed run rewrites the table and begins another file of events.
    let more = ["--resume", "auto", "--set", "train.steps=14", "--allow-change", "train.steps"];
    let more = [&more[..], &["--csv", "--tensorboard"]].concat();
    let done = pretrain(&data, &out, &more).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    let table = std::fs::read_to_string(out.join("metrics.csv")).unwrap();
    let mut reader = csv::Reader::from_reader(table.as_bytes());
    let names = reader.headers().unwrap().clone();
    let at = |name: &str| names.iter().position(|n| n == name).unwrap();
    let lines: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let want: Vec<Value> =
        rows(&out).into_iter().filter(|r| r["kind"] == "train" || r["kind"] == "eval").collect();
    assert_eq!(lines.len(), want.len());
    for (line, row) in lines.iter().zip(&want) {
        assert_eq!(line[at("step")], row["step"].to_string());
        assert_eq!(line[at("loss")].parse::<f64>().ok(), row["loss"].as_f64());
    }
    let steps: Vec<_> = std::fs::read_dir(out.join("tensorboard"))
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter_map(|name| name.rsplit_once(".step").map(|(_, s)| s.to_string()))
        .collect();
    assert_eq!(steps.len(), 2, "{steps:?}");
    assert!(steps.contains(&"0".into()) && steps.contains(&"12".into()));
    for entry in std::fs::read_dir(out.join("tensorboard")).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        let (mut at, mut records, mut losses) = (0, 0, 0);
        while at < bytes.len() {
            let len = u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap()) as usize;
            let data = &bytes[at + 12..at + 12 + len];
            losses += data.windows(10).filter(|w| w == b"train/loss").count();
            at += 12 + len + 4;
            records += 1;
        }
        assert_eq!(at, bytes.len(), "whole records");
        assert!(records > 3 && losses > 0);
    }
}

#[test]
fn inspect_looks_into_data_and_checkpoints() {
    let tmp = tempfile::tempdir().unwrap();
    let (data, out, _) = trained(tmp.path());
    let v = json(&["inspect", path(&data), "--json"]);
    let train = &v["train"];
    let bins = train["tokens_per_document"]["bins"].as_object().unwrap();
    let documents: u64 = bins.values().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(documents, train["documents"].as_u64().unwrap());
    let texts = train["first_texts"].as_array().unwrap();
    let source = std::fs::read_to_string("datasets/tiny.jsonl").unwrap();
    let known = texts.iter().filter(|t| {
        let text: String = t.as_str().unwrap().chars().skip(1).take(20).collect();
        source.contains(&text)
    });
    assert!(texts.len() == 3 && known.count() == 3, "{texts:?}");
    let shard = data.join("train-00000.bin");
    assert_eq!(json(&["inspect", path(&shard), "--json"])["content"], "hash verified");

    let pictures = tmp.path().join("pictures");
    let p = path(&pictures);
    let v = json(&["inspect", path(&out), "--verify", "--topology-png", p, "--json"]);
    let layer = &v["layers"][0];
    let links = layer["links"].as_u64().unwrap();
    let mean = layer["links_per_output"]["mean"].as_f64().unwrap();
    assert!((mean * 32.0 - links as f64).abs() < 1e-6, "{layer}");
    assert!(layer["ever_active"].as_f64().unwrap() >= layer["density"].as_f64().unwrap());
    assert!(v["verified"].as_str().unwrap().contains("finite"));
    let bytes: u64 = std::fs::read_dir(v["checkpoint"].as_str().unwrap())
        .unwrap()
        .map(|e| e.unwrap())
        .filter(|e| e.file_name() != "manifest.json")
        .map(|e| e.metadata().unwrap().len())
        .sum();
    assert_eq!(v["bytes"], bytes);
    let plan = json(
        &[
            &["pretrain", "--dry-run", "--json"][..],
            &program::SMALL[..],
            &["--set", "train.steps=12"],
        ]
        .concat(),
    );
    let planned = plan["checkpoint_bytes"].as_f64().unwrap();
    assert!(planned > bytes as f64 * 0.8 && planned < bytes as f64 + 2e5, "{planned} for {bytes}");
    assert_eq!(v["pictures"].as_array().unwrap().len(), 14);
    let png = std::fs::read(pictures.join("0.q_proj.png")).unwrap();
    assert!(png.starts_with(b"\x89PNG"));
    let refused = run(&["inspect", path(&data), "--topology-png", p]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));

    // One flipped bit is noticed.
    std::fs::write(&shard, {
        let mut bytes = std::fs::read(&shard).unwrap();
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        bytes
    })
    .unwrap();
    let damaged = run(&["inspect", path(&data)]);
    assert_eq!(damaged.status.code(), Some(3), "{}", text(&damaged));
    assert!(text(&damaged).contains("train-00000.bin"));
}

#[test]
fn plot_draws_runs_side_by_side() {
    let tmp = tempfile::tempdir().unwrap();
    let (_, out, _) = trained(tmp.path());
    let plots = tmp.path().join("plots");
    ok(&["plot", path(&out), path(&out), "--out", path(&plots)]);
    let html = std::fs::read_to_string(plots.join("report.html")).unwrap();
    let files: Vec<String> = std::fs::read_dir(&plots)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    for name in ["loss.svg", "perplexity.svg", "ocr-qk.svg", "turnover.svg", "speed.svg"] {
        assert!(files.iter().any(|f| f == name), "{name} in {files:?}");
    }
    assert_eq!(html.matches("<svg").count(), files.len() - 1);
    assert!(html.contains("run (2)"), "runs of one name are told apart");
    let missing = run(&["plot", path(tmp.path())]);
    assert_eq!(missing.status.code(), Some(3), "{}", text(&missing));
}

#[test]
fn the_machine_and_the_presets_are_described() {
    let tmp = tempfile::tempdir().unwrap();
    let v = json(&["doctor", "--json", "--out", path(tmp.path())]);
    assert!(v["machine"]["cores"].as_u64().unwrap() > 0);
    assert!(v["disk"]["write_bytes_per_s"].as_f64().unwrap() > 0.0);
    assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 0, "the test file is gone");
    let presets = v["presets"].as_array().unwrap();
    assert!(presets.len() >= 6 && presets.iter().all(|p| p["cpu_bytes"].as_u64() > Some(0)));
    assert!(ok(&["doctor", "--preset", "tiny"]).contains("tiny"));
    assert_eq!(run(&["doctor", "--out", "/nonexistent"]).status.code(), Some(7));
    let list = ok(&["pretrain", "--preset", "list"]);
    assert!(list.lines().any(|l| l.starts_with("60m") && l.contains("1376")), "{list}");
    for shell in ["bash", "zsh", "fish"] {
        assert!(ok(&["completions", shell]).contains("pretrain"), "{shell}");
    }
    let commands = ["prepare", "pretrain", "eval", "generate", "inspect", "plot", "doctor"];
    for command in commands.into_iter().chain(["completions", "export", "import"]) {
        assert!(ok(&[command, "--help"]).contains("Example: chtsl"), "{command}");
    }
}

/// On a terminal there is a bar and no line per step; the log file has them all the same.
#[test]
#[cfg(target_os = "linux")]
fn a_terminal_shows_a_bar() {
    if Command::new("script").arg("--version").output().is_err() {
        println!("skipped: there is no `script` to make a terminal with");
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    let (data, out) = (prepare(tmp.path()), tmp.path().join("run"));
    let inner = pretrain(&data, &out, &["--set", "train.steps=40"]);
    let words: Vec<String> = std::iter::once(inner.get_program())
        .chain(inner.get_args())
        .map(|w| format!("'{}'", w.to_str().unwrap()))
        .collect();
    let shown = Command::new("script")
        .args(["-qec", &words.join(" "), "/dev/null"])
        .env("TERM", "xterm")
        .output()
        .unwrap();
    let screen = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.status.success(), "{screen}");
    for part in ["/40", "ppl", "tok/s", "eta", "ocr(q,k)"] {
        assert!(screen.contains(part), "{part} in {screen}");
    }
    assert!(!screen.contains("step 7/40"), "{screen}");
    let log = std::fs::read_to_string(out.join("log.txt")).unwrap();
    assert!(log.contains("step 7/40"));
}

const SWEEP: &str = r#"
preset = "tiny"
data = "words"

[set]
model = { hidden = 32, intermediate = 48, layers = 1, heads = 2, vocab = 300, seq_len = 16 }
train = { steps = 60, warmup = 2, batch = 8, micro_batch = 8, checkpoint_interval = 5 }

[[prepare]]
name = "words"
arguments = ["--input", "CORPUS", "--train-tokenizer", "300", "--val-fraction", "0.3"]

[[prepare]]
name = "again"
arguments = ["--input", "CORPUS", "--tokenizer", "@words/tokenizer.json", "--val-input", "CORPUS"]

[evaluate]
again = "again"

[[run]]
name = "dense-a"
group = "dense"
set = { method.name = "dense", train.lr = 1e-3 }

[[run]]
name = "dense-b"
group = "dense"
set = { method.name = "dense", train.lr = 3e-2 }

[[run]]
name = "sparse"
"#;

/// Every run of a file in a process of its own; stopped and started again it goes on, and ends with a
/// table of everything.
#[test]
#[cfg(unix)]
fn a_sweep_goes_on_where_it_was_stopped() {
    let tmp = tempfile::tempdir().unwrap();
    let corpus = std::fs::canonicalize("datasets/tiny.jsonl").unwrap();
    let file = tmp.path().join("sweep.toml");
    std::fs::write(&file, SWEEP.replace("CORPUS", path(&corpus))).unwrap();
    let out = tmp.path().join("sweep");
    let words = ["sweep", path(&file), "--out", path(&out)];
    let commands = ok(&[&words[..], &["--dry-run"]].concat());
    assert_eq!(commands.lines().count(), 5, "{commands}");
    assert!(!out.exists());

    let mut first = chtsl().args(words).spawn().unwrap();
    let begun = out.join("runs/dense-a/metrics.jsonl");
    for _ in 0..3000 {
        if begun.exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let pid = first.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let status = first.wait().unwrap();
    assert!(matches!(status.code(), Some(75) | Some(0)), "{status}");
    let said = ok(&words);
    let table = std::fs::read_to_string(out.join("table.md")).unwrap();
    assert_eq!(said.trim(), table.trim());
    for name in ["| **dense-", "| sparse |", "| words |"] {
        assert!(table.contains(name), "{name} in {table}");
    }
    let v: Value = serde_json::from_slice(&std::fs::read(out.join("table.json")).unwrap()).unwrap();
    for run in v["runs"].as_array().unwrap() {
        assert_eq!(run["summary"]["steps"], 60);
        assert!(run["evaluations"]["again"]["ppl"].as_f64().unwrap() > 1.0, "{run}");
    }
    // Nothing is left to do: the runs stay as they are.
    let at =
        || std::fs::metadata(out.join("runs/sparse/summary.json")).unwrap().modified().unwrap();
    let before = at();
    ok(&words);
    assert_eq!(at(), before);

    // A run that fails does not keep the others from being made.
    let bad = SWEEP
        .replace("CORPUS", path(&corpus))
        .replace("train.lr = 1e-3", "data.eval_tokens = 0, model.seq_len = 100000");
    std::fs::write(&file, bad).unwrap();
    let out = tmp.path().join("bad");
    let done = run(&["sweep", path(&file), "--out", path(&out)]);
    assert_eq!(done.status.code(), Some(2), "{}", text(&done));
    assert!(text(&done).contains("1 of 3 runs failed"), "{}", text(&done));
    assert!(out.join("runs/sparse/summary.json").exists());
}
