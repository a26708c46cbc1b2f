//! Durable writes and careful reads, shared by every room that has files.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// Whose file it is: the kind of error, and so the exit status, that its faults have.
#[derive(Clone, Copy, Debug)]
pub enum FileKind {
    /// Training data or a tokenizer.
    Data,
    /// A checkpoint or a model.
    Checkpoint,
    /// Settings.
    Config,
}

impl FileKind {
    fn error(self, path: &Path, message: String) -> Error {
        match self {
            FileKind::Data => Error::data(path, message),
            FileKind::Checkpoint => Error::checkpoint(path, message),
            FileKind::Config => Error::Config(format!("{}: {message}", path.display())),
        }
    }

    fn missing(self) -> &'static str {
        match self {
            FileKind::Data | FileKind::Config => "does not exist; check the path",
            FileKind::Checkpoint => {
                "is missing; name a folder checkpoints/step-NNNNNNNN or a run folder that has one"
            }
        }
    }
}

/// Name a file carries until it is complete: hidden, in the same folder (a rename must not cross
/// file systems), and this process's own.
pub fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.tmp", std::process::id()))
}

/// The name that a file of a [`temporary`] name was to get; `None` for other names.
pub fn final_name(temporary: &str) -> Option<&str> {
    let name = temporary.strip_prefix('.')?.strip_suffix(".tmp")?;
    match name.rsplit_once('.') {
        Some((base, process)) if process.bytes().all(|b| b.is_ascii_digit()) => Some(base),
        _ => Some(name),
    }
}

/// A 64-bit hash as it stands in files: sixteen hexadecimal digits.
pub fn hash_text(hash: u64) -> String {
    format!("{hash:016x}")
}

/// Creates a folder and those above it that are missing, durably.
pub fn create_folder(folder: &Path) -> Result<()> {
    let missing: Vec<&Path> = folder.ancestors().take_while(|f| !f.exists()).collect();
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let named = |f: &&Path| !f.as_os_str().is_empty();
    missing.into_iter().filter(named).try_for_each(sync_parent)
}

/// Bytes that this user may still write where `folder` is; `None` where the system does not tell.
#[cfg(unix)]
pub fn free_space(folder: &Path) -> Result<Option<u64>> {
    let s = rustix::fs::statvfs(folder).map_err(|e| Error::io("look at", folder)(e.into()))?;
    Ok(Some(s.f_bavail.saturating_mul(s.f_frsize)))
}

/// Bytes that this user may still write where `folder` is; `None` where the system does not tell.
#[cfg(not(unix))]
pub fn free_space(folder: &Path) -> Result<Option<u64>> {
    fs::metadata(folder).map_err(Error::io("look at", folder)).map(|_| None)
}

/// Size in bytes of a regular file (or a link to one).
///
/// Errors: those of `kind` when it is missing, a folder, a pipe or a device: opening the latter could
/// block for ever.
pub fn regular_size(path: &Path, kind: FileKind) -> Result<u64> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_file() => Ok(meta.len()),
        Ok(meta) if meta.is_dir() => {
            Err(kind.error(path, "is a folder: name the files in it instead".into()))
        }
        Ok(_) => Err(kind.error(path, "is not a regular file".into())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(kind.error(path, kind.missing().into()))
        }
        Err(e) => Err(Error::io("read", path)(e)),
    }
}

/// Whole content of a regular file of at most `limit` bytes.
pub fn read_limited(path: &Path, limit: u64, kind: FileKind) -> Result<Vec<u8>> {
    let size = regular_size(path, kind)?;
    if size > limit {
        return Err(kind.error(
            path,
            format!("{size} bytes is more than the {limit} bytes such a file may have"),
        ));
    }
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size as usize).map_err(|_| {
        Error::Memory(format!("{}: no memory for its {size} bytes", path.display()))
    })?;
    let file = File::open(path).map_err(Error::io("open", path))?;
    // The file may have grown since its size was asked for.
    let most = limit.saturating_add(1);
    file.take(most).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    if bytes.len() as u64 > limit {
        return Err(kind.error(path, format!("grew beyond {limit} bytes while it was read")));
    }
    Ok(bytes)
}

/// Most bytes of a small text: configurations, states, manifests. Anything larger is not ours.
const SMALL: u64 = 64 << 20;

/// Text of a small file.
pub fn read_small(path: &Path, kind: FileKind) -> Result<String> {
    String::from_utf8(read_limited(path, SMALL, kind)?)
        .map_err(|_| kind.error(path, "not UTF-8 text".into()))
}

/// Writes `bytes` so that `path` is either absent, as before, or complete: temporary file, fsync,
/// rename, fsync of the folder.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let staged = temporary(path);
    let renamed = || fs::rename(&staged, path).map_err(Error::io("rename", &staged));
    if let Err(e) = write_synced(&staged, bytes).and_then(|()| renamed()) {
        // This error is what the user must hear of; a failing clean-up adds nothing to it.
        let _ = fs::remove_file(&staged);
        return Err(e);
    }
    sync_parent(path)
}

/// Creates `path` anew, writes `bytes` and syncs them.
pub fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = create(path)?;
    file.write_all(bytes).map_err(Error::io("write", path))?;
    file.sync_all().map_err(Error::io("sync", path))
}

/// Creates `path` anew. A leftover is removed rather than truncated, so that a link planted there
/// is not followed.
pub fn create(path: &Path) -> Result<File> {
    remove(path)?;
    File::options()
        .write(true)
        .read(true)
        .create_new(true)
        .open(path)
        .map_err(Error::io("create", path))
}

/// Removes a file; one that is not there counts as removed.
pub fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Makes renames in `folder` survive a power failure, where a folder can be synced.
pub fn sync_folder(folder: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io("sync", folder))?;
    }
    Ok(())
}

/// Makes the entry of `path` in its folder survive a power failure.
pub fn sync_parent(path: &Path) -> Result<()> {
    let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sync_folder(parent)
}

/// Whether `name` is a plain file name: no separator, no `.` or `..`, nothing hidden.
pub fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.len() <= 255
        && !name.contains(['/', '\\', '\0'])
}
