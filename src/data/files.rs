//! Durable writes and careful reads, shared by the files of this room.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use xxhash_rust::xxh3::Xxh3;

use crate::error::{Error, Result};

/// Name a file carries until it is complete: hidden, in the same folder (a rename must not cross
/// file systems).
pub fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.tmp"))
}

/// Size in bytes of a regular file (or a link to one).
///
/// Errors: [`Error::Data`] when it is missing, a folder, a pipe or a device: opening those could
/// block for ever.
pub fn regular_size(path: &Path) -> Result<u64> {
    match fs::metadata(path) {
        Ok(meta) if meta.is_file() => Ok(meta.len()),
        Ok(meta) if meta.is_dir() => {
            Err(Error::data(path, "is a folder: name the files in it instead"))
        }
        Ok(_) => Err(Error::data(path, "is not a regular file")),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::data(path, "does not exist; check the path"))
        }
        Err(e) => Err(Error::io("read", path)(e)),
    }
}

/// Whole content of a file of at most `limit` bytes.
pub fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let size = regular_size(path)?;
    if size > limit {
        return Err(Error::data(
            path,
            format!("{size} bytes is more than the {limit} bytes such a file may have"),
        ));
    }
    let mut bytes = Vec::with_capacity(size as usize);
    let file = File::open(path).map_err(Error::io("open", path))?;
    // `take` again: the file may have grown since its size was asked for.
    file.take(limit).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok(bytes)
}

/// Writes `bytes` so that `path` is either absent, as before, or complete: temporary file, fsync,
/// rename. The folder itself is synced by [`sync_folder`].
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    let staged = temporary(path);
    let mut file = create(&staged)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    if let Err(e) = written {
        // The write error is what the user must hear of; a failing clean-up adds nothing to it.
        let _ = fs::remove_file(&staged);
        return Err(Error::io("write", &staged)(e));
    }
    fs::rename(&staged, path).map_err(Error::io("rename", &staged))
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

/// Makes renames in `folder` survive a power failure.
pub fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io("sync", folder))
}

/// Size and xxh3-64 of a file. `stop` is looked at after every mebibyte; `seen` is told of the
/// bytes read.
pub fn fingerprint(
    path: &Path,
    stop: &AtomicBool,
    seen: &mut dyn FnMut(u64),
) -> Result<(u64, u64)> {
    regular_size(path)?;
    let mut file = File::open(path).map_err(Error::io("open", path))?;
    let (mut hasher, mut buffer, mut size) = (Xxh3::new(), vec![0; 1 << 20], 0u64);
    loop {
        check_stop(stop)?;
        match file.read(&mut buffer).map_err(Error::io("read", path))? {
            0 => return Ok((size, hasher.digest())),
            n => {
                hasher.update(&buffer[..n]);
                size += n as u64;
                seen(n as u64);
            }
        }
    }
}

/// Fails with [`Error::Interrupted`] once `stop` is set.
pub fn check_stop(stop: &AtomicBool) -> Result<()> {
    if stop.load(Ordering::Relaxed) {
        return Err(Error::Interrupted(
            "stopped by a signal before the dataset was complete; run the same command again"
                .into(),
        ));
    }
    Ok(())
}

/// Whether `name` is a plain file name: no separator, no `.` or `..`, nothing hidden.
pub fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && name.len() <= 255
        && !name.contains(['/', '\\', '\0'])
}
