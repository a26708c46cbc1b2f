//! `chtsl export`.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use clap::ValueEnum;

use crate::checkpoint;
use crate::cli::say;
use crate::error::Result;
use crate::export::{self, default_format};

/// `--format`.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// A plain LLaMA: one matrix per projection, for methods where there is one.
    Hf,
    /// Links and factors as trained, with their Python (trust_remote_code=True).
    HfCustom,
}

/// Write a checkpoint as a Hugging Face folder.
///
/// Example: chtsl export --checkpoint runs/60m-chts-seed1 --out exported/60m-chts
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A checkpoint folder, or a run folder (its newest checkpoint).
    #[arg(long, value_name = "PATH")]
    checkpoint: PathBuf,
    /// Folder to make; must not exist.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Layout; hf where the method has one matrix per projection, else hf-custom.
    #[arg(long, value_enum)]
    format: Option<Format>,
}

/// Runs the command.
pub fn run(args: Args, stop: &AtomicBool) -> Result<()> {
    let found = checkpoint::find(&args.checkpoint)?;
    let format = match args.format {
        Some(Format::Hf) => export::Format::Hf,
        Some(Format::HfCustom) => export::Format::HfCustom,
        None => default_format(&found.config),
    };
    if found.tokenizer().is_none() {
        tracing::warn!("the checkpoint has no tokenizer: the folder gets none");
    }
    export::export(&found, &args.out, format, stop)?;
    let (how, trust) = match format {
        export::Format::Hf => ("a plain LLaMA", ""),
        export::Format::HfCustom => {
            ("links and factors with their Python", ", trust_remote_code=True")
        }
    };
    say(format!("{}: {how}, from step {}", args.out.display(), found.state.step))?;
    let method = &found.config.method;
    if format == export::Format::Hf && method.low_rank && !method.dense {
        say("S + L has been multiplied out; --format hf-custom keeps links and factors apart")?;
    }
    say(format!(
        "load it with AutoModelForCausalLM.from_pretrained({:?}{trust})",
        args.out.display().to_string()
    ))
}
