//! The bar of a sweep: which run of how many, and for how long.

use std::cell::RefCell;
use std::time::Instant;

use super::Bar;
use crate::cli::logging::Log;
use crate::train::span;

/// The bar of a sweep over its runs.
pub struct SweepBar<'a> {
    bar: Bar<'a>,
    runs: u64,
    started: Instant,
    /// What a process is at work on, and since when.
    current: RefCell<(String, Instant)>,
}

impl<'a> SweepBar<'a> {
    /// A bar over `runs` runs, if the screen is a terminal.
    pub fn new(log: &'a Log, runs: usize) -> Self {
        let (started, runs) = (Instant::now(), runs as u64);
        let bar = Bar::new(log, runs, "{pos}/{len} [{bar:20}] {wide_msg}");
        SweepBar { bar, runs, started, current: RefCell::new((String::new(), started)) }
    }

    /// A process begins to work on `what`.
    pub fn begin(&self, what: String) {
        tracing::info!("{what}");
        *self.current.borrow_mut() = (what, Instant::now());
        self.tick();
    }

    /// Shows for how long it has been at work.
    pub fn tick(&self) {
        if let Some(bar) = self.bar.get() {
            let (what, since) = &*self.current.borrow();
            bar.set_message(format!("{what}, {}", span(since.elapsed())));
        }
    }

    /// "2 of 7".
    pub fn place(&self, run: u64) -> String {
        format!("{run} of {}", self.runs)
    }

    /// `run` runs are behind us, the last of which said `what`.
    pub fn done(&self, run: u64, what: &str) {
        tracing::info!(
            "{what} ({}), {} since the start",
            self.place(run),
            span(self.started.elapsed())
        );
        self.pass(run);
    }

    /// `run` runs are behind us; of the last one there was nothing to do.
    pub fn pass(&self, run: u64) {
        if let Some(bar) = self.bar.get() {
            bar.set_position(run);
        }
    }
}
