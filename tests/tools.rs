//! The commands around training: what they print and draw, from outside.

#[path = "support/program.rs"]
mod program;

use std::path::Path;
use std::process::Command;

use chtsl::data::{Manifest, Shard};
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
    for part in ["peak memory", "scratch", "writing a checkpoint", "mapped files", "rest"] {
        assert!(said.contains(part), "{part} in {said}");
    }
    let summary: Value =
        serde_json::from_slice(&std::fs::read(out.join("summary.json")).unwrap()).unwrap();
    assert!(
        summary["scratch_bytes"].as_u64() > Some(0) && summary["saving_bytes"].as_u64() > Some(0)
    );
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
    assert!(texts.len() == 3 && texts.iter().all(is_of_the_corpus), "{texts:?}");
    let said = ok(&["inspect", path(&data)]);
    for (bin, n) in bins {
        let line = said.lines().find(|l| l.trim().starts_with(&format!("{bin} ")));
        assert!(line.is_some_and(|l| l.ends_with(&format!(" {n}"))), "{bin}: {n} in {said}");
    }
    let shard = json(&["inspect", path(&data.join("train-00000.bin")), "--json"]);
    assert!(shard["content"].as_str().unwrap().contains("dataset.json lists"), "{shard}");
    assert_eq!(shard["documents"], train["documents"]);

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

    // Weights and matrices as text: one line each, within 80 columns.
    let weights = v["weights"].as_array().unwrap();
    // Of 14 projections values, A and B; 5 norms, embedding and head.
    assert_eq!(weights.len(), 3 * 14 + 5 + 2);
    let numbers: u64 = weights.iter().map(|w| w["bytes"].as_u64().unwrap()).sum();
    let file = v["files"]["model.safetensors"].as_u64().unwrap();
    assert!(numbers < file && numbers > file - 20_000, "{numbers} of {file}, but for its header");
    let said = ok(&["inspect", path(&out), "--verify"]);
    let at = |start: &str| said.lines().position(|l| l.starts_with(start)).unwrap_or(usize::MAX);
    assert!(at("verified: ") < at("config:") && at("config:") < at("weights in F32"), "{said}");
    for (list, key) in [(weights, "name"), (v["layers"].as_array().unwrap(), "layer")] {
        for entry in list {
            let start = format!("{} ", entry[key].as_str().unwrap());
            assert_eq!(
                said.lines().filter(|l| l.starts_with(&start)).count(),
                1,
                "{start} in {said}"
            );
        }
    }
    let table = said.lines().skip(at("weights in F32") + 1);
    assert!(table.clone().all(|l| l.chars().count() <= 80), "{said}");
    // Links per output of both q_proj together: 2 x 32 outputs in the bins of the line.
    let degrees = said.lines().skip(at("links per output") + 1);
    let q = degrees.clone().find(|l| l.starts_with("q_proj")).unwrap();
    let outputs: u64 = q.split_whitespace().skip(4).map(|n| n.parse::<u64>().unwrap()).sum();
    assert_eq!(outputs, 64, "{said}");
}

/// Whether a text that is shown, in quotes and shortened, begins as one of the corpus does.
fn is_of_the_corpus(shown: &Value) -> bool {
    let source = std::fs::read_to_string("datasets/tiny.jsonl").unwrap();
    let start: String = shown.as_str().unwrap().trim().chars().skip(1).take(20).collect();
    source.contains(start.trim())
}

