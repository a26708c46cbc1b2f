//! An interpolated bigram over token ids: the baseline that knows one token of context.

use std::collections::HashMap;

/// Taken off every bigram count and given to the unigram: absolute discounting (Ney et al., 1994).
pub const DISCOUNT: f64 = 0.75;

/// Added to every unigram count, so that no token has probability 0.
pub const ADD: f64 = 0.1;

/// Counts of a training stream. With n(c, t) and n(c) the counts of a pair and of its context,
/// T(c) the number of different followers of c, N the number of tokens and V the vocabulary:
///
/// `p(t | c) = max(n(c, t) - D, 0)/n(c) + D·T(c)/n(c)·u(t)`, `u(t) = (n(t) + k)/(N + k·V)`,
///
/// and `u(t)` alone after a context never seen. D is [`DISCOUNT`] and k is [`ADD`].
#[derive(Clone, Debug)]
pub struct Bigram {
    pairs: HashMap<(u32, u32), u32>,
    contexts: Vec<Context>,
    unigrams: Vec<f64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Context {
    count: u64,
    followers: u64,
}

impl Bigram {
    /// Counts one stream of tokens, the ends of documents included, all below `vocab`.
    pub fn train(vocab: usize, tokens: impl IntoIterator<Item = u32>) -> Self {
        let mut pairs = HashMap::new();
        let mut contexts = vec![Context::default(); vocab];
        let mut counts = vec![0u64; vocab];
        let mut previous = None;
        for token in tokens {
            counts[token as usize] += 1;
            if let Some(context) = previous {
                let pair = pairs.entry((context, token)).or_insert(0);
                *pair += 1;
                contexts[context as usize].count += 1;
                contexts[context as usize].followers += u64::from(*pair == 1);
            }
            previous = Some(token);
        }
        let total = counts.iter().sum::<u64>() as f64 + ADD * vocab as f64;
        let unigrams = counts.iter().map(|&n| (n as f64 + ADD) / total).collect();
        Bigram { pairs, contexts, unigrams }
    }

    /// `p(target | previous)`.
    pub fn probability(&self, previous: u32, target: u32) -> f64 {
        let Context { count, followers } = self.contexts[previous as usize];
        let unigram = self.unigrams[target as usize];
        if count == 0 {
            return unigram;
        }
        let pair = f64::from(self.pairs.get(&(previous, target)).copied().unwrap_or(0));
        ((pair - DISCOUNT).max(0.0) + DISCOUNT * followers as f64 * unigram) / count as f64
    }

    /// Mean of `-ln p(target | previous)` over (previous, target) pairs: a model's own inputs and
    /// targets, so that both are scored on the same. NaN when there are none.
    pub fn mean_nats(&self, pairs: impl IntoIterator<Item = (u32, u32)>) -> f64 {
        let (mut sum, mut count) = (0.0, 0u64);
        for (previous, target) in pairs {
            sum -= self.probability(previous, target).ln();
            count += 1;
        }
        sum / count as f64
    }

    /// Perplexity on a stream: every token but the first is scored after the one before it.
    pub fn perplexity(&self, tokens: &[u32]) -> f64 {
        self.mean_nats(tokens.windows(2).map(|w| (w[0], w[1]))).exp()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_match_a_hand_computed_example() {
        // Stream 0 1 0 1 2 over V = 4: pairs 01 twice, 10 once, 12 once.
        let model = Bigram::train(4, [0, 1, 0, 1, 2]);
        let u = |n: f64| (n + 0.1) / 5.4;
        let close = |a: f64, b: f64| assert!((a - b).abs() < 1e-15, "{a} {b}");
        close(model.probability(0, 1), (1.25 + 0.75 * u(2.0)) / 2.0);
        close(model.probability(0, 3), 0.75 * u(0.0) / 2.0);
        close(model.probability(1, 2), (0.25 + 1.5 * u(1.0)) / 2.0);
        close(model.probability(2, 0), u(2.0));
        let nats = -(model.probability(0, 1).ln() + model.probability(1, 2).ln()) / 2.0;
        close(model.perplexity(&[0, 1, 2]), nats.exp());
        close(model.mean_nats([(0, 1), (1, 2)]), nats);
    }

    #[test]
    fn every_context_has_total_probability_one() {
        let tokens: Vec<u32> = (0..500u32).map(|i| (i * i + i / 7) % 11).collect();
        let model = Bigram::train(13, tokens.iter().copied());
        for context in 0..13 {
            let total: f64 = (0..13).map(|t| model.probability(context, t)).sum();
            assert!((total - 1.0).abs() < 1e-12, "{context}: {total}");
        }
    }
}
