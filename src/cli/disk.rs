//! Space on a disk, and whether it can be written to.

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use crate::checkpoint::{self, folder::CHECKPOINTS};
use crate::error::{Error, Result};
use crate::files;
use crate::train::plan::Plan;

/// Most bytes of the test write before a run.
const PROBE: u64 = 4 << 20;
/// Bytes of one call that writes.
const BLOCK: usize = 1 << 20;

/// `folder`, or the nearest folder above it: a run makes the rest.
pub fn nearest(folder: &Path) -> &Path {
    let there = folder.ancestors().find(|f| f.is_dir());
    // Nothing of a relative path exists but where it begins.
    there.filter(|f| !f.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Bytes that a run's checkpoints take at most: those that are kept and the one being written.
pub fn of_checkpoints(plan: &Plan, keep: usize) -> u64 {
    plan.checkpoint.saturating_mul(keep as u64 + 1)
}

/// Refuses a run that its disk cannot hold: `keep` checkpoints, less those that are there already, and
/// the one being written.
pub fn check_space(out: &Path, plan: &Plan, keep: usize) -> Result<()> {
    // They may have a disk of their own.
    let own = out.join(CHECKPOINTS);
    let (free, each) = (files::free_space(if own.is_dir() { &own } else { out })?, plan.checkpoint);
    let there = checkpoint::list(out)?.len().min(keep);
    let more = keep - there + 1;
    let need = each * more as u64;
    if free.is_some_and(|free| free < need) {
        return Err(Error::Io {
            action: "make room in",
            path: out.into(),
            source: std::io::Error::other(format!(
                "{:.1} MB are free, {} more checkpoints of {:.1} MB need {:.1} MB; free space, or lower \
                 train.keep_checkpoints",
                free.unwrap_or(0) as f64 / 1e6,
                more,
                each as f64 / 1e6,
                need as f64 / 1e6
            )),
        });
    }
    Ok(())
}

/// Test writes where a run writes: its folder and, where that exists, the one of its checkpoints, which
/// may be on another disk. As much as a checkpoint has, up to 4 MiB: a folder that cannot take one is
/// noticed before the first step. Only while holding the run's lock.
///
/// Errors: those of the file operation that is refused.
pub fn probe(out: &Path, plan: &Plan) -> Result<()> {
    let own = out.join(CHECKPOINTS);
    for folder in [Some(out), Some(&*own).filter(|own| own.is_dir())].into_iter().flatten() {
        // One name for all processes: what a killed one has left is replaced and removed.
        test_write(folder, ".probe", plan.checkpoint.min(PROBE))?;
    }
    Ok(())
}

/// Writes, syncs, renames and removes `bytes` bytes as `name` in `folder`; returns the bytes per second
/// of writing and syncing.
///
/// Errors: those of the file operation that is refused; nothing is left behind.
pub fn test_write(folder: &Path, name: &str, bytes: u64) -> Result<f64> {
    let (path, renamed) = (folder.join(name), folder.join(format!("{name}.renamed")));
    let write = || {
        let mut file = files::create(&path)?;
        let started = Instant::now();
        let block = vec![0x5au8; BLOCK];
        let mut left = bytes as usize;
        while left > 0 {
            let n = left.min(BLOCK);
            file.write_all(&block[..n]).map_err(Error::io("write", &path))?;
            left -= n;
        }
        file.sync_all().map_err(Error::io("sync", &path))?;
        let speed = bytes as f64 / started.elapsed().as_secs_f64().max(1e-9);
        std::fs::rename(&path, &renamed).map_err(Error::io("rename", &path))?;
        files::remove(&renamed).map(|()| speed)
    };
    write().inspect_err(|_| {
        // The error that counts is the first.
        let _ = std::fs::remove_file(&path);
        let _ = std::fs::remove_file(&renamed);
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_folder_exists() {
        let tmp = tempfile::tempdir().unwrap();
        assert_eq!(nearest(&tmp.path().join("a/b/c")), tmp.path());
        assert_eq!(nearest(tmp.path()), tmp.path());
        assert_eq!(nearest(Path::new("no-such/folder")), Path::new("."));
    }

    #[test]
    fn a_test_write_leaves_nothing() {
        let tmp = tempfile::tempdir().unwrap();
        // What a killed process has left under either name does not get in the way.
        for left in ["x", "x.renamed"] {
            std::fs::write(tmp.path().join(left), "left").unwrap();
        }
        assert!(test_write(tmp.path(), "x", (BLOCK + 1) as u64).unwrap() > 0.0);
        assert_eq!(std::fs::read_dir(tmp.path()).unwrap().count(), 0);
        assert!(test_write(&tmp.path().join("absent"), "x", 1).is_err());
    }
}
