//! Checkpoints as Hugging Face folders, and back.
//!
//! Two formats. `hf`: every projection multiplied out to one matrix, a plain `LlamaForCausalLM` that
//! loads wherever LLaMA does; possible where the projection is one matrix. `hf-custom`: links and
//! factors as they are, under torch's CSR names, with the Python that computes them; needs
//! `trust_remote_code=True`. Either folder is made aside and renamed when it is whole. What a reader of
//! LLaMA has no word for stands in config.json under `chtsl` and in a subfolder of that name.

mod config;
mod folder;
mod import;
mod tensors;
mod tokenizer;
mod weights;
mod writer;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::checkpoint::Checkpoint;
use crate::config::{Activation, Config, PROJECTIONS};
use crate::error::{Error, Result};
use crate::files::write_synced;
use crate::sparse::budget::projection_shapes;

pub use import::{Imported, import};

/// Layout of an exported folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// One matrix per projection: a plain LLaMA.
    Hf,
    /// Links and factors, with the Python that computes them.
    HfCustom,
}

/// Subfolder for what only this program reads. A reader of LLaMA looks at the files of the folder
/// itself, so that nothing in here is taken for its weights.
const OWN: &str = "chtsl";

/// The Python of `hf-custom`, shipped inside the program so that both always match.
const PYTHON: [(&str, &str); 2] = [
    ("configuration_chtsl.py", include_str!("python/configuration_chtsl.py")),
    ("modeling_chtsl.py", include_str!("python/modeling_chtsl.py")),
];

/// Whether a projection of this method is one matrix.
pub fn one_matrix(config: &Config) -> bool {
    let m = &config.method;
    m.dense || !m.low_rank || m.activation == Activation::Identity
}

/// The format that a checkpoint of `config` takes when none is asked for.
pub fn default_format(config: &Config) -> Format {
    if one_matrix(config) { Format::Hf } else { Format::HfCustom }
}

/// One projection by its Hugging Face name, such as `model.layers.0.self_attn.q_proj`.
struct Module {
    name: String,
    rows: usize,
    cols: usize,
}

/// All projections in order.
fn modules(config: &Config) -> Vec<Module> {
    let m = &config.model;
    let shapes = projection_shapes(m.hidden, m.intermediate);
    let of = |layer: usize| {
        PROJECTIONS.iter().zip(shapes).enumerate().map(move |(i, (name, (rows, cols)))| {
            let part = if i < 4 { "self_attn" } else { "mlp" };
            Module { name: format!("model.layers.{layer}.{part}.{name}"), rows, cols }
        })
    };
    (0..m.layers).flat_map(of).collect()
}

fn check_stop(stop: &AtomicBool) -> Result<()> {
    if stop.load(Ordering::Relaxed) {
        return Err(Error::Interrupted("stopped by a signal; nothing was written".into()));
    }
    Ok(())
}

/// Writes `checkpoint` as a Hugging Face folder `out`, which must not exist. Beside the file of the
/// weights, at most one matrix is in memory at a time.
pub fn export(
    checkpoint: &Checkpoint,
    out: &Path,
    format: Format,
    stop: &AtomicBool,
) -> Result<()> {
    let config = &checkpoint.config;
    if format == Format::Hf && !one_matrix(config) {
        return Err(Error::Config(format!(
            "--format hf: a projection of method {:?} is S·x + B·SiLU(A·x), which no single matrix \
             equals; use --format hf-custom (loads with trust_remote_code=True)",
            config.method.name
        )));
    }
    let stage = folder::Stage::new(out)?;
    let mut source = checkpoint.model()?;
    let plan = tensors::Plan::new(config, &source, format)?;
    tensors::write(&stage.path().join("model.safetensors"), &plan.weights, &mut source, stop)?;
    let own = stage.path().join(OWN);
    if !plan.links.is_empty() {
        folder::create(&own)?;
        tensors::write(&own.join("links.safetensors"), &plan.links, &mut source, stop)?;
    }
    let words = match checkpoint.tokenizer() {
        Some(path) => tokenizer::Words::load(&path, &config.model)?,
        None => tokenizer::Words::default(),
    };
    let put = |name: &str, text: &str| write_synced(&stage.path().join(name), text.as_bytes());
    for (name, text) in words.files(&config.model) {
        put(name, &text)?;
    }
    if let Some(original) = &words.original {
        folder::create(&own)?;
        write_synced(&own.join("tokenizer.json"), original)?;
    }
    put("config.json", &config::text(checkpoint, format, &plan, &words)?)?;
    put("generation_config.json", &config::generation(&config.model, &words))?;
    if format == Format::HfCustom {
        for (name, text) in PYTHON {
            put(name, text)?;
        }
    }
    check_stop(stop)?;
    stage.commit()
}
