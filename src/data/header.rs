//! The 1024-byte header of an llm.c `.bin` shard: 256 little-endian 32-bit words.
//!
//! | word | meaning |
//! |---|---|
//! | 0 | magic: 20240520 for u16 tokens, 20240801 for u32 tokens |
//! | 1 | version: 1 for u16, 7 for u32 |
//! | 2 | number of tokens |
//! | 8 | [`MARK`] when the words below are ours; anything else: a foreign shard, they are ignored |
//! | 9 | check of the whole header: low half of the xxh3-64 of its bytes with this word zero |
//! | 10 | vocabulary size; 0 = absent |
//! | 11 | EOS id + 1; 0 = absent |
//! | 12 | largest id in the payload + 1; 0 = absent |
//! | 13, 14 | dataset fingerprint, low half first |
//! | 15, 16 | xxh3-64 of the payload bytes, low half first |
//!
//! llm.c and modded-nanogpt look at words 0-2 only, so shards pass both ways.

use std::path::Path;

use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};

/// Words in the header.
pub const HEADER_WORDS: usize = 256;
/// Bytes before the payload.
pub const HEADER_BYTES: usize = 4 * HEADER_WORDS;
/// Word 8 of shards written by this crate: "CHTS" read as little-endian bytes.
pub const MARK: u32 = u32::from_le_bytes(*b"CHTS");
/// Most tokens a shard can declare: the count is a signed 32-bit word.
pub const MAX_TOKENS: u64 = i32::MAX as u64;

const MAGIC_U16: u32 = 20_240_520;
const MAGIC_U32: u32 = 20_240_801;
const VERSION_U16: u32 = 1;
const VERSION_U32: u32 = 7;
/// llm.c's multiple-choice evaluation files, easily taken for shards.
const MAGIC_EVAL: u32 = 20_240_522;
const CHECK_WORD: usize = 9;

/// Bytes of one token in the payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// Two bytes: vocabularies up to 65536.
    U16,
    /// Four bytes.
    U32,
}

impl Width {
    /// Narrowest width that holds every id of `vocab`.
    pub fn for_vocab(vocab: usize) -> Self {
        if vocab <= 1 << 16 { Width::U16 } else { Width::U32 }
    }

    /// Size in bytes.
    pub fn bytes(self) -> usize {
        match self {
            Width::U16 => 2,
            Width::U32 => 4,
        }
    }
}

/// What the spare words of our own shards say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spare {
    /// Vocabulary the ids are drawn from; 0 = not said.
    pub vocab: u32,
    /// Id that ends a document.
    pub eos: Option<u32>,
    /// Largest id in the payload.
    pub max_id: Option<u32>,
    /// Fingerprint of the dataset this shard belongs to.
    pub fingerprint: u64,
    /// xxh3-64 of the payload bytes.
    pub payload_hash: u64,
}

/// A decoded header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes of one token.
    pub width: Width,
    /// Number of tokens.
    pub tokens: u64,
    /// Our spare words; `None` for shards of other programs.
    pub spare: Option<Spare>,
}

