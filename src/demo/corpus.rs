//! The corpus as files: stories for training and validation, and the entropy of the latter.

use super::grammar::Grammar;
use super::story::{Document, document};
use crate::error::{Error, Result};
use crate::files::{FileKind, read_small};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Documents for training by default: about 3.9 million tokens of a byte-level BPE of 1024.
pub const TRAIN_DOCUMENTS: u32 = 64_000;

/// Documents for validation by default: about 100 thousand tokens.
pub const VALID_DOCUMENTS: u32 = 1_700;

/// The documents of the corpus with `seed` at `indices`; each is a pure function of (seed, index).
pub fn generate(seed: u64, indices: Range<u32>) -> impl Iterator<Item = Document> {
    let grammar = Grammar::story();
    indices.map(move |index| document(&grammar, seed, index))
}

/// What `demo.json` records, so that a resumed run can state the bound without the generator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DemoInfo {
    /// Seed of the corpus.
    pub seed: u64,
    /// Documents for training: indices from `valid_documents` on.
    pub documents: u32,
    /// Documents for validation: indices from 0.
    pub valid_documents: u32,
    /// `-ln p` of all validation documents, their ends included. Divided by the tokens scored, the
    /// ends of documents among them, it is the lowest loss that can be expected of any model.
    pub valid_nats: f64,
    /// Bytes of text of the validation documents.
    pub valid_bytes: u64,
}

/// A corpus on disk: `train.jsonl`, `valid.jsonl` and `demo.json` in one folder.
#[derive(Clone, Debug, PartialEq)]
pub struct DemoCorpus {
    /// One `{"text": ...}` per line.
    pub train: PathBuf,
    /// One `{"text": ...}` per line.
    pub valid: PathBuf,
    /// Sizes and entropy.
    pub info: DemoInfo,
}

#[derive(Serialize)]
struct Line<'a> {
    text: &'a str,
}

impl DemoCorpus {
    /// Writes the corpus into `folder`, which is created; `demo.json` comes last, so that a folder
    /// that has it is complete.
    pub fn write(folder: &Path, seed: u64, documents: u32, valid_documents: u32) -> Result<Self> {
        let end = valid_documents.checked_add(documents).ok_or_else(|| {
            Error::Config(format!(
                "{documents} + {valid_documents} documents: at most {}",
                u32::MAX
            ))
        })?;
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let (train, valid, record) = paths(folder);
        let (valid_nats, valid_bytes) = write_lines(&valid, seed, 0..valid_documents)?;
        write_lines(&train, seed, valid_documents..end)?;
        let info = DemoInfo { seed, documents, valid_documents, valid_nats, valid_bytes };
        let json = serde_json::to_string_pretty(&info).map_err(|e| Error::data(&record, e))?;
        std::fs::write(&record, json + "\n").map_err(Error::io("write", &record))?;
        Ok(DemoCorpus { train, valid, info })
    }

    /// The corpus that [`DemoCorpus::write`] left in `folder`.
    pub fn open(folder: &Path) -> Result<Self> {
        let (train, valid, record) = paths(folder);
        let json = read_small(&record, FileKind::Data)?;
        let info = serde_json::from_str(&json).map_err(|e| Error::data(&record, e))?;
        Ok(DemoCorpus { train, valid, info })
    }
}

fn paths(folder: &Path) -> (PathBuf, PathBuf, PathBuf) {
    (folder.join("train.jsonl"), folder.join("valid.jsonl"), folder.join("demo.json"))
}

/// Writes documents as JSON lines; returns their nats and bytes of text.
fn write_lines(path: &Path, seed: u64, indices: Range<u32>) -> Result<(f64, u64)> {
    let file = File::create(path).map_err(Error::io("create", path))?;
    let mut out = BufWriter::with_capacity(1 << 20, file);
    let (mut nats, mut bytes) = (0.0, 0);
    for document in generate(seed, indices) {
        serde_json::to_writer(&mut out, &Line { text: &document.text })
            .map_err(|e| Error::io("write", path)(e.into()))?;
        out.write_all(b"\n").map_err(Error::io("write", path))?;
        nats += document.nats;
        bytes += document.text.len() as u64;
    }
    out.flush().map_err(Error::io("write", path))?;
    Ok((nats, bytes))
}
