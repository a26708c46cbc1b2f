//! Space on a disk.

use std::path::Path;

use crate::checkpoint::{self, folder::CHECKPOINTS};
use crate::error::{Error, Result};
use crate::train::plan::Plan;

/// Bytes that this user may still write where `folder` is; `None` where the system does not tell.
#[cfg(unix)]
pub fn free(folder: &Path) -> Result<Option<u64>> {
    let s = rustix::fs::statvfs(folder).map_err(|e| Error::io("look at", folder)(e.into()))?;
    Ok(Some(s.f_bavail.saturating_mul(s.f_frsize)))
}

/// Bytes that this user may still write where `folder` is; `None` where the system does not tell.
#[cfg(not(unix))]
pub fn free(folder: &Path) -> Result<Option<u64>> {
    std::fs::metadata(folder).map_err(Error::io("look at", folder)).map(|_| None)
}

/// Refuses a run that its disk cannot hold: `keep` checkpoints, less those that are there already, and
/// the one being written.
pub fn check_space(out: &Path, plan: &Plan, keep: usize) -> Result<()> {
    // They may have a disk of their own.
    let own = out.join(CHECKPOINTS);
    let (free, each) = (free(if own.is_dir() { &own } else { out })?, plan.checkpoint);
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
