//! Reading token shards: a memory map with a checked [`header`](super::header).
//!
//! The only file of the room with `unsafe`: mapping a file. A mapped shard must not be truncated
//! while it is open: reading what is gone would end the process. `prepare` never changes a finished
//! shard, and [`Shard::read`] looks at the size first, which leaves a moment but not an hour.

use std::fs::File;
use std::ops::Range;
use std::path::{Path, PathBuf};

use memmap2::Mmap;
use rayon::prelude::*;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::header::{HEADER_BYTES, Header, Spare, Width};
use crate::error::{Error, Result};
use crate::files::{self, FileKind};

/// Tokens per parallel piece of a scan; fixed, so that results do not depend on the threads.
const SCAN: usize = 1 << 20;

/// One memory-mapped shard.
#[derive(Debug)]
pub struct Shard {
    path: PathBuf,
    header: Header,
    /// Which file was mapped: its name may belong to another one later.
    identity: Option<(u64, u64)>,
    map: Mmap,
}

/// Device and number of a file, where files have such.
fn identity(meta: &std::fs::Metadata) -> Option<(u64, u64)> {
    #[cfg(unix)]
    return Some((
        std::os::unix::fs::MetadataExt::dev(meta),
        std::os::unix::fs::MetadataExt::ino(meta),
    ));
    #[cfg(not(unix))]
    return Some((0, 0)).filter(|_| meta.is_file());
}

