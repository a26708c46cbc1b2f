//! `dataset.json`: what a prepared folder holds. Written last; a folder without it is no dataset.
//!
//! The file carries a checksum over its own content, so an edited or damaged one does not load.
//! 64-bit hashes are hexadecimal strings: JSON numbers lose bits in many readers.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

pub use super::recipe::{Recipe, RecipeOptions, SourceEntry};
use crate::error::{Error, Result};
use crate::files::{self, FileKind};

/// Name of the manifest in its folder.
pub const MANIFEST_FILE: &str = "dataset.json";
/// Name of the tokenizer in a prepared folder.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
const FORMAT: &str = "chtsl-dataset";
pub(super) const VERSION: u32 = 1;
/// Largest manifest read, in bytes: a length for each of 2²⁴ ids still fits.
const MAX_FILE: u64 = 256 << 20;

/// Part of a dataset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// For training.
    Train,
    /// Held out.
    Val,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Split::Train => "train",
            Split::Val => "val",
        })
    }
}

/// A 64-bit hash, sixteen hexadecimal digits in JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hash64(pub u64);

impl Serialize for Hash64 {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:016x}", self.0))
    }
}

impl<'de> Deserialize<'de> for Hash64 {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        // One spelling for each value: no capitals, no sign.
        if text.len() != 16 || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(serde::de::Error::custom("a hash has sixteen hexadecimal digits"));
        }
        u64::from_str_radix(&text, 16).map(Hash64).map_err(serde::de::Error::custom)
    }
}

/// The tokenizer a dataset was made with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenizerEntry {
    /// File in the dataset folder.
    pub file: String,
    /// xxh3-64 of that file.
    pub xxh3: Hash64,
    /// Whether `prepare` trained it on this text.
    pub trained: bool,
    /// Ids the tokenizer itself has, before any limit.
    pub ids: usize,
}

/// One shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShardEntry {
    /// File in the dataset folder.
    pub file: String,
    /// Tokens, each document's EOS included.
    pub tokens: u64,
    /// Documents.
    pub documents: u64,
    /// xxh3-64 of the payload.
    pub xxh3: Hash64,
    /// Largest id.
    pub max_id: u32,
}

/// One split.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SplitEntry {
    /// Documents.
    pub documents: u64,
    /// Tokens, each document's EOS included.
    pub tokens: u64,
    /// UTF-8 bytes of the documents' texts as they stood in the sources.
    pub text_bytes: u64,
    /// Shards in order.
    pub shards: Vec<ShardEntry>,
}

/// Documents and ids that were not taken over as they stood.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Documents without text, or whose text gives no token; skipped.
    pub empty_documents: u64,
    /// Invalid lines skipped.
    pub bad_lines: u64,
    /// EOS ids inside documents.
    pub eos_inside: u64,
    /// Ids beyond the vocabulary inside documents.
    pub beyond_vocab: u64,
    /// Whether the two above were dropped; otherwise they became the unknown token.
    pub dropped: bool,
}

/// Content of `dataset.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Always "chtsl-dataset".
    pub format: String,
    /// Version of this format.
    pub version: u32,
    /// xxh3-64 of this file as compact JSON with this field all zeros.
    pub checksum: Hash64,
    /// [`Recipe::fingerprint`]; also in the header of every shard.
    pub fingerprint: Hash64,
    /// The tokenizer.
    pub tokenizer: TokenizerEntry,
    /// Every id in the shards is below this.
    pub vocab_size: usize,
    /// Token that ends each document.
    pub eos_token: String,
    /// Its id.
    pub eos_id: u32,
    /// Id that replaced what may not stand inside a document.
    pub unk_id: Option<u32>,
    /// Training split.
    pub train: SplitEntry,
    /// Validation split, if there is one.
    pub val: Option<SplitEntry>,
    /// What was skipped or replaced.
    pub counts: Counts,
    /// How this dataset was made.
    pub recipe: Recipe,
    /// Bytes of text behind each id, `vocab_size` long.
    pub byte_lengths: Vec<u32>,
}

impl Manifest {
    /// The entry of a split.
    pub fn split(&self, split: Split) -> Option<&SplitEntry> {
        match split {
            Split::Train => Some(&self.train),
            Split::Val => self.val.as_ref(),
        }
    }

    /// Format name and version for a new manifest.
    pub(super) fn format() -> (String, u32) {
        (FORMAT.into(), VERSION)
    }

    /// Writes `dataset.json` into `folder`, checksum filled in: temporary file, fsync, rename,
    /// fsync of the folder.
    pub fn save(&mut self, folder: &Path) -> Result<()> {
        self.checksum = self.digest();
        let path = folder.join(MANIFEST_FILE);
        let text = serde_json::to_string_pretty(self)
            .map_err(|e| Error::data(&path, format!("cannot be written as JSON: {e}")))?;
        // One id per line would make the table of lengths most of the file's lines.
        files::write_atomic(&path, (compact_numbers(&text) + "\n").as_bytes())
    }

