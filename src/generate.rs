//! Sampling text: temperature and nucleus, one Philox draw per token.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::backend::Backend;
use crate::error::{Error, Result};
use crate::model::{Decoder, Llama};
use crate::rng::{Purpose, Stream};

/// How tokens are drawn.
#[derive(Clone, Copy, Debug)]
pub struct Sampling {
    /// Most new tokens per sequence.
    pub max_tokens: usize,
    /// Divides the logits; 0 = always the most probable token.
    pub temperature: f64,
    /// Draw only from the most probable tokens that together have this probability.
    pub top_p: f64,
    /// Seed.
    pub seed: u64,
    /// Token that ends a sequence.
    pub eos: Option<u32>,
}

impl Sampling {
    /// Checks the ranges.
    pub fn validate(&self) -> Result<()> {
        if !(self.temperature >= 0.0 && self.temperature.is_finite()) {
            let text = format!("--temperature {}: must be 0 or more", self.temperature);
            return Err(Error::Config(text));
        }
        if !(self.top_p > 0.0 && self.top_p <= 1.0) {
            return Err(Error::Config(format!("--top-p {}: must lie in (0, 1]", self.top_p)));
        }
        Ok(())
    }
}

/// Continues `prompt` (at least one token) in `sequences` independent ways; returns the new tokens
/// of each, without the EOS that ended it.
pub fn generate<B: Backend>(
    backend: &B,
    model: &Llama<B>,
    prompt: &[u32],
    sequences: usize,
    s: &Sampling,
    stop: &AtomicBool,
) -> Result<Vec<Vec<u32>>> {
    s.validate()?;
    let vocab = model.config().model.vocab;
    if prompt.is_empty() {
        return Err(Error::Config("the prompt has no tokens; give --prompt some text".into()));
    }
    if let Some(id) = prompt.iter().find(|id| **id as usize >= vocab) {
        let text = format!("the prompt has token id {id}, the model's vocabulary is {vocab}");
        return Err(Error::Config(text));
    }
    let mut decoder = Decoder::new(backend, model, sequences, prompt.len() + s.max_tokens)?;
    let mut out = vec![Vec::new(); sequences];
    let mut live = vec![true; sequences];
    for &id in prompt {
        decoder.push(backend, model, &vec![id; sequences])?;
    }
    for n in 0..s.max_tokens {
        if stop.load(Ordering::Relaxed) {
            return Err(Error::Interrupted("stopped by a signal while generating".into()));
        }
        let mut next = vec![0; sequences];
        for (i, next) in next.iter_mut().enumerate() {
            if !live[i] {
                continue;
            }
            let draw = Stream::new(s.seed, Purpose::Sampling, i as u32, 0).uniform(n as u64);
            *next = sample(&decoder.logits(backend, i)?, s, draw);
            if Some(*next) == s.eos {
                live[i] = false;
            } else {
                out[i].push(*next);
            }
        }
        if !live.contains(&true) || n + 1 == s.max_tokens {
            break;
        }
        decoder.push(backend, model, &next)?;
    }
    Ok(out)
}

/// One token for a uniform draw in (0, 1).
fn sample(logits: &[f32], s: &Sampling, draw: f64) -> u32 {
    let mut order: Vec<u32> = (0..logits.len() as u32).collect();
    // Most probable first; equal logits by index, so the choice is a pure function.
    order.sort_by(|a, b| {
        let (x, y) = (logits[*a as usize], logits[*b as usize]);
        y.total_cmp(&x).then(a.cmp(b))
    });
    if s.temperature == 0.0 {
        return order[0];
    }
    let max = f64::from(logits[order[0] as usize]);
    let weight = |i: u32| libm::exp((f64::from(logits[i as usize]) - max) / s.temperature);
    let total: f64 = order.iter().map(|i| weight(*i)).sum();
    let mut nucleus = 0.0;
    let mut kept = 0;
    for &i in &order {
        nucleus += weight(i);
        kept += 1;
        if nucleus >= s.top_p * total {
            break;
        }
    }
    let mut left = draw * nucleus;
    for &i in &order[..kept] {
        left -= weight(i);
        if left <= 0.0 {
            return i;
        }
    }
    order[kept - 1]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampling(temperature: f64, top_p: f64) -> Sampling {
        Sampling { max_tokens: 1, temperature, top_p, seed: 0, eos: None }
    }

    #[test]
    fn nucleus_and_temperature() {
        let logits = [1.0, 3.0, 2.0, -5.0];
        assert_eq!(sample(&logits, &sampling(0.0, 1.0), 0.99), 1);
        // p = 0.665, 0.245, 0.090, ...: the nucleus of 0.7 has two tokens.
        assert_eq!(sample(&logits, &sampling(1.0, 0.7), 0.999), 2);
        assert_eq!(sample(&logits, &sampling(1.0, 0.5), 0.999), 1);
        assert_eq!(sample(&logits, &sampling(1.0, 1.0), 0.95), 0);
        assert_eq!(sample(&logits, &sampling(1.0, 1.0), 0.5), 1);
        assert!(sampling(-1.0, 0.5).validate().is_err());
        assert!(sampling(1.0, 0.0).validate().is_err());
    }
}
