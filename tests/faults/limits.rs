//! F18: less memory than a run needs.

use std::process::{Command, Stdio};

use crate::files::{library, spread};
use crate::program::{assert_same_run, path, prepare, pretrain, saved, text};
use crate::{count, told};

/// Kilobytes in which the program can be loaded and start its threads: below that, the loader ends it.
fn least_limit() -> usize {
    let works = |limit: &usize| {
        let program = env!("CARGO_BIN_EXE_chtsl");
        let command = format!("ulimit -v {limit}; exec '{program}' completions bash");
        let done = Command::new("sh").args(["-c", &command]).stdin(Stdio::null()).output();
        done.unwrap().status.success()
    };
    (10_000..1_000_000).step_by(2000).find(works).expect("a limit that is enough") + 2000
}

/// How much was wanted, and what to do; threads have no size to tell.
fn is_sentence(line: &str) -> bool {
    let known = ["bytes: lower ", "threads: ", "no memory for its", "Cannot allocate memory"];
    line.starts_with("error: ") && known.iter().any(|words| line.contains(words))
}

/// From far too little to plenty: a sentence and code 5, or a run that ends well; never an abort.
#[test]
fn every_limit_of_memory_ends_in_a_sentence() {
    let tmp = tempfile::tempdir().unwrap();
    let data = prepare(tmp.path());
    let (mut refused, mut finished) = (0, 0);
    let n = count(12, 100);
    let least = least_limit();
    for i in 0..n {
        // Kilobytes of address space: this run takes 50 to 330 MB beside the program, as the
        // allocator's arenas fall.
        let limit = least + i * 400_000 / n;
        let out = tmp.path().join(format!("run-{i}"));
        let large = [
            "--set",
            "train.steps=3",
            "--set",
            "train.batch=512",
            "--set",
            "train.micro_batch=512",
        ];
        let inner = pretrain(&data, &out, &large);
        let words: Vec<String> = std::iter::once(inner.get_program())
            .chain(inner.get_args())
            .map(|w| format!("'{}'", w.to_str().unwrap()))
            .collect();
        let done = Command::new("sh")
            .args(["-c", &format!("ulimit -v {limit}; exec {}", words.join(" "))])
            .stdin(Stdio::null())
            .output()
            .unwrap();
        let said = text(&done);
        match done.status.code() {
            Some(0) => finished += 1,
            Some(5) => {
                let last = said.lines().last().unwrap();
                assert!(is_sentence(last) && !said.contains("panicked"), "{limit} kB: {said}");
                refused += 1;
            }
            other => panic!("{limit} kB: {other:?} ({}) {said}", done.status),
        }
    }
    assert!(refused > 0 && finished > 0, "{refused} refused, {finished} finished");
    told(&format!("F18: {n} limits of memory: {refused} refused with code 5, {finished} finished"));
}

/// One request for memory after another is refused: a sentence and code 5, or a run that ends well; what
/// was saved is whole and can be gone on with.
#[test]
fn any_request_for_memory_may_be_refused() {
    let tmp = tempfile::tempdir().unwrap();
    let data = prepare(tmp.path());
    let library = library(tmp.path(), "memory_faults.c");
    let steps = ["--set", "train.steps=4", "--set", "train.checkpoint_interval=1"];
    let run = |name: &str, at: usize, words: &[&str]| {
        let out = tmp.path().join(name);
        let mut c = pretrain(&data, &out, &steps);
        c.args(words).env("LD_PRELOAD", &library).env("FAULT_MALLOC", at.to_string());
        (c, out)
    };
    let counted = tmp.path().join("count");
    let (mut c, whole) = run("whole", 0, &[]);
    assert!(c.env("FAULT_COUNT", path(&counted)).output().unwrap().status.success());
    let requests: usize = std::fs::read_to_string(counted).unwrap().trim().parse().unwrap();
    assert!(requests > 1000, "{requests} requests");
    let (mut refused, mut finished, mut ended) = (0, 0, 0);
    for at in spread(count(24, 400), requests) {
        let (mut c, out) = run(&format!("run-{at}"), at, &[]);
        let done = c.output().unwrap();
        let said = text(&done);
        match done.status.code() {
            Some(0) => finished += 1,
            Some(5) => {
                assert!(is_sentence(said.lines().last().unwrap()), "request {at}: {said}");
                refused += 1;
            }
            // The C library wants memory for its own threads and then knows no other way.
            None if said.contains("Fatal glibc error") => ended += 1,
            other => panic!("request {at} of {requests}: {other:?} ({}) {said}", done.status),
        }
        assert!(!said.contains("panicked"), "request {at}: {said}");
        saved(&out);
        let healed = run(&format!("run-{at}"), 0, &["--resume", "auto"]).0.output().unwrap();
        assert!(healed.status.success(), "request {at}: {}", text(&healed));
        assert_same_run(&whole, &out);
        std::fs::remove_dir_all(out).unwrap();
    }
    assert!(refused > 10 * ended, "{refused} refused, {ended} ended by the C library");
    told(&format!(
        "F18: {} of {requests} requests for memory refused, one a run: {refused} ended with code 5, \
         {finished} finished, {ended} ended by the C library, all healed",
        refused + finished + ended
    ));
}
