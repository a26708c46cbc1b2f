//! File operations that fail: every write, sync, rename and removal of a run in turn.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::program::{
    assert_same_run, copy, last_row, newest, path, prepare, pretrain, rows, saved, staged, text,
    wait_until,
};
use crate::{count, told};

const STEPS: [&str; 6] = [
    "--set",
    "train.steps=6",
    "--set",
    "train.checkpoint_interval=2",
    "--set",
    "topology.update_interval=3",
];

/// A library that makes operations fail, built from tests/support with the C compiler.
pub fn library(dir: &Path, source: &str) -> PathBuf {
    let made = dir.join(source).with_extension("so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support").join(source);
    let done = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&made)
        .arg(&source)
        .arg("-ldl")
        .output()
        .expect("a C compiler");
    assert!(done.status.success(), "{}", text(&done));
    made
}

struct Site {
    tmp: tempfile::TempDir,
    data: PathBuf,
    whole: PathBuf,
    library: PathBuf,
    /// Operations of a run that nothing happens to, and the writes among them.
    points: usize,
    writes: usize,
}

impl Site {
    fn new() -> Self {
        let tmp = tempfile::tempdir().unwrap();
        let data = prepare(tmp.path());
        let library = library(tmp.path(), "file_faults.c");
        let whole = tmp.path().join("whole");
        let done = pretrain(&data, &whole, &STEPS).output().unwrap();
        assert!(done.status.success(), "{}", text(&done));
        let mut site = Site { tmp, data, whole, library, points: 0, writes: 0 };
        let out = site.out("counted");
        (site.points, site.writes) = site.counted(site.command(&out, 0, "none"));
        assert!(site.points > 100 && site.writes > 40, "{} operations", site.points);
        assert_same_run(&site.whole, &out);
        site
    }

    /// Runs to the end; the operations, and the writes among them.
    fn counted(&self, mut command: Command) -> (usize, usize) {
        let file = self.tmp.path().join("count");
        let done = command.env("FAULT_COUNT", &file).output().unwrap();
        assert!(done.status.success(), "{}", text(&done));
        let said = std::fs::read_to_string(&file).unwrap();
        let (all, writes) = said.trim().split_once(' ').unwrap();
        (all.parse().unwrap(), writes.parse().unwrap())
    }

    /// A run that died while it saved, updates after its last checkpoint.
    fn interrupted(&self) -> PathBuf {
        for at in self.points / 2..self.points {
            let out = self.out(&format!("interrupted-{at}"));
            self.fail(&out, at, "torn");
            let last = saved(&out).last().copied().unwrap_or(0);
            if last > 0 && last_row(&out) > last && !staged(&out).is_empty() {
                return out;
            }
        }
        panic!("no death left a staging folder behind");
    }

    fn out(&self, name: &str) -> PathBuf {
        self.tmp.path().join("runs").join(name)
    }

    /// A run whose operation `at` meets `action`; it begins anew or goes on.
    fn command(&self, out: &Path, at: usize, action: &str) -> Command {
        std::fs::create_dir_all(out).unwrap();
        let mut c = pretrain(&self.data, out, &STEPS);
        c.args(["--resume", "auto"])
            .env("LD_PRELOAD", &self.library)
            .env("FAULT_DIR", path(out))
            .env("FAULT_AT", at.to_string())
            .env("FAULT_ACTION", action);
        c
    }

    fn fail(&self, out: &Path, at: usize, action: &str) -> Output {
        self.command(out, at, action).output().unwrap()
    }

