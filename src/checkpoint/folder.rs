//! Finding, verifying and reading checkpoint folders.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3Default, xxh3_64};

use super::state::{FORMAT, State};
use super::tensors::TensorFile;
use crate::config::{Config, layers};
use crate::error::{Error, Result};
use crate::files::{FileKind, hash_text, is_plain_name, read_small};

/// Folder of the checkpoints inside a run.
pub const CHECKPOINTS: &str = "checkpoints";
/// The file that makes a folder a checkpoint.
pub const MANIFEST: &str = "manifest.json";

/// Hashes and sizes of the files of a checkpoint.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the format.
    pub format: u32,
    /// Version of the program that wrote it.
    pub program: String,
    /// Updates done.
    pub step: u64,
    /// By file name.
    pub files: BTreeMap<String, FileEntry>,
    /// xxh3-64 of this manifest as compact JSON without this field, hexadecimal; since format 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checksum: Option<String>,
}

impl Manifest {
    /// What [`Manifest::checksum`] must be.
    pub fn digest(&self) -> String {
        let rest = Manifest { checksum: None, ..self.clone() };
        hash_text(xxh3_64(serde_json::to_string(&rest).expect("plain data").as_bytes()))
    }
}

/// One file of a checkpoint.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    /// Size in bytes.
    pub bytes: u64,
    /// xxh3-64 of the content, hexadecimal.
    pub xxh3: String,
}

/// A verified checkpoint.
pub struct Checkpoint {
    /// Its folder.
    pub path: PathBuf,
    /// Its files.
    pub manifest: Manifest,
    /// The run's configuration.
    pub config: Config,
    /// Position of the run.
    pub state: State,
}

impl Checkpoint {
    /// Opens and verifies `path`: every listed file present with the listed size and hash.
    pub fn open(path: &Path) -> Result<Self> {
        let manifest = read_manifest(path)?;
        for (name, entry) in &manifest.files {
            let file = path.join(name);
            let (bytes, hash) = hash_file(&file, entry.bytes)?;
            if bytes != entry.bytes || hash != entry.xxh3 {
                return Err(Error::checkpoint(
                    &file,
                    format!(
                        "damaged: {bytes} bytes with hash {hash}, the manifest lists {} with {}; \
                         use an earlier checkpoint or --resume auto",
                        entry.bytes, entry.xxh3
                    ),
                ));
            }
        }
        let text = read_small(&path.join("config.toml"), FileKind::Checkpoint)?;
        let table =
            layers::table(&text).map_err(|e| Error::checkpoint(path.join("config.toml"), e))?;
        let config = layers::parse(table)
            .and_then(|c| c.validate().map(|()| c))
            .map_err(|e| Error::checkpoint(path.join("config.toml"), e))?;
        let file = path.join("state.json");
        let state: State = serde_json::from_str(&read_small(&file, FileKind::Checkpoint)?)
            .map_err(|e| Error::checkpoint(&file, format!("not a state of this version: {e}")))?;
        if state.step != manifest.step {
            return Err(Error::checkpoint(&file, "state and manifest name different steps"));
        }
        Ok(Checkpoint { path: path.into(), manifest, config, state })
    }

    /// The weights.
    pub fn model(&self) -> Result<TensorFile> {
        TensorFile::open(&self.path.join("model.safetensors"))
    }

    /// Moments, ages and positions ever active.
    pub fn optimizer(&self) -> Result<TensorFile> {
        TensorFile::open(&self.path.join("optim.safetensors"))
    }

    /// Path of the tokenizer, if the checkpoint has one.
    pub fn tokenizer(&self) -> Option<PathBuf> {
        let path = self.path.join("tokenizer.json");
        self.manifest.files.contains_key("tokenizer.json").then_some(path)
    }
}

fn missing(path: &Path, e: std::io::Error) -> Error {
    match e.kind() {
        std::io::ErrorKind::NotFound => Error::checkpoint(
            path,
            "is missing; name a folder checkpoints/step-NNNNNNNN or a run folder that has one",
        ),
        _ => Error::Io { action: "read", path: path.into(), source: e },
    }
}

