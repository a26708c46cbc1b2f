//! The program from outside: the whole path on a tiny corpus, signals and kills, and bad input, which
//! ends in one sentence and the documented exit code.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

#[path = "support/program.rs"]
mod program;

use program::{
    SMALL, assert_same_run, chtsl, lines, listed, ok, path, prepare, pretrain, rows, run, saved,
    spawn, text, wait_until,
};

#[test]
fn from_text_to_generated_text() {
    let tmp = tempfile::tempdir().unwrap();
    let data = prepare(tmp.path());
    let out = tmp.path().join("run");
    let done = pretrain(&data, &out, &["--set", "train.steps=12"]).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    assert!(text(&done).contains("validation perplexity"), "{}", text(&done));
    for file in ["config.toml", "metrics.jsonl", "log.txt", "checkpoints/step-00000012"] {
        assert!(out.join(file).exists(), "{file}");
    }
    let kinds: Vec<String> =
        rows(&out).iter().map(|r| r["kind"].as_str().unwrap().to_string()).collect();
    assert_eq!(kinds.iter().filter(|k| *k == "train").count(), 12);
    assert_eq!(kinds.iter().filter(|k| *k == "topology").count(), 2 * 14, "events at 4 and 8");
    let row = &rows(&out)[0];
    for key in ["tokens", "loss", "loss_align", "lr", "grad_norm", "ocr", "rms_s", "rms_l"] {
        assert!(!row[key].is_null(), "{key} in {row}");
    }
    assert!(row["ocr"]["1.down_proj"].is_f64());

    let json = ok(&["eval", "--checkpoint", path(&out), "--data", path(&data), "--json"]);
    let e: Value = serde_json::from_str(&json).unwrap();
    let last = rows(&out).into_iter().rfind(|r| r["kind"] == "eval").unwrap();
    assert_eq!(e["ppl"], last["ppl"], "eval repeats the run's own evaluation");
    assert!(e["bits_per_byte"].as_f64().unwrap() > 0.5);
    let padded = ok(&[
        "eval",
        "--checkpoint",
        path(&out),
        "--data",
        path(&data),
        "--set",
        "data.layout=doc_pad",
    ]);
    assert!(padded.contains("perplexity"));

    let at = |seed: &str| {
        ok(&["generate", "--checkpoint", path(&out), "--prompt", "The", "--seed", seed])
    };
    assert_eq!(at("5"), at("5"));
    assert!(at("5").starts_with("The"));
    let inspected = ok(&["inspect", path(&out), "--json"]);
    let v: Value = serde_json::from_str(&inspected).unwrap();
    assert_eq!(v["step"], 12);
    assert_eq!(v["layers"].as_array().unwrap().len(), 14);
    assert_eq!(v["layers"][0]["links"], 307, "round(0.3 * 32 * 32)");
    assert!(ok(&["inspect", path(&data)]).contains("vocabulary: 300"));
    assert!(ok(&["inspect", path(&data.join("train-00000.bin"))]).contains("tokens"));

    // The folder is taken: not overwritten, but continued on request.
    let again = pretrain(&data, &out, &["--set", "train.steps=12"]).output().unwrap();
    assert_eq!(again.status.code(), Some(2), "{}", text(&again));
    assert!(text(&again).contains("--resume auto"), "{}", text(&again));
    let more = ["--resume", "auto", "--set", "train.steps=16", "--allow-change", "train.steps"];
    let more = pretrain(&data, &out, &more).output().unwrap();
    assert!(more.status.success(), "{}", text(&more));
    assert_eq!(rows(&out).iter().filter(|r| r["kind"] == "train").count(), 16);
}

