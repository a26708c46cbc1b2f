//! How long an update would take here, from models of one and of three blocks with few ids.
//!
//! The time of a micro-batch is linear in the number of blocks and in the vocabulary, that of Adam in the
//! number of parameters; three small models give the slopes. Twelve estimates beside runs of 4 layers x 256
//! (dense and CHTsL, two cores that had other work) were 0.9 to 1.8 times the speed of the run, half of
//! them within 1.15; one with nothing beside it (CHTsL) 1.09.

use std::time::{Duration, Instant};

use super::plan::{Home, Plan};
use crate::backend::Backend;
use crate::config::Config;
use crate::error::Result;
use crate::layer::MicroBatch;
use crate::model::{Activations, ForwardOptions, Llama, RandomInit};
use crate::optim;

/// Most ids of the models that are measured: enough that the head's matrices do not stay in a cache.
const VOCAB: usize = 4096;
/// Blocks of the deeper model.
const BLOCKS: usize = 3;
/// Tokens of a micro-batch for each thread: fewer would leave threads without work.
const TOKENS_PER_THREAD: usize = 512;
/// A measurement lasts at least this long, and two passes unless these take too long.
const LEAST: Duration = Duration::from_millis(200);
const LONG: Duration = Duration::from_secs(1);
/// Models that take more memory than this are not made.
const MOST_BYTES: u64 = 2 << 30;

/// Seconds of a pass over one token, forward and backward, and of Adam for one parameter.
struct Times {
    token: f64,
    parameter: f64,
}

/// Seconds that one update of `config` takes on `backend` with `threads` threads, evaluations,
/// checkpoints and topology events left out; `None` where even a part of the model is too large to try.
///
/// Errors: those of making and running a model.
pub fn seconds_per_update<B: Backend>(
    backend: &B,
    config: &Config,
    threads: usize,
) -> Result<Option<f64>> {
    let (layers, vocab) = (config.model.layers, config.model.vocab);
    let (few, more) = (vocab.min(VOCAB / 2), vocab.min(VOCAB));
    let sample = |blocks: usize, ids: usize| {
        let mut c = config.clone();
        (c.model.layers, c.model.vocab) = (blocks, ids);
        let sequences = (TOKENS_PER_THREAD * threads).div_ceil(c.model.seq_len);
        c.train.micro_batch = sequences.clamp(1, config.train.micro_batch);
        c
    };
    if Plan::new(&sample(BLOCKS, more), Home::Cpu)?.memory(threads) > MOST_BYTES {
        return Ok(None);
    }
    let one = measure(backend, &sample(1, more))?;
    let deep = measure(backend, &sample(BLOCKS, more))?;
    let per_block = (deep.token - one.token) / (BLOCKS - 1) as f64;
    let per_id = match more > few {
        true => (one.token - measure(backend, &sample(1, few))?.token) / (more - few) as f64,
        false => 0.0,
    };
    // Slopes are differences of measurements: noise must not turn them into gains.
    let per_token = one.token
        + per_block.max(0.0) * layers.saturating_sub(1) as f64
        + per_id.max(0.0) * (vocab - more) as f64;
    let parameters = Plan::new(config, Home::Cpu)?.parameters.total();
    let tokens = config.train.batch * config.model.seq_len;
    Ok(Some(per_token * tokens as f64 + deep.parameter * parameters as f64))
}

fn measure<B: Backend>(backend: &B, config: &Config) -> Result<Times> {
    let (sequences, seq_len) = (config.train.micro_batch, config.model.seq_len);
    let tokens = sequences * seq_len;
    let mut model = Llama::new(backend, config, &mut RandomInit::new(config), true)?;
    let mut acts = Activations::new(backend, &model, tokens, true)?;
    // Every id comes up equally often, in no order that a cache would like.
    let ids: Vec<u32> = (0..tokens).map(|i| (i * 7919 % config.model.vocab) as u32).collect();
    let micro = MicroBatch {
        targets: &ids,
        sequences,
        seq_len,
        target_divisor: tokens as f64,
        micro_batches: 1,
        starts: None,
    };
    let alignment = super::alignment(config)?;
    let options = ForwardOptions { alignment: alignment.as_ref(), ..Default::default() };
    let aligned = alignment.is_some();
    let token = least(|| {
        model.forward(backend, &ids, &micro, options, &mut acts)?;
        model.loss_and_backward(backend, &ids, &micro, aligned, &mut acts)?;
        // A device is waited for.
        backend.times().map(drop)
    })?;
    let mut parameters = 0;
    model.visit(&mut |p| {
        parameters += backend.len(p.values);
        Ok(())
    })?;
    let parameter = least(|| {
        optim::gradient_norm(backend, &mut model)?;
        optim::update(backend, &mut model, &config.train, 0.0, 1, 1.0)?;
        model.zero_gradients(backend)?;
        backend.times().map(drop)
    })?;
    Ok(Times { token: token / tokens as f64, parameter: parameter / parameters as f64 })
}

/// Seconds of the fastest of some passes: the first ones find cold caches and unmade scratch.
fn least(mut pass: impl FnMut() -> Result<()>) -> Result<f64> {
    let (started, mut fastest, mut passes) = (Instant::now(), f64::INFINITY, 0);
    loop {
        let begun = Instant::now();
        pass()?;
        fastest = fastest.min(begun.elapsed().as_secs_f64());
        passes += 1;
        let elapsed = started.elapsed();
        if elapsed > LONG || elapsed > LEAST && passes > 1 {
            return Ok(fastest);
        }
    }
}
