//! `chtsl import`.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use crate::cli::say;
use crate::error::Result;
use crate::export;

/// Make a run folder from a Hugging Face folder: one of `chtsl export`, or a LLaMA of this architecture.
///
/// The run can be evaluated, sampled, inspected and exported; its training cannot be resumed.
///
/// Example: chtsl import --from exported/60m-chts --out runs/imported
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folder with config.json and safetensors files.
    #[arg(long, value_name = "DIR")]
    from: PathBuf,
    /// Run folder to make; must not exist.
    #[arg(long, value_name = "RUN")]
    out: PathBuf,
}

/// Runs the command.
pub fn run(args: Args, stop: &AtomicBool) -> Result<()> {
    let found = export::import(&args.from, &args.out, stop)?;
    if !found.tokenizer {
        tracing::warn!(
            "{} has no tokenizer.json: `generate` will need --tokenizer FILE",
            args.from.display()
        );
    }
    let m = &found.config.model;
    say(format!(
        "{}: {} of {} layers x {}, vocabulary {}, step {}",
        args.out.display(),
        found.config.method.name,
        m.layers,
        m.hidden,
        m.vocab,
        found.step
    ))
}
