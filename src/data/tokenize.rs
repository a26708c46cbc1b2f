//! Text to ids and back, through the `tokenizers` library and its `tokenizer.json`.
//!
//! Encoding never adds, truncates or pads: whatever the file asks for in that respect is ignored,
//! as is BPE dropout, which would make encoding random.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::AtomicBool;

use rayon::prelude::*;
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_64;

use super::byte_length;
use super::long_text::{LONG, pieces};
use super::stop::check_stop;
use crate::error::{Error, Result};
use crate::files::{self, FileKind};

/// Largest `tokenizer.json` accepted, in bytes.
const MAX_FILE: u64 = 128 << 20;
/// Largest id accepted: tables over the vocabulary are allocated.
const MAX_VOCAB: usize = 1 << 24;
/// Tokens that end a document, in order of preference.
const EOS_NAMES: [&str; 3] = ["</s>", "<|endoftext|>", "<eos>"];

/// A tokenizer read from `tokenizer.json`.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    json: Vec<u8>,
    name: String,
    vocab_size: usize,
    unk: Option<u32>,
    byte_lengths: Vec<u32>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tokenizer({}, {} ids)", self.name, self.vocab_size)
    }
}

impl Tokenizer {
    /// Reads the `tokenizer.json` at `path`.
    ///
    /// Errors: [`Error::Data`] saying what is wrong with the file.
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = files::read_limited(path, MAX_FILE, FileKind::Data)?;
        Self::from_bytes(bytes, path)
    }

    /// Tokenizer from the bytes of a `tokenizer.json`; `path` is for messages.
    pub fn from_bytes(bytes: Vec<u8>, path: &Path) -> Result<Self> {
        let fail = |what: &str| {
            Error::data(
                path,
                format!("not a usable tokenizer.json: {what}; fetch or export it again"),
            )
        };
        let mut value: Value =
            serde_json::from_slice(&bytes).map_err(|e| fail(&format!("invalid JSON, {e}")))?;
        if !value.get("model").is_some_and(Value::is_object) {
            return Err(fail(
                "no \"model\" object (vocab.json, tokenizer_config.json and .model files are not \
                 what is meant)",
            ));
        }
        for key in ["truncation", "padding"] {
            value[key] = Value::Null;
        }
        if let Some(dropout) = value["model"].get_mut("dropout") {
            *dropout = Value::Null;
        }
        if let Some(id) = largest_id(&value).filter(|&id| id >= MAX_VOCAB as u64) {
            return Err(fail(&format!("token id {id} is beyond {MAX_VOCAB}")));
        }
        let unk = unk_name(&value);
        let rules = byte_length::Rules::of(&value);
        let inner: tokenizers::Tokenizer = guarded(|| serde_json::from_value(value))
            .and_then(|parsed| parsed.map_err(|e| e.to_string()))
            .map_err(|e| fail(&e))?;
        let (vocab_size, byte_lengths) = guarded(|| {
            let vocab = inner.get_vocab(true);
            let size = vocab.values().max().map_or(0, |&id| id as usize + 1);
            (size, if size <= MAX_VOCAB { rules.table(&inner, size) } else { Vec::new() })
        })
        .map_err(|e| fail(&e))?;
        if vocab_size == 0 || vocab_size > MAX_VOCAB {
            return Err(fail(&format!("a vocabulary of {vocab_size} ids")));
        }
        let unk = match unk {
            Some(Unk::Id(id)) => Some(id),
            Some(Unk::Name(name)) => inner.token_to_id(&name),
            None => None,
        };
        let unk = unk.or_else(|| inner.token_to_id("<unk>"));
        Ok(Tokenizer {
            inner,
            json: bytes,
            name: path.display().to_string(),
            vocab_size,
            unk: unk.filter(|&id| (id as usize) < vocab_size),
            byte_lengths,
        })
    }

    /// Ids of `text`, without the tokenizer's own additions. Special tokens written in the text
    /// become their ids, as the library does.
    /// Long texts are encoded in pieces on all cores, with the same ids.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        self.encode_unless(&AtomicBool::new(false), text)
    }

    /// [`Tokenizer::encode`] that gives up with [`Error::Interrupted`] once `stop` is set.
    pub(super) fn encode_unless(&self, stop: &AtomicBool, text: &str) -> Result<Vec<u32>> {
        check_stop(stop)?;
        if text.len() <= LONG {
            return self.encode_whole(text);
        }
        let encode = |piece: &str| {
            check_stop(stop)?;
            self.encode_whole(piece)
        };
        let ids: Result<Vec<Vec<u32>>> =
            pieces(text, encode)?.into_par_iter().map(encode).collect();
        Ok(ids?.concat())
    }

    fn encode_whole(&self, text: &str) -> Result<Vec<u32>> {
        guarded(|| self.inner.encode_fast(text, false))
            .and_then(|encoded| encoded.map_err(|e| e.to_string()))
            .map(|encoded| encoded.get_ids().to_vec())
            .map_err(|e| {
                Error::data(&self.name, format!("the tokenizer cannot encode a text: {e}"))
            })
    }

    /// Text of `ids`; special tokens and ids beyond the vocabulary are left out.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        guarded(|| self.inner.decode(ids, true))
            .and_then(|decoded| decoded.map_err(|e| e.to_string()))
            .map_err(|e| Error::data(&self.name, format!("the tokenizer cannot decode ids: {e}")))
    }

    /// Largest id + 1, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Id of a token by its exact text.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// Exact text of a token.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// Token that ends a document, and its id: `wanted` if given, else the first of `</s>`,
    /// `<|endoftext|>`, `<eos>` that exists.
    pub fn eos(&self, wanted: Option<&str>) -> Result<(String, u32)> {
        if let Some(name) = wanted {
            return self.token_to_id(name).map(|id| (name.to_string(), id)).ok_or_else(|| {
                Error::data(
                    &self.name,
                    format!("has no token {name:?}; choose another --eos TOKEN"),
                )
            });
        }
        EOS_NAMES
            .iter()
            .find_map(|&name| self.token_to_id(name).map(|id| (name.to_string(), id)))
            .ok_or_else(|| {
                let mut added: Vec<(u32, String)> = self
                    .inner
                    .get_added_tokens_decoder()
                    .into_iter()
                    .map(|(id, token)| (id, token.content))
                    .collect();
                added.sort();
                added.truncate(8);
                let names: Vec<String> = added.into_iter().map(|(_, name)| name).collect();
                Error::data(
                    &self.name,
                    format!(
                        "has none of {}: pass --eos TOKEN to say which token ends a document (its \
                         added tokens: {})",
                        EOS_NAMES.join(", "),
                        if names.is_empty() { "none".into() } else { names.join(", ") }
                    ),
                )
            })
    }

    /// Id of the unknown token, if there is one.
    pub fn unk(&self) -> Option<u32> {
        self.unk
    }

    /// Bytes of text behind each id, `vocab_size` long.
    ///
    /// Byte-level tokenizers: the exact bytes. SentencePiece-like ones: the UTF-8 bytes of the
    /// piece, where `▁` counts as the one space it stands for; byte-fallback pieces `<0xNN>` 1.
    /// Special and unknown tokens and unused ids 0. Summed over an encoded text this gives the
    /// bytes *after normalisation*: exact for byte-level tokenizers; with a leading `▁` that the
    /// text did not have it is one byte more, and text lost to the unknown token is not counted.
    pub fn byte_lengths(&self) -> &[u32] {
        &self.byte_lengths
    }

    /// Content of the `tokenizer.json` this was read from.
    pub fn json(&self) -> &[u8] {
        &self.json
    }

    /// xxh3-64 of [`Tokenizer::json`].
    pub fn hash(&self) -> u64 {
        xxh3_64(&self.json)
    }
}

