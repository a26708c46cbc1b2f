//! `chtsl prepare`: text files to token shards.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use crate::cli::logging::Log;
use crate::cli::progress::PrepareBar;
use crate::cli::say;
use crate::data::{self, PrepareOptions, Split, Summary, TokenizerChoice, Validation};
use crate::error::{Error, Result};

/// Turn text files into token shards.
///
/// Example: chtsl prepare --input c4-train.*.json.gz --tokenizer t5/tokenizer.json --out data/c4
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Text files: .txt (one document each), .jsonl or .json (one a line), also .gz or .zst.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    input: Vec<PathBuf>,
    /// A tokenizer.json.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "train_tokenizer",
        conflicts_with = "train_tokenizer"
    )]
    tokenizer: Option<PathBuf>,
    /// Train a byte-level BPE with this many ids on the input.
    #[arg(long, value_name = "VOCAB")]
    train_tokenizer: Option<usize>,
    /// Token that ends a document [default: the first of </s>, <|endoftext|>, <eos> that exists].
    #[arg(long, value_name = "TOKEN")]
    eos: Option<String>,
    /// Folder to write.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Files of the validation split.
    #[arg(long, num_args = 1.., value_name = "PATH", conflicts_with = "val_fraction")]
    val_input: Vec<PathBuf>,
    /// Share of the documents to hold out for validation.
    #[arg(long, value_name = "F")]
    val_fraction: Option<f64>,
    /// JSON field that holds the text.
    #[arg(long, default_value = "text", value_name = "NAME")]
    text_field: String,
    /// Invalid lines that may be skipped in each list of files.
    #[arg(long, default_value_t = 0, value_name = "N")]
    skip_bad_lines: u64,
    /// Keep ids below this only (32000 for T5); others become the unknown token.
    #[arg(long, value_name = "IDS")]
    model_vocab: Option<usize>,
}

/// Runs the command.
pub fn run(args: Args, stop: &AtomicBool, log: &Log) -> Result<()> {
    let tokenizer = match (args.tokenizer, args.train_tokenizer) {
        (Some(path), None) => TokenizerChoice::File(path),
        (None, Some(vocab)) => TokenizerChoice::Train(vocab),
        _ => return Err(Error::Config("give either --tokenizer or --train-tokenizer".into())),
    };
    let validation = match (args.val_input.is_empty(), args.val_fraction) {
        (true, None) => Validation::None,
        (true, Some(fraction)) => Validation::Fraction(fraction),
        (false, _) => Validation::Inputs(args.val_input),
    };
    let options = PrepareOptions {
        eos: args.eos,
        validation,
        text_field: args.text_field,
        skip_bad_lines: args.skip_bad_lines,
        model_vocab: args.model_vocab,
        ..PrepareOptions::new(args.input, tokenizer, args.out)
    };
    let done = prepare(&options, stop, log)?;
    let m = &done.manifest;
    if done.already_complete {
        say(format!("{} is complete already", options.out.display()))?;
    }
    for (name, split) in [("train", m.split(Split::Train)), ("val", m.split(Split::Val))] {
        let Some(s) = split else { continue };
        say(format!(
            "{name}: {} documents, {} tokens in {} shards",
            s.documents,
            s.tokens,
            s.shards.len()
        ))?;
    }
    say(format!("vocabulary {}, end of document {:?}", m.vocab_size, m.eos_token))?;
    if !done.already_complete {
        let splits = [Split::Train, Split::Val].into_iter().filter_map(|split| m.split(split));
        let megabytes = splits.map(|s| s.text_bytes).sum::<u64>() as f64 / 1e6;
        let seconds = done.elapsed.as_secs_f64();
        say(format!(
            "{megabytes:.1} MB of text in {seconds:.1} s ({:.1} MB/s) -> {}",
            megabytes / seconds.max(1e-9),
            options.out.display()
        ))?;
    }
    Ok(())
}

/// Prepares with a bar, or a log line every few seconds.
pub(super) fn prepare(options: &PrepareOptions, stop: &AtomicBool, log: &Log) -> Result<Summary> {
    let bar = PrepareBar::new(log);
    data::prepare(options, stop, &|p| bar.show(p))
}
