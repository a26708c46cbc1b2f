//! Shards and dataset folders.

use std::path::Path;

use serde_json::{Value, json};

use super::histogram::Histogram;
use crate::data::manifest::ShardEntry;
use crate::data::{
    MARKER_FILE, Manifest, Shard, Split, Tokenizer, bare_splits, check_member, usual_eos,
};
use crate::error::{Error, Result};

/// Tokens read at once.
const CHUNK: usize = 1 << 16;
/// Characters of a document that are shown.
const SHOWN: usize = 240;
/// Ids that are shown of a shard.
const FIRST_IDS: usize = 32;
/// Where the id that sets documents apart comes from, in a shard that does not say.
const ASSUMED: &str = "assumed, as llm.c writes shards of this width";

/// A shard by itself, or as part of the dataset whose folder it lies in. Its text comes from the
/// dataset's tokenizer or from `tokenizer`.
pub fn shard(path: &Path, texts: usize, tokenizer: Option<&Path>) -> Result<Value> {
    let s = Shard::open(path)?;
    s.verify()?;
    let folder = path.parent().unwrap_or(Path::new(""));
    // A manifest that cannot be read is an error of the folder, not of this file.
    let manifest = Manifest::load(folder).ok();
    let entry = manifest.as_ref().and_then(|m| entry(m, path));
    let content = match (&manifest, entry) {
        (Some(m), Some(entry)) => {
            check_member(&s, entry, m)?;
            "hash verified, and it is the shard that dataset.json lists"
        }
        (Some(_), None) => "dataset.json does not list it: compared with its own header only",
        (None, _) if s.spare().is_some() => "hash verified against the shard's own header",
        (None, _) => "the file has no hash to compare with",
    };
    let own = manifest.as_ref().filter(|_| entry.is_some()).map(|m| folder.join(&m.tokenizer.file));
    let tokenizer = tokenizer.map(Path::to_path_buf).or(own).map(Tokenizer::load).transpose()?;
    let named = s.spare().and_then(|spare| spare.eos);
    let eos = named.unwrap_or_else(|| usual_eos(s.width()));
    let mut found = Documents::new(eos, texts);
    found.read(&s)?;
    if let Some(entry) = entry {
        found.expect(path, entry.documents)?;
    }
    found.finish();
    Ok(json!({
        "shard": path.display().to_string(),
        "tokens": s.len(),
        "bytes_per_id": s.width().bytes(),
        "vocabulary": s.spare().map(|spare| spare.vocab),
        "end_of_document": eos,
        "end_of_document_from": if named.is_some() { "the header" } else { ASSUMED },
        "largest_id": s.max_id(),
        "content": content,
        "documents": found.lengths.count(),
        "tokens_per_document": found.lengths.json(),
        "first_ids": first_ids(&s)?,
        "first_texts": found.texts(tokenizer.as_ref())?,
    }))
}

/// What the manifest says of the shard at `path`.
fn entry<'a>(m: &'a Manifest, path: &Path) -> Option<&'a ShardEntry> {
    let name = path.file_name()?.to_str()?;
    let splits = [Split::Train, Split::Val].into_iter().filter_map(|split| m.split(split));
    splits.flat_map(|s| &s.shards).find(|s| s.file == name)
}

fn first_ids(s: &Shard) -> Result<Vec<u32>> {
    let mut ids = vec![0; (s.len() as usize).min(FIRST_IDS)];
    s.read(0..ids.len() as u64, &mut ids)?;
    Ok(ids)
}

/// A folder made by `prepare`: every shard is the one that the manifest lists, by header, payload hash
/// and number of documents.
pub fn folder(path: &Path, texts: usize) -> Result<Value> {
    let m = Manifest::load(path)?;
    let file = path.join(&m.tokenizer.file);
    let tokenizer = Tokenizer::load(&file)?;
    if tokenizer.hash() != m.tokenizer.xxh3.0 {
        return Err(Error::data(
            &file,
            "is not the tokenizer named in dataset.json; restore it, or delete the folder and prepare it \
             again",
        ));
    }
    let split = |which| -> Result<Option<Value>> {
        let Some(s) = m.split(which) else { return Ok(None) };
        let mut found = Documents::new(m.eos_id, texts);
        for entry in &s.shards {
            let shard = Shard::open(path.join(&entry.file))?;
            check_member(&shard, entry, &m)?;
            // The header's hash is the manifest's by now, so this compares the payload with both.
            shard.verify()?;
            let before = found.marks;
            found.read(&shard)?;
            found.expect(shard.path(), before + entry.documents)?;
        }
        found.finish();
        Ok(Some(json!({
            "documents": s.documents,
            "tokens": s.tokens,
            "text_bytes": s.text_bytes,
            "text_bytes_per_token": s.text_bytes as f64 / s.tokens.max(1) as f64,
            "shards": s.shards.iter().map(|s| s.file.clone()).collect::<Vec<_>>(),
            "content": "hashes, headers and numbers of documents are those of dataset.json",
            "tokens_per_document": found.lengths.json(),
            "first_texts": found.texts(Some(&tokenizer))?,
        })))
    };
    Ok(json!({
        "dataset": path.display().to_string(),
        "vocabulary": m.vocab_size,
        "end_of_document": m.eos_token,
        "tokenizer": if m.tokenizer.trained { "trained on this text" } else { "given" },
        "skipped": {
            "empty_documents": m.counts.empty_documents,
            "bad_lines": m.counts.bad_lines,
            "eos_inside_documents": m.counts.eos_inside,
            "ids_beyond_the_vocabulary": m.counts.beyond_vocab,
        },
        "train": split(Split::Train)?,
        "val": split(Split::Val)?,
    }))
}

