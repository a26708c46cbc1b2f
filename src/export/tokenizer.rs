//! The tokenizer's files, such that `AutoTokenizer` encodes as the model was trained: adding nothing.

use std::path::Path;

use serde_json::{Value, json};

use crate::config::ModelConfig;
use crate::data::Tokenizer;
use crate::error::Result;

/// Names under which tokenizers have a token for padding.
const PAD_NAMES: [&str; 4] = ["<pad>", "[PAD]", "<|pad|>", "<|padding|>"];

/// A tokenizer and its special tokens.
#[derive(Default)]
pub(super) struct Words {
    /// tokenizer.json for others; `None` without tokenizer.
    json: Option<Vec<u8>>,
    /// What the checkpoint has, where that differs.
    pub original: Option<Vec<u8>>,
    /// Token that ends a document.
    pub eos: Option<(String, u32)>,
    /// A token of its own for padding.
    pub pad: Option<(String, u32)>,
    unk: Option<String>,
}

impl Words {
    /// Reads the tokenizer of a checkpoint. Ids beyond the model's vocabulary are not named.
    pub fn load(path: &Path, model: &ModelConfig) -> Result<Self> {
        let tokenizer = Tokenizer::load(path)?;
        let known = |(_, id): &(String, u32)| (*id as usize) < model.vocab;
        let named = |name: &str| tokenizer.token_to_id(name).map(|id| (name.to_string(), id));
        let original = tokenizer.json().to_vec();
        let quiet = quiet(&original);
        let (json, original) = match quiet {
            Some(json) => (json, Some(original)),
            None => (original, None),
        };
        Ok(Words {
            json: Some(json),
            original,
            eos: tokenizer.eos(None).ok().filter(known),
            pad: PAD_NAMES.iter().find_map(|name| named(name)).filter(known),
            unk: tokenizer.unk().and_then(|id| tokenizer.id_to_token(id)),
        })
    }

    /// tokenizer.json and tokenizer_config.json.
    pub fn files(&self, model: &ModelConfig) -> Vec<(&'static str, String)> {
        let Some(json) = &self.json else { return Vec::new() };
        let mut settings = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": model.seq_len,
            "clean_up_tokenization_spaces": false,
        });
        // Batches need some token to fill up with; where there is none of its own, as usual the end.
        let pad = self.pad.as_ref().or(self.eos.as_ref()).map(|(name, _)| name.as_str());
        let eos = self.eos.as_ref().map(|(name, _)| name.as_str());
        for (key, name) in
            [("eos_token", eos), ("pad_token", pad), ("unk_token", self.unk.as_deref())]
        {
            if let Some(name) = name {
                settings[key] = name.into();
            }
        }
        let text = String::from_utf8_lossy(json).into_owned();
        vec![("tokenizer.json", text), ("tokenizer_config.json", super::config::pretty(&settings))]
    }
}

/// The tokenizer without truncation, padding, dropout and added tokens, if it has any of these.
fn quiet(json: &[u8]) -> Option<Vec<u8>> {
    let mut value: Value = serde_json::from_slice(json).ok()?;
    let before = value.clone();
    for key in ["truncation", "padding"] {
        if let Some(v) = value.get_mut(key) {
            *v = Value::Null;
        }
    }
    if let Some(dropout) = value.get_mut("model").and_then(|m| m.get_mut("dropout")) {
        *dropout = Value::Null;
    }
    if let Some(processor) = value.get_mut("post_processor") {
        if adds(processor) {
            *processor = Value::Null;
        } else if let Some(list) = processor.get_mut("processors").and_then(Value::as_array_mut) {
            list.retain(|p| !adds(p));
        }
    }
    (value != before).then(|| value.to_string().into_bytes())
}

/// Whether a post-processor puts tokens around a text.
fn adds(processor: &Value) -> bool {
    let kinds = ["TemplateProcessing", "BertProcessing", "RobertaProcessing"];
    processor["type"].as_str().is_some_and(|kind| kinds.contains(&kind))
}
