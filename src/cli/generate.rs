//! `chtsl generate`.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use crate::checkpoint;
use crate::cli::device::{DeviceArgs, on_backend};
use crate::cli::say;
use crate::config::Layout;
use crate::data::Tokenizer;
use crate::error::{Error, Result};
use crate::generate::{Sampling, generate};
use crate::train::load_model;

/// Continue a prompt.
///
/// Example: chtsl generate --checkpoint runs/tiny-chtsl-seed1 --prompt "The dogs near the tree"
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A checkpoint folder, or a run folder (its newest checkpoint).
    #[arg(long, value_name = "PATH")]
    checkpoint: PathBuf,
    /// Text to continue; may be empty where documents start with their end token.
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// Most new tokens.
    #[arg(long, default_value_t = 100, value_name = "N")]
    max_tokens: usize,
    /// Divides the logits; 0 = always the most probable token.
    #[arg(long, default_value_t = 0.8, value_name = "T")]
    temperature: f64,
    /// Draw from the most probable tokens that together have this probability.
    #[arg(long, default_value_t = 0.95, value_name = "P")]
    top_p: f64,
    /// Seed of the draws.
    #[arg(long, default_value_t = 1, value_name = "S")]
    seed: u64,
    /// A tokenizer.json, for checkpoints that have none.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Runs the command.
pub fn run(args: Args, stop: &AtomicBool) -> Result<()> {
    if args.max_tokens == 0 || args.max_tokens > 1 << 16 {
        let text = format!("--max-tokens {}: must lie in 1..=65536", args.max_tokens);
        return Err(Error::Config(text));
    }
    let found = checkpoint::find(&args.checkpoint)?;
    let path = args.tokenizer.clone().or_else(|| found.tokenizer()).ok_or_else(|| {
        let text = "has no tokenizer (it was trained on bare shards); give --tokenizer FILE";
        Error::checkpoint(&found.path, text)
    })?;
    let tokenizer = Tokenizer::load(&path)?;
    let backend = args.device.open(found.config.train.precision)?;
    let eos = tokenizer.eos(None).ok().map(|(_, id)| id);
    let mut prompt = Vec::new();
    // Packed training shows every document after the end of another one.
    if found.config.data.layout == Layout::Packed {
        prompt.extend(eos);
    }
    prompt.extend(tokenizer.encode(&args.prompt)?);
    let sampling = Sampling {
        max_tokens: args.max_tokens,
        temperature: args.temperature,
        top_p: args.top_p,
        seed: args.seed,
        eos,
    };
    let out = on_backend!(backend, |backend| {
        let model = load_model(backend, &found, false)?;
        generate(backend, &model, &prompt, 1, &sampling, stop)?
    });
    let start = usize::from(prompt.first() == eos.as_ref() && !prompt.is_empty());
    let mut ids = prompt[start..].to_vec();
    ids.extend(&out[0]);
    say(tokenizer.decode(&ids)?)
}
