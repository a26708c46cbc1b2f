//! `chtsl inspect`: what a shard, a dataset, a checkpoint or a run holds.
//!
//! | file | what |
//! |---|---|
//! | `dataset` | shards and dataset folders, as JSON |
//! | `model` | checkpoints, as JSON |
//! | `report` | the same as text |
//! | `table`, `histogram` | aligned columns, counts in bins |
//! | `picture` | links as PNG |

mod dataset;
mod histogram;
mod model;
mod picture;
mod report;
mod table;

use std::path::PathBuf;

use crate::checkpoint;
use crate::cli::say;
use crate::error::{Error, Result};

/// Show what a shard, a dataset folder, a checkpoint or a run folder holds.
///
/// Of data: documents, their lengths and first texts; every hash, header and number of documents is
/// compared with dataset.json. Of a checkpoint: configuration, weights with their bytes, and the links
/// of every sparse matrix: density, links per output and input, outputs and inputs without a link,
/// columns that panels of 16 and 32 outputs keep (k16, k32), positions that ever had a link.
///
/// Example: chtsl inspect runs/tiny-chtsl-seed1 --json
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A .bin shard, a folder of shards, a checkpoint folder or a run folder.
    path: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Of a checkpoint: also read every weight and every number of the optimizer. Data is always read
    /// in full.
    #[arg(long)]
    verify: bool,
    /// Documents to show as text.
    #[arg(long, value_name = "N", default_value_t = 3)]
    texts: usize,
    /// tokenizer.json that shows the text of shards without a dataset.json, such as llm.c's.
    #[arg(long, value_name = "FILE")]
    tokenizer: Option<PathBuf>,
    /// Draw the links of every matrix of a checkpoint into this folder, one PNG each: outputs
    /// downwards, inputs to the right, darker where more of the possible links exist; the grey profile
    /// above has the links per input, the one at the left the links per output.
    #[arg(long, value_name = "DIR")]
    topology_png: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let path = &args.path;
    let given = args.tokenizer.as_deref();
    let refuse =
        |flag: &str, why: &str| Err(Error::Config(format!("{flag}: {} {why}", path.display())));
    let is_checkpoint = !path.join("dataset.json").exists()
        && (path.join("manifest.json").exists() || path.join("checkpoints").is_dir());
    if args.topology_png.is_some() && !is_checkpoint {
        return refuse("--topology-png", "is no checkpoint, and only those have links to draw");
    }
    if is_checkpoint {
        if given.is_some() {
            return refuse("--tokenizer", "is a checkpoint, which has no text to show");
        }
        let checkpoint = checkpoint::find(path)?;
        let mut value = model::describe(&checkpoint, args.verify)?;
        if let Some(folder) = &args.topology_png {
            value["pictures"] = picture::draw(&checkpoint, folder)?.into();
        }
        return if args.json { say(value) } else { report::checkpoint(&value) };
    }
    let value = if path.join("dataset.json").exists() {
        if given.is_some() {
            return refuse("--tokenizer", "has a tokenizer of its own");
        }
        dataset::folder(path, args.texts)?
    } else if path.is_file() {
        dataset::shard(path, args.texts, given)?
    } else if path.is_dir() && !dataset::has_shards(path) {
        return Err(Error::Config(format!(
            "{}: holds neither dataset.json, .bin shards nor a checkpoint; give a .bin shard, a folder \
             made by `chtsl prepare` or of llm.c shards, a checkpoint or a run folder",
            path.display()
        )));
    } else if path.is_dir() {
        dataset::bare_folder(path, args.texts, given)?
    } else {
        return Err(Error::data(path, "no such file or folder"));
    };
    if args.json { say(value) } else { report::data(&value) }
}
