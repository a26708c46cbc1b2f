//! The configuration of a run: one struct per TOML section, defaults, checks.
//!
//! Layers, later ones win: struct defaults, recipe (`configs/recipes.toml`), method
//! (`configs/methods.toml`), preset (`configs/presets.toml`), `--config FILE`, `--set key=value`.
//! [`layers`] merges them and turns an unknown key into an error with the nearest name.

pub mod layers;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::sparse::budget::Budget;

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

/// Nonlinearity between the two low-rank factors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// L = g·B·A·x.
    Identity,
    /// L = g·B·SiLU(A·x).
    #[default]
    Silu,
}

/// Reading of the alignment term ‖S−L‖.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AlignReduction {
    /// No alignment term.
    None,
    /// Mean of (S−L)² over target positions and outputs of the whole update.
    #[default]
    Mse,
    /// ‖S−L‖_F over all positions of a micro-batch divided by their elements (as printed).
    Frobenius,
    /// The same per sequence, averaged over sequences.
    FrobeniusPerSample,
    /// Mean over target positions of ‖S_t−L_t‖₂; needs a λ about 100 times smaller than `mse`.
    TokenL2,
}

/// Initial low-rank factors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LowRankInit {
    /// Both N(0, q²), q = (out+in)^(-1/4)·r^(-1/4) (CoLA).
    #[default]
    Cola,
    /// A uniform in ±1/√in, B zero (SLTrain, LoRA).
    KaimingZero,
    /// Both N(0, init_std²).
    Normal,
}

/// Initial values of the sparse branch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SparseInit {
    /// N(0, init_std²) at the links.
    #[default]
    Masked,
    /// The same divided by √density.
    VariancePreserving,
}

/// What each projection is made of: O = S + L.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MethodConfig {
    /// Row of `configs/methods.toml`.
    pub name: String,
    /// Share of the projections' dense parameters that is saved by both branches together.
    pub total_sparsity: Option<f64>,
    /// Share of missing links in the sparse branch.
    pub connectivity_sparsity: Option<f64>,
    /// Rank of the low-rank branch.
    pub rank: Option<usize>,
    /// Full matrices instead of S + L.
    pub dense: bool,
    /// Whether there is a sparse branch.
    pub sparse: bool,
    /// Whether there is a low-rank branch.
    pub low_rank: bool,
    /// Nonlinearity of the low-rank branch.
    pub activation: Activation,
    /// Scale g of the low-rank branch.
    pub low_rank_scale: f64,
    /// If set, g = alpha / rank (SLTrain).
    pub low_rank_alpha: Option<f64>,
    /// Initial factors of the low-rank branch.
    pub low_rank_init: LowRankInit,
    /// Initial values of the sparse branch.
    pub sparse_init: SparseInit,
    /// Reading of the alignment term.
    pub align: AlignReduction,
    /// Weight λ of the alignment term; for `mse` quoted at hidden 512, used as λ·hidden/512.
    pub lambda_align: f64,
    /// Projections that the term covers: "all", "qk" or a list such as "q_proj,v_proj".
    pub align_layers: String,
}

impl Default for MethodConfig {
    fn default() -> Self {
        MethodConfig {
            name: "chtsl".into(),
            total_sparsity: None,
            connectivity_sparsity: None,
            rank: None,
            dense: false,
            sparse: true,
            low_rank: true,
            activation: Activation::Silu,
            low_rank_scale: 1.0,
            low_rank_alpha: None,
            low_rank_init: LowRankInit::Cola,
            sparse_init: SparseInit::Masked,
            align: AlignReduction::Mse,
            lambda_align: 0.5,
            align_layers: "all".into(),
        }
    }
}

impl MethodConfig {
    /// Which of [`PROJECTIONS`] the alignment term covers.
    pub fn aligned(&self) -> Result<[bool; 7]> {
        if self.align == AlignReduction::None || self.lambda_align == 0.0 {
            return Ok([false; 7]);
        }
        if self.align_layers == "all" {
            return Ok([true; 7]);
        }
        if self.align_layers == "qk" {
            return Ok([true, true, false, false, false, false, false]);
        }
        let mut chosen = [false; 7];
        for name in self.align_layers.split(',').map(str::trim).filter(|n| !n.is_empty()) {
            match PROJECTIONS.iter().position(|p| *p == name) {
                Some(i) => chosen[i] = true,
                None => {
                    return Err(Error::Config(format!(
                        "method.align_layers: unknown projection {name:?}{}; use \"all\", \"qk\" \
                         or some of {}",
                        layers::suggestion(name, &PROJECTIONS),
                        PROJECTIONS.join(", ")
                    )));
                }
            }
        }
        Ok(chosen)
    }
}

/// Law of the initial links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TopologyInit {
    /// Bipartite receptive field: links near the diagonal, spread by `brf_r`.
    #[default]
    Brf,
    /// Uniformly random links (Erdős-Rényi).
    Er,
}

