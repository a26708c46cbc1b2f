//! The output folder of `prepare` and what keeps it honest when a run is killed.
//!
//! Order of events: marker file (locked while the run lives), shards one by one and the tokenizer,
//! each under a temporary name until complete, `dataset.json`, removal of the marker. So a folder
//! with a manifest is complete; one with a marker and no manifest is the remains of a killed run,
//! which the next run clears away; one with shards and neither is not ours to touch.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::manifest::{MANIFEST_FILE, Manifest, Split, TOKENIZER_FILE};
use crate::error::{Error, Result};
use crate::files;

/// Present while a dataset is being prepared.
pub const MARKER_FILE: &str = ".prepare-unfinished";

/// Name of shard `index` of a split.
pub fn shard_name(split: Split, index: usize) -> String {
    format!("{split}-{index:05}.bin")
}

/// An output folder, claimed for this run.
pub struct Claim {
    folder: PathBuf,
    created: bool,
    done: bool,
    /// Holds the lock.
    _marker: File,
}

/// What was found at the output path.
pub enum Outcome {
    /// A finished dataset.
    Complete(Box<Manifest>),
    /// Nothing in the way.
    Claimed(Claim),
}

impl Claim {
    /// Looks at `folder`: a finished dataset is returned, an empty or abandoned folder claimed.
    ///
    /// Errors: [`Error::Data`] when another process is preparing it, or when it holds shards of
    /// unknown origin.
    pub fn take(folder: &Path) -> Result<Outcome> {
        let created = !folder.exists();
        if !created && !folder.is_dir() {
            return Err(Error::data(folder, "is not a folder; choose another --out"));
        }
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let complete = folder.join(MANIFEST_FILE).exists();
        let marker_path = folder.join(MARKER_FILE);
        if !complete && !marker_path.exists() {
            let ours = |name: &String| is_shard(name) || name == TOKENIZER_FILE;
            let ours = entries(folder)?.into_iter().find(ours);
            if let Some(name) = ours {
                return Err(Error::data(
                    folder,
                    format!(
                        "holds {name} but neither dataset.json nor the mark of an unfinished \
                         `prepare`: not overwritten; choose another --out or delete it"
                    ),
                ));
            }
        }
        if complete && !marker_path.exists() {
            return Ok(Outcome::Complete(Box::new(Manifest::load(folder)?)));
        }
        let marker = File::options()
            .create(true)
            .append(true)
            .open(&marker_path)
            .map_err(Error::io("create", &marker_path))?;
        match marker.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(Error::data(
                    folder,
                    "another process is preparing this dataset; wait for it or choose another \
                     --out",
                ));
            }
            // Some network file systems have no locks; the user then is the only guard.
            Err(fs::TryLockError::Error(_)) => {}
        }
        let claim = Claim { folder: folder.to_path_buf(), created, done: false, _marker: marker };
        if complete {
            // Killed between the manifest and the removal of the marker, or finished just now by
            // another process.
            let manifest = Manifest::load(folder)?;
            claim.finish()?;
            return Ok(Outcome::Complete(Box::new(manifest)));
        }
        claim.clear()?;
        files::sync_folder(folder)?;
        Ok(Outcome::Claimed(claim))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Ends the claim on a folder whose manifest is in place.
    pub fn finish(mut self) -> Result<()> {
        self.done = true;
        files::remove(&self.folder.join(MARKER_FILE))?;
        files::sync_folder(&self.folder)
    }

    /// Removes what an unfinished run left: only names that `prepare` itself gives.
    fn clear(&self) -> Result<()> {
        for name in entries(&self.folder)? {
            let staged = files::final_name(&name);
            let base = staged.unwrap_or(&name);
            if is_shard(base)
                || base == TOKENIZER_FILE
                || (staged.is_some() && base == MANIFEST_FILE)
            {
                files::remove(&self.folder.join(&name))?;
            }
        }
        Ok(())
    }
}

impl Drop for Claim {
    /// A run that fails or is stopped leaves the folder as it found it.
    fn drop(&mut self) {
        if self.done {
            return;
        }
        // The error that ended the run is the one to report; what cannot be removed here is
        // removed by the next run.
        if self.clear().is_ok() {
            let _ = fs::remove_file(self.folder.join(MARKER_FILE));
            if self.created {
                let _ = fs::remove_dir(&self.folder);
            }
        }
    }
}

fn entries(folder: &Path) -> Result<Vec<String>> {
    let read = fs::read_dir(folder).map_err(Error::io("list", folder))?;
    let mut names = Vec::new();
    for entry in read {
        let entry = entry.map_err(Error::io("list", folder))?;
        names.extend(entry.file_name().into_string().ok());
    }
    names.sort();
    Ok(names)
}

fn is_shard(name: &str) -> bool {
    let stem = name.strip_suffix(".bin");
    let stem = stem.and_then(|s| s.strip_prefix("train-").or_else(|| s.strip_prefix("val-")));
    stem.is_some_and(|digits| digits.len() >= 5 && digits.bytes().all(|b| b.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_names_count_as_shards() {
        assert!(
            is_shard(&shard_name(Split::Train, 0)) && is_shard(&shard_name(Split::Val, 123456))
        );
        for name in ["fineweb_train_000001.bin", "train-1.bin", "train-0000x.bin", "train.bin"] {
            assert!(!is_shard(name), "{name}");
        }
    }
}
