//! What each projection is made of.

use serde::{Deserialize, Serialize};

use super::{PROJECTIONS, layers};
use crate::error::{Error, Result};

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
    /// Mean over target positions of ‖S_t−L_t‖₂; its gradient is about 40 times that of `mse` at the same λ.
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
            lambda_align: 0.005,
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
