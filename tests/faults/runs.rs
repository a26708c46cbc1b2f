//! Kills, signals, repeats: runs end the same whatever happens to them on the way.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::program::{
    assert_same_run, chtsl, copy, last_row, lines, listed, newest, ok, path, prepare, pretrain,
    rows, saved, spawn, staged, text, wait_until,
};
use crate::{count, told};

const STEPS: [&str; 4] = ["--set", "train.steps=120", "--set", "train.checkpoint_interval=1"];

/// Milliseconds that look random and are the same in every run of the tests.
fn delay(i: usize, most: u64) -> Duration {
    let x = (i as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    Duration::from_millis((x >> 33) % most)
}

fn signal(pid: u32, name: &str) {
    let _ = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
}

/// F1: kill -9 at any moment, a checkpoint after every update: at most the update under way is lost.
#[test]
fn kills_at_random_moments() {
    let tmp = tempfile::tempdir().unwrap();
    let data = prepare(tmp.path());
    let whole = tmp.path().join("whole");
    assert!(pretrain(&data, &whole, &STEPS).output().unwrap().status.success());
    let resume = [&STEPS[..], &["--resume", "auto"]].concat();
    let (mut kills, mut runs) = (0, 0);
    while kills < count(10, 200) {
        let out = tmp.path().join(format!("killed-{runs}"));
        let mut newest = 0;
        loop {
            let mut child = spawn(pretrain(&data, &out, &resume));
            std::thread::sleep(delay(kills, 300));
            let over = child.try_wait().unwrap();
            if let Some(status) = over {
                assert!(status.success(), "{status}");
                break;
            }
            child.kill().unwrap();
            child.wait().unwrap();
            kills += 1;
            let (steps, row) = (saved(&out), last_row(&out));
            let last = steps.last().copied().unwrap_or(0);
            assert!(last >= newest && steps.len() <= 3, "{newest} before, {steps:?}");
            assert!(row <= last + 1, "saved {last}, rows to {row}");
            newest = last;
        }
        assert_same_run(&whole, &out);
        assert_eq!((saved(&out).len(), staged(&out).len()), (2, 0), "keep_checkpoints, no staging");
        runs += 1;
    }
    told(&format!(
        "F1: {kills} kills at random moments in {runs} runs, at most an update lost, all equal to the whole one"
    ));
}

/// F10: a signal at any moment ends at a finished update, resumable bit for bit. How soon is for the
/// record; here only a hang fails.
#[test]
fn signals_at_random_moments() {
    let tmp = tempfile::tempdir().unwrap();
    let data = prepare(tmp.path());
    let whole = tmp.path().join("whole");
    assert!(pretrain(&data, &whole, &STEPS).output().unwrap().status.success());
    let resume = [&STEPS[..], &["--resume", "auto"]].concat();
    let (mut signals, mut tries, mut runs, mut slowest) = (0, 0, 0, Duration::ZERO);
    while signals < count(10, 200) {
        let out = tmp.path().join(format!("signalled-{runs}"));
        loop {
            let mut child = spawn(pretrain(&data, &out, &resume));
            // The first milliseconds, before the program catches signals, are the loader's.
            std::thread::sleep(Duration::from_millis(30) + delay(tries, 250));
            tries += 1;
            if let Some(status) = child.try_wait().unwrap() {
                assert!(status.success(), "{status}");
                break;
            }
            signal(child.id(), if signals % 2 == 1 { "TERM" } else { "INT" });
            let told = Instant::now();
            let status = child.wait().unwrap();
            slowest = slowest.max(told.elapsed());
            match status.code() {
                Some(75) => signals += 1,
                Some(0) => break, // it came to its end first
                // Before the handlers were there.
                None if matches!(status.signal(), Some(2 | 15)) => {}
                _ => panic!("{status}"),
            }
        }
        assert_same_run(&whole, &out);
        runs += 1;
    }
    assert!(slowest < Duration::from_secs(20), "{slowest:?}");
    told(&format!("F10: {signals} signals in {runs} runs, the slowest end after {slowest:?}"));
}

/// F10: USR1 saves and goes on; a second signal ends at once, and the run can be gone on with.
#[test]
fn other_signals() {
    let tmp = tempfile::tempdir().unwrap();
    let data = prepare(tmp.path());
    let out = tmp.path().join("run");
    let steps = ["--set", "train.steps=1000000", "--set", "train.checkpoint_interval=0"];
    let resume = [&steps[..], &["--resume", "auto"]].concat();
    let (times, mut slowest) = (count(2, 20), Duration::ZERO);
    for _ in 0..times {
        let (before, old) = (lines(&out), saved(&out).pop().unwrap_or(0));
        let mut child = spawn(pretrain(&data, &out, &resume));
        wait_until("the first row", || lines(&out) > before);
        signal(child.id(), "USR1");
        wait_until("a checkpoint", || listed(&out).pop().is_some_and(|step| step > old));
        let before = lines(&out);
        wait_until("more rows", || lines(&out) > before + 3);
        // Of one kind, waiting signals are one; INT and TERM are two.
        signal(child.id(), "STOP");
        signal(child.id(), "INT");
        signal(child.id(), "TERM");
        signal(child.id(), "CONT");
        let told = Instant::now();
        let status = child.wait().unwrap();
        slowest = slowest.max(told.elapsed());
        assert_eq!(status.code(), Some(130), "{status}");
    }
    assert!(saved(&out).pop().is_some());
    told(&format!("F10: {times} second signals, code 130, the slowest end after {slowest:?}"));
}

/// F12: a run that diverges ends with code 6 and a diagnosis; its last checkpoint is from before and sound.
#[test]
fn a_run_that_diverges_says_so() {
    let tmp = tempfile::tempdir().unwrap();
    let data = prepare(tmp.path());
    let out = tmp.path().join("run");
    let wild = ["train.lr=1e3", "train.low_rank_lr_scale=1e3", "train.clip=0", "train.warmup=0"];
    let often = ["train.steps=60", "train.checkpoint_interval=1", "train.eval_interval=0"];
    let words: Vec<&str> = wild.iter().chain(&often).flat_map(|s| ["--set", *s]).collect();
    let done = pretrain(&data, &out, &words).output().unwrap();
    let said = text(&done);
    assert_eq!(done.status.code(), Some(6), "{said}");
    let last = saved(&out).pop().unwrap();
    let words = format!("error: training diverged at step {}: ", last + 1);
    assert!(said.lines().last().unwrap().starts_with(&words), "{said}");
    let diagnosis = out.join(format!("diverged-step-{}.json", last + 1));
    let diagnosis: Value = serde_json::from_slice(&std::fs::read(diagnosis).unwrap()).unwrap();
    let all = diagnosis["tensors"].as_object().unwrap().values();
    let broken =
        |part: &str| all.clone().filter(|t| t[part]["non_finite"].as_u64().unwrap() > 0).count();
    assert_eq!(broken("weight"), 0, "{diagnosis}");
    ok(&["inspect", path(&out), "--verify"]);
    told("F12: a run that diverges: code 6, a diagnosis, the checkpoint before it is sound");
}

/// F20: threads, folder, locale, time zone, evaluation and logging change no bit.
#[test]
fn nothing_around_a_run_changes_it() {
    let tmp = tempfile::tempdir().unwrap();
    let data = prepare(tmp.path());
    let steps = ["--set", "train.steps=30"];
    let whole = tmp.path().join("whole");
    assert!(pretrain(&data, &whole, &steps).output().unwrap().status.success());
    let clock = crate::files::library(tmp.path(), "file_faults.c");
    for (name, extra, env) in [
        ("again", &[][..], ("TZ", "UTC")),
        ("one thread", &["--threads", "1"], ("LC_ALL", "tr_TR.UTF-8")),
        ("three threads", &["--threads", "3"], ("TZ", "Asia/Kathmandu")),
        ("a/folder/far away", &["--csv", "--tensorboard"], ("LANG", "de_DE.UTF-8")),
        ("a clock that jumps", &[], ("FAULT_CLOCK", "-86400")),
    ] {
        let out = tmp.path().join(name);
        let mut c = pretrain(&data, &out, &steps);
        let done = c.args(extra).env(env.0, env.1).env("LD_PRELOAD", &clock).current_dir("/");
        let done = done.output().unwrap();
        assert!(done.status.success(), "{}", text(&done));
        assert_same_run(&whole, &out);
    }
    // Saving and evaluating more often, logging less often, leave weights and rows alone.
    let out = tmp.path().join("busy");
    let more = [
        "--set",
        "train.checkpoint_interval=3",
        "--set",
        "train.eval_interval=4",
        "--set",
        "train.log_interval=3",
    ];
    let done = pretrain(&data, &out, &steps).args(more).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    let train = |run: &Path| rows(run).into_iter().filter(|r| r["kind"] == "train");
    let all: Vec<_> = train(&whole).collect();
    assert!(train(&out).count() >= 10 && train(&out).all(|row| all.contains(&row)));
    for file in ["model.safetensors", "optim.safetensors"] {
        let [a, b] = [&whole, &out].map(|d| std::fs::read(newest(d).join(file)).unwrap());
        assert!(a == b, "{file} differs");
    }
    told(
        "F20: threads, locale, time zone, clock, folder, extra files, more evaluations and checkpoints: the same bits",
    );
}

/// F21: a row torn by a kill is dropped, rows beyond the checkpoint move aside.
#[test]
fn torn_metrics_are_mended() {
    let tmp = tempfile::tempdir().unwrap();
    let data = prepare(tmp.path());
    let steps = ["--set", "train.steps=9", "--set", "train.checkpoint_interval=3"];
    let whole = tmp.path().join("whole");
    assert!(pretrain(&data, &whole, &steps).output().unwrap().status.success());
    for cut in [1usize, 7, 40, 90] {
        let out = tmp.path().join(format!("torn-{cut}"));
        assert!(pretrain(&data, &out, &steps).output().unwrap().status.success());
        std::fs::remove_dir_all(newest(&out)).unwrap();
        let file = out.join("metrics.jsonl");
        let bytes = std::fs::read(&file).unwrap();
        std::fs::write(&file, &bytes[..bytes.len() - cut]).unwrap();
        let done = pretrain(&data, &out, &steps).args(["--resume", "auto"]).output().unwrap();
        assert!(done.status.success(), "{}", text(&done));
        assert_same_run(&whole, &out);
        let aside = std::fs::read_to_string(out.join("metrics.superseded.jsonl")).unwrap();
        assert!(aside.lines().count() > 2);
        let all = rows(&whole);
        for line in aside.lines() {
            let mut row: Value = serde_json::from_str(line).unwrap();
            row.as_object_mut().unwrap().remove("time");
            assert!(all.contains(&row) && row["step"].as_u64() > Some(6), "{row}");
        }
        let steps: Vec<u64> = rows(&out)
            .iter()
            .filter(|r| r["kind"] == "train")
            .map(|r| r["step"].as_u64().unwrap())
            .collect();
        assert_eq!(steps, (1..=9).collect::<Vec<_>>());
    }
    told("F21: torn metrics files: every row once, overtaken rows aside");
}

/// F16: another micro-batch at a resume sees the same samples and is noted.
#[test]
fn the_micro_batch_may_change_at_a_resume() {
    let tmp = tempfile::tempdir().unwrap();
    let data = prepare(tmp.path());
    let out = tmp.path().join("run");
    let done = pretrain(&data, &out, &["--set", "train.steps=10"]).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    let whole = tmp.path().join("whole");
    let more = ["--set", "train.steps=14", "--allow-change", "train.steps"];
    let plain = [&more[..], &["--resume", "auto"]].concat();
    copy(&out, &whole);
    let done = pretrain(&data, &whole, &plain).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    let other = [&plain[..], &["--set", "train.micro_batch=1"]].concat();
    let done = pretrain(&data, &out, &other).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    let history = std::fs::read_to_string(out.join("metrics.jsonl")).unwrap();
    assert!(history.contains("; train.micro_batch: 2 -> 1; train.steps: 10 -> 14"), "{history}");
    let (a, b) = (rows(&whole), rows(&out));
    assert_eq!(a.len(), b.len());
    for (a, b) in a.iter().zip(&b).filter(|(a, _)| a["kind"] == "train") {
        assert_eq!((&a["step"], &a["tokens"]), (&b["step"], &b["tokens"]));
        let (x, y) = (a["loss"].as_f64().unwrap(), b["loss"].as_f64().unwrap());
        assert!((x - y).abs() < 1e-4 * x, "{a} {b}");
    }
    assert_eq!(b.last().unwrap()["step"], 14);
    told("F16: another micro-batch at a resume: the same samples, losses within rounding, noted");
}

/// F10: a signal ends preparation and evaluation too, and leaves nothing half done.
#[test]
fn other_commands_stop_as_well() {
    let tmp = tempfile::tempdir().unwrap();
    let text_of = std::fs::read_to_string("datasets/tiny.jsonl").unwrap();
    let corpus = |name: &str, bytes: usize| {
        let file = tmp.path().join(name);
        std::fs::write(&file, text_of.repeat(bytes / text_of.len() + 1)).unwrap();
        file
    };
    // Long enough that a signal after the first half second finds them at work.
    let (long, short) = (corpus("long.jsonl", 200 << 20), corpus("short.jsonl", 4 << 20));
    let (data, out) = (tmp.path().join("data"), tmp.path().join("run"));
    let input = Path::new("datasets/tiny.jsonl");
    let prepare = |input: &Path, val: &Path, out: &Path| {
        let mut c = chtsl();
        c.args(["prepare", "--input", path(input), "--val-input", path(val)]);
        c.args(["--train-tokenizer", "300", "--out", path(out)]);
        c
    };
    let (mut signals, mut slowest) = (0, Duration::ZERO);
    let mut stopped = |command: &dyn Fn() -> Command| {
        for i in 0..count(1, 10) {
            let mut child = spawn(command());
            std::thread::sleep(Duration::from_millis(300) + delay(i, 300));
            assert!(child.try_wait().unwrap().is_none(), "it ended before the signal");
            signal(child.id(), if i % 2 == 0 { "TERM" } else { "INT" });
            let told = Instant::now();
            assert_eq!(child.wait().unwrap().code(), Some(75));
            (signals, slowest) = (signals + 1, slowest.max(told.elapsed()));
        }
    };
    let never = tmp.path().join("never");
    stopped(&|| prepare(&long, input, &never));
    assert!(!never.join("dataset.json").exists());

    let made = prepare(input, &short, &data).output().unwrap();
    assert!(made.status.success(), "{}", text(&made));
    let few = ["--set", "train.steps=4", "--set", "data.eval_tokens=64"];
    let first = pretrain(&data, &out, &few).output().unwrap();
    assert!(first.status.success(), "{}", text(&first));
    stopped(&|| {
        let mut eval = chtsl();
        eval.args(["eval", "--checkpoint", path(&out), "--data", path(&data), "--threads", "1"]);
        eval.args(["--set", "data.eval_tokens=0"]);
        eval
    });

    // The most probable token is never the end of the text this early in training.
    let asked = ["generate", "--checkpoint", path(&out), "--prompt", "The", "--threads", "1"];
    stopped(&|| {
        let mut generate = chtsl();
        generate.args(asked).args(["--max-tokens", "65536", "--temperature", "0"]);
        generate
    });
    told(&format!(
        "F10: {signals} signals to prepare, eval and generate, code 75, the slowest after {slowest:?}"
    ));
}