enum Unk {
    Id(u32),
    Name(String),
}

fn unk_name(value: &Value) -> Option<Unk> {
    let model = &value["model"];
    let id = model["unk_id"].as_u64().and_then(|id| u32::try_from(id).ok()).map(Unk::Id);
    id.or_else(|| model["unk_token"].as_str().map(|name| Unk::Name(name.to_string())))
}

/// Largest id named by a vocabulary object or an added token.
fn largest_id(value: &Value) -> Option<u64> {
    let model = value["model"]["vocab"].as_object().into_iter().flatten();
    let added = value["added_tokens"].as_array().into_iter().flatten();
    model.filter_map(|(_, id)| id.as_u64()).chain(added.filter_map(|t| t["id"].as_u64())).max()
}

/// Runs `f`; a panic inside (the library has some for files it does not expect) becomes an error
/// message, and does not print.
pub(super) fn guarded<T>(f: impl FnOnce() -> T) -> std::result::Result<T, String> {
    thread_local!(static QUIET: Cell<bool> = const { Cell::new(false) });
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let previous = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !QUIET.get() {
                previous(info);
            }
        }));
    });
    let before = QUIET.replace(true);
    // What a panicking `f` leaves behind is either dropped (half-built tokenizers) or a cache behind
    // a lock, which the library bypasses once poisoned.
    let result = catch_unwind(AssertUnwindSafe(f));
    QUIET.set(before);
    result.map_err(|payload| {
        let text = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied());
        format!("the tokenizers library failed: {}", text.unwrap_or("no reason given"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_files_are_errors() {
        let load = |text: &str| {
            Tokenizer::from_bytes(text.as_bytes().to_vec(), Path::new("t.json"))
                .unwrap_err()
                .to_string()
        };
        for (text, part) in [
            ("", "invalid JSON"),
            ("{}", "no \"model\" object"),
            ("[1]", "no \"model\" object"),
            (r#"{"model":{"type":"BPE","vocab":{"a":4000000000},"merges":[]}}"#, "beyond"),
            (r#"{"model":{"type":"BPE","vocab":{},"merges":[]}}"#, "t.json"),
            (r#"{"model":{"type":"Unigram","vocab":[],"unk_id":7}}"#, "t.json"),
        ] {
            let error = load(text);
            assert!(error.contains(part), "{text}: {error}");
        }
        let deep = format!("{{\"model\":{}", "{\"a\":".repeat(100_000));
        assert!(load(&deep).contains("recursion limit"));
    }

    #[test]
    fn panics_become_messages() {
        let text = guarded(|| -> u8 { panic!("seven {}", 7) }).unwrap_err();
        assert!(text.ends_with("seven 7"), "{text}");
    }
}
