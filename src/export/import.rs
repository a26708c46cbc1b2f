//! A Hugging Face folder as a run with one checkpoint.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use super::config::{Read, read};
use super::folder::Stage;
use super::weights::Weights;
use super::{OWN, check_stop};
use crate::backend::{Backend, Cpu};
use crate::checkpoint::state::FORMAT;
use crate::checkpoint::{self, State};
use crate::config::{Config, Precision};
use crate::data::Tokenizer;
use crate::error::{Error, Result};
use crate::files::write_synced;
use crate::model::Llama;

/// What an import found.
pub struct Imported {
    /// Configuration of the run that was made.
    pub config: Config,
    /// Updates done.
    pub step: u64,
    /// Whether there was a tokenizer.
    pub tokenizer: bool,
}

/// Reads the folder `from` (either format of [`super::export`], or any LLaMA of this architecture) and
/// makes the run folder `out`, which must not exist, with one checkpoint without optimizer state.
pub fn import(from: &Path, out: &Path, stop: &AtomicBool) -> Result<Imported> {
    if !from.is_dir() {
        return Err(Error::checkpoint(from, "is not a folder; give one with a config.json"));
    }
    let mut weights = Weights::open(from)?;
    let Read { config, step, tokens } = read(from, weights.has_links())?;
    let tokenizer = tokenizer(from)?;
    check_stop(stop)?;
    let stage = Stage::new(out)?;
    // Nothing is computed: the CPU holds the numbers until they are written.
    let precision = match config.train.precision {
        Precision::Bf16Pure => Precision::Bf16Pure,
        _ => Precision::F32,
    };
    let backend = Cpu::new(1, precision)?;
    let mut model = Llama::new(&backend, &config, &mut weights, false)?;
    weights.check_all_used()?;
    drop(weights);
    check_stop(stop)?;
    let state = State {
        format: FORMAT,
        program: env!("CARGO_PKG_VERSION").into(),
        step,
        tokens,
        tokenizer_hash: tokenizer.as_ref().map(Tokenizer::hash),
        precision: backend.precision().to_string(),
        ..State::default()
    };
    let json = tokenizer.as_ref().map(Tokenizer::json);
    checkpoint::save(&backend, stage.path(), &config, &mut model, &[], &state, json, 1)?;
    let text = toml::to_string(&config).expect("plain data");
    write_synced(&stage.path().join("config.toml"), text.as_bytes())?;
    check_stop(stop)?;
    stage.commit()?;
    Ok(Imported { config, step, tokenizer: tokenizer.is_some() })
}

/// The tokenizer as the checkpoint had it, or the folder's.
fn tokenizer(from: &Path) -> Result<Option<Tokenizer>> {
    for path in [from.join(OWN).join("tokenizer.json"), from.join("tokenizer.json")] {
        if path.exists() {
            return Tokenizer::load(&path).map(Some);
        }
    }
    Ok(None)
}