/// Reads and checks the manifest of a checkpoint folder.
pub fn read_manifest(path: &Path) -> Result<Manifest> {
    let file = path.join(MANIFEST);
    let text = read_small(&file, FileKind::Checkpoint)?;
    // First what every format has: a later one may have other fields.
    #[derive(Deserialize)]
    struct Head {
        format: u32,
        program: String,
    }
    let not = |e: serde_json::Error| Error::checkpoint(&file, format!("not a manifest: {e}"));
    let head: Head = serde_json::from_str(&text).map_err(not)?;
    if !(1..=FORMAT).contains(&head.format) {
        return Err(Error::checkpoint(
            &file,
            format!(
                "has format {} written by version {}, this program reads formats 1 to {FORMAT}",
                head.format, head.program
            ),
        ));
    }
    let manifest: Manifest = serde_json::from_str(&text).map_err(not)?;
    if manifest.checksum != (manifest.format > 1).then(|| manifest.digest()) {
        return Err(Error::checkpoint(
            &file,
            "damaged: its checksum does not fit; use an earlier checkpoint or --resume auto",
        ));
    }
    for name in ["model.safetensors", "optim.safetensors", "state.json", "config.toml"] {
        if !manifest.files.contains_key(name) {
            return Err(Error::checkpoint(&file, format!("does not list {name}")));
        }
    }
    for name in manifest.files.keys() {
        if !is_plain_name(name) {
            return Err(Error::checkpoint(&file, format!("lists {name:?}, not a plain file name")));
        }
    }
    Ok(manifest)
}

/// Size and hash of a regular file; reads at most one byte more than `expected`.
pub(super) fn hash_file(path: &Path, expected: u64) -> Result<(u64, String)> {
    let meta = std::fs::symlink_metadata(path).map_err(|e| missing(path, e))?;
    if !meta.is_file() {
        return Err(Error::checkpoint(path, "is not a regular file"));
    }
    let file = std::fs::File::open(path).map_err(|e| missing(path, e))?;
    let mut reader = file.take(expected.saturating_add(1));
    let (mut hash, mut bytes) = (Xxh3Default::new(), 0);
    let mut buffer = vec![0; 1 << 20];
    loop {
        let n = reader.read(&mut buffer).map_err(Error::io("read", path))?;
        if n == 0 {
            return Ok((bytes, hash_text(hash.digest())));
        }
        hash.update(&buffer[..n]);
        bytes += n as u64;
    }
}

/// Name of the folder of the checkpoint after `step` updates.
pub fn name(step: u64) -> String {
    format!("step-{step:08}")
}

/// Checkpoint folders of a run, oldest first, whether they verify or not.
pub fn list(run: &Path) -> Result<Vec<(u64, PathBuf)>> {
    let dir = run.join(CHECKPOINTS);
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&dir).map_err(Error::io("read", &dir))? {
        let entry = entry.map_err(Error::io("read", &dir))?;
        let file = entry.file_name();
        let step = file
            .to_str()
            .and_then(|n| n.strip_prefix("step-"))
            .filter(|d| d.len() >= 8 && d.bytes().all(|b| b.is_ascii_digit()))
            .and_then(|d| d.parse().ok());
        if let Some(step) = step {
            found.push((step, entry.path()));
        }
    }
    found.sort();
    Ok(found)
}

/// The newest checkpoint of a run that verifies; a damaged newer one is warned of by name.
pub fn latest(run: &Path) -> Result<Option<Checkpoint>> {
    for (_, path) in list(run)?.into_iter().rev() {
        match Checkpoint::open(&path) {
            Ok(c) => return Ok(Some(c)),
            Err(e) => tracing::warn!("skipping a damaged checkpoint: {e}"),
        }
    }
    Ok(None)
}

/// The checkpoint at `path`: a checkpoint folder, or a run folder's newest.
pub fn find(path: &Path) -> Result<Checkpoint> {
    if path.join(CHECKPOINTS).is_dir() && !path.join(MANIFEST).exists() {
        return latest(path)?
            .ok_or_else(|| Error::checkpoint(path, "this run has no complete checkpoint yet"));
    }
    Checkpoint::open(path)
}
