//! Shards and dataset folders.

use std::path::Path;

use serde_json::{Value, json};

use super::histogram::Histogram;
use crate::data::{Manifest, Shard, Split, Tokenizer};
use crate::error::{Error, Result};

/// Tokens read at once.
const CHUNK: usize = 1 << 16;
/// Characters of a document that are shown.
const SHOWN: usize = 240;

/// A shard by itself; ids only, unless the dataset's folder is around it.
pub fn shard(path: &Path, texts: usize) -> Result<Value> {
    let s = Shard::open(path)?;
    s.verify()?;
    let manifest = path.parent().and_then(|folder| Manifest::load(folder).ok());
    let tokenizer = match (&manifest, path.parent()) {
        (Some(m), Some(folder)) => Some(Tokenizer::load(folder.join(&m.tokenizer.file))?),
        _ => None,
    };
    let eos = s.spare().and_then(|spare| spare.eos);
    let mut first = vec![0; (s.len() as usize).min(32)];
    s.read(0..first.len() as u64, &mut first)?;
    let mut found = Documents::default();
    if let Some(eos) = eos {
        found.read(&s, eos, texts)?;
    }
    Ok(json!({
        "shard": path.display().to_string(),
        "tokens": s.len(),
        "bytes_per_token": s.width().bytes(),
        "vocabulary": s.spare().map(|spare| spare.vocab),
        "end_of_document": eos,
        "largest_id": s.max_id(),
        "content": if s.spare().is_some() { "hash verified" } else { "no hash in the file" },
        "documents": eos.map(|_| found.count),
        "tokens_per_document": found.lengths.json(),
        "first_ids": first,
        "first_texts": found.texts(tokenizer.as_ref())?,
    }))
}

/// A folder made by `prepare`: every shard read and checked.
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
        let mut found = Documents::default();
        for entry in &s.shards {
            let shard = Shard::open(path.join(&entry.file))?;
            shard.verify()?;
            found.read(&shard, m.eos_id, texts)?;
        }
        Ok(Some(json!({
            "documents": s.documents,
            "tokens": s.tokens,
            "text_bytes": s.text_bytes,
            "bytes_per_token": s.text_bytes as f64 / s.tokens.max(1) as f64,
            "shards": s.shards.iter().map(|s| s.file.clone()).collect::<Vec<_>>(),
            "content": "hashes verified",
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

/// Documents met while reading shards in order.
#[derive(Default)]
struct Documents {
    count: u64,
    lengths: Histogram,
    /// Ids of the document being read, up to what may be shown of it.
    open: Vec<u32>,
    open_len: u64,
    first: Vec<Vec<u32>>,
}

impl Documents {
    fn read(&mut self, shard: &Shard, eos: u32, keep: usize) -> Result<()> {
        let mut ids = vec![0; CHUNK];
        let mut at = 0;
        while at < shard.len() {
            let n = (shard.len() - at).min(CHUNK as u64);
            let ids = &mut ids[..n as usize];
            shard.read(at..at + n, ids)?;
            for &id in &*ids {
                self.open_len += 1;
                if id == eos {
                    self.end(keep);
                } else if self.first.len() < keep && self.open.len() < SHOWN {
                    self.open.push(id);
                }
            }
            at += n;
        }
        // Shards of other programs may end without the id that ends a document.
        if self.open_len > 0 {
            self.end(keep);
        }
        Ok(())
    }

    fn end(&mut self, keep: usize) {
        self.count += 1;
        self.lengths.add(self.open_len);
        let ids = std::mem::take(&mut self.open);
        if self.first.len() < keep {
            self.first.push(ids);
        }
        self.open_len = 0;
    }

    /// The first documents as text, shortened.
    fn texts(&self, tokenizer: Option<&Tokenizer>) -> Result<Vec<String>> {
        let Some(tokenizer) = tokenizer else { return Ok(Vec::new()) };
        let shorten = |text: String| match text.char_indices().nth(SHOWN) {
            Some((end, _)) => format!("{:?} ...", &text[..end]),
            None => format!("{text:?}"),
        };
        self.first.iter().map(|ids| tokenizer.decode(ids).map(shorten)).collect()
    }
}
