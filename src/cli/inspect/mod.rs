//! `chtsl inspect`: what a shard, a dataset, a checkpoint or a run holds.

mod dataset;
mod histogram;
mod model;
mod picture;

use std::path::PathBuf;

use serde_json::Value;

use crate::checkpoint;
use crate::cli::say;
use crate::error::{Error, Result};

/// Show what a shard, a dataset folder, a checkpoint or a run folder holds.
///
/// Example: chtsl inspect runs/tiny-chtsl-seed1 --json
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A .bin shard, a dataset folder, a checkpoint folder or a run folder.
    path: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// Read everything: hashes, every id, every tensor. A shard is always checked.
    #[arg(long)]
    verify: bool,
    /// Documents to show as text.
    #[arg(long, value_name = "N", default_value_t = 3)]
    texts: usize,
    /// Draw the links of every matrix of a checkpoint into this folder.
    #[arg(long, value_name = "DIR")]
    topology_png: Option<PathBuf>,
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let path = &args.path;
    let value = if path.join("dataset.json").exists() {
        dataset::folder(path, args.texts)?
    } else if path.join("manifest.json").exists() || path.join("checkpoints").is_dir() {
        let checkpoint = checkpoint::find(path)?;
        let mut value = model::describe(&checkpoint, args.verify)?;
        if let Some(folder) = &args.topology_png {
            value["pictures"] = picture::draw(&checkpoint, folder)?.into();
        }
        value
    } else if path.is_file() {
        dataset::shard(path, args.texts)?
    } else if path.is_dir() {
        return Err(Error::Config(format!(
            "{}: holds neither dataset.json nor a checkpoint; give a .bin shard, a folder made by \
             `chtsl prepare`, a checkpoint or a run folder",
            path.display()
        )));
    } else {
        return Err(Error::data(path, "no such file or folder"));
    };
    if args.topology_png.is_some() && value["pictures"].is_null() {
        return Err(Error::Config(format!(
            "--topology-png draws the links of a checkpoint; {} is data",
            path.display()
        )));
    }
    if args.json { say(value) } else { print(&value, 0) }
}

/// Nested values as indented lines; lists of objects one line each.
fn print(value: &Value, depth: usize) -> Result<()> {
    let pad = "  ".repeat(depth);
    let Value::Object(map) = value else { return say(format!("{pad}{value}")) };
    for (key, value) in map {
        match value {
            Value::Object(_) => {
                say(format!("{pad}{key}:"))?;
                print(value, depth + 1)?;
            }
            Value::Array(items) if items.iter().any(Value::is_object) => {
                say(format!("{pad}{key}:"))?;
                for item in items {
                    let fields: Vec<String> = item
                        .as_object()
                        .into_iter()
                        .flatten()
                        .map(|(k, v)| match v {
                            Value::String(s) => s.clone(),
                            Value::Number(n) if n.is_f64() => {
                                format!("{k} {:.4}", n.as_f64().unwrap_or(f64::NAN))
                            }
                            Value::Object(h) if h.contains_key("bins") => {
                                format!(
                                    "{k} {}..{} (mean {:.1})",
                                    h["least"],
                                    h["most"],
                                    h["mean"].as_f64().unwrap_or(f64::NAN)
                                )
                            }
                            v => format!("{k} {v}"),
                        })
                        .collect();
                    say(format!("{pad}  {}", fields.join("  ")))?;
                }
            }
            Value::String(s) => say(format!("{pad}{key}: {s}"))?,
            Value::Array(items) if items.iter().any(Value::is_string) => {
                say(format!("{pad}{key}:"))?;
                for item in items {
                    say(format!("{pad}  {}", item.as_str().unwrap_or_default()))?;
                }
            }
            v => say(format!("{pad}{key}: {v}"))?,
        }
    }
    Ok(())
}
