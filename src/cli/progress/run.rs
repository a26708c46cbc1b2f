//! The bar of a training run.

use std::cell::Cell;
use std::time::{Duration, Instant};

use super::Bar;
use crate::cli::logging::Log;
use crate::eval::Evaluation;
use crate::train::{Part, STEPS, Update, Watch, span};

/// Two lines, so that everything fits into 80 columns; the bar takes what the first one leaves.
const TEMPLATE: &str = "{pos}/{len} [{wide_bar}] {prefix}\n{wide_msg}";
/// An update or an evaluation that takes longer than this is shown batch by batch.
const LONG: Duration = Duration::from_secs(1);
/// Where there is no bar, a line comes at least this often.
const LINE_AT_LEAST_EVERY: Duration = Duration::from_secs(60);

/// The bar of a training run. Step lines of the log are left to the file while it is shown.
pub struct RunBar<'a> {
    bar: Bar<'a>,
    /// Updates that were done before, and all.
    first: u64,
    steps: u64,
    /// The last update of this process.
    last: Cell<Option<Update>>,
    /// When the last update or evaluation ended.
    ended: Cell<Instant>,
    /// When the last line was written.
    said: Cell<Instant>,
}

/// How many batches of a part are done, of how many.
type Count = (Part, u64, u64);

impl<'a> RunBar<'a> {
    /// A bar over `steps` updates of which `first` are done already.
    pub fn new(log: &'a Log, first: u64, steps: u64) -> Self {
        let bar = Bar::new(log, steps, TEMPLATE);
        if let Some(bar) = bar.get() {
            bar.set_position(first);
            bar.set_message("starting");
        }
        Self::over(bar, first, steps)
    }

    fn over(bar: Bar<'a>, first: u64, steps: u64) -> Self {
        let (ended, said) = (Cell::new(Instant::now()), Cell::new(Instant::now()));
        RunBar { bar, first, steps, last: Cell::new(None), ended, said }
    }

    fn show(&self, count: Option<Count>) {
        let last = self.last.get();
        if let Some(bar) = self.bar.get() {
            if let Some(u) = &last {
                bar.set_position(u.step);
                bar.set_prefix(speed(u));
            }
            bar.set_message(numbers(last.as_ref(), count).join("  "));
        } else if self.said.get().elapsed() >= LINE_AT_LEAST_EVERY {
            self.said.set(Instant::now());
            let mut parts = numbers(last.as_ref(), count);
            parts.insert(0, format!("step {}/{}", last.map_or(self.first, |u| u.step), self.steps));
            parts.extend(last.as_ref().map(speed));
            tracing::info!(target: STEPS, "{}", parts.join("  "));
        }
    }
}

impl Watch for RunBar<'_> {
    fn updated(&self, u: &Update) {
        let now = Instant::now();
        self.ended.set(now);
        if u.logged {
            self.said.set(now);
        }
        self.last.set(Some(*u));
        self.show(None);
    }

    fn evaluated(&self, _: u64, _: &Evaluation) {
        // The run has written a line about it.
        let now = Instant::now();
        self.ended.set(now);
        self.said.set(now);
        self.show(None);
    }

    fn progressed(&self, part: Part, done: u64, all: u64) {
        if self.ended.get().elapsed() >= LONG {
            self.show(Some((part, done, all)));
        }
    }
}

/// What stands behind the bar.
fn speed(u: &Update) -> String {
    format!("{:.0} tok/s  eta {}", u.tokens_per_s, span(u.remaining))
}