#[test]
fn a_run_knows_its_data() {
    let tmp = tempfile::tempdir().unwrap();
    prepare(tmp.path());
    let here = |args: &[&str]| chtsl().current_dir(tmp.path()).args(args).output().unwrap();
    let step = ["--set", "train.steps=4", "--set", "train.checkpoint_interval=2"];
    let first = [&["pretrain", "--data", "data", "--out", "run"], &SMALL[..], &step].concat();
    let first = here(&first);
    assert!(first.status.success(), "{}", text(&first));
    // Relative then, from elsewhere now.
    let out = tmp.path().join("run");
    let longer = ["--set", "train.steps=6", "--allow-change", "train.steps"];
    let resume = [&["pretrain", "--resume", path(&out)], &longer[..]].concat();
    ok(&resume);
    assert!(!out.join("corpus").exists(), "no other corpus was made");
    let evaluated = ok(&["eval", "--checkpoint", path(&out), "--json"]);
    let e: Value = serde_json::from_str(&evaluated).unwrap();
    let last = rows(&out).into_iter().rfind(|r| r["kind"] == "eval").unwrap();
    assert_eq!(e["ppl"], last["ppl"]);
    // Moved: the one given counts, and is what the run knows from then on.
    std::fs::rename(tmp.path().join("data"), tmp.path().join("moved")).unwrap();
    let lost = here(&["eval", "--checkpoint", "run"]);
    assert_eq!(lost.status.code(), Some(3), "{}", text(&lost));
    assert!(text(&lost).contains("give --data"), "{}", text(&lost));
    let further = ["--data", "moved", "--set", "train.steps=8", "--allow-change", "train.steps"];
    let found = here(&[&["pretrain", "--resume", "run"], &further[..]].concat());
    assert!(found.status.success(), "{}", text(&found));
    ok(&["eval", "--checkpoint", path(&out)]);
    // Stopped before anything was saved, and a checkpoint that tells nothing.
    std::fs::remove_dir_all(out.join("checkpoints")).unwrap();
    let begun = here(&["pretrain", "--resume", "auto", "--out", "run"]);
    assert_eq!(begun.status.code(), Some(2), "{}", text(&begun));
    assert!(text(&begun).contains("give --data"), "{}", text(&begun));
    assert!(!out.join("corpus").exists(), "no other run was begun");
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/checkpoint/format-2");
    let old = here(&["eval", "--checkpoint", path(&old)]);
    assert_eq!(old.status.code(), Some(2), "{}", text(&old));
    assert!(text(&old).contains("give --data"), "{}", text(&old));
}

#[test]
fn a_run_on_a_corpus_of_its_own_goes_on_with_it() {
    let tmp = tempfile::tempdir().unwrap();
    let here = |args: &[&str]| {
        let done = chtsl().current_dir(tmp.path()).args(args).output().unwrap();
        assert!(done.status.success(), "{args:?}: {}", text(&done));
        text(&done)
    };
    let few = ["--set", "data.eval_tokens=4096", "--set", "train.warmup=1"];
    here(&[&["pretrain", "--set", "train.steps=1"], &few[..]].concat());
    let longer = ["--set", "train.steps=2", "--allow-change", "train.steps"];
    let resumed = here(&[&["pretrain", "--resume", "auto"], &longer[..], &few].concat());
    assert!(resumed.contains("the grammar accepts"), "{resumed}");
    let run = tmp.path().join("runs/tiny-chtsl-seed1");
    let last = rows(&run).into_iter().rfind(|r| r["kind"] == "eval").unwrap();
    let e: Value =
        serde_json::from_str(&ok(&["eval", "--checkpoint", path(&run), "--json"])).unwrap();
    assert_eq!(e["ppl"], last["ppl"]);
}

#[test]
fn a_signal_saves_the_last_finished_update_and_kill_9_loses_at_most_an_interval() {
    let tmp = tempfile::tempdir().unwrap();
    let data = prepare(tmp.path());
    let steps = ["--set", "train.steps=120", "--set", "train.checkpoint_interval=5"];
    let whole = tmp.path().join("whole");
    let done = pretrain(&data, &whole, &steps).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    let resume = [&steps[..], &["--resume", "auto"]].concat();

    let out = tmp.path().join("signalled");
    let mut child = spawn(pretrain(&data, &out, &steps));
    wait_until("the tenth row", || lines(&out) > 10);
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
    let status = child.wait().unwrap();
    assert!(matches!(status.code(), Some(75) | Some(0)), "{status}");
    assert!(pretrain(&data, &out, &resume).output().unwrap().status.success());
    assert_same_run(&whole, &out);

    let out = tmp.path().join("killed");
    for cycle in 0..8 {
        let before = lines(&out);
        let mut child = spawn(pretrain(&data, &out, &resume));
        wait_until("progress", || {
            lines(&out) > before + 3 + 2 * cycle || child.try_wait().unwrap().is_some()
        });
        let _ = child.kill();
        child.wait().unwrap();
    }
    let last = pretrain(&data, &out, &resume).output().unwrap();
    assert!(last.status.success(), "{}", text(&last));
    assert_same_run(&whole, &out);
    let left: Vec<_> = std::fs::read_dir(out.join("checkpoints")).unwrap().collect();
    assert_eq!(left.len(), 2, "keep_checkpoints folders and no staging: {left:?}");
}

