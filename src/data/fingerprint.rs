//! Hashes of input files.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use xxhash_rust::xxh3::Xxh3;

use super::stop::check_stop;
use crate::error::{Error, Result};
use crate::files::{FileKind, regular_size};

/// Size and xxh3-64 of a file. `stop` is looked at after every mebibyte; `seen` is told of the
/// bytes read.
pub fn fingerprint(
    path: &Path,
    stop: &AtomicBool,
    seen: &mut dyn FnMut(u64),
) -> Result<(u64, u64)> {
    regular_size(path, FileKind::Data)?;
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