/// Placement of the receptive fields on non-square layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BrfLayout {
    /// Output o is centred at o·in/out; degrees are those of outputs.
    #[default]
    Scaled,
    /// As the released code: integer stride, degrees on the smaller side.
    Released,
}

/// Law of the initial degrees.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DegreeLaw {
    /// All equal up to one link.
    #[default]
    Fixed,
    /// 1 + multinomial (called "uniform" in the released code).
    Multinomial,
}

/// Which links an event removes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Removal {
    /// None: the topology is static.
    None,
    /// The smallest |w|.
    Magnitude,
    /// The kept set is drawn with probability ∝ |w|^T.
    #[default]
    SoftMagnitude,
}

/// How candidate links are scored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Regrowth {
    /// CH2-L3n, node-based Cannistraci-Hebb score on paths of length three.
    #[default]
    Ch2L3n,
}

/// How new links are chosen among scored candidates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Selection {
    /// Drawn without replacement with probability ∝ score^`regrow_temperature`.
    #[default]
    Soft,
    /// The largest scores.
    Topk,
}

/// Course of the removed fraction ζ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ZetaSchedule {
    /// ζ/2·(1 + cos(π t / T_end)).
    #[default]
    Cosine,
    /// ζ at every event.
    Constant,
}

/// Number of links at a sparsity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkCount {
    /// round((1-s)·out·in), kept exactly.
    #[default]
    Rounded,
    /// floor((1-s)·out·in) after events, as the released code.
    Released,
}

/// How the links of the sparse branch start and evolve.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopologyConfig {
    /// Law of the initial links.
    pub init: TopologyInit,
    /// Randomness of BRF: 0 = band around the diagonal, 1 = uniformly random.
    pub brf_r: f64,
    /// Placement on non-square layers.
    pub brf_layout: BrfLayout,
    /// Law of the initial degrees.
    pub degree: DegreeLaw,
    /// Updates between two events; 0 = static topology.
    pub update_interval: u64,
    /// Events happen up to `end_fraction`·steps.
    pub end_fraction: f64,
    /// Removed fraction ζ of the links.
    pub zeta: f64,
    /// Course of ζ.
    pub zeta_schedule: ZetaSchedule,
    /// Removal rule.
    pub removal: Removal,
    /// Exponent T of soft removal at the start.
    pub removal_t_start: f64,
    /// Exponent T of soft removal at T_end; linear in between.
    pub removal_t_end: f64,
    /// Regrowth score.
    pub regrowth: Regrowth,
    /// Choice among scored candidates.
    pub regrow_select: Selection,
    /// Exponent T_g of soft regrowth.
    pub regrow_temperature: f64,
    /// Number of links at a sparsity.
    pub count: LinkCount,
    /// The event takes the place of the whole optimizer update (recipe `paper`).
    pub event_replaces_step: bool,
}

impl Default for TopologyConfig {
    fn default() -> Self {
        TopologyConfig {
            init: TopologyInit::Brf,
            brf_r: 0.0,
            brf_layout: BrfLayout::Scaled,
            degree: DegreeLaw::Fixed,
            update_interval: 100,
            end_fraction: 0.75,
            zeta: 0.1,
            zeta_schedule: ZetaSchedule::Cosine,
            removal: Removal::SoftMagnitude,
            removal_t_start: 1.0,
            removal_t_end: 9.0,
            regrowth: Regrowth::Ch2L3n,
            regrow_select: Selection::Soft,
            regrow_temperature: 1.0,
            count: LinkCount::Rounded,
            event_replaces_step: false,
        }
    }
}

impl TopologyConfig {
    /// T_end, the last update at which the topology may change.
    pub fn end(&self, steps: u64) -> u64 {
        (self.end_fraction * steps as f64).floor() as u64
    }

    /// Whether update `t` (counted from 1) carries an event.
    pub fn is_event(&self, t: u64, steps: u64) -> bool {
        self.removal != Removal::None
            && self.update_interval > 0
            && t > 0
            && t.is_multiple_of(self.update_interval)
            && t <= self.end(steps)
    }
}

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
            seed: 1,
            log_interval: 10,
            eval_interval: 0,
            checkpoint_interval: 0,
            keep_checkpoints: 2,
        }
    }
}

/// How documents become sequences.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// Documents joined by EOS, cut into windows of `seq_len`.
    #[default]
    Packed,
    /// One document per sequence, truncated or padded (the papers).
    DocPad,
}

/// Batches and evaluation data.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// How documents become sequences.
    pub layout: Layout,
    /// In `packed`, attention stays within a document.
    pub document_mask: bool,
    /// Evaluation stops once this many target tokens have been scored; 0 = the whole split.
    pub eval_tokens: u64,
}

impl Default for DataConfig {
    fn default() -> Self {
        DataConfig { layout: Layout::Packed, document_mask: false, eval_tokens: 10_000_000 }
    }
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