impl Shard {
    /// Maps the shard at `path` and checks magic, version and size against its header.
    ///
    /// Errors: [`Error::Data`] naming both values of whatever disagrees. The payload is not read:
    /// see [`Shard::check_vocab`] and [`Shard::verify`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let size = files::regular_size(path, FileKind::Data)?;
        if size < HEADER_BYTES as u64 {
            return Err(Error::data(
                path,
                format!("{size} bytes are too few for the {HEADER_BYTES}-byte header of a shard"),
            ));
        }
        let file = File::open(path).map_err(Error::io("open", path))?;
        // SAFETY: the map is read-only and private to this struct, which keeps it alive as long as
        // any slice of it. Nobody in this crate writes to a finished shard; that no other process
        // truncates it is the caller's side of the bargain, stated at the top of this file.
        let map = unsafe { Mmap::map(&file) }.map_err(Error::io("map", path))?;
        let Some(bytes) = map.first_chunk::<HEADER_BYTES>() else {
            return Err(Error::data(path, "shrank while it was being opened"));
        };
        let header = Header::decode(path, bytes)?;
        let expected = header.tokens * header.width.bytes() as u64 + HEADER_BYTES as u64;
        // The map may be longer or shorter than `size` when the file changed in between.
        if map.len() as u64 != expected {
            return Err(Error::data(
                path,
                format!(
                    "header declares {} tokens of {} bytes, so {expected} bytes in all, but the \
                     file has {}: it is truncated or damaged; make or fetch it again",
                    header.tokens,
                    header.width.bytes(),
                    map.len()
                ),
            ));
        }
        if header.tokens == 0 {
            return Err(Error::data(path, "holds no tokens; remove it from the dataset"));
        }
        let identity = file.metadata().ok().as_ref().and_then(identity);
        Ok(Shard { path: path.to_path_buf(), header, identity, map })
    }

    /// File the shard was opened from.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Number of tokens.
    pub fn len(&self) -> u64 {
        self.header.tokens
    }

    /// Never true: empty shards do not open.
    pub fn is_empty(&self) -> bool {
        self.header.tokens == 0
    }

    /// Bytes of one token.
    pub fn width(&self) -> Width {
        self.header.width
    }

    /// Our spare header words; `None` for shards of llm.c and others.
    pub fn spare(&self) -> Option<&Spare> {
        self.header.spare.as_ref()
    }

    /// Token `i`, or `None` beyond the end.
    pub fn get(&self, i: u64) -> Option<u32> {
        let i = usize::try_from(i).ok()?;
        match self.payload() {
            Payload::U16(p) => p.get(i).map(|&t| u32::from(u16::from_le(t))),
            Payload::U32(p) => p.get(i).map(|&t| u32::from_le(t)),
        }
    }

    /// Copies the tokens of `range` into `out`, widened to 32 bits.
    ///
    /// Errors: [`Error::Shape`] when `out` has another length or the range leaves the shard,
    /// [`Error::Data`] when the file is no longer as long as it was.
    pub fn read(&self, range: Range<u64>, out: &mut [u32]) -> Result<()> {
        let count = range.end.saturating_sub(range.start);
        if range.end > self.len() || count != out.len() as u64 {
            return Err(Error::shape(
                "Shard::read",
                format!("{} tokens within 0..{}", out.len(), self.len()),
                format!("{range:?}"),
            ));
        }
        // The file itself is not kept open: a large dataset has more shards than a process may open. One
        // that was removed or replaced lives on in the map.
        let now = std::fs::metadata(&self.path).ok().filter(|meta| identity(meta) == self.identity);
        let size = now.map_or(self.map.len() as u64, |meta| meta.len());
        if size != self.map.len() as u64 {
            return Err(Error::data(
                &self.path,
                format!(
                    "has {size} bytes, {} when it was opened: a shard must not change while it is \
                     in use; make it again and resume the run",
                    self.map.len()
                ),
            ));
        }
        let range = range.start as usize..range.start as usize + out.len();
        match self.payload() {
            Payload::U16(p) => {
                for (o, &t) in out.iter_mut().zip(&p[range]) {
                    *o = u32::from(u16::from_le(t));
                }
            }
            Payload::U32(p) => {
                for (o, &t) in out.iter_mut().zip(&p[range]) {
                    *o = u32::from_le(t);
                }
            }
        }
        Ok(())
    }

    /// Largest id: from the header of our own shards, by reading the payload of foreign ones.
    pub fn max_id(&self) -> u32 {
        self.spare().and_then(|s| s.max_id).unwrap_or_else(|| self.scan_max())
    }

    /// Fails unless every id is below `vocab`; the error names the first token that is not.
    ///
    /// Our own shards answer from their header, foreign ones are read once.
    pub fn check_vocab(&self, vocab: usize) -> Result<()> {
        if (self.max_id() as usize) < vocab {
            return Ok(());
        }
        match self.find_at_least(vocab) {
            Some((offset, id)) => Err(self.beyond_vocab(offset, id, vocab)),
            None => Err(Error::data(
                &self.path,
                format!(
                    "header declares a largest id of {}, not below the vocabulary of {vocab}, but \
                     no such token is there: the header is damaged; run `chtsl prepare` again",
                    self.max_id()
                ),
            )),
        }
    }

    /// The error for token `offset` with id `id` outside `vocab`.
    pub(super) fn beyond_vocab(&self, offset: u64, id: u32, vocab: usize) -> Error {
        let byte = HEADER_BYTES as u64 + offset * self.width().bytes() as u64;
        Error::data(
            &self.path,
            format!(
                "token {offset} (byte {byte}) has id {id}, but the vocabulary has {vocab} ids \
                 (0..={}): prepared for another tokenizer, or damaged; raise model.vocab or \
                 prepare the text again",
                vocab.saturating_sub(1)
            ),
        )
    }

    /// Reads the whole payload and compares it with hash and largest id of the header; foreign
    /// shards, which declare neither, only get read.
    pub fn verify(&self) -> Result<()> {
        let Some(spare) = self.spare() else { return Ok(()) };
        let hash = self.payload_hash();
        if hash != spare.payload_hash {
            return Err(Error::data(
                &self.path,
                format!(
                    "payload hash is {hash:016x}, the header says {:016x}: the file is damaged; \
                     run `chtsl prepare` again",
                    spare.payload_hash
                ),
            ));
        }
        let max = self.scan_max();
        match spare.max_id {
            Some(declared) if declared != max => Err(Error::data(
                &self.path,
                format!("largest id is {max}, the header says {declared}: the header is damaged"),
            )),
            _ => Ok(()),
        }
    }

    /// xxh3-64 of the payload bytes, computed now.
    pub fn payload_hash(&self) -> u64 {
        let payload = &self.map[HEADER_BYTES..];
        // One call hashes a mapped file as fast as memory allows; large ones go through in pieces
        // so that the kernel's read-ahead sees a plain sequential reader.
        if payload.len() <= 1 << 22 {
            return xxh3_64(payload);
        }
        let mut hasher = Xxh3::new();
        payload.chunks(1 << 22).for_each(|piece| hasher.update(piece));
        hasher.digest()
    }

    /// Appends the positions (plus `base`) of every token equal to `id`, in order.
    pub(super) fn positions_of(&self, id: u32, base: u64, out: &mut Vec<u64>) {
        fn pieces<T: Copy + PartialEq + Sync>(p: &[T], id: T, base: u64) -> Vec<Vec<u64>> {
            p.par_chunks(SCAN)
                .enumerate()
                .map(|(c, piece)| {
                    let start = base + (c * SCAN) as u64;
                    let hits = piece.iter().enumerate().filter(|&(_, &t)| t == id);
                    hits.map(|(i, _)| start + i as u64).collect()
                })
                .collect()
        }
        let found = match self.payload() {
            Payload::U16(p) => match u16::try_from(id) {
                Ok(id) => pieces(p, id.to_le(), base),
                Err(_) => return,
            },
            Payload::U32(p) => pieces(p, id.to_le(), base),
        };
        found.into_iter().for_each(|piece| out.extend(piece));
    }

    fn scan_max(&self) -> u32 {
        match self.payload() {
            Payload::U16(p) => {
                let max = |c: &[u16]| c.iter().map(|&t| u16::from_le(t)).max().unwrap_or(0);
                u32::from(p.par_chunks(SCAN).map(max).max().unwrap_or(0))
            }
            Payload::U32(p) => {
                let max = |c: &[u32]| c.iter().map(|&t| u32::from_le(t)).max().unwrap_or(0);
                p.par_chunks(SCAN).map(max).max().unwrap_or(0)
            }
        }
    }

    fn find_at_least(&self, vocab: usize) -> Option<(u64, u32)> {
        let found = match self.payload() {
            Payload::U16(p) => p.par_iter().position_first(|&t| u16::from_le(t) as usize >= vocab),
            Payload::U32(p) => p.par_iter().position_first(|&t| u32::from_le(t) as usize >= vocab),
        }? as u64;
        Some((found, self.get(found)?))
    }

    fn payload(&self) -> Payload<'_> {
        let bytes = &self.map[HEADER_BYTES..];
        // A map starts on a page and the header is 1024 bytes, so both casts are aligned; `open`
        // checked that the length is a whole number of tokens.
        match self.header.width {
            Width::U16 => Payload::U16(bytemuck::cast_slice(bytes)),
            Width::U32 => Payload::U32(bytemuck::cast_slice(bytes)),
        }
    }
}

enum Payload<'a> {
    U16(&'a [u16]),
    U32(&'a [u32]),
}