#[test]
fn two_processes_cannot_share_a_run_folder() {
    let tmp = tempfile::tempdir().unwrap();
    let data = prepare(tmp.path());
    let out = tmp.path().join("run");
    let often = ["--set", "train.steps=100000", "--set", "train.checkpoint_interval=1"];
    let mut child = spawn(pretrain(&data, &out, &often));
    wait_until("a checkpoint", || out.join("checkpoints/step-00000002").exists());
    let second = pretrain(&data, &out, &["--resume", "auto"]).output().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(second.status.code(), Some(2), "{}", text(&second));
    assert!(text(&second).contains(&child.id().to_string()), "{}", text(&second));
    // Nothing stays locked behind a process that was killed.
    let saved_before = *saved(&out).last().unwrap();
    let more = [&often[..], &["--resume", "auto"]].concat();
    let mut third = spawn(pretrain(&data, &out, &more));
    wait_until("a checkpoint of the third", || listed(&out).last() > Some(&(saved_before + 1)));
    assert!(
        Command::new("kill").args(["-TERM", &third.id().to_string()]).status().unwrap().success()
    );
    assert_eq!(third.wait().unwrap().code(), Some(75));
    let history = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    assert!(history.contains(&format!("/checkpoints/step-{saved_before:08}")), "it went on");
    ok(&["inspect", path(&out), "--verify"]);
}

/// Runs and expects `code`, one line that contains all of `words`, and no panic.
fn refused(args: &[&str], code: i32, words: &[&str]) {
    let out = run(args);
    let stderr = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(code), "{args:?}: {stderr}");
    assert!(!stderr.contains("panicked"), "{args:?}: {stderr}");
    let error: Vec<&str> = stderr.lines().filter(|l| l.starts_with("error:")).collect();
    assert_eq!(error.len(), 1, "{args:?}: one sentence, got {stderr}");
    for word in words {
        assert!(error[0].contains(word), "{args:?}: {word:?} missing in {}", error[0]);
    }
}

#[test]
fn bad_input_is_one_sentence_with_the_documented_code() {
    let tmp = tempfile::tempdir().unwrap();
    let data = prepare(tmp.path());
    let out = tmp.path().join("run");
    let (d, o) = (path(&data), path(&out));
    let small = |extra: &[&'static str]| -> Vec<String> {
        ["pretrain", "--data", d, "--out", o]
            .iter()
            .chain(&SMALL)
            .chain(extra)
            .map(|s| s.to_string())
            .collect()
    };
    let train = |extra: &[&'static str], code, words: &[&str]| {
        let args = small(extra);
        refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), code, words);
    };
    // Usage and configuration: 2.
    train(&["--set", "train.wramup=3"], 2, &["train.wramup", "did you mean \"warmup\""]);
    train(&["--set", "train.lr"], 2, &["key.path=value"]);
    train(&["--set", "model.heads=5"], 2, &["model.heads", "model.hidden"]);
    train(&["--set", "train.micro_batch=3"], 2, &["train.micro_batch", "train.batch"]);
    train(&["--set", "method.total_sparsity=0.1"], 2, &["total_sparsity", "rank"]);
    train(&["--set", "method.name=chtls"], 2, &["did you mean"]);
    train(&["--set", "train.precision=bf16_master"], 2, &["bf16_master", "bf16_pure"]);
    refused(&["pretrain", "--preset", "61m"], 2, &["60m"]);
    refused(&["pretrain", "--config", "/nonexistent.toml"], 2, &["/nonexistent.toml"]);
    let broken = tmp.path().join("broken.toml");
    std::fs::write(&broken, "[train\nlr = 3").unwrap();
    refused(&["pretrain", "--config", path(&broken)], 2, &["broken.toml"]);
    // Data: 3.
    refused(&["pretrain", "--data", "/nonexistent", "--out", o], 3, &["/nonexistent"]);
    train(&["--set", "model.vocab=200"], 3, &["train-00000.bin"]);
    train(&["--set", "model.seq_len=100000"], 3, &["model.seq_len"]);
    let empty = tmp.path().join("empty.jsonl");
    std::fs::write(&empty, "").unwrap();
    let new = tmp.path().join("new");
    let prep = |input: &Path| -> Vec<String> {
        ["prepare", "--input", path(input), "--train-tokenizer", "300", "--out", path(&new)]
            .map(str::to_string)
            .to_vec()
    };
    let args = prep(&empty);
    refused(&args.iter().map(String::as_str).collect::<Vec<_>>(), 3, &["empty.jsonl"]);
    let args = prep(Path::new("/nonexistent.txt"));
    let missing = run(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(matches!(missing.status.code(), Some(3 | 7)), "{}", text(&missing));
    let shard = data.join("train-00000.bin");
    let good = std::fs::read(&shard).unwrap();
    std::fs::write(&shard, &good[..good.len() - 5]).unwrap();
    train(&[], 3, &["train-00000.bin"]);
    std::fs::write(&shard, &good).unwrap();
    let manifest = data.join("dataset.json");
    let text = std::fs::read(&manifest).unwrap();
    std::fs::write(&manifest, &text[..text.len() / 2]).unwrap();
    train(&[], 3, &["dataset.json"]);
    std::fs::write(&manifest, &text).unwrap();
    // Checkpoints: 4.
    refused(&["eval", "--checkpoint", "/nonexistent", "--data", d], 4, &["/nonexistent"]);
    refused(&["generate", "--checkpoint", d, "--prompt", "x"], 4, &["manifest.json"]);
    train(&["--resume", "/nonexistent"], 4, &["/nonexistent"]);
    // Device: 8.
    train(&["--device", "cuda"], 8, &["cuda"]);
    assert!(!out.join("checkpoints").exists(), "nothing was trained");
}

