//! `chtsl eval`.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use serde_json::json;
use toml::Table;

use crate::checkpoint;
use crate::cli::device::{DeviceArgs, on_backend};
use crate::cli::logging::Log;
use crate::cli::progress::EvaluationBar;
use crate::cli::run_folder;
use crate::cli::say;
use crate::config::layers;
use crate::data::{Dataset, DatasetOptions, Split};
use crate::error::{Error, Result};
use crate::eval::{Scoring, evaluate};
use crate::metrics::number;
use crate::model::Activations;
use crate::train::load_model;

/// Perplexity and bits per byte of a checkpoint on a dataset's validation split.
///
/// Example: chtsl eval --checkpoint runs/60m-chtsl-seed1 --data data/c4 --json
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A checkpoint folder, or a run folder (its newest checkpoint).
    #[arg(long, value_name = "PATH")]
    checkpoint: PathBuf,
    /// Folder made by `chtsl prepare` [default: what the run was trained on].
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Set a key of the sections data or train.micro_batch, for example data.layout=doc_pad.
    #[arg(long, value_name = "KEY.PATH=VALUE")]
    set: Vec<String>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    device: DeviceArgs,
}

/// Runs the command.
pub fn run(args: Args, stop: &AtomicBool, log: &Log) -> Result<()> {
    let found = checkpoint::find(&args.checkpoint)?;
    let sets = args.set.iter().map(|s| layers::parse_set(s)).collect::<Result<Vec<_>>>()?;
    for (text, set) in args.set.iter().zip(&sets) {
        let data = set.len() == 1 && set.contains_key("data");
        let micro = set.get("train").and_then(|t| t.get("micro_batch")).is_some();
        if !data && !micro {
            return Err(Error::Config(format!(
                "--set {text}: an evaluation can change data.* and train.micro_batch only"
            )));
        }
    }
    let table = Table::try_from(&found.config).expect("plain data");
    let mut config = layers::parse(layers::overlay(table, &sets))?;
    config.train.batch =
        config.train.batch.max(1).next_multiple_of(config.train.micro_batch.max(1));
    config.validate()?;
    let folder = match args.data {
        Some(folder) => folder,
        None => run_folder::data_folder_of(&found)?,
    };
    let backend = args.device.open(config.train.precision)?;
    let options = DatasetOptions::from_config(&config);
    let data = Dataset::open(std::slice::from_ref(&folder), Split::Val, &options)?;
    let tokenizer = data.tokenizer()?;
    if let (Some(was), Some(t)) = (found.state.tokenizer_hash, &tokenizer)
        && was != t.hash()
    {
        return Err(Error::data(
            &folder,
            "was made with another tokenizer than the checkpoint's; prepare it with the \
             tokenizer.json inside the checkpoint",
        ));
    }
    let sequences = config.train.micro_batch.min(data.rows().min(1 << 20) as usize).max(1);
    let tokens = sequences * config.model.seq_len;
    let max_tokens = config.data.eval_tokens;
    let e = on_backend!(backend, |backend| {
        let model = load_model(backend, &found, false)?;
        let mut acts = Activations::new(backend, &model, tokens, false)?;
        let bar = EvaluationBar::new(log);
        let told = |done, all| bar.show(done, all);
        let scoring = Scoring { sequences, max_tokens, stop, told: &told };
        evaluate(backend, &model, &data, &mut acts, &scoring)?
    });
    if args.json {
        let row = json!({
            "checkpoint": found.path.display().to_string(),
            "step": found.state.step,
            "ppl": number(e.ppl()),
            "ppl_galore_compat": number(e.ppl_galore_compat()),
            "bits_per_byte": e.bits_per_byte().map_or(serde_json::Value::Null, number),
            "loss": number(e.loss),
            "tokens": e.tokens,
            "batches": e.batches,
            "precision": found.state.precision,
        });
        return say(row);
    }
    say(format!("{} (step {})", found.path.display(), found.state.step))?;
    say(format!(
        "perplexity {:.4} ({}), token-weighted over {} tokens",
        e.ppl(),
        found.state.precision,
        e.tokens
    ))?;
    say(format!(
        "ppl_galore_compat {:.4} ({} batches of {sequences}, divided by {})",
        e.ppl_galore_compat(),
        e.batches,
        e.batches + 1
    ))?;
    match e.bits_per_byte() {
        Some(b) => say(format!("bits per byte {b:.4}")),
        None => say("bits per byte: unknown without a tokenizer"),
    }
}