    /// Goes on without faults and compares with the run that nothing happened to.
    fn heal(&self, out: &Path, what: &str, metrics_may_miss_rows: bool) {
        let done = pretrain(&self.data, out, &STEPS).args(["--resume", "auto"]).output().unwrap();
        assert!(done.status.success(), "{what}: {}", text(&done));
        if metrics_may_miss_rows {
            let all = rows(&self.whole);
            assert!(rows(out).iter().all(|r| all.contains(r)), "{what}: other rows");
            for file in ["model.safetensors", "optim.safetensors", "state.json"] {
                let [x, y] =
                    [&self.whole, out].map(|d| std::fs::read(newest(d).join(file)).unwrap());
                assert!(x == y, "{what}: {file} differs");
            }
        } else {
            assert_same_run(&self.whole, out);
        }
        let left: Vec<String> = std::fs::read_dir(out.join("checkpoints"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        assert!(left.len() <= 3 && left.iter().all(|n| n.starts_with("step-")), "{what}: {left:?}");
        std::fs::remove_dir_all(out).unwrap();
    }
}

/// `n` of the operations 1 to `points`, spread evenly.
pub fn spread(n: usize, points: usize) -> impl Iterator<Item = usize> {
    let n = n.min(points);
    (0..n).map(move |i| 1 + i * points / n)
}

/// F2: the process dies before, or in the middle of, every operation. Whatever was saved before that
/// operation is still there: over the operations in their order, the newest checkpoint never falls.
#[test]
fn death_at_every_point_loses_nothing_that_was_saved() {
    let site = Site::new();
    let mut cycles = 0;
    let mut die = |begun: Option<&Path>, points: usize, n: usize| {
        for action in ["kill", "torn"] {
            let mut newest = begun.map_or(0, |run| saved(run).pop().unwrap());
            for at in spread(n, points) {
                let what = format!("{action} at {at} of {points}");
                let out = site.out(&format!("{action}-{at}"));
                if let Some(run) = begun {
                    copy(run, &out);
                }
                let done = site.fail(&out, at, action);
                assert!(done.status.code().is_none(), "{what}: {}", text(&done));
                let (steps, row) = (saved(&out), last_row(&out));
                let last = steps.last().copied().unwrap_or(0);
                assert!(last >= newest && steps.len() <= 3, "{what}: {newest} before, {steps:?}");
                assert!(row <= last + 2, "{what}: saved {last}, rows to {row}");
                newest = last;
                site.heal(&out, &what, false);
                cycles += 1;
            }
            assert!(newest >= 4, "{action}: {newest}");
        }
    };
    die(None, site.points, count(40, usize::MAX));
    // The same for one that goes on where another died.
    let begun = site.interrupted();
    let out = site.out("counted-again");
    copy(&begun, &out);
    let (again, _) = site.counted(site.command(&out, 0, "none"));
    die(Some(begun.as_path()), again, count(20, usize::MAX));
    told(&format!(
        "F2: {cycles} deaths at {} points of a run's file protocol and {again} of a resumed one's, \
         nothing saved was lost, all resumed",
        site.points
    ));
}

/// F6, F7, F8: the disk is full or broken from some point on, or for one operation.
#[test]
fn a_disk_that_refuses_ends_in_one_sentence_and_heals() {
    let site = Site::new();
    let (mut cycles, mut survived) = (0, 0);
    // ENOSPC, EIO, EACCES, EROFS.
    for action in ["28", "always-28", "5", "13", "always-30"] {
        for at in spread(count(10, 120), site.points) {
            let what = format!("error {action} at {at}");
            let out = site.out(&format!("error-{action}-{at}"));
            let done = site.fail(&out, at, action);
            let said = String::from_utf8_lossy(&done.stderr).into_owned();
            assert!(!said.contains("panicked"), "{what}: {said}");
            match done.status.code() {
                Some(0) => survived += 1,
                Some(7) => {
                    let last = said.lines().last().unwrap_or_default();
                    assert!(last.starts_with("error: cannot "), "{what}: {said}");
                }
                other => panic!("{what}: {other:?} {said}"),
            }
            // What is there is whole; what a single fault broke off is not left lying about.
            saved(&out);
            let half = staged(&out).into_iter().filter(|name| name.contains(".tmp-")).count();
            assert!(half == 0 || action.starts_with("always"), "{what}: {:?}", staged(&out));
            site.heal(&out, &what, true);
            cycles += 1;
        }
    }
    told(&format!("F6-F8: {cycles} refusals of the disk, {survived} of them survived, all healed"));
}

/// F9: interrupted and short writes.
#[test]
fn interrupted_and_short_writes_change_nothing() {
    let site = Site::new();
    let mut cycles = 0;
    let points: Vec<_> =
        spread(count(12, usize::MAX), site.writes).map(|at| ("eintr", at)).collect();
    for (action, at) in points.into_iter().chain([("short", 1), ("short", site.writes / 2)]) {
        let out = site.out(&format!("{action}-{at}"));
        let done = site.fail(&out, at, action);
        assert!(done.status.success(), "{action} at {at}: {}", text(&done));
        assert_same_run(&site.whole, &out);
        std::fs::remove_dir_all(out).unwrap();
        cycles += 1;
    }
    told(&format!(
        "F9: {cycles} runs with one of {} writes interrupted, or with short writes: all equal",
        site.writes
    ));
}

/// F6: a disk that really is full, where one can be made.
#[test]
fn a_full_disk_keeps_the_checkpoint_before() {
    let site = Site::new();
    let mount = site.tmp.path().join("small");
    std::fs::create_dir(&mount).unwrap();
    // A checkpoint takes about 0.4 MB here.
    let made = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "none", path(&mount)])
        .output()
        .is_ok_and(|o| o.status.success());
    if !made {
        assert!(count(0, 1) == 0, "no right to mount a small disk");
        println!("skipped: no right to mount a small disk");
        return;
    }
    let out = mount.join("run");
    let refused = pretrain(&site.data, &out, &STEPS).output().unwrap();
    let said = text(&refused);
    let room = said.contains("MB are free") && said.contains("keep_checkpoints");
    assert!(refused.status.code() == Some(7) && room, "{said}");
    // Full only when training is under way: three checkpoints fail, the one before stays whole.
    let steps = [
        "--set",
        "train.steps=400",
        "--set",
        "train.checkpoint_interval=2",
        "--set",
        "train.log_interval=400",
        "--set",
        "train.keep_checkpoints=1",
        "--set",
        "topology.update_interval=0",
    ];
    let whole = site.tmp.path().join("long");
    assert!(pretrain(&site.data, &whole, &steps).output().unwrap().status.success());
    std::fs::remove_dir_all(&out).unwrap();
    let child = pretrain(&site.data, &out, &steps)
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    wait_until("a checkpoint", || {
        std::fs::read_dir(out.join("checkpoints")).is_ok_and(|d| {
            d.flatten().any(|e| e.file_name().to_str().unwrap().starts_with("step-"))
        })
    });
    let mut filler = std::fs::File::create(mount.join("filler")).unwrap();
    let full = (0..64).find_map(|_| filler.write_all(&[0u8; 1 << 16]).err()).expect("a full disk");
    assert_eq!(full.kind(), std::io::ErrorKind::StorageFull);
    let done = child.wait_with_output().unwrap();
    let said = text(&done);
    assert_eq!(done.status.code(), Some(7), "{said}");
    assert_eq!(said.matches("the next checkpoint is tried again").count(), 2, "{said}");
    let sizes = said.matches("a checkpoint takes 0.").count();
    assert!(sizes == 3 && said.matches("MB are free").count() == 3, "{said}");
    assert_eq!(staged(&out), Vec::<String>::new(), "what was half written is removed");
    drop(filler);
    std::fs::remove_file(mount.join("filler")).unwrap();
    let kept = crate::program::run(&["inspect", path(&newest(&out)), "--verify"]);
    assert!(kept.status.success(), "{}", text(&kept));
    // What a killed save left takes the room that the next one needs, until it is removed.
    let left = out.join("checkpoints/.step-00000099.tmp-1");
    std::fs::create_dir(&left).unwrap();
    std::fs::write(left.join("model.safetensors"), vec![0u8; 400_000]).unwrap();
    let healed = pretrain(&site.data, &out, &steps).args(["--resume", "auto"]).output().unwrap();
    assert!(healed.status.success(), "{}", text(&healed));
    for file in ["model.safetensors", "optim.safetensors"] {
        let [a, b] = [&whole, &out].map(|d| std::fs::read(newest(d).join(file)).unwrap());
        assert!(a == b, "{file} differs");
    }
    assert!(Command::new("umount").arg(&mount).status().unwrap().success());
    told(
        "F6: a full disk: refused before the first step; while training the last checkpoint stays, code 7, heals",
    );
}