impl Header {
    /// Header as bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut words = [0u32; HEADER_WORDS];
        (words[0], words[1]) = match self.width {
            Width::U16 => (MAGIC_U16, VERSION_U16),
            Width::U32 => (MAGIC_U32, VERSION_U32),
        };
        words[2] = self.tokens as u32;
        if let Some(s) = self.spare {
            words[8] = MARK;
            words[10] = s.vocab;
            words[11] = s.eos.map_or(0, |id| id.wrapping_add(1));
            words[12] = s.max_id.map_or(0, |id| id.wrapping_add(1));
            (words[13], words[14]) = (s.fingerprint as u32, (s.fingerprint >> 32) as u32);
            (words[15], words[16]) = (s.payload_hash as u32, (s.payload_hash >> 32) as u32);
            words[CHECK_WORD] = xxh3_64(&to_bytes(&words)) as u32;
        }
        to_bytes(&words)
    }

    /// Decodes the first [`HEADER_BYTES`] of the file `path`; the error names what differs.
    pub fn decode(path: &Path, bytes: &[u8; HEADER_BYTES]) -> Result<Self> {
        let mut words = [0u32; HEADER_WORDS];
        for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *word = u32::from_le_bytes(*chunk);
        }
        let (width, expected_version) = match words[0] {
            MAGIC_U16 => (Width::U16, VERSION_U16),
            MAGIC_U32 => (Width::U32, VERSION_U32),
            MAGIC_EVAL => {
                return Err(Error::data(
                    path,
                    format!(
                        "magic {MAGIC_EVAL} marks an llm.c multiple-choice evaluation file, not a \
                         token shard ({MAGIC_U16} or {MAGIC_U32})"
                    ),
                ));
            }
            other => {
                return Err(Error::data(
                    path,
                    format!(
                        "magic is {other}, expected {MAGIC_U16} (u16 tokens) or {MAGIC_U32} (u32 \
                         tokens): not an llm.c token shard; make shards with `chtsl prepare` \
                         (headerless files cannot be read)"
                    ),
                ));
            }
        };
        if words[1] != expected_version {
            return Err(Error::data(
                path,
                format!(
                    "shard version is {}, expected {expected_version} for magic {}: written by \
                     another format; make the shard again",
                    words[1], words[0]
                ),
            ));
        }
        let tokens = u64::from(words[2]);
        if tokens > MAX_TOKENS {
            return Err(Error::data(
                path,
                format!("header declares {} tokens: the header is damaged", words[2] as i32),
            ));
        }
        if words[8] != MARK {
            return Ok(Header { width, tokens, spare: None });
        }
        let found = words[CHECK_WORD];
        words[CHECK_WORD] = 0;
        let expected = xxh3_64(&to_bytes(&words)) as u32;
        if found != expected {
            return Err(Error::data(
                path,
                format!(
                    "header check is {found:08x}, expected {expected:08x}: the header is damaged; \
                     run `chtsl prepare` again"
                ),
            ));
        }
        let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let spare = Spare {
            vocab: words[10],
            eos: words[11].checked_sub(1),
            max_id: words[12].checked_sub(1),
            fingerprint: join(words[13], words[14]),
            payload_hash: join(words[15], words[16]),
        };
        Ok(Header { width, tokens, spare: Some(spare) })
    }
}

fn to_bytes(words: &[u32; HEADER_WORDS]) -> [u8; HEADER_BYTES] {
    let mut bytes = [0; HEADER_BYTES];
    for (word, chunk) in words.iter().zip(bytes.as_chunks_mut::<4>().0) {
        *chunk = word.to_le_bytes();
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spare_words_survive_and_are_checked() {
        let spare = Spare {
            vocab: 32_000,
            eos: Some(0),
            max_id: Some(31_999),
            fingerprint: 0x0123_4567_89ab_cdef,
            payload_hash: u64::MAX,
        };
        let header = Header { width: Width::U32, tokens: 77, spare: Some(spare) };
        let mut bytes = header.encode();
        assert_eq!(Header::decode(Path::new("x"), &bytes).unwrap(), header);
        bytes[4 * 10] ^= 1;
        let text = Header::decode(Path::new("x"), &bytes).unwrap_err().to_string();
        assert!(text.contains("header check is"), "{text}");
    }

    #[test]
    fn foreign_headers_have_no_spare_words() {
        let header = Header { width: Width::U16, tokens: 5, spare: None };
        let bytes = header.encode();
        assert_eq!(&bytes[..12], [0x88, 0xd8, 0x34, 0x01, 1, 0, 0, 0, 5, 0, 0, 0].as_slice());
        assert!(bytes[12..].iter().all(|&b| b == 0));
        assert_eq!(Header::decode(Path::new("x"), &bytes).unwrap(), header);
    }
}