#[test]
fn inspect_compares_every_shard_with_the_manifest() {
    let tmp = tempfile::tempdir().unwrap();
    let data = prepare(tmp.path());
    let shard = data.join("train-00000.bin");
    let good = std::fs::read(&shard).unwrap();
    let refused = |what: &str, parts: &[&str]| {
        let done = run(&["inspect", path(&data)]);
        let said = text(&done);
        assert_eq!(done.status.code(), Some(3), "{what}: {said}");
        assert!(parts.iter().all(|part| said.contains(part)), "{what}: {said}");
    };
    // One flipped bit.
    let mut bytes = good.clone();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&shard, bytes).unwrap();
    refused("a flipped bit", &["train-00000.bin", "payload hash"]);
    // Whole shards that belong elsewhere: the other split's, and the same split of other text with the
    // same tokenizer.
    std::fs::copy(data.join("val-00000.bin"), &shard).unwrap();
    refused("the other split", &["train-00000.bin", "dataset.json says"]);
    let other = tmp.path().join("other");
    let tokenizer = data.join("tokenizer.json");
    let words = ["prepare", "--input", "datasets/tiny.jsonl", "--tokenizer", path(&tokenizer)];
    ok(&[&words[..], &["--val-fraction", "0.1", "--out", path(&other)]].concat());
    std::fs::copy(other.join("train-00000.bin"), &shard).unwrap();
    refused("another dataset", &["train-00000.bin", "dataset.json says"]);
    // The manifest's own claim: one document more than there is.
    std::fs::write(&shard, good).unwrap();
    let mut manifest = Manifest::load(&data).unwrap();
    manifest.train.documents += 1;
    manifest.train.shards[0].documents += 1;
    manifest.save(&data).unwrap();
    refused("a wrong number of documents", &["train-00000.bin", "ends of documents"]);
}

