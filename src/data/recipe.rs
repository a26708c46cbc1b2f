//! What a dataset is made from: the inputs and options stored in its manifest and compared when a
//! finished folder is met again.

use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::manifest::{Hash64, Split, VERSION};

/// One input file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceEntry {
    /// File name without its folder.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// xxh3-64 of the file.
    pub xxh3: Hash64,
    /// `val` for `--val-input`, else `train` (of which `--val-fraction` may take some).
    pub split: Split,
}

/// Options that shaped the tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecipeOptions {
    /// Hash of the tokenizer given; `None` when it was trained.
    pub tokenizer: Option<Hash64>,
    /// Vocabulary asked of the training.
    pub train_vocab: Option<usize>,
    /// `--eos`.
    pub eos: Option<String>,
    /// Limit on the ids.
    pub model_vocab: Option<usize>,
    /// `--text-field`.
    pub text_field: String,
    /// `--val-fraction`.
    pub val_fraction: Option<f64>,
    /// `--skip-bad-lines`.
    pub skip_bad_lines: u64,
    /// Tokens per shard.
    pub shard_tokens: u64,
}

/// Inputs and options: equal recipes give equal datasets, byte for byte.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Input files in order.
    pub sources: Vec<SourceEntry>,
    /// Options.
    pub options: RecipeOptions,
}

impl Recipe {
    /// Fingerprint stored in every shard.
    pub fn fingerprint(&self) -> u64 {
        let text = serde_json::to_string(&(VERSION, self)).unwrap_or_default();
        xxh3_64(text.as_bytes())
    }
}
