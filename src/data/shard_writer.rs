//! Writing one token shard: streamed, hashed on the way, complete or absent.

use std::fs::{self, File};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use xxhash_rust::xxh3::Xxh3;

use super::header::{HEADER_BYTES, Header, MAX_TOKENS, Spare, Width};
use crate::error::{Error, Result};
use crate::files;

/// Writes under a temporary name; [`ShardWriter::finish`] gives the final one. Dropped before
/// that, it takes its temporary file along.
pub struct ShardWriter {
    path: PathBuf,
    staged: PathBuf,
    /// `None` once finished.
    out: Option<BufWriter<File>>,
    width: Width,
    spare: Spare,
    tokens: u64,
    max_id: u32,
    hasher: Xxh3,
    bytes: Vec<u8>,
}

/// What a finished shard holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Number of tokens.
    pub tokens: u64,
    /// Largest id.
    pub max_id: u32,
    /// xxh3-64 of the payload bytes.
    pub payload_hash: u64,
}

impl ShardWriter {
    /// Starts the shard that will be `path`. `fingerprint` names the dataset it belongs to.
    pub fn create(path: &Path, vocab: usize, eos: Option<u32>, fingerprint: u64) -> Result<Self> {
        let staged = files::temporary(path);
        let file = files::create(&staged)?;
        let mut writer = ShardWriter {
            path: path.to_path_buf(),
            staged,
            out: Some(BufWriter::with_capacity(1 << 20, file)),
            width: Width::for_vocab(vocab),
            spare: Spare { vocab: vocab as u32, eos, fingerprint, ..Spare::default() },
            tokens: 0,
            max_id: 0,
            hasher: Xxh3::new(),
            bytes: Vec::new(),
        };
        // The place of the header; its words are known only at the end.
        writer.write_all(&[0; HEADER_BYTES])?;
        Ok(writer)
    }

    /// Tokens written so far.
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// Appends `ids`.
    ///
    /// Errors: [`Error::Data`] for an id outside the vocabulary or more tokens than a header can
    /// count, [`Error::Io`] when the disk refuses.
    pub fn push(&mut self, ids: &[u32]) -> Result<()> {
        let Some(&max) = ids.iter().max() else { return Ok(()) };
        if max >= self.spare.vocab {
            return Err(Error::data(
                &self.path,
                format!("id {max} is outside the vocabulary of {} ids", self.spare.vocab),
            ));
        }
        if self.tokens + ids.len() as u64 > MAX_TOKENS {
            return Err(Error::data(
                &self.path,
                format!("a shard holds at most {MAX_TOKENS} tokens; split the longest documents"),
            ));
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        match self.width {
            // Ids were checked against a vocabulary that fits the width.
            Width::U16 => ids.iter().for_each(|&id| bytes.extend((id as u16).to_le_bytes())),
            Width::U32 => ids.iter().for_each(|&id| bytes.extend(id.to_le_bytes())),
        }
        self.hasher.update(&bytes);
        let written = self.write_all(&bytes);
        self.bytes = bytes;
        written?;
        self.max_id = self.max_id.max(max);
        self.tokens += ids.len() as u64;
        Ok(())
    }

    /// Writes the header, syncs the file and gives it its final name.
    pub fn finish(mut self) -> Result<Finished> {
        let payload_hash = self.hasher.digest();
        let done = Finished { tokens: self.tokens, max_id: self.max_id, payload_hash };
        let max_id = (self.tokens > 0).then_some(self.max_id);
        let header = Header {
            width: self.width,
            tokens: self.tokens,
            spare: Some(Spare { max_id, payload_hash, ..self.spare }),
        };
        if let Some(out) = self.out.as_mut() {
            let ended = out
                .seek(SeekFrom::Start(0))
                .and_then(|_| out.write_all(&header.encode()))
                .and_then(|()| out.flush())
                .and_then(|()| out.get_ref().sync_all());
            ended.map_err(Error::io("write", &self.staged))?;
        }
        fs::rename(&self.staged, &self.path).map_err(Error::io("rename", &self.staged))?;
        self.out = None;
        Ok(done)
    }

    fn write_all(&mut self, bytes: &[u8]) -> Result<()> {
        match self.out.as_mut() {
            Some(out) => out.write_all(bytes).map_err(Error::io("write", &self.staged)),
            None => Ok(()),
        }
    }
}

impl Drop for ShardWriter {
    fn drop(&mut self) {
        if let Some(out) = self.out.take() {
            // Not flushed: the content is being thrown away.
            drop(out.into_parts());
            let _ = fs::remove_file(&self.staged);
        }
    }
}
