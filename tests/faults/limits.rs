//! F18: less memory than a run needs.

use std::process::{Command, Stdio};

use crate::program::{prepare, pretrain, text};
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
                assert!(said.lines().last().unwrap().starts_with("error: "), "{limit} kB: {said}");
                assert!(!said.contains("panicked"), "{limit} kB: {said}");
                refused += 1;
            }
            other => panic!("{limit} kB: {other:?} ({}) {said}", done.status),
        }
    }
    assert!(refused > 0 && finished > 0, "{refused} refused, {finished} finished");
    told(&format!("F18: {n} limits of memory: {refused} refused with code 5, {finished} finished"));
}
