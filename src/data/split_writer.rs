//! The shards of one split, written one after the other.

use std::path::Path;

use super::encode::Vocabulary;
use super::folder::shard_name;
use super::manifest::{Hash64, ShardEntry, Split, SplitEntry};
use super::shard_writer::ShardWriter;
use crate::error::Result;

/// The shards of one split.
pub struct SplitWriter<'a> {
    folder: &'a Path,
    split: Split,
    shard_tokens: u64,
    vocabulary: Vocabulary,
    fingerprint: u64,
    current: Option<(ShardWriter, u64)>,
    entry: SplitEntry,
}

impl<'a> SplitWriter<'a> {
    /// Writer for `folder` whose shards hold up to `shard_tokens` tokens; only a single longer
    /// document makes a longer one.
    pub fn new(
        folder: &'a Path,
        split: Split,
        shard_tokens: u64,
        vocabulary: Vocabulary,
        fingerprint: u64,
    ) -> Self {
        let entry = SplitEntry::default();
        SplitWriter { folder, split, shard_tokens, vocabulary, fingerprint, current: None, entry }
    }

    /// Appends one document; starts the next shard when it does not fit the current one.
    pub fn push(&mut self, ids: &[u32], text_bytes: u64) -> Result<()> {
        let full = |(w, _): &(ShardWriter, u64)| w.tokens() + ids.len() as u64 > self.shard_tokens;
        if self.current.as_ref().is_some_and(full) {
            self.close()?;
        }
        let (writer, documents) = match &mut self.current {
            Some(current) => current,
            none => {
                let path = self.folder.join(shard_name(self.split, self.entry.shards.len()));
                let Vocabulary { size, eos, .. } = self.vocabulary;
                none.insert((ShardWriter::create(&path, size, Some(eos), self.fingerprint)?, 0))
            }
        };
        writer.push(ids)?;
        *documents += 1;
        self.entry.documents += 1;
        self.entry.tokens += ids.len() as u64;
        self.entry.text_bytes += text_bytes;
        Ok(())
    }

    fn close(&mut self) -> Result<()> {
        let Some((writer, documents)) = self.current.take() else { return Ok(()) };
        let file = shard_name(self.split, self.entry.shards.len());
        let done = writer.finish()?;
        self.entry.shards.push(ShardEntry {
            file,
            tokens: done.tokens,
            documents,
            xxh3: Hash64(done.payload_hash),
            max_id: done.max_id,
        });
        Ok(())
    }

    /// Closes the last shard; says what has been written.
    pub fn finish(mut self) -> Result<SplitEntry> {
        self.close()?;
        Ok(self.entry)
    }
}
