//! How the links of the sparse branch start and evolve.

use serde::{Deserialize, Serialize};

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