#[test]
fn dry_run_and_help_print_and_write_nothing() {
    let tmp = tempfile::tempdir().unwrap();
    let out = chtsl()
        .current_dir(tmp.path())
        .args(["pretrain", "--preset", "60m", "--dry-run"])
        .output()
        .unwrap();
    assert!(out.status.success(), "{}", text(&out));
    // Links round(0.05·out·in) of 56 matrices and rank 16: the preprint's 60M at total sparsity 0.9.
    assert!(text(&out).contains("rank 16"), "{}", text(&out));
    assert!(text(&out).contains("total sparsity 0.9006"), "{}", text(&out));
    assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 0);
    // A dense model has neither links nor rank; the run as a whole is told in tokens and FLOPs.
    let dense = ok(&["pretrain", "--preset", "tiny", "--dry-run", "--set", "method.name=dense"]);
    let density = dense.lines().find(|l| l.starts_with("density")).unwrap();
    assert!(density.contains("projections 1.0000") && !density.contains("links"), "{dense}");
    assert!(dense.contains("M tokens, ") && dense.contains(" FLOP in all"), "{dense}");
    let account = |extra: &[&str]| -> Value {
        let words = ["pretrain", "--preset", "tiny", "--dry-run", "--json"];
        serde_json::from_str(&ok(&[&words[..], extra].concat())).unwrap()
    };
    let v = account(&["--threads", "2"]);
    let flops = v["tokens"].as_f64().unwrap() * v["flops_per_token"]["effective"].as_f64().unwrap();
    assert_eq!(v["flops"].as_f64(), Some(flops));
    let memory = v["bytes"]["cpu"].as_object().unwrap();
    let parts =
        memory.iter().filter(|(name, _)| *name != "total").map(|(_, b)| b.as_u64().unwrap());
    assert_eq!(memory["total"], parts.sum::<u64>());
    assert!(v["estimate"]["tokens_per_s"].as_f64().unwrap() > 0.0, "{v}");
    assert!(dense.lines().any(|l| l.starts_with("time ") && l.contains("about")), "{dense}");
    // Each thread brings scratch of its own.
    let of = |v: &Value| v["bytes"]["cpu"]["scratch"].as_u64().unwrap();
    assert!(of(&account(&["--threads", "3"])) > of(&v));
    for args in [&["--help"][..], &["pretrain", "--help"], &["prepare", "-h"], &["--version"]] {
        ok(args);
    }
    assert_eq!(run(&["pretrian"]).status.code(), Some(2));
}
