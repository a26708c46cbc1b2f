//! The configuration of a run: one struct per TOML section, defaults, checks.
//!
//! Layers, later ones win: struct defaults, recipe (`configs/recipes.toml`), method
//! (`configs/methods.toml`), preset (`configs/presets.toml`), `--config FILE`, `--set key=value`.
//! [`layers`] merges them and turns an unknown key into an error with the nearest name.

mod data;
pub mod layers;
mod method;
mod model;
mod topology;
mod train;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::sparse::budget::Budget;

pub use data::{DataConfig, Layout};
pub use method::{Activation, AlignReduction, LowRankInit, MethodConfig, SparseInit};
pub use model::ModelConfig;
pub use topology::{
    BrfLayout, DegreeLaw, LinkCount, Regrowth, Removal, Selection, TopologyConfig, TopologyInit,
    ZetaSchedule,
};
pub use train::{LossScaling, OnNonfinite, Optimizer, Precision, Recipe, TrainConfig};

/// The seven projections of a block in the order used everywhere.
pub const PROJECTIONS: [&str; 7] =
    ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

/// Everything a run is determined by, apart from the data files.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Shape of the model.
    pub model: ModelConfig,
    /// Composition of the linear layers.
    pub method: MethodConfig,
    /// How the links of the sparse branch start and evolve.
    pub topology: TopologyConfig,
    /// Optimisation.
    pub train: TrainConfig,
    /// Batches and evaluation data.
    pub data: DataConfig,
}

impl Config {
    /// Sparsity and rank after resolving the budget; dense has neither.
    pub fn budget(&self) -> Result<Budget> {
        let m = &self.method;
        if m.dense {
            return Ok(Budget {
                connectivity_sparsity: 0.0,
                rank: 0,
                d_connectivity: 1.0,
                d_spectral: 0.0,
            });
        }
        let (h, f) = (self.model.hidden, self.model.intermediate);
        let (total, conn, rank) = match (m.sparse, m.low_rank) {
            (true, true) => (m.total_sparsity, m.connectivity_sparsity, m.rank),
            // With one branch alone the total sparsity is that branch's.
            (true, false) => (None, m.connectivity_sparsity.or(m.total_sparsity), Some(0)),
            (false, true) => (m.total_sparsity, Some(1.0), m.rank),
            (false, false) => {
                return Err(Error::Config(
                    "method.sparse and method.low_rank are both false: choose at least one branch \
                     or method.name = \"dense\""
                        .into(),
                ));
            }
        };
        let budget = Budget::resolve(h, f, total, conn, rank)?;
        if m.low_rank && budget.rank == 0 {
            return Err(Error::Config(format!(
                "method {:?} has a low-rank branch but the budget leaves rank 0: set method.rank, \
                 or raise method.connectivity_sparsity above method.total_sparsity",
                m.name
            )));
        }
        if m.sparse && budget.connectivity_sparsity >= 1.0 {
            return Err(Error::Config(format!(
                "method {:?} has a sparse branch but the budget leaves no links: lower \
                 method.connectivity_sparsity or method.rank",
                m.name
            )));
        }
        Ok(budget)
    }

    /// λ as it multiplies the alignment term: `mse` is quoted at hidden 512.
    pub fn lambda(&self) -> f64 {
        match self.method.align {
            AlignReduction::None => 0.0,
            AlignReduction::Mse => self.method.lambda_align * self.model.hidden as f64 / 512.0,
            _ => self.method.lambda_align,
        }
    }

    /// Scale g of the low-rank branch at `rank`.
    pub fn low_rank_scale(&self, rank: usize) -> f64 {
        match self.method.low_rank_alpha {
            Some(alpha) => alpha / rank.max(1) as f64,
            None => self.method.low_rank_scale,
        }
    }

    /// Checks every value and combination; the error names the key.
    pub fn validate(&self) -> Result<()> {
        let (m, t, p) = (&self.model, &self.train, &self.topology);
        let fail = |text: String| Err(Error::Config(text));
        for (key, value) in [
            ("model.hidden", m.hidden),
            ("model.intermediate", m.intermediate),
            ("model.layers", m.layers),
            ("model.heads", m.heads),
            ("model.vocab", m.vocab),
            ("train.batch", t.batch),
            ("train.micro_batch", t.micro_batch),
            ("train.keep_checkpoints", t.keep_checkpoints),
        ] {
            if value == 0 {
                return fail(format!("{key} = 0: must be at least 1"));
            }
        }
        for (key, value, limit) in [
            ("model.hidden", m.hidden, 1 << 17),
            ("model.intermediate", m.intermediate, 1 << 19),
            ("model.layers", m.layers, 1 << 12),
            ("model.vocab", m.vocab, 1 << 24),
            ("model.seq_len", m.seq_len, 1 << 20),
            ("train.batch", t.batch, 1 << 24),
        ] {
            if value > limit {
                return fail(format!("{key} = {value}: must be at most {limit}"));
            }
        }
        if m.seq_len < 2 {
            return fail(format!("model.seq_len = {}: must be at least 2", m.seq_len));
        }
        if !m.hidden.is_multiple_of(m.heads) || !m.head_dim().is_multiple_of(2) {
            return fail(format!(
                "model.heads = {} must divide model.hidden = {} into heads of even width",
                m.heads, m.hidden
            ));
        }
        if !t.batch.is_multiple_of(t.micro_batch) {
            return fail(format!(
                "train.micro_batch = {} must divide train.batch = {}",
                t.micro_batch, t.batch
            ));
        }
        if t.warmup > t.steps {
            return fail(format!(
                "train.warmup = {} is longer than train.steps = {}",
                t.warmup, t.steps
            ));
        }
        let numbers = [
            ("model.rope_base", m.rope_base, 1.0, f64::MAX),
            ("model.rms_eps", m.rms_eps, 0.0, 1.0),
            ("model.init_std", m.init_std, 0.0, 1e3),
            ("method.lambda_align", self.method.lambda_align, 0.0, 1e9),
            ("train.skip_z", self.train.skip_z, 0.0, 1e9),
            ("method.low_rank_scale", self.method.low_rank_scale, -1e9, 1e9),
            ("train.lr", t.lr, 0.0, 1e3),
            ("train.min_lr_ratio", t.min_lr_ratio, 0.0, 1.0),
            ("train.low_rank_lr_scale", t.low_rank_lr_scale, 0.0, 1e3),
            ("train.beta1", t.beta1, 0.0, 0.999_999_9),
            ("train.beta2", t.beta2, 0.0, 0.999_999_9),
            ("train.eps", t.eps, 0.0, 1.0),
            ("train.weight_decay", t.weight_decay, 0.0, 1e3),
            ("train.clip", t.clip, 0.0, f64::MAX),
            ("topology.brf_r", p.brf_r, 0.0, 1.0),
            ("topology.end_fraction", p.end_fraction, 0.0, 1.0),
            ("topology.zeta", p.zeta, 0.0, 1.0),
            ("topology.removal_t_start", p.removal_t_start, 0.0, 1e6),
            ("topology.removal_t_end", p.removal_t_end, 0.0, 1e6),
            ("topology.regrow_temperature", p.regrow_temperature, 0.0, 1e6),
        ];
        for (key, value, low, high) in numbers {
            if !(low..=high).contains(&value) {
                return fail(format!("{key} = {value}: must lie in {low}..={high}"));
            }
        }
        self.method.aligned()?;
        self.budget()?;
        Ok(())
    }
}
