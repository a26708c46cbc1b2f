//! F22: a long run of a tiny model does not grow.

use std::time::Duration;

use crate::program::{lines, path, prepare, pretrain, rows, saved, spawn, staged};
use crate::{count, told};

/// Resident bytes and open files of a process.
fn sizes(pid: u32) -> Option<(u64, usize)> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
    let kb: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let files = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count();
    Some((kb * 1024, files))
}

#[test]
fn memory_and_files_stay_as_they_are() {
    let tmp = tempfile::tempdir().unwrap();
    let data = prepare(tmp.path());
    let out = tmp.path().join("run");
    let steps = count(600, 20_000);
    let set = [
        format!("train.steps={steps}"),
        "train.checkpoint_interval=50".into(),
        "topology.update_interval=5".into(),
        "topology.end_fraction=1".into(),
        "train.log_interval=10".into(),
    ];
    let words: Vec<&str> = set.iter().flat_map(|s| ["--set", s.as_str()]).collect();
    let mut child = spawn(pretrain(&data, &out, &words));
    let mut seen = Vec::new();
    while child.try_wait().unwrap().is_none() {
        // Buffers have their sizes once events and checkpoints have come.
        if lines(&out) > 300 {
            seen.extend(sizes(child.id()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(child.wait().unwrap().success());
    assert!(seen.len() >= 5, "{} looks", seen.len());
    // Thirds of the run: the middle against the end.
    let third = seen.len() / 3;
    let most = |part: &[(u64, usize)]| part.iter().map(|s| s.0).max().unwrap();
    let (middle, end) = (most(&seen[third..2 * third.max(1)]), most(&seen[2 * third..]));
    // A short run is still growing into its buffers.
    let growth = 1.01 * middle as f64 + count(1_000_000, 0) as f64;
    assert!(end as f64 <= growth, "{middle} bytes, later {end}");
    // The file of a checkpoint being written is open at some looks.
    let files = |part: &[(u64, usize)]| part.iter().map(|s| s.1).min().unwrap();
    let open = (files(&seen[..third.max(1)]), files(&seen[2 * third..]));
    assert_eq!(open.0, open.1, "open files at the beginning and at the end");
    let steps = steps as u64;
    assert_eq!(saved(&out), [steps - 50, steps], "pruned exactly");
    assert_eq!(staged(&out), Vec::<String>::new());
    let left: Vec<_> = std::fs::read_dir(&out).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(!left.iter().any(|n| n.to_str().unwrap().ends_with(".tmp")), "{left:?}");
    // Every event is there, and none changed how many links a matrix has.
    let mut links = std::collections::BTreeMap::new();
    let mut events = 0;
    for row in rows(&out).iter().filter(|row| row["kind"] == "topology") {
        let nnz = row["nnz"].as_u64().unwrap();
        assert_eq!(*links.entry(row["layer"].to_string()).or_insert(nnz), nnz, "{row}");
        events += 1;
    }
    assert_eq!((links.len(), events), (14, 14 * steps / 5));
    let again = crate::program::run(&["inspect", path(&out), "--verify"]);
    assert!(again.status.success());
    told(&format!(
        "F22: {steps} steps, {} events: {middle} bytes in the middle, {end} at the end, {} open files",
        steps / 5,
        open.1
    ));
}
