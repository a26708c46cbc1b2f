//! The readers take paths: a file in memory, where the system has such a place.

use std::path::{Path, PathBuf};

/// Writes `bytes` to a file of this name in a folder of this process.
pub fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let base = Path::new("/dev/shm");
    let base = if base.is_dir() { base.to_path_buf() } else { std::env::temp_dir() };
    let folder = base.join(format!("chtsl-fuzz-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join(name);
    std::fs::write(&path, bytes).expect("a file");
    path
}