    /// Reads and checks `dataset.json` in `folder`.
    ///
    /// Errors: [`Error::Data`] when it is missing, of another version, damaged, or names files
    /// outside its folder.
    pub fn load(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST_FILE);
        let bytes = files::read_limited(&path, MAX_FILE, FileKind::Data)?;
        let fail = |what: String| Err(Error::data(&path, what));
        let again = "delete the folder and run `chtsl prepare` again";
        #[derive(Deserialize)]
        struct Head {
            format: String,
            version: u32,
        }
        let head: Head = match serde_json::from_slice(&bytes) {
            Ok(head) => head,
            Err(e) => return fail(format!("not a dataset manifest ({e}); {again}")),
        };
        if head.format != FORMAT {
            return fail(format!("format is {:?}, expected {FORMAT:?}", head.format));
        }
        if head.version != VERSION {
            return fail(format!(
                "manifest version is {}, this program reads {VERSION}; {again}",
                head.version
            ));
        }
        let manifest: Manifest = match serde_json::from_slice(&bytes) {
            Ok(manifest) => manifest,
            Err(e) => return fail(format!("damaged manifest ({e}); {again}")),
        };
        let digest = manifest.digest();
        if digest != manifest.checksum {
            return fail(format!(
                "checksum is {:016x}, expected {:016x}: edited or damaged; {again}",
                manifest.checksum.0, digest.0
            ));
        }
        match manifest.check() {
            Ok(()) => Ok(manifest),
            Err(what) => fail(format!("{what}; {again}")),
        }
    }

    /// Meaning beyond the form: names, sums and ranges.
    fn check(&self) -> std::result::Result<(), String> {
        let splits =
            [Some((Split::Train, &self.train)), self.val.as_ref().map(|v| (Split::Val, v))];
        let shards = splits.iter().flatten().flat_map(|(_, s)| &s.shards);
        let names = shards.map(|s| &s.file).chain([&self.tokenizer.file]);
        for name in names {
            if !files::is_plain_name(name) {
                return Err(format!("file name {name:?} is not a plain name in this folder"));
            }
        }
        if self.vocab_size == 0 || self.byte_lengths.len() != self.vocab_size {
            return Err(format!(
                "byte_lengths has {} entries for a vocabulary of {}",
                self.byte_lengths.len(),
                self.vocab_size
            ));
        }
        if self.eos_id as usize >= self.vocab_size {
            return Err(format!("eos_id {} is outside the vocabulary", self.eos_id));
        }
        for (name, split) in splits.into_iter().flatten() {
            let total = |of: fn(&ShardEntry) -> u64| {
                split.shards.iter().map(of).try_fold(0u64, u64::checked_add)
            };
            if total(|s| s.tokens) != Some(split.tokens) {
                return Err(format!("the shards of {name} do not add up to {}", split.tokens));
            }
            if total(|s| s.documents) != Some(split.documents) {
                return Err(format!(
                    "the documents of {name} do not add up to {}",
                    split.documents
                ));
            }
        }
        Ok(())
    }

    fn digest(&self) -> Hash64 {
        let blank = Manifest { checksum: Hash64(0), ..self.clone() };
        Hash64(xxh3_64(serde_json::to_string(&blank).unwrap_or_default().as_bytes()))
    }
}

/// Joins the lines of arrays of bare numbers in pretty-printed JSON.
fn compact_numbers(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut in_numbers = false;
    for line in text.lines() {
        let bare = line.trim().trim_end_matches(',');
        let number = !bare.is_empty() && bare.bytes().all(|b| b.is_ascii_digit());
        let closes = in_numbers && bare == "]";
        if number || closes {
            // Numbers of an array follow its opening line directly.
            if number && in_numbers {
                out.push(' ');
            }
            out.push_str(line.trim());
        } else {
            if !out.is_empty() {
                out.push('\n');
            }
            out.push_str(line);
        }
        in_numbers = number;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_arrays_are_joined_and_nothing_else() {
        let value: serde_json::Value =
            serde_json::from_str(r#"{"a":[1,2,3],"b":{"c":[],"d":["x","]"]},"e":[4]}"#).unwrap();
        let text = compact_numbers(&serde_json::to_string_pretty(&value).unwrap());
        assert!(text.contains("\"a\": [1, 2, 3],\n"), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }

    #[test]
    fn hashes_keep_all_bits() {
        let hash = Hash64(0xfedc_ba98_7654_3210);
        let text = serde_json::to_string(&hash).unwrap();
        assert_eq!(text, "\"fedcba9876543210\"");
        assert_eq!(serde_json::from_str::<Hash64>(&text).unwrap(), hash);
    }
}