/// F9: a limit on the size of files is an error of the write, not a signal that kills.
#[test]
fn a_limit_on_file_sizes_is_an_error_of_the_write() {
    let site = Site::new();
    let out = site.out("limited");
    std::fs::create_dir_all(&out).unwrap();
    let limited = |command: &Command, blocks: u32| {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<String> = words.map(|w| format!("'{}'", w.to_str().unwrap())).collect();
        // Blocks of 1024 bytes.
        let script = format!("ulimit -f {blocks}; exec {}", words.join(" "));
        Command::new("bash").args(["-c", &script]).output().unwrap()
    };
    let done = limited(&pretrain(&site.data, &out, &STEPS), 40);
    let said = text(&done);
    assert_eq!(done.status.code(), Some(7), "{said}");
    assert!(said.contains(".probe") && said.contains("File too large"), "{said}");
    site.heal(&out, "a limit on file sizes", true);
    let folder = site.tmp.path().join("limited-data");
    let mut command = crate::program::chtsl();
    let input = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/tiny.jsonl");
    command.args(["prepare", "--input", path(&input), "--out", path(&folder)]);
    command.args(["--train-tokenizer", "4000"]);
    let done = limited(&command, 3);
    assert_eq!(done.status.code(), Some(7), "{}", text(&done));
    assert!(!folder.join("dataset.json").exists());
    told("F9: a limit on file sizes: code 7, healed without it");
}

