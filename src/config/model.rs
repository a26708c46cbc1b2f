//! Shape of the model.

use serde::{Deserialize, Serialize};

/// Shape of a LLaMA-style model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ModelConfig {
    /// Width of the residual stream, h.
    pub hidden: usize,
    /// Width of the SwiGLU, f.
    pub intermediate: usize,
    /// Number of blocks.
    pub layers: usize,
    /// Attention heads; hidden / heads must be even.
    pub heads: usize,
    /// Rows of the embedding and of the head.
    pub vocab: usize,
    /// Tokens per training sequence.
    pub seq_len: usize,
    /// Base of the rotary frequencies.
    pub rope_base: f64,
    /// Epsilon inside RMSNorm's root.
    pub rms_eps: f64,
    /// Standard deviation of initial weights.
    pub init_std: f64,
}

impl Default for ModelConfig {
    fn default() -> Self {
        ModelConfig {
            hidden: 128,
            intermediate: 352,
            layers: 4,
            heads: 4,
            vocab: 1024,
            seq_len: 128,
            rope_base: 10_000.0,
            rms_eps: 1e-6,
            init_std: 0.02,
        }
    }
}

impl ModelConfig {
    /// Width of one attention head.
    pub fn head_dim(&self) -> usize {
        self.hidden / self.heads
    }

    /// Parameters of the same model with full matrices: projections, embedding + head, norms.
    pub fn dense_parameters(&self) -> (usize, usize, usize) {
        let block = crate::sparse::budget::dense_parameters(self.hidden, self.intermediate);
        (self.layers * block, 2 * self.vocab * self.hidden, (2 * self.layers + 1) * self.hidden)
    }
}