/// Whether a folder holds shards, or what an unfinished `prepare` has left of them.
pub fn has_shards(folder: &Path) -> bool {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let is_shard = |name: &std::ffi::OsStr| {
        let name = name.to_string_lossy();
        name.ends_with(".bin") || name == MARKER_FILE
    };
    entries.map(|e| e.file_name()).any(|name| is_shard(&name))
}

/// A folder of llm.c shards, by the rules of `pretrain --data`; texts with a tokenizer only.
pub fn bare_folder(path: &Path, texts: usize, tokenizer: Option<&Path>) -> Result<Value> {
    let tokenizer = tokenizer.map(Tokenizer::load).transpose()?;
    let mut value = json!({
        "dataset": path.display().to_string(),
        "made_by": "another program: there is no dataset.json",
    });
    for (split, opened) in bare_splits(path)? {
        let shards: Vec<&Shard> = opened.stream.shards().collect();
        let eos = opened.eos.expect("bare shards have their width's");
        let mut found = Documents::new(eos, texts);
        // A document may go on in the next shard.
        shards.iter().try_for_each(|s| found.read(s))?;
        found.finish();
        let name =
            |s: &&Shard| s.path().file_name().unwrap_or_default().to_string_lossy().into_owned();
        value["end_of_document"] = eos.into();
        value["end_of_document_from"] = ASSUMED.into();
        value[split.to_string()] = json!({
            "documents": found.lengths.count(),
            "tokens": opened.stream.len(),
            "largest_id": shards.iter().map(|s| s.max_id()).max(),
            "shards": shards.iter().map(name).collect::<Vec<String>>(),
            "content": "the files have no hashes to compare with",
            "tokens_per_document": found.lengths.json(),
            "first_ids": shards.first().map(|s| first_ids(s)).transpose()?,
            "first_texts": found.texts(tokenizer.as_ref())?,
        });
    }
    Ok(value)
}

/// Documents met while reading shards in order. A document is what stands between two marks, the id
/// that ends it (`prepare`) or opens it (llm.c); two marks in a row enclose none.
struct Documents {
    mark: u32,
    /// How many are shown.
    keep: usize,
    marks: u64,
    /// Tokens of each, marks left out.
    lengths: Histogram,
    /// Ids of the document being read, up to what may be shown of it.
    open: Vec<u32>,
    open_len: u64,
    first: Vec<Vec<u32>>,
}

impl Documents {
    fn new(mark: u32, keep: usize) -> Self {
        let lengths = Histogram::default();
        Documents { mark, keep, marks: 0, lengths, open: vec![], open_len: 0, first: vec![] }
    }

    fn read(&mut self, shard: &Shard) -> Result<()> {
        let mut ids = vec![0; CHUNK];
        let mut at = 0;
        while at < shard.len() {
            let n = (shard.len() - at).min(CHUNK as u64);
            let ids = &mut ids[..n as usize];
            shard.read(at..at + n, ids)?;
            for &id in &*ids {
                if id == self.mark {
                    self.marks += 1;
                    self.finish();
                    continue;
                }
                self.open_len += 1;
                if self.first.len() < self.keep && self.open.len() < SHOWN {
                    self.open.push(id);
                }
            }
            at += n;
        }
        Ok(())
    }

    /// Ends the document being read, if one is.
    fn finish(&mut self) {
        if self.open_len == 0 {
            return;
        }
        self.lengths.add(self.open_len);
        let ids = std::mem::take(&mut self.open);
        if self.first.len() < self.keep {
            self.first.push(ids);
        }
        self.open_len = 0;
    }

    /// Fails unless `marks` have been met up to the end of the shard at `path`: `prepare` writes one
    /// behind each document.
    fn expect(&self, path: &Path, marks: u64) -> Result<()> {
        if self.marks == marks && self.open_len == 0 {
            return Ok(());
        }
        Err(Error::data(
            path,
            format!(
                "{} ends of documents up to here, dataset.json says {marks}{}: prepare the dataset \
                 again",
                self.marks,
                if self.open_len > 0 { ", and the last one is open" } else { "" }
            ),
        ))
    }

    /// The first documents as text, shortened; nothing without a tokenizer.
    fn texts(&self, tokenizer: Option<&Tokenizer>) -> Result<Option<Vec<String>>> {
        let Some(tokenizer) = tokenizer else { return Ok(None) };
        let shorten = |text: String| match text.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{:?} ...", &text[..end]),
            None => format!("{text:?}"),
        };
        let texts = self.first.iter().map(|ids| tokenizer.decode(ids).map(shorten));
        texts.collect::<Result<_>>().map(Some)
    }
}
