//! The folder of a run: which data it is trained on, and one process at a time.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::checkpoint::Checkpoint;
use crate::cli::demo::Demo;
use crate::error::{Error, Result};

/// What a run is trained on.
#[derive(Debug)]
pub enum Source {
    /// A folder made by `chtsl prepare`, or one of llm.c shards.
    Folder(PathBuf),
    /// The corpus that `chtsl pretrain` makes inside the run folder when it is given no data.
    Demo,
}

/// The run folder of a checkpoint in its place: `runs/x/checkpoints/step-N` is `runs/x`'s.
pub fn of_checkpoint(checkpoint: &Path) -> Option<&Path> {
    checkpoint.parent().filter(|p| p.ends_with("checkpoints")).and_then(Path::parent)
}

/// How checkpoints record where the data is: an absolute path. `None` for names that are not text.
pub fn recorded_name(folder: &Path) -> Result<Option<String>> {
    let folder = std::path::absolute(folder).map_err(Error::io("find", folder))?;
    Ok(folder.to_str().map(str::to_string))
}

/// What `checkpoint` was trained on.
///
/// Errors: [`Error::Data`] where the folder that it names is gone, [`Error::Config`] where it names none
/// and lies beside no corpus of its own; both ask for `--data`.
pub fn source_of(checkpoint: &Checkpoint) -> Result<Source> {
    if let Some(folder) = &checkpoint.state.data_folder {
        let folder = PathBuf::from(folder);
        return if folder.is_dir() {
            Ok(Source::Folder(folder))
        } else {
            Err(Error::data(&folder, "is not there; the run was trained on it: give --data"))
        };
    }
    match of_checkpoint(&checkpoint.path) {
        Some(run) if Demo::is_in(run) => Ok(Source::Demo),
        _ => Err(Error::Config(format!(
            "{} does not tell which data it was trained on: give --data",
            checkpoint.path.display()
        ))),
    }
}

/// Folder of the data that `checkpoint` was trained on.
///
/// Errors: those of [`source_of`].
pub fn data_folder_of(checkpoint: &Checkpoint) -> Result<PathBuf> {
    Ok(match source_of(checkpoint)? {
        Source::Folder(folder) => folder,
        Source::Demo => Demo::folder(of_checkpoint(&checkpoint.path).expect("a demo's own run")),
    })
}

/// What a run that goes on in `out` is trained on. Without a checkpoint it starts anew, which must not
/// become another run than the one that began here.
pub fn source_of_resumed(checkpoint: Option<&Checkpoint>, out: &Path) -> Result<Source> {
    match checkpoint {
        Some(c) => source_of(c),
        None if out.join("config.toml").exists() && !Demo::is_in(out) => {
            Err(Error::Config(format!(
                "{} holds a run that was stopped before its first checkpoint: give --data once more",
                out.display()
            )))
        }
        None => Ok(Source::Demo),
    }
}

/// Takes the run folder for this process; the system lets go of it however the process ends.
pub fn lock(out: &Path) -> Result<File> {
    let path = out.join(".lock");
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(Error::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => {
            let pid = std::process::id().to_string();
            file.set_len(0)
                .and_then(|()| file.write_all(pid.as_bytes()))
                .map_err(Error::io("write", &path))?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let pid = std::fs::read_to_string(&path).unwrap_or_default();
            Err(Error::Config(format!(
                "{} is in use by process {}; wait for it or give another --out",
                out.display(),
                pid.trim()
            )))
        }
        Err(TryLockError::Error(e)) => Err(Error::io("lock", &path)(e)),
    }
}