/// What stands below the bar. What matters most comes first: a narrow terminal cuts the end off.
fn numbers(last: Option<&Update>, count: Option<Count>) -> Vec<String> {
    let mut parts = Vec::new();
    if let Some(u) = last {
        parts.push(format!("loss {:.4}", u.loss));
        parts.push(format!("ppl {:.2}", u.loss.exp()));
        parts.extend(u.ocr_qk.map(|ocr| format!("ocr(q,k) {ocr:.3}")));
        parts.extend(u.align.map(|align| format!("align {align:.2e}")));
    }
    parts.extend(count.map(|(part, done, all)| match part {
        Part::Update => format!("micro-batch {done}/{all}"),
        Part::Evaluation => format!("validation {done}/{all}"),
    }));
    parts
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use indicatif::{ProgressBar, ProgressDrawTarget, TermLike};

    use super::super::style;
    use super::*;

    /// A terminal of some columns that remembers what was written last on each of its lines.
    #[derive(Clone, Debug)]
    struct Paper {
        columns: u16,
        /// Lines, and the one that the cursor is in.
        lines: Arc<Mutex<(Vec<String>, usize)>>,
    }

    impl Paper {
        fn text(&self) -> Vec<String> {
            self.lines.lock().unwrap().0.iter().map(|l| l.trim_end().to_string()).collect()
        }

        fn go(&self, by: isize) -> io::Result<()> {
            let mut state = self.lines.lock().unwrap();
            state.1 = state.1.saturating_add_signed(by);
            Ok(())
        }
    }

    impl TermLike for Paper {
        fn width(&self) -> u16 {
            self.columns
        }
        fn move_cursor_up(&self, n: usize) -> io::Result<()> {
            self.go(-(n as isize))
        }
        fn move_cursor_down(&self, n: usize) -> io::Result<()> {
            self.go(n as isize)
        }
        fn move_cursor_right(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn move_cursor_left(&self, _: usize) -> io::Result<()> {
            Ok(())
        }
        fn write_line(&self, s: &str) -> io::Result<()> {
            self.write_str(s)?;
            self.go(1)
        }
        /// A full line ends at the right edge, where a terminal begins the next one.
        fn write_str(&self, s: &str) -> io::Result<()> {
            let mut state = self.lines.lock().unwrap();
            let (lines, at) = &mut *state;
            for c in s.chars() {
                if lines.len() <= *at {
                    lines.resize(*at + 1, String::new());
                }
                if c == '\r' {
                    lines[*at].clear();
                    continue;
                }
                if lines[*at].chars().count() == usize::from(self.columns) {
                    *at += 1;
                    lines.truncate(*at);
                    lines.push(String::new());
                }
                lines[*at].push(c);
            }
            Ok(())
        }
        fn clear_line(&self) -> io::Result<()> {
            self.write_str("\r")
        }
        fn flush(&self) -> io::Result<()> {
            Ok(())
        }
    }

    /// As wide as the numbers of a long run get.
    fn update() -> Update {
        Update {
            step: 9_999,
            steps: 10_000,
            loss: 10.0,
            align: Some(0.012),
            ocr_qk: Some(0.25),
            tokens_per_s: 123_456.4,
            remaining: Duration::from_secs(23 * 3600 + 59 * 60),
            logged: true,
        }
    }

    /// What `show` leaves on a terminal of `columns`.
    fn shown(columns: u16, show: impl Fn(&RunBar)) -> Vec<String> {
        let paper = Paper { columns, lines: Arc::default() };
        let target = ProgressDrawTarget::term_like(Box::new(paper.clone()));
        let bar = ProgressBar::with_draw_target(Some(10_000), target).with_style(style(TEMPLATE));
        let log = Log::default();
        let bar = RunBar::over(Bar { log: &log, bar: Some(bar) }, 0, 10_000);
        show(&bar);
        bar.bar.get().unwrap().force_draw();
        paper.text()
    }

    #[test]
    fn everything_fits_into_80_columns() {
        let lines = shown(80, |bar| {
            bar.last.set(Some(update()));
            bar.show(Some((Part::Update, 16, 16)));
        });
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].starts_with("9999/10000 [█████"), "{lines:?}");
        assert!(lines[0].ends_with("] 123456 tok/s  eta 23 h 59 min"), "{lines:?}");
        assert_eq!(lines[0].chars().count(), 80, "{lines:?}");
        let below = "loss 10.0000  ppl 22026.47  ocr(q,k) 0.250  align 1.20e-2  micro-batch 16/16";
        assert_eq!(lines[1], below);
    }

    #[test]
    fn a_narrow_terminal_keeps_two_lines_and_the_loss() {
        let lines = shown(44, |bar| bar.updated(&update()));
        assert_eq!(lines.len(), 2, "{lines:?}");
        assert!(lines[0].ends_with("eta 23 h 59 min"), "{lines:?}");
        assert!(lines[1].starts_with("loss 10.0000  ppl 22026.47"), "{lines:?}");
    }

    #[test]
    fn before_the_first_update_its_parts_are_told() {
        let lines = shown(80, |bar| bar.show(Some((Part::Update, 3, 64))));
        assert!(lines[0].starts_with("0/10000 ["), "{lines:?}");
        assert_eq!(lines[1], "micro-batch 3/64");
        let text = numbers(Some(&update()), Some((Part::Evaluation, 7, 120)));
        assert_eq!(text.last().unwrap(), "validation 7/120");
        let plain = Update { align: None, ocr_qk: None, ..update() };
        assert_eq!(numbers(Some(&plain), None), ["loss 10.0000", "ppl 22026.47"]);
    }
}
