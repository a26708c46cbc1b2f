//! From paths to a checked token stream: a prepared folder, or bare `.bin` shards of any origin.

use std::path::{Path, PathBuf};

use super::folder::MARKER_FILE;
use super::header::Width;
use super::manifest::{MANIFEST_FILE, Manifest, ShardEntry, Split};
use super::shard::Shard;
use super::stream::TokenStream;
use crate::error::{Error, Result};
use crate::files::{self, FileKind};

/// llm.c's u16 shards are GPT-2's, whose documents are set apart by this id.
const GPT2_EOT: u32 = 50_256;
/// Its u32 shards are Llama 3's, which it sets apart by `<|begin_of_text|>`.
const LLAMA3_BOT: u32 = 128_000;

/// A stream and what is known of it.
pub struct Opened {
    pub stream: TokenStream,
    pub manifest: Option<Manifest>,
    /// Folder or first file, for messages.
    pub path: PathBuf,
    /// Id that sets documents apart, when known.
    pub eos: Option<u32>,
}

/// Opens one split of `paths`: one folder, or `.bin` files. `eos` serves foreign shards only.
pub fn open(paths: &[PathBuf], split: Split, eos: Option<u32>) -> Result<Opened> {
    let Some(first) = paths.first() else {
        return Err(Error::Config("--data: name a dataset folder or .bin shards".into()));
    };
    if !first.is_dir() {
        if let Some(folder) = paths.iter().find(|p| p.is_dir()) {
            return Err(Error::data(folder, "is a folder: name one folder, or files only"));
        }
        return bare(first, files_of(paths, split)?, eos);
    }
    if paths.len() > 1 {
        return Err(Error::data(first, "is a folder: name one folder, or files only"));
    }
    if first.join(MANIFEST_FILE).exists() {
        return prepared(first, split);
    }
    bare_folder(first, split, eos)
}

/// Every split of a folder of bare shards, by the same rules as [`open`].
pub fn bare_splits(folder: &Path) -> Result<Vec<(Split, Opened)>> {
    unfinished(folder)?;
    let files = shard_files(folder)?;
    let mut found = Vec::new();
    for split in [Split::Train, Split::Val] {
        if files.iter().any(|path| split_of(path) == Some(split)) {
            found.push((split, bare_folder(folder, split, None)?));
        }
    }
    if found.is_empty() { Err(no_split(folder, Split::Train)) } else { Ok(found) }
}

fn bare_folder(folder: &Path, split: Split, eos: Option<u32>) -> Result<Opened> {
    unfinished(folder)?;
    let opened = bare(folder, folder_files(folder, split)?, eos)?;
    // A folder of our own shards has lost its manifest, and with it the checks that name them all.
    if opened.stream.shards().any(|s| s.spare().is_some()) {
        return Err(Error::data(
            folder.join(MANIFEST_FILE),
            "is missing; run `chtsl prepare` again, or name the .bin files themselves to use them \
             without tokenizer",
        ));
    }
    Ok(opened)
}

fn unfinished(folder: &Path) -> Result<()> {
    if folder.join(MARKER_FILE).exists() {
        return Err(Error::data(
            folder,
            "holds an unfinished dataset: `chtsl prepare` is still at work or was killed; run it \
             again",
        ));
    }
    Ok(())
}

fn prepared(folder: &Path, split: Split) -> Result<Opened> {
    let manifest = Manifest::load(folder)?;
    let tokenizer = folder.join(&manifest.tokenizer.file);
    let hash =
        xxhash_rust::xxh3::xxh3_64(&files::read_limited(&tokenizer, 1 << 28, FileKind::Data)?);
    if hash != manifest.tokenizer.xxh3.0 {
        return Err(Error::data(
            tokenizer,
            format!(
                "hash is {hash:016x}, dataset.json says {:016x}: changed since the dataset was \
                 prepared; restore it or prepare again",
                manifest.tokenizer.xxh3.0
            ),
        ));
    }
    let Some(entry) = manifest.split(split).filter(|s| !s.shards.is_empty()) else {
        return Err(no_split(folder, split));
    };
    let mut shards = Vec::with_capacity(entry.shards.len());
    for expected in &entry.shards {
        let shard = Shard::open(folder.join(&expected.file))?;
        check_member(&shard, expected, &manifest)?;
        shards.push(shard);
    }
    Ok(Opened {
        stream: TokenStream::from_shards(shards),
        path: folder.to_path_buf(),
        eos: Some(manifest.eos_id),
        manifest: Some(manifest),
    })
}

