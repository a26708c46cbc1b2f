//! The commands around training: what they print and draw, from outside.

#[path = "support/program.rs"]
mod program;

use std::path::Path;
use std::process::Command;

use program::{chtsl, ok, path, prepare, pretrain, run, text};
use serde_json::Value;

fn json(args: &[&str]) -> Value {
    serde_json::from_str(&ok(args)).unwrap()
}

/// A finished run of twelve updates.
fn trained(dir: &Path) -> (std::path::PathBuf, std::path::PathBuf, String) {
    let data = prepare(dir);
    let out = dir.join("run");
    let done = pretrain(&data, &out, &["--set", "train.steps=12"]).output().unwrap();
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
        "(fused, divided by multiply-adds)",
    ] {
        assert!(said.contains(part), "{part} in {said}");
    }
    #[cfg(target_os = "linux")]
    assert!(said.contains("peak memory"), "{said}");
    let line = said.lines().find_map(|l| l.strip_prefix("time: ")).unwrap();
    let before_percent = |part: &str| part.trim_end().rsplit(' ').next()?.parse::<f64>().ok();
    let total: f64 = line.split('%').filter_map(before_percent).sum();
    assert!((total - 100.0).abs() < 1.0, "{line}: {total}");
    // The rows hold the same split in milliseconds.
    let text = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    let row: Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
    let (split, step) = (&row["time"]["split_ms"], row["time"]["step_ms"].as_f64().unwrap());
    let sum: f64 = split.as_object().unwrap().values().map(|v| v.as_f64().unwrap()).sum();
    assert!(sum > 0.0 && sum < 1.5 * step + 50.0, "{row}");
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
    let commands = ["prepare", "pretrain", "eval", "generate", "inspect", "plot", "doctor"];
    for command in commands.into_iter().chain(["completions", "export", "import"]) {
        assert!(ok(&[command, "--help"]).contains("Example: chtsl"), "{command}");
    }
}

/// Without a terminal every step line has what a bar has; -v says more and -q less, and results are
/// printed in any case.
#[test]
fn a_run_says_as_much_as_it_is_asked_to() {
    let tmp = tempfile::tempdir().unwrap();
    let data = prepare(tmp.path());
    let said = |name: &str, flags: &[&str]| {
        let out = tmp.path().join(name);
        let done = pretrain(&data, &out, &["--set", "train.steps=6"]).args(flags).output().unwrap();
        assert!(done.status.success(), "{}", text(&done));
        assert!(
            String::from_utf8_lossy(&done.stdout).contains("validation perplexity"),
            "{flags:?}"
        );
        let log = std::fs::read_to_string(out.join("log.txt")).unwrap();
        assert!(log.contains("DEBUG"), "{flags:?}: {log}");
        String::from_utf8(done.stderr).unwrap()
    };
    let usual = said("usual", &[]);
    let last = usual.lines().find(|l| l.contains("step 6/6  loss")).expect(&usual);
    for part in ["  ppl ", "  align ", "  ocr(q,k) ", "  grad ", "  lr ", " tok/s  ", "  eta 0 s"] {
        assert!(last.contains(part), "{part} in {last}");
    }
    assert!(!usual.contains("DEBUG"), "{usual}");
    let more = said("more", &["-v"]);
    for part in ["backend: cpu, ", "opened ", " links removed, ", "a checkpoint of "] {
        assert!(more.lines().any(|l| l.contains("DEBUG") && l.contains(part)), "{part} in {more}");
    }
    let less = said("less", &["-q"]);
    assert!(less.lines().all(|l| l.contains("WARN")), "{less}");
    assert_eq!(run(&["-q", "-v", "doctor"]).status.code(), Some(2));
}

/// What bash offers after these words, by the script that we print.
fn completed(script: &Path, words: &[&str]) -> Vec<String> {
    // As bash calls it: the command, the word before the cursor, the one before that.
    let program = r#"source "$0"; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
        _chtsl "$1" "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}" 2>/dev/null
        printf '%s\n' "${COMPREPLY[@]}""#;
    let out = Command::new("bash").args(["-c", program]).arg(script).args(words).output().unwrap();
    let mut offered: Vec<String> =
        String::from_utf8(out.stdout).unwrap().lines().map(str::to_string).collect();
    offered.sort();
    offered
}

#[test]
fn a_shell_completes_values_that_are_known_and_files_only_where_files_go() {
    for shell in ["zsh", "fish"] {
        assert!(ok(&["completions", shell]).contains("pretrain"), "{shell}");
    }
    if Command::new("bash").arg("--version").output().is_err() {
        println!("skipped: there is no bash to complete with");
        return;
    }
    let tmp = tempfile::tempdir().unwrap();
    let script = tmp.path().join("chtsl.bash");
    std::fs::write(&script, ok(&["completions", "bash"])).unwrap();
    let after = |words: &[&str]| completed(&script, &[&["chtsl"], words].concat());
    let presets = ["130m", "1b", "350m", "60m", "9m", "list", "tiny"];
    assert_eq!(after(&["pretrain", "--preset", ""]), presets);
    assert_eq!(after(&["doctor", "--preset", "6"]), ["60m"]);
    assert_eq!(after(&["pretrain", "--device", "c"]), ["cpu", "cuda"]);
    // A prefix of file names in the folder of the test: nothing but itself for a setting, the files for
    // a file; folders are left to bash.
    assert_eq!(after(&["pretrain", "--set", "Cargo."]), ["Cargo."]);
    assert_eq!(after(&["pretrain", "--config", "Cargo."]), ["Cargo.lock", "Cargo.toml"]);
    assert_eq!(after(&["pretrain", "--data", "Cargo."]), [""]);
    assert!(after(&["ev"]).contains(&"eval".to_string()));
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
    let command = format!("stty cols 80; {}", words.join(" "));
    let shown = Command::new("script")
        .args(["-qec", &command, "/dev/null"])
        .env("TERM", "xterm")
        .output()
        .unwrap();
    let screen = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.status.success(), "{screen}");
    for part in ["/40 [", "tok/s", "eta", "loss", "ppl", "ocr(q,k)", "align"] {
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
    let talkative = ok(&[&words[..], &["--dry-run", "-v"]].concat());
    assert!(talkative.lines().all(|l| l.ends_with(" -v")), "{talkative}");
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
    let done = run(&["sweep", path(&file), "--out", path(&out), "-v"]);
    assert_eq!(done.status.code(), Some(2), "{}", text(&done));
    for part in [
        "training dense-a (1 of 3)",
        "evaluating sparse on again (3 of 3)",
        "sparse done in ",
        "1 of 3 runs failed; their stderr.txt",
    ] {
        assert!(text(&done).contains(part), "{part} in {}", text(&done));
    }
    assert!(out.join("runs/sparse/summary.json").exists());
    let read = |file: &str| std::fs::read_to_string(out.join("runs").join(file)).unwrap();
    assert!(read("dense-a/stderr.txt").contains("error: "));
    assert!(read("sparse/stderr.txt").contains("DEBUG"), "-v goes to every run");
}
