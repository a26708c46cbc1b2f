//! Shards joined end to end into one long stream of tokens.

use std::ops::Range;

use xxhash_rust::xxh3::Xxh3;

use super::shard::Shard;
use crate::error::{Error, Result};

enum Piece {
    Shard(Shard),
    Memory(Vec<u32>),
}

impl Piece {
    fn len(&self) -> u64 {
        match self {
            Piece::Shard(shard) => shard.len(),
            Piece::Memory(tokens) => tokens.len() as u64,
        }
    }
}

/// A virtual concatenation; positions are u64 over the whole.
pub struct TokenStream {
    pieces: Vec<Piece>,
    /// Position at which each piece starts, and the end of the last.
    starts: Vec<u64>,
}

impl TokenStream {
    /// Stream over `shards` in order.
    pub fn from_shards(shards: Vec<Shard>) -> Self {
        Self::join(shards.into_iter().map(Piece::Shard).collect())
    }

    /// Stream over tokens in memory.
    pub fn from_tokens(tokens: Vec<u32>) -> Self {
        Self::join(vec![Piece::Memory(tokens)])
    }

    fn join(pieces: Vec<Piece>) -> Self {
        let mut starts = vec![0];
        for piece in &pieces {
            // A shard has fewer than 2³¹ tokens, so the sum cannot overflow.
            starts.push(starts[starts.len() - 1] + piece.len());
        }
        TokenStream { pieces, starts }
    }

    /// Number of tokens.
    pub fn len(&self) -> u64 {
        self.starts[self.starts.len() - 1]
    }

    /// The shards, none for a stream in memory.
    pub fn shards(&self) -> impl Iterator<Item = &Shard> {
        self.pieces.iter().filter_map(|piece| match piece {
            Piece::Shard(shard) => Some(shard),
            Piece::Memory(_) => None,
        })
    }

    /// Copies the tokens from position `at` on into `out`.
    ///
    /// Errors: [`Error::Shape`] when they reach beyond the end.
    pub fn read(&self, at: u64, out: &mut [u32]) -> Result<()> {
        if at.checked_add(out.len() as u64).is_none_or(|end| end > self.len()) {
            return Err(Error::shape(
                "TokenStream::read",
                format!("a range within 0..{}", self.len()),
                format!("{} tokens from {at}", out.len()),
            ));
        }
        let mut done = 0;
        while done < out.len() {
            let (piece, offset) = self.locate(at + done as u64);
            let count = (self.pieces[piece].len() - offset).min((out.len() - done) as u64);
            let range: Range<u64> = offset..offset + count;
            let part = &mut out[done..done + count as usize];
            match &self.pieces[piece] {
                Piece::Shard(shard) => shard.read(range, part)?,
                Piece::Memory(tokens) => {
                    part.copy_from_slice(&tokens[range.start as usize..range.end as usize]);
                }
            }
            done += part.len();
        }
        Ok(())
    }

    /// Positions of every token equal to `id`, ascending.
    pub fn positions_of(&self, id: u32) -> Vec<u64> {
        let mut out = Vec::new();
        for (piece, &start) in self.pieces.iter().zip(&self.starts) {
            match piece {
                Piece::Shard(shard) => shard.positions_of(id, start, &mut out),
                Piece::Memory(tokens) => {
                    let hits = tokens.iter().enumerate().filter(|&(_, &t)| t == id);
                    out.extend(hits.map(|(i, _)| start + i as u64));
                }
            }
        }
        out
    }

    /// Fails unless every id is below `vocab`.
    pub fn check_vocab(&self, vocab: usize) -> Result<()> {
        for (piece, &start) in self.pieces.iter().zip(&self.starts) {
            match piece {
                Piece::Shard(shard) => shard.check_vocab(vocab)?,
                Piece::Memory(tokens) => {
                    if let Some(i) = tokens.iter().position(|&t| t as usize >= vocab) {
                        return Err(self.beyond_vocab(start + i as u64, tokens[i], vocab));
                    }
                }
            }
        }
        Ok(())
    }

    /// The error for the token at position `at`.
    pub fn beyond_vocab(&self, at: u64, id: u32, vocab: usize) -> Error {
        let (piece, offset) = self.locate(at);
        match &self.pieces[piece] {
            Piece::Shard(shard) => shard.beyond_vocab(offset, id, vocab),
            Piece::Memory(_) => Error::data(
                "tokens in memory",
                format!("token {offset} has id {id}, but the vocabulary has {vocab} ids"),
            ),
        }
    }

    /// Hash over the lengths and contents of the pieces; contents through the headers of our own
    /// shards, by reading foreign ones.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = Xxh3::new();
        for piece in &self.pieces {
            let content = match piece {
                Piece::Shard(shard) => match shard.spare() {
                    Some(spare) => spare.payload_hash,
                    None => shard.payload_hash(),
                },
                Piece::Memory(tokens) => {
                    let mut content = Xxh3::new();
                    tokens.iter().for_each(|t| content.update(&t.to_le_bytes()));
                    content.digest()
                }
            };
            hasher.update(&piece.len().to_le_bytes());
            hasher.update(&content.to_le_bytes());
        }
        hasher.digest()
    }

    /// Piece and offset within it of position `at`, which must be inside the stream.
    fn locate(&self, at: u64) -> (usize, u64) {
        let piece = self.starts.partition_point(|&start| start <= at) - 1;
        (piece, at - self.starts[piece])
    }
}
