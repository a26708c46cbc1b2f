//! A folder made aside and renamed when it is whole.

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::files::{sync_folder, sync_parent};

/// A folder beside its future place. Dropped without [`Stage::commit`], it is gone.
pub(super) struct Stage {
    target: PathBuf,
    path: PathBuf,
    /// Held while this process works here, so that another can tell an abandoned folder.
    _lock: Option<File>,
}

impl Stage {
    /// A new folder next to `target`, which must not exist; removes those that killed processes left.
    pub fn new(target: &Path) -> Result<Self> {
        let Some(name) = target.file_name().map(|n| n.to_string_lossy().into_owned()) else {
            let text = format!("--out {}: give the name of a new folder", target.display());
            return Err(Error::Config(text));
        };
        free(target)?;
        let parent = target.parent().filter(|p| !p.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).map_err(Error::io("create", parent))?;
        let prefix = format!(".{name}.tmp-");
        for entry in std::fs::read_dir(parent).map_err(Error::io("read", parent))?.flatten() {
            let ours = entry.file_name().to_string_lossy().starts_with(&prefix);
            if ours && lock(&entry.path()).is_some() {
                // Left behind; if it cannot be removed, it harms nobody.
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        let path = parent.join(format!("{prefix}{}", std::process::id()));
        std::fs::create_dir(&path).map_err(Error::io("create", &path))?;
        let _lock = lock(&path);
        Ok(Stage { target: target.into(), path, _lock })
    }

    /// Where to write.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the folder, whose files have been synced, durable under its own name.
    pub fn commit(self) -> Result<()> {
        sync_tree(&self.path)?;
        free(&self.target)?;
        std::fs::rename(&self.path, &self.target).map_err(Error::io("rename", &self.target))?;
        sync_parent(&self.target)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // After a commit there is nothing under this name.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Fails if something is at `target`: a rename would take the place of an empty folder.
fn free(target: &Path) -> Result<()> {
    if target.symlink_metadata().is_ok() {
        return Err(Error::Config(format!(
            "--out {}: exists already; remove it or give another name",
            target.display()
        )));
    }
    Ok(())
}

/// A lock on a folder, where the system has such and nobody holds it.
fn lock(folder: &Path) -> Option<File> {
    let file = File::open(folder).ok()?;
    file.try_lock().ok().map(|()| file)
}

fn sync_tree(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        if path.is_dir() {
            sync_tree(&path)?;
        }
    }
    sync_folder(folder)
}

/// Creates a folder unless it is there.
pub(super) fn create(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))
}
