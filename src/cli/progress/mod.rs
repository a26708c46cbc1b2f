//! How far a command has come: on a terminal as a bar, elsewhere as lines.

mod evaluation;
mod prepare;
mod run;
mod sweep;

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use crate::cli::logging::Log;

pub use evaluation::EvaluationBar;
pub use prepare::PrepareBar;
pub use run::RunBar;
pub use sweep::SweepBar;

/// Lines come this often where there is no bar.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// A bar below the log lines for as long as it lives, if the screen is a terminal.
struct Bar<'a> {
    log: &'a Log,
    bar: Option<ProgressBar>,
}

impl<'a> Bar<'a> {
    /// A bar over `len` of something.
    fn new(log: &'a Log, len: u64, template: &str) -> Self {
        let bar = log.terminal().then(|| {
            let bar = ProgressBar::new(len).with_style(style(template));
            log.show(&bar);
            bar
        });
        Bar { log, bar }
    }

    /// The bar, on a terminal.
    fn get(&self) -> Option<&ProgressBar> {
        self.bar.as_ref()
    }
}

impl Drop for Bar<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            self.log.hide();
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("a valid template")
}