/// F8, F9: places that cannot hold a run are refused before the first update; checkpoints on a mount of
/// their own are as good as any.
#[test]
fn places_that_cannot_hold_a_run() {
    let site = Site::new();
    let refused = |out: &Path, code: i32, word: &str| {
        let done = pretrain(&site.data, out, &STEPS).output().unwrap();
        let said = text(&done);
        assert_eq!(done.status.code(), Some(code), "{said}");
        assert!(said.contains(word) && !said.contains("step 1/"), "{said}");
    };
    let file = site.tmp.path().join("file");
    std::fs::write(&file, "a").unwrap();
    refused(&file, 7, "file");
    refused(&file.join("below"), 7, "below");
    // A parent that is missing is made.
    let deep = site.tmp.path().join("a/b/c");
    let done = pretrain(&site.data, &deep, &STEPS).output().unwrap();
    assert!(done.status.success(), "{}", text(&done));

    let mount = |at: &Path, options: &str| {
        std::fs::create_dir_all(at).unwrap();
        let mut made = Command::new("mount");
        made.args(["-t", "tmpfs", "-o", options, "none"]).arg(at);
        made.stderr(std::process::Stdio::null()).status().is_ok_and(|s| s.success())
    };
    let read_only = site.tmp.path().join("read-only");
    if !mount(&read_only, "ro") {
        assert!(count(0, 1) == 0, "no right to mount");
        println!("skipped: no right to mount read-only places and other file systems");
        return;
    }
    refused(&read_only.join("run"), 7, "Read-only file system");
    refused(&read_only, 7, "Read-only file system");
    let out = site.out("apart");
    let apart = out.join("checkpoints");
    assert!(mount(&apart, "size=8m"));
    let done = pretrain(&site.data, &out, &STEPS).args(["--resume", "auto"]).output().unwrap();
    let said = text(&done);
    let same = done.status.success().then(|| assert_same_run(&site.whole, &out));
    for at in [&read_only, &apart] {
        assert!(Command::new("umount").arg(at).status().unwrap().success());
    }
    assert!(same.is_some(), "{said}");
    told(
        "F8, F9: files in the way, read-only and small places refused before update 1; other mounts taken",
    );
}

/// F7: rows that cannot be written are warned of once; the run ends with its checkpoint and code 7.
#[test]
fn metrics_that_cannot_be_written_do_not_stop_a_run() {
    let site = Site::new();
    let out = site.out("full");
    std::fs::create_dir_all(&out).unwrap();
    std::os::unix::fs::symlink("/dev/full", out.join("metrics.jsonl")).unwrap();
    let done = pretrain(&site.data, &out, &STEPS).output().unwrap();
    let said = text(&done);
    assert_eq!(done.status.code(), Some(7), "{said}");
    assert_eq!(said.matches("goes on without this row").count(), 1, "{said}");
    assert!(said.contains("metrics rows were lost"), "{said}");
    assert_eq!(saved(&out), [4, 6]);
    told("F7: metrics on a full device: one warning, the run finishes, code 7");
}

/// F11: `prepare` that dies anywhere leaves no dataset, or a whole one, and can be run again.
#[test]
fn prepare_can_die_anywhere() {
    let site = Site::new();
    let (whole, folder) = (site.data.clone(), site.tmp.path().join("prepared"));
    let files = |dir: &Path| -> Vec<(String, Vec<u8>)> {
        let mut all: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap())
            .filter(|e| !e.file_name().to_str().unwrap().starts_with('.'))
            .map(|e| (e.file_name().into_string().unwrap(), std::fs::read(e.path()).unwrap()))
            .collect();
        all.sort();
        all
    };
    let want = files(&whole);
    let input = Path::new(env!("CARGO_MANIFEST_DIR")).join("datasets/tiny.jsonl");
    let words = ["--train-tokenizer", "300", "--val-fraction", "0.3"];
    let prepare = |at: usize, action: &str| {
        let mut c = crate::program::chtsl();
        c.args(["prepare", "--input", path(&input), "--out", path(&folder)]).args(words);
        c.env("LD_PRELOAD", &site.library).env("FAULT_DIR", path(&folder));
        c.env("FAULT_AT", at.to_string()).env("FAULT_ACTION", action);
        c
    };
    let (points, _) = site.counted(prepare(0, "none"));
    let mut deaths = 0;
    for at in spread(count(12, usize::MAX), points) {
        for action in ["kill", "torn"] {
            let _ = std::fs::remove_dir_all(&folder);
            let done = prepare(at, action).output().unwrap();
            assert!(done.status.code().is_none(), "{action} at {at}: {}", text(&done));
            deaths += 1;
            // Nothing but whole files bears a final name, and the dataset's own comes last.
            let seen = if folder.exists() { files(&folder) } else { Vec::new() };
            for file in &seen {
                assert!(want.contains(file), "{action} at {at}: {} is not whole", file.0);
            }
            let whole = seen.len() == want.len();
            assert!(whole || !folder.join("dataset.json").exists(), "{action} at {at}");
            let again = prepare(0, "none").output().unwrap();
            assert!(again.status.success(), "after {action} at {at}: {}", text(&again));
            assert!(files(&folder) == want, "other bytes after {action} at {at}");
        }
    }
    told(&format!("F11: {deaths} deaths of prepare at {points} points, the same bytes after each"));
}
