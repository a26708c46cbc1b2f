//! `chtsl inspect`: what a shard, a dataset, a checkpoint or a run holds.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::checkpoint::{self, Checkpoint};
use crate::cli::say;
use crate::data::{Manifest, Shard, Split};
use crate::error::{Error, Result};
use crate::metrics::number;
use crate::sparse::Pattern;
use crate::sparse::budget::projection_shapes;

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
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    let path = &args.path;
    let value = if path.join("dataset.json").exists() {
        dataset(path)?
    } else if path.join("manifest.json").exists() || path.join("checkpoints").is_dir() {
        model(&checkpoint::find(path)?)?
    } else if path.is_file() {
        shard(path)?
    } else if path.is_dir() {
        return Err(Error::Config(format!(
            "{}: holds neither dataset.json nor a checkpoint; give a .bin shard, a folder made by \
             `chtsl prepare`, a checkpoint or a run folder",
            path.display()
        )));
    } else {
        return Err(Error::data(path, "no such file or folder"));
    };
    if args.json { say(value) } else { print(&value, 0) }
}

fn shard(path: &Path) -> Result<Value> {
    let s = Shard::open(path)?;
    s.verify()?;
    let mut first = vec![0; (s.len() as usize).min(32)];
    s.read(0..first.len() as u64, &mut first)?;
    Ok(json!({
        "shard": path.display().to_string(),
        "tokens": s.len(),
        "bytes_per_token": s.width().bytes(),
        "largest_id": s.max_id(),
        "first_ids": first,
    }))
}

fn dataset(path: &Path) -> Result<Value> {
    let m = Manifest::load(path)?;
    let split = |which| {
        m.split(which).map(|s| {
            json!({
                "documents": s.documents,
                "tokens": s.tokens,
                "shards": s.shards.iter().map(|s| s.file.clone()).collect::<Vec<_>>(),
            })
        })
    };
    Ok(json!({
        "dataset": path.display().to_string(),
        "vocabulary": m.vocab_size,
        "end_of_document": m.eos_token,
        "train": split(Split::Train),
        "val": split(Split::Val),
    }))
}

fn model(c: &Checkpoint) -> Result<Value> {
    let tensors = c.model()?;
    let mut parameters = 0u64;
    for name in tensors.names().filter(|n| !n.ends_with("_indices")) {
        parameters += tensors.info(name)?.1.iter().product::<usize>() as u64;
    }
    let mut layers = Vec::new();
    let m = &c.config.model;
    let shapes = projection_shapes(m.hidden, m.intermediate);
    for layer in 0..m.layers {
        for (i, (name, (rows, cols))) in crate::config::PROJECTIONS.iter().zip(shapes).enumerate() {
            let part = if i < 4 { "self_attn" } else { "mlp" };
            let full = format!("model.layers.{layer}.{part}.{name}");
            let mut entry = json!({
                "layer": format!("{layer}.{name}"),
                "out": rows,
                "in": cols,
            });
            let weight = format!("{full}.weight");
            if tensors.contains(&format!("{weight}.values")) {
                let p: Pattern = tensors.pattern(&weight, rows, cols)?;
                let (outputs, inputs) = p.unlinked();
                entry["links"] = p.nnz().into();
                entry["density"] = number(p.density());
                entry["unlinked_outputs"] = outputs.into();
                entry["unlinked_inputs"] = inputs.into();
                entry["kept_columns_16"] = number(p.kept_columns(16));
                entry["kept_columns_32"] = number(p.kept_columns(32));
            }
            if tensors.contains(&format!("{full}.low_rank.A")) {
                entry["rank"] = tensors.info(&format!("{full}.low_rank.A"))?.1[0].into();
            }
            layers.push(entry);
        }
    }
    let config = toml::Table::try_from(&c.config).expect("plain data");
    Ok(json!({
        "checkpoint": c.path.display().to_string(),
        "step": c.state.step,
        "tokens_seen": c.state.tokens,
        "precision": c.state.precision,
        "parameters": parameters,
        "files": c.manifest.files.iter().map(|(n, f)| (n.clone(), f.bytes)).collect::<std::collections::BTreeMap<_, _>>(),
        "config": serde_json::to_value(config).expect("plain data"),
        "layers": layers,
    }))
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
                            v => format!("{k} {v}"),
                        })
                        .collect();
                    say(format!("{pad}  {}", fields.join("  ")))?;
                }
            }
            Value::String(s) => say(format!("{pad}{key}: {s}"))?,
            v => say(format!("{pad}{key}: {v}"))?,
        }
    }
    Ok(())
}
