//! Checkpoints: complete or absent, hashed, durable.
//!
//! A checkpoint is a folder `checkpoints/step-NNNNNNNN` with `model.safetensors` (weights under
//! Hugging Face names, sparse ones with torch's CSR names), `optim.safetensors` (moments, link ages,
//! positions ever active), `state.json`, `config.toml`, the tokenizer if there is one, and
//! `manifest.json` with the hash of every file, written last. It is made in a hidden staging folder,
//! synced file by file, renamed into place, and the parent is synced; only then are older ones pruned.

pub mod folder;
pub mod save;
pub mod state;
pub mod tensors;

use std::fs::File;
use std::io::Write;
use std::path::Path;

use crate::error::{Error, Result};

pub use folder::{Checkpoint, find, latest, list};
pub use save::save;
pub use state::State;
pub use tensors::TensorFile;

/// Writes `bytes` to `path` through a synced temporary file in the same folder.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let temporary = path.with_file_name(format!(".{name}.tmp-{}", std::process::id()));
    write_synced(&temporary, bytes)?;
    std::fs::rename(&temporary, path).map_err(Error::io("rename", path))?;
    sync_parent(path)
}

/// Writes and syncs a file.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = File::create(path).map_err(Error::io("create", path))?;
    file.write_all(bytes).map_err(Error::io("write", path))?;
    file.sync_all().map_err(Error::io("sync", path))
}

/// Makes the entry of `path` in its folder durable.
pub(crate) fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = File::open(parent).map_err(Error::io("open", parent))?;
    folder.sync_all().map_err(Error::io("sync", parent))
}
