//! What a remove-regrow event asks of a backend.

use super::Backend;
use crate::config::{Regrowth, Selection};
use crate::error::Error;
use crate::rng::Stream;
use crate::sparse::LinkChange;

/// One remove-regrow event of one matrix in numbers: no schedule and no configuration is left in it.
/// Made by [`topology::rules`](crate::topology::rules).
#[derive(Clone, Copy, Debug)]
pub struct EvolveRules {
    /// Update, for messages.
    pub step: u64,
    /// Number of the matrix in the model, for messages.
    pub layer: u32,
    /// Links that survive removal: those with the largest keys.
    pub keep: usize,
    /// Links after the event; the missing ones are regrown.
    pub target_nnz: usize,
    /// Keys of the links.
    pub removal: RemovalKeys,
    /// Decides between equal keys of links, before the lower index does. `None`: nothing does.
    pub removal_ties: Option<Stream>,
    /// Score of missing links.
    pub regrowth: Regrowth,
    /// How new links are chosen among scored ones.
    pub regrow_select: Selection,
    /// Exponent of the scores when they are drawn.
    pub regrow_temperature: f64,
    /// Draws for regrowth, by row-major flat index.
    pub regrow_draws: Stream,
    /// Decides between equal keys of candidates, as `removal_ties`.
    pub regrow_ties: Option<Stream>,
}

/// Keys of links, large = keep.
#[derive(Clone, Copy, Debug)]
pub enum RemovalKeys {
    /// `|w|`.
    Magnitude,
    /// `T·ln|w| + Gumbel`, -inf for a zero weight.
    SoftMagnitude {
        /// T.
        temperature: f64,
        /// Draws, by row-major flat index.
        draws: Stream,
    },
}

impl EvolveRules {
    /// Why links with a weight that is not finite cannot be ranked.
    pub fn unrankable(&self, link: usize, weight: f32) -> Error {
        Error::Diverged {
            step: self.step,
            message: format!(
                "weight {link} of matrix {} is {weight}, its links cannot be ranked; lower train.lr",
                self.layer
            ),
        }
    }
}

/// The links after an event.
pub struct Evolved<B: Backend> {
    /// What changed.
    pub change: LinkChange,
    /// Device form of the new links, not yet packed.
    pub index: B::Index,
}
