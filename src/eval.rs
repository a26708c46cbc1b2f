//! Evaluation: token-weighted loss over a fixed set of rows in their natural order.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::backend::{Backend, NO_TARGET};
use crate::data::{Batch, Dataset, Order};
use crate::error::{Error, Result};
use crate::layer::MicroBatch;
use crate::model::{Activations, ForwardOptions, Llama};

/// Result of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Evaluation {
    /// Mean loss over targets, nats.
    pub loss: f64,
    /// Targets scored.
    pub tokens: u64,
    /// Batches scored.
    pub batches: u64,
    /// Σ of the batches' mean losses.
    pub sum_of_batch_means: f64,
    /// Text bytes behind the scored targets; `None` without a tokenizer.
    pub bytes: Option<u64>,
}

impl Evaluation {
    /// Token-weighted perplexity.
    pub fn ppl(&self) -> f64 {
        self.loss.exp()
    }

    /// Perplexity as the GaLore lineage reports it: batch means, divided by one batch too many.
    pub fn ppl_galore_compat(&self) -> f64 {
        galore_compat(self.sum_of_batch_means, self.batches)
    }

    /// Summed loss in bits over the text bytes of the scored targets.
    pub fn bits_per_byte(&self) -> Option<f64> {
        let bytes = self.bytes.filter(|b| *b > 0)?;
        Some(self.loss * self.tokens as f64 / std::f64::consts::LN_2 / bytes as f64)
    }
}

/// exp(Σ batch means / (batches + 1)): the batch counter of that code starts at 1.
pub fn galore_compat(sum_of_batch_means: f64, batches: u64) -> f64 {
    (sum_of_batch_means / (batches + 1) as f64).exp()
}

/// How data are scored.
pub struct Scoring<'a> {
    /// Rows of a batch.
    pub sequences: usize,
    /// No batch begins once this many targets are scored; 0 = all of them are.
    pub max_tokens: u64,
    /// Set by a signal.
    pub stop: &'a AtomicBool,
    /// Told after every batch: batches scored, and about how many there will be.
    pub told: &'a dyn Fn(u64, u64),
}

/// Scores `data` batch by batch. `acts` must hold the rows of a batch.
///
/// Errors: [`Error::Interrupted`] once `stop` is set.
pub fn evaluate<B: Backend>(
    backend: &B,
    model: &Llama<B>,
    data: &Dataset,
    acts: &mut Activations<B>,
    scoring: &Scoring,
) -> Result<Evaluation> {
    let Scoring { sequences, max_tokens, stop, told } = *scoring;
    let seq_len = data.options().seq_len;
    let mut batch: Batch = data.batch(sequences);
    let mut result = Evaluation {
        loss: 0.0,
        tokens: 0,
        batches: 0,
        sum_of_batch_means: 0.0,
        bytes: data.byte_lengths().map(|_| 0),
    };
    let mut first = 0;
    while first < data.rows() && (max_tokens == 0 || result.tokens < max_tokens) {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted("stopped by a signal during evaluation".into()));
        }
        let last = data.rows().min(first + sequences as u64);
        data.fill(Order::Natural, first..last, &mut batch)?;
        // The last batch is filled up with rows that score nothing.
        let tokens = sequences * seq_len;
        batch.ids.resize(tokens, 0);
        batch.targets.resize(tokens, NO_TARGET);
        if let Some(starts) = &mut batch.starts {
            starts.resize(tokens, 0);
        }
        let micro = MicroBatch {
            targets: &batch.targets,
            sequences,
            seq_len,
            target_divisor: 1.0,
            micro_batches: 1,
            starts: batch.starts.as_deref(),
        };
        model.forward(backend, &batch.ids, &micro, ForwardOptions::default(), acts)?;
        let sum = model.loss(backend, &micro, acts)?;
        if sum.targets > 0 {
            result.loss += sum.loss;
            result.tokens += sum.targets;
            result.batches += 1;
            result.sum_of_batch_means += sum.loss / sum.targets as f64;
        }
        if let (Some(bytes), Some(lengths)) = (&mut result.bytes, data.byte_lengths()) {
            let scored = batch.targets.iter().filter(|t| **t != NO_TARGET);
            *bytes += scored
                .map(|t| u64::from(lengths.get(*t as usize).copied().unwrap_or(0)))
                .sum::<u64>();
        }
        first = last;
        told(result.batches, expected_batches(&result, data.rows(), sequences, max_tokens));
    }
    result.loss /= result.tokens.max(1) as f64;
    Ok(result)
}

/// Batches of the whole evaluation, if the rest holds as many targets as those scored so far.
fn expected_batches(so_far: &Evaluation, rows: u64, sequences: usize, max_tokens: u64) -> u64 {
    let all = rows.div_ceil(sequences as u64);
    if max_tokens == 0 || so_far.tokens == 0 {
        return all;
    }
    let share = max_tokens as f64 / so_far.tokens as f64;
    all.min((so_far.batches as f64 * share).ceil() as u64).max(so_far.batches)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_to_come_are_known_from_those_that_were() {
        let so_far =
            Evaluation { loss: 0.0, tokens: 600, batches: 2, sum_of_batch_means: 0.0, bytes: None };
        assert_eq!(expected_batches(&so_far, 100, 8, 0), 13, "all rows");
        assert_eq!(expected_batches(&so_far, 100, 8, 1000), 4, "1000 targets, 300 a batch");
        assert_eq!(expected_batches(&so_far, 20, 8, 1000), 3, "too few rows for that");
        assert_eq!(expected_batches(&so_far, 100, 8, 500), 2, "over already");
    }

    #[test]
    fn galore_compat_divides_by_one_batch_too_many() {
        // A true perplexity of 34.0 over 182 batches is reported as 33.35 (methods A.6).
        let ppl = galore_compat(182.0 * 34f64.ln(), 182);
        assert!((ppl - 33.35).abs() < 5e-3, "{ppl}");
    }
}
