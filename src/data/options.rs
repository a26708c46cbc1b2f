//! Options of the `prepare` command and their checks.

use std::path::PathBuf;

use super::manifest::Split;
use super::source::SourceOptions;
use super::train_bpe;
use crate::error::{Error, Result};
use crate::rng::{Purpose, Stream};

/// Tokens per shard unless told otherwise.
pub const SHARD_TOKENS: u64 = 100_000_000;

/// Where the tokenizer comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenizerChoice {
    /// A `tokenizer.json`.
    File(PathBuf),
    /// A byte-level BPE with this many ids, trained on the training documents (their first GiB).
    Train(usize),
}

/// Where the validation split comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum Validation {
    /// There is none.
    None,
    /// This share of the documents, chosen by a hash of the document's number.
    Fraction(f64),
    /// Files of their own.
    Inputs(Vec<PathBuf>),
}

/// Options of [`prepare`](super::prepare::prepare).
#[derive(Clone, Debug)]
pub struct PrepareOptions {
    /// Training files, in order.
    pub inputs: Vec<PathBuf>,
    /// Where the tokenizer comes from.
    pub tokenizer: TokenizerChoice,
    /// Output folder; created when missing.
    pub out: PathBuf,
    /// Token that ends a document; `None` = the usual names.
    pub eos: Option<String>,
    /// Where the validation split comes from.
    pub validation: Validation,
    /// JSON field that holds the text.
    pub text_field: String,
    /// Invalid lines that may be skipped.
    pub skip_bad_lines: u64,
    /// Limit on the ids, e.g. 32000 with T5's 32100; ids beyond it become the unknown token.
    pub model_vocab: Option<usize>,
    /// Tokens per shard; only a single longer document makes a longer shard.
    pub shard_tokens: u64,
}

impl PrepareOptions {
    /// Options with every default.
    pub fn new(inputs: Vec<PathBuf>, tokenizer: TokenizerChoice, out: PathBuf) -> Self {
        PrepareOptions {
            inputs,
            tokenizer,
            out,
            eos: None,
            validation: Validation::None,
            text_field: "text".into(),
            skip_bad_lines: 0,
            model_vocab: None,
            shard_tokens: SHARD_TOKENS,
        }
    }

    /// Checks every value; the error names the flag.
    pub(super) fn check(&self) -> Result<()> {
        let fail = |text: String| Err(Error::Config(text));
        if self.inputs.is_empty() {
            return fail("--input: name at least one file".into());
        }
        if let TokenizerChoice::Train(vocab) = self.tokenizer {
            train_bpe::check_vocab(vocab)?;
        }
        match &self.validation {
            Validation::Fraction(f) if !(*f > 0.0 && *f < 1.0) => {
                return fail(format!("--val-fraction {f}: must lie between 0 and 1"));
            }
            Validation::Inputs(paths) if paths.is_empty() => {
                return fail("--val-input: name at least one file".into());
            }
            _ => {}
        }
        if self.model_vocab.is_some_and(|v| v == 0 || v > 1 << 24) {
            return fail("the vocabulary limit must lie in 1..=16777216".into());
        }
        if !(1..=1 << 30).contains(&self.shard_tokens) {
            return fail(format!("{} tokens per shard: must lie in 1..=2^30", self.shard_tokens));
        }
        Ok(())
    }

    /// Files of the validation split.
    pub(super) fn val_inputs(&self) -> &[PathBuf] {
        match &self.validation {
            Validation::Inputs(paths) => paths,
            _ => &[],
        }
    }

    /// How documents are taken from the files.
    pub(super) fn source(&self) -> SourceOptions {
        SourceOptions { text_field: self.text_field.clone(), skip_bad_lines: self.skip_bad_lines }
    }

    /// Split of document `number` of the training files: a pure function of the number, so that
    /// neither threads nor shard sizes move a document.
    pub(super) fn assign(&self, number: u64) -> Split {
        let draw = || Stream::new(0, Purpose::Split, 0, 0).uniform(number);
        match self.validation {
            Validation::Fraction(fraction) if draw() < fraction => Split::Val,
            _ => Split::Train,
        }
    }
}
