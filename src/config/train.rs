//! Optimisation.

use serde::{Deserialize, Serialize};

/// Number format of weights, gradients, moments and activations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// f32 on CPU, `bf16_master` on CUDA.
    #[default]
    Auto,
    /// Everything f32.
    F32,
    /// bf16 activations and operands, f32 accumulation, f32 master weights and moments.
    Bf16Master,
    /// Weights, gradients, moments and activations in bf16 (the published tables).
    Bf16Pure,
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Precision::Auto => "auto",
            Precision::F32 => "f32",
            Precision::Bf16Master => "bf16_master",
            Precision::Bf16Pure => "bf16_pure",
        })
    }
}

/// Named set of defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Recipe {
    /// Our best settings.
    #[default]
    Tuned,
    /// As the CHTsL preprint and its code lineage.
    Paper,
}

/// Update rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Optimizer {
    /// Weight decay is added to the gradient.
    Adam,
    /// Decoupled weight decay.
    #[default]
    Adamw,
}

/// Weighting of micro-batches within an update.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossScaling {
    /// Sums divided by the target tokens of the whole update: accumulation changes nothing.
    #[default]
    Tokens,
    /// Mean of micro-batch means.
    PerMicroBatch,
}

/// What to do when loss or gradient is not finite.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnNonfinite {
    /// Stop with exit code 6; nothing has been updated.
    #[default]
    Halt,
    /// Skip the update; stop after `max_skips` in a row.
    Skip,
}

/// Optimisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Named set of defaults.
    pub recipe: Recipe,
    /// Number of updates.
    pub steps: u64,
    /// Updates of linear warm-up.
    pub warmup: u64,
    /// Sequences per update.
    pub batch: usize,
    /// Sequences per forward/backward pass; divides `batch`.
    pub micro_batch: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// Final learning rate as a share of the peak.
    pub min_lr_ratio: f64,
    /// Updates of linear re-warm-up after each event interval (20 in the papers, 0 = none).
    pub rewarmup: u64,
    /// Multiplier of the learning rate of the low-rank factors.
    pub low_rank_lr_scale: f64,
    /// Update rule.
    pub optimizer: Optimizer,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Largest global gradient norm; 0 = no clipping.
    pub clip: f64,
    /// Bias correction by each link's own age instead of the global step.
    pub per_link_steps: bool,
    /// Weighting of micro-batches.
    pub loss_scaling: LossScaling,
    /// Number format.
    pub precision: Precision,
    /// Reaction to non-finite loss or gradient.
    pub on_nonfinite: OnNonfinite,
    /// Consecutive skipped updates that end the run.
    pub max_skips: u64,
    /// Skip an update whose loss or gradient norm stands out from the last 128 by more than this many
    /// standard deviations; 0 = never.
    pub skip_z: f64,
    /// Seed of initial weights, topology and data order.
    pub seed: u64,
    /// Updates between two metrics rows.
    pub log_interval: u64,
    /// Updates between two evaluations; 0 = only at the end.
    pub eval_interval: u64,
    /// Updates between two checkpoints; 0 = only at the end.
    pub checkpoint_interval: u64,
    /// Checkpoints kept.
    pub keep_checkpoints: usize,
}

impl Default for TrainConfig {
    fn default() -> Self {
        TrainConfig {
            recipe: Recipe::Tuned,
            steps: 1000,
            warmup: 100,
            batch: 32,
            micro_batch: 16,
            lr: 3e-3,
            min_lr_ratio: 0.1,
            rewarmup: 0,
            low_rank_lr_scale: 1.0,
            optimizer: Optimizer::Adamw,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.0,
            clip: 1.0,
            per_link_steps: true,
            loss_scaling: LossScaling::Tokens,
            precision: Precision::Auto,
            on_nonfinite: OnNonfinite::Halt,
            max_skips: 5,
            skip_z: 0.0,
            seed: 1,
            log_interval: 10,
            eval_interval: 0,
            checkpoint_interval: 0,
            keep_checkpoints: 2,
        }
    }
}
