//! Kills, signals, repeats: runs end the same whatever happens to them on the way.

use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::program::{
    assert_same_run, chtsl, lines, newest, path, prepare, pretrain, rows, spawn, text, wait_until,
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

/// F1: kill -9 at any moment, a checkpoint after every update.
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
        }
        assert_same_run(&whole, &out);
        let left = std::fs::read_dir(out.join("checkpoints")).unwrap().count();
        assert_eq!(left, 2, "keep_checkpoints folders and no staging");
        runs += 1;
    }
    told(&format!(
        "F1: {kills} kills at random moments in {runs} runs, all equal to the whole one"
    ));
}

/// F10: a signal at any moment ends at a finished update within two seconds, resumable bit for bit.
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

/// F10: USR1 saves and goes on; a second INT ends at once.
#[test]
fn other_signals() {
    let tmp = tempfile::tempdir().unwrap();
    let data = prepare(tmp.path());
    let out = tmp.path().join("run");
    let steps = ["--set", "train.steps=1000000", "--set", "train.checkpoint_interval=0"];
    let mut child = spawn(pretrain(&data, &out, &steps));
    wait_until("the first row", || lines(&out) > 0);
    signal(child.id(), "USR1");
    wait_until("a checkpoint", || {
        std::fs::read_dir(out.join("checkpoints")).is_ok_and(|d| {
            d.flatten().any(|e| e.file_name().to_str().unwrap().starts_with("step-"))
        })
    });
    let before = lines(&out);
    wait_until("more rows", || lines(&out) > before + 3);
    signal(child.id(), "STOP");
    signal(child.id(), "INT");
    signal(child.id(), "INT");
    signal(child.id(), "TERM");
    signal(child.id(), "CONT");
    let status = child.wait().unwrap();
    // Signals of one kind that wait are one; INT and TERM are two.
    assert!(matches!(status.code(), Some(130 | 75)), "{status}");
    assert!(newest(&out).exists());
}

/// F20: threads, folder, locale, time zone, evaluation and logging change no bit.
#[test]
fn nothing_around_a_run_changes_it() {
    let tmp = tempfile::tempdir().unwrap();
    let data = prepare(tmp.path());
    let steps = ["--set", "train.steps=30"];
    let whole = tmp.path().join("whole");
    assert!(pretrain(&data, &whole, &steps).output().unwrap().status.success());
    for (name, extra, env) in [
        ("again", &[][..], ("TZ", "UTC")),
        ("one thread", &["--threads", "1"], ("LC_ALL", "tr_TR.UTF-8")),
        ("three threads", &["--threads", "3"], ("TZ", "Asia/Kathmandu")),
        ("a folder far away", &["--csv", "--tensorboard"], ("LANG", "de_DE.UTF-8")),
    ] {
        let out = tmp.path().join(name);
        let mut c = pretrain(&data, &out, &steps);
        let done = c.args(extra).env(env.0, env.1).output().unwrap();
        assert!(done.status.success(), "{}", text(&done));
        assert_same_run(&whole, &out);
    }
    // Saving and evaluating more often leaves the weights alone.
    let out = tmp.path().join("busy");
    let more = ["--set", "train.checkpoint_interval=3", "--set", "train.eval_interval=4"];
    let done = pretrain(&data, &out, &steps).args(more).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    for file in ["model.safetensors", "optim.safetensors"] {
        let [a, b] = [&whole, &out].map(|d| std::fs::read(newest(d).join(file)).unwrap());
        assert!(a == b, "{file} differs");
    }
    told("F20: threads, locale, time zone, folder, extra files: the same bits");
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
        for line in aside.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
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
    std::process::Command::new("cp").args(["-r", path(&out), path(&whole)]).status().unwrap();
    let done = pretrain(&data, &whole, &plain).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    let other = [&plain[..], &["--set", "train.micro_batch=1"]].concat();
    let done = pretrain(&data, &out, &other).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));
    assert!(text(&done).contains("train.micro_batch"), "{}", text(&done));
    for (a, b) in rows(&whole).iter().zip(&rows(&out)).filter(|(a, _)| a["kind"] == "train") {
        assert_eq!((&a["step"], &a["tokens"]), (&b["step"], &b["tokens"]));
        let (x, y) = (a["loss"].as_f64().unwrap(), b["loss"].as_f64().unwrap());
        assert!((x - y).abs() < 1e-4 * x, "{a} {b}");
    }
    told("F16: another micro-batch at a resume: the same samples, losses within rounding");
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
    let stopped = |command: Command| {
        let mut child = spawn(command);
        std::thread::sleep(Duration::from_millis(500));
        assert!(child.try_wait().unwrap().is_none(), "it ended before the signal");
        signal(child.id(), "TERM");
        assert_eq!(child.wait().unwrap().code(), Some(75));
    };
    let never = tmp.path().join("never");
    stopped(prepare(&long, input, &never));
    assert!(!never.join("dataset.json").exists());

    let made = prepare(input, &short, &data).output().unwrap();
    assert!(made.status.success(), "{}", text(&made));
    let few = ["--set", "train.steps=4", "--set", "data.eval_tokens=64"];
    let first = pretrain(&data, &out, &few).output().unwrap();
    assert!(first.status.success(), "{}", text(&first));
    let mut eval = chtsl();
    eval.args(["eval", "--checkpoint", path(&out), "--data", path(&data), "--threads", "1"]);
    eval.args(["--set", "data.eval_tokens=0"]);
    stopped(eval);

    // The most probable token is never the end of the text this early in training.
    let mut generate = chtsl();
    generate.args(["generate", "--checkpoint", path(&out), "--prompt", "The", "--threads", "1"]);
    generate.args(["--max-tokens", "65536", "--temperature", "0"]);
    stopped(generate);
}
