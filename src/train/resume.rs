//! Continuing a run from a checkpoint.

use toml::{Table, Value};

use crate::backend::Backend;
use crate::checkpoint::{Checkpoint, TensorFile};
use crate::config::{Config, layers};
use crate::data::Dataset;
use crate::error::{Error, Result, check_len};
use crate::layer::ParamRef;
use crate::model::Llama;
use crate::topology::Itop;
use crate::train::{RunOptions, Trainer};

/// Keys that may change at a resume without changing what is computed.
const FREE: [&str; 6] = [
    "train.log_interval",
    "train.eval_interval",
    "train.checkpoint_interval",
    "train.keep_checkpoints",
    "train.micro_batch",
    "data.eval_tokens",
];

/// Keys that change the run and need `--allow-change`.
const DECLARED: [&str; 21] = [
    "train.steps",
    "train.warmup",
    "train.batch",
    "train.lr",
    "train.min_lr_ratio",
    "train.rewarmup",
    "train.low_rank_lr_scale",
    "train.beta1",
    "train.beta2",
    "train.eps",
    "train.weight_decay",
    "train.clip",
    "train.on_nonfinite",
    "train.max_skips",
    "train.skip_z",
    "train.loss_scaling",
    "method.lambda_align",
    "topology.zeta",
    "topology.update_interval",
    "topology.end_fraction",
    "topology.regrow_temperature",
];

/// Keys that differ, sorted, each with `key: was -> is`.
fn differences(old: &Config, new: &Config) -> Vec<(String, String)> {
    let table = |c: &Config| layers::leaves(&Table::try_from(c).expect("plain data"));
    let (old, new) = (table(old), table(new));
    let mut keys: Vec<&String> = old.iter().chain(&new).map(|(k, _)| k).collect();
    keys.sort();
    keys.dedup();
    let value = |list: &[(String, Value)], key: &str| {
        list.iter().find(|(k, _)| k == key).map_or("unset".into(), |(_, v)| v.to_string())
    };
    keys.into_iter()
        .map(|key| (key, value(&old, key), value(&new, key)))
        .filter(|(_, was, is)| was != is)
        .map(|(key, was, is)| (key.clone(), format!("{key}: {was} -> {is}")))
        .collect()
}

/// Compares the configuration of a checkpoint with the one asked for. Returns the changes, or one error
/// that lists every forbidden one.
pub fn changes_on_resume(old: &Config, new: &Config, allowed: &[String]) -> Result<Vec<String>> {
    let (mut noted, mut frozen, mut undeclared) = (Vec::new(), Vec::new(), Vec::new());
    for (key, text) in differences(old, new) {
        if FREE.contains(&key.as_str()) || allowed.iter().any(|a| *a == key && is_declared(&key)) {
            noted.push(text);
        } else if is_declared(&key) {
            undeclared.push(text);
        } else {
            frozen.push(text);
        }
    }
    if frozen.is_empty() && undeclared.is_empty() {
        return Ok(noted);
    }
    let mut message = String::from("the configuration differs from the checkpoint's");
    if !frozen.is_empty() {
        message += &format!("; these cannot change in a resumed run: {}", frozen.join(", "));
    }
    if !undeclared.is_empty() {
        let list = undeclared.join(", ");
        message += &format!("; these need --allow-change KEY each: {list}");
    }
    Err(Error::Config(message))
}

fn is_declared(key: &str) -> bool {
    DECLARED.contains(&key)
}

/// Loads the weights of a checkpoint, with zeroed optimizer state if `training`.
pub fn load_model<B: Backend>(
    backend: &B,
    checkpoint: &Checkpoint,
    training: bool,
) -> Result<Llama<B>> {
    Llama::new(backend, &checkpoint.config, &mut checkpoint.model()?, training)
}

fn restore<B: Backend>(backend: &B, p: &mut ParamRef<B>, optim: &TensorFile) -> Result<()> {
    let len = backend.len(p.values);
    backend.write(p.m, &optim.finite(&format!("{}.m", p.name), len)?)?;
    backend.write(p.v, &optim.finite(&format!("{}.v", p.name), len)?)?;
    if let Some(ages) = &mut p.ages {
        backend.write(ages, &optim.finite(&format!("{}.ages", p.name), len)?)?;
    }
    Ok(())
}

impl<'a, B: Backend> Trainer<'a, B> {
    /// Continues the run of `checkpoint` under `config` (see [`changes_on_resume`]). A note in the metrics
    /// says so, and what of the configuration has changed.
    pub fn resume(
        backend: &'a B,
        config: &Config,
        checkpoint: &Checkpoint,
        data: &'a Dataset,
        validation: Option<&'a Dataset>,
        options: RunOptions<'a>,
    ) -> Result<Self> {
        let mut state = checkpoint.state.clone();
        if state.dataset_fingerprint != data.fingerprint() {
            return Err(Error::checkpoint(
                &checkpoint.path,
                "was trained on other data (its fingerprint differs); give the same --data",
            ));
        }
        if let (Some(was), Some(is)) = (state.tokenizer_hash, options.tokenizer_hash)
            && was != is
        {
            return Err(Error::checkpoint(
                &checkpoint.path,
                "was trained with another tokenizer; give the same --data",
            ));
        }
        let precision = backend.precision().to_string();
        if state.precision != precision {
            let text = format!(
                "was trained in {was}, this run would use {precision}; give the same --device, or \
                 --set train.precision={was}",
                was = state.precision
            );
            return Err(Error::checkpoint(&checkpoint.path, text));
        }
        if options.data_folder.is_some() {
            state.data_folder = options.data_folder.clone();
        }
        let mut model = load_model(backend, checkpoint, true)?;
        let optim = checkpoint.optimizer()?;
        model.visit(&mut |mut p| restore(backend, &mut p, &optim))?;
        let mut itop = Vec::new();
        for (block, b) in model.blocks.iter().enumerate() {
            for p in b.projections.iter().filter(|p| p.links().is_some()) {
                let short = p.name.rsplit('.').next().unwrap_or_default();
                let name = format!("{block}.{short}");
                let bytes = optim.raw(&format!("{name}.ever_active"))?;
                itop.push((name, Itop::from_bytes(p.rows, p.cols, bytes)?));
            }
        }
        let sparse = checkpoint.config.method.sparse && !checkpoint.config.method.dense;
        check_len("resume", "sparse matrices", if sparse { 7 * model.blocks.len() } else { 0 }, {
            itop.len()
        })?;
        let mut trainer = Self::assemble(backend, config, model, data, validation, state, options)?;
        trainer.itop = itop;
        let step = trainer.state.step;
        if let Some(m) = &mut trainer.metrics {
            let changes = differences(&checkpoint.config, config).into_iter().map(|(_, text)| text);
            let from = format!("resumed from {}", checkpoint.path.display());
            m.note(step, &std::iter::once(from).chain(changes).collect::<Vec<_>>().join("; "));
        }
        Ok(trainer)
    }
}
