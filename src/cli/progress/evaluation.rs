//! The bar of `eval`.

use std::cell::Cell;
use std::time::Instant;

use super::{Bar, LINE_EVERY};
use crate::cli::logging::Log;
use crate::train::span;

/// The bar of an evaluation.
pub struct EvaluationBar<'a> {
    bar: Bar<'a>,
    started: Instant,
    /// When the last line was written.
    said: Cell<Instant>,
}

impl<'a> EvaluationBar<'a> {
    /// A bar, if the screen is a terminal.
    pub fn new(log: &'a Log) -> Self {
        let now = Instant::now();
        let bar = Bar::new(log, 0, "{pos}/{len} [{bar:20}] {wide_msg}");
        EvaluationBar { bar, started: now, said: Cell::new(now) }
    }

    /// Shows that `done` of `all` batches are scored.
    pub fn show(&self, done: u64, all: u64) {
        let left = all.saturating_sub(done) as f64 / done.max(1) as f64;
        let left = span(self.started.elapsed().mul_f64(left));
        if let Some(bar) = self.bar.get() {
            bar.set_length(all);
            bar.set_position(done);
            bar.set_message(format!("batches scored, eta {left}"));
        } else if self.said.get().elapsed() >= LINE_EVERY {
            self.said.set(Instant::now());
            tracing::info!("{done}/{all} batches scored, eta {left}");
        }
    }
}