/// Shards as llm.c writes them, in a folder and by themselves: the id that opens documents is the usual
/// one, and a tokenizer makes text of them.
#[test]
fn inspect_reads_shards_of_llm_c() {
    let tmp = tempfile::tempdir().unwrap();
    let data = prepare(tmp.path());
    let manifest = Manifest::load(&data).unwrap();
    let ours = Shard::open(data.join("train-00000.bin")).unwrap();
    let mut ids = vec![0; ours.len() as usize];
    ours.read(0..ours.len(), &mut ids).unwrap();
    const MARK: u16 = 50_256;
    // The mark moves from the end of a document to its start.
    let mut tokens = vec![MARK];
    let moved = ids[..ids.len() - 1].iter();
    tokens.extend(moved.map(|id| if *id == manifest.eos_id { MARK } else { *id as u16 }));
    let folder = tmp.path().join("foreign");
    std::fs::create_dir(&folder).unwrap();
    let refused = run(&["inspect", path(&folder)]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused));
    // Cut in the middle: a document goes on in the next shard.
    let names = ["corpus_train_000001.bin", "corpus_train_000002.bin", "corpus_val_000000.bin"];
    let (first, second) = tokens.split_at(tokens.len() / 2);
    for (name, tokens) in names.into_iter().zip([first, second, &tokens[..]]) {
        let mut bytes = vec![0; 1024];
        for (i, word) in [20_240_520, 1, tokens.len() as u32].into_iter().enumerate() {
            bytes[4 * i..4 * i + 4].copy_from_slice(&u32::to_le_bytes(word));
        }
        bytes.extend(tokens.iter().flat_map(|t| t.to_le_bytes()));
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    let v = json(&["inspect", path(&folder), "--json"]);
    assert_eq!(v["end_of_document"], MARK);
    for split in ["train", "val"] {
        assert_eq!(v[split]["tokens"], tokens.len());
        assert_eq!(v[split]["documents"], manifest.train.documents, "{v}");
        assert!(v[split]["first_texts"].is_null());
    }
    assert!(ok(&["inspect", path(&folder)]).contains("--tokenizer FILE"));
    let tokenizer = data.join("tokenizer.json");
    let with = ["--tokenizer", path(&tokenizer), "--json"];
    let shard = folder.join(names[2]);
    for (what, key) in [(&folder, Some("train")), (&shard, None)] {
        let v = json(&[&["inspect", path(what)][..], &with].concat());
        let part = key.map_or(&v, |key| &v[key]);
        let texts = part["first_texts"].as_array().unwrap();
        assert!(texts.len() == 3 && texts.iter().all(is_of_the_corpus), "{texts:?}");
        assert_eq!(part["documents"], manifest.train.documents);
    }
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
    // A folder that a run would make is judged by what it would be made in.
    let out = tmp.path().join("not/made");
    let v = json(&["doctor", "--json", "--out", path(&out)]);
    assert!(v["machine"]["cores"].as_u64().unwrap() > 0);
    assert_eq!(v["disk"]["folder"], path(tmp.path()));
    assert!(v["disk"]["write_bytes_per_s"].as_f64().unwrap() > 0.0);
    assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 0, "the test file is gone");
    for part in ["toolkit", "driver", "device", "cublaslt"] {
        assert!(v["cuda"][part].is_object(), "{part} in {v}");
    }
    let presets = v["presets"].as_array().unwrap();
    assert!(presets.len() >= 6);
    for p in presets {
        let (each, disk) = (p["checkpoint_bytes"].as_u64(), p["disk_bytes"].as_u64());
        assert!(each > Some(0) && disk == each.map(|each| 3 * each), "two are kept: {p}");
        let (need, there) = (p["cpu_bytes"].as_u64(), v["machine"]["available_bytes"].as_u64());
        assert!(need > Some(0));
        assert_eq!(p["fits_in_memory"].as_bool(), there.map(|there| need <= Some(there)), "{p}");
    }
    // More than any disk or memory of today.
    let huge = ["--set", "train.keep_checkpoints=1000000", "--set", "train.micro_batch=1048576"];
    let huge = [&huge[..], &["--set", "train.batch=1048576"]].concat();
    let v = json(&[&["doctor", "--json", "--preset", "1b"][..], &huge].concat());
    let advice = v["advice"].to_string();
    assert!(
        advice.contains("train.keep_checkpoints") && advice.contains("micro_batch"),
        "{advice}"
    );
    let said = ok(&["doctor", "--preset", "tiny"]);
    assert!(said.lines().any(|l| l.starts_with("tiny ") && l.ends_with("yes")), "{said}");
    for part in ["toolkit", "driver", "device", "cuBLASLt"] {
        assert!(said.lines().any(|l| l.starts_with(part)), "{part} in {said}");
    }
    let file = tmp.path().join("file");
    std::fs::write(&file, "").unwrap();
    let v = json(&["doctor", "--json", "--out", path(&file.join("runs"))]);
    assert!(v["advice"].to_string().contains("is not a folder"), "{v}");
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
    let presets = ["130m", "1b", "350m", "60m", "9m", "list", "small", "tiny"];
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

/// Checkpoints that lie on a disk of their own are written to before the first update.
#[test]
#[cfg(target_os = "linux")]
fn checkpoints_on_a_read_only_disk_are_noticed_before_the_first_update() {
    let tmp = tempfile::tempdir().unwrap();
    let (data, out) = (prepare(tmp.path()), tmp.path().join("run"));
    let own = out.join("checkpoints");
    std::fs::create_dir_all(&own).unwrap();
    let mount =
        Command::new("mount").args(["-t", "tmpfs", "-o", "ro", "none", path(&own)]).output();
    if !mount.is_ok_and(|m| m.status.success()) {
        println!("skipped: no right to mount a disk");
        return;
    }
    let done = pretrain(&data, &out, &["--set", "train.steps=6"]).output().unwrap();
    assert!(Command::new("umount").arg(&own).status().unwrap().success());
    let said = text(&done);
    assert_eq!(done.status.code(), Some(7), "{said}");
    assert!(said.contains("checkpoints/.probe") && said.contains("Read-only"), "{said}");
    assert!(!out.join("metrics.jsonl").exists(), "nothing has begun");
    let done = pretrain(&data, &out, &["--set", "train.steps=6"]).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    let left = std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name());
    assert!(left.into_iter().all(|name| !name.to_str().unwrap().contains("probe")));
}
