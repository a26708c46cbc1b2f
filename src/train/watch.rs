//! Whoever watches a run: a progress bar, a test.

use std::time::Duration;

use crate::eval::Evaluation;

/// One finished update.
#[derive(Clone, Copy, Debug)]
pub struct Update {
    /// Updates done.
    pub step: u64,
    /// Updates in all.
    pub steps: u64,
    /// Task loss, nats.
    pub loss: f64,
    /// Unweighted alignment, as of the last logged update; `None` without that term.
    pub align: Option<f64>,
    /// Mean overlap cancellation ratio of q and k, as of the last logged update; `None` without two
    /// branches.
    pub ocr_qk: Option<f64>,
    /// Target tokens per second over the last seconds, evaluations and checkpoints left out.
    pub tokens_per_s: f64,
    /// Until the end, at the speed of this process so far, evaluations and checkpoints included.
    pub remaining: Duration,
    /// The log has a line about it.
    pub logged: bool,
}

/// What a run may be in the middle of for long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// An update, in micro-batches.
    Update,
    /// An evaluation, in batches.
    Evaluation,
}

/// Is told of everything that happens in a run, from the training thread.
pub trait Watch {
    /// An update is done.
    fn updated(&self, update: &Update);
    /// An evaluation is done.
    fn evaluated(&self, step: u64, evaluation: &Evaluation) {
        let _ = (step, evaluation);
    }
    /// `done` of the `all` batches of a part are done; `all` of an evaluation is an estimate.
    fn progressed(&self, part: Part, done: u64, all: u64) {
        let _ = (part, done, all);
    }
}