/// Whether a shard is the one its manifest means. Headers only: [`Shard::verify`] reads the payload.
///
/// Errors: [`Error::Data`] naming what differs: tokens, payload hash, largest id, fingerprint,
/// vocabulary or EOS id.
pub fn check_member(shard: &Shard, expected: &ShardEntry, manifest: &Manifest) -> Result<()> {
    let fail = |what: String| {
        Err(Error::data(
            shard.path(),
            format!("{what}: not the shard this dataset was made with; prepare it again"),
        ))
    };
    let Some(spare) = shard.spare() else {
        return fail("was written by another program than the one of dataset.json".into());
    };
    let pairs = [
        ("tokens", shard.len(), expected.tokens),
        ("payload hash", spare.payload_hash, expected.xxh3.0),
        ("largest id", u64::from(spare.max_id.unwrap_or(0)), u64::from(expected.max_id)),
        ("fingerprint", spare.fingerprint, manifest.fingerprint.0),
        ("vocabulary", u64::from(spare.vocab), manifest.vocab_size as u64),
        ("EOS id", u64::from(spare.eos.unwrap_or(0)), u64::from(manifest.eos_id)),
    ];
    match pairs.into_iter().find(|(_, found, want)| found != want) {
        Some((what, found, want)) => {
            fail(format!("{what} in the header is {found}, dataset.json says {want}"))
        }
        None => Ok(()),
    }
}

fn bare(path: &Path, files: Vec<PathBuf>, eos: Option<u32>) -> Result<Opened> {
    let shards = files.iter().map(Shard::open).collect::<Result<Vec<_>>>()?;
    let mut known: Option<(u32, &Shard)> = None;
    for shard in &shards {
        let Some(id) = shard.spare().and_then(|s| s.eos) else { continue };
        match known {
            Some((other, first)) if other != id => {
                return Err(Error::data(
                    shard.path(),
                    format!(
                        "ends documents with id {id}, but {} with {other}: shards of different \
                         datasets cannot be joined",
                        first.path().display()
                    ),
                ));
            }
            _ => known = Some((id, shard)),
        }
    }
    let usual = shards.first().map(|s| usual_eos(s.width()));
    let eos = known.map(|(id, _)| id).or(eos).or(usual);
    Ok(Opened {
        stream: TokenStream::from_shards(shards),
        manifest: None,
        path: path.to_path_buf(),
        eos,
    })
}

/// Id that sets documents apart in foreign shards of this width, as llm.c writes them.
pub fn usual_eos(width: Width) -> u32 {
    match width {
        Width::U16 => GPT2_EOT,
        Width::U32 => LLAMA3_BOT,
    }
}

fn no_split(path: &Path, split: Split) -> Error {
    let advice = match split {
        Split::Train => "name shards with \"train\" in their file names",
        Split::Val => {
            "prepare it with --val-input or --val-fraction, or name shards with \"val\" in their \
             file names"
        }
    };
    Error::data(path, format!("has no {split} split; {advice}"))
}

/// Split a shard belongs to by its file name.
fn split_of(path: &Path) -> Option<Split> {
    let name = path.file_stem()?.to_string_lossy().to_ascii_lowercase();
    // Whole words: "interval" must not count as validation.
    name.split(|c: char| !c.is_alphanumeric()).find_map(|word| {
        if word.starts_with("train") {
            Some(Split::Train)
        } else {
            word.starts_with("val").then_some(Split::Val)
        }
    })
}

fn files_of(paths: &[PathBuf], split: Split) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        files::regular_size(path, FileKind::Data)?;
        match split_of(path) {
            Some(of) if of == split => files.push(path.clone()),
            Some(_) => {}
            None => {
                return Err(Error::data(
                    path,
                    "cannot tell its split: rename it so that \"train\" or \"val\" starts a word \
                     of its name",
                ));
            }
        }
    }
    if files.is_empty() { Err(no_split(&paths[0], split)) } else { Ok(files) }
}

/// The `.bin` files of a folder, in order of their names.
fn shard_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).map_err(Error::io("list", folder))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(Error::io("list", folder))?.path();
        if path.extension().is_some_and(|e| e == "bin") {
            files.push(path);
        }
    }
    if files.is_empty() {
        return Err(Error::data(
            folder,
            "holds neither dataset.json nor .bin shards; make a dataset with `chtsl prepare --out`",
        ));
    }
    files.sort();
    Ok(files)
}

fn folder_files(folder: &Path, split: Split) -> Result<Vec<PathBuf>> {
    let mut files = shard_files(folder)?;
    files.retain(|path| split_of(path) == Some(split));
    if files.is_empty() { Err(no_split(folder, split)) } else { Ok(files) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_read_from_names() {
        for (name, split) in [
            ("fineweb_train_000001.bin", Some(Split::Train)),
            ("fineweb_val_000000.bin", Some(Split::Val)),
            ("TinyStories-validation.bin", Some(Split::Val)),
            ("interval_train.bin", Some(Split::Train)),
            ("interval.bin", None),
        ] {
            assert_eq!(split_of(Path::new(name)), split, "{name}");
        }
    }
}
