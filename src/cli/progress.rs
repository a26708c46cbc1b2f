//! Progress on a terminal as a bar, elsewhere as lines.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};

use crate::cli::logging::Log;
use crate::data::{Progress, Stage};
use crate::train::{Update, Watch};

/// Lines come this often where there is no bar.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// "12 s", "3 min", "2 h 5 min": coarse enough not to flicker.
pub fn span(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0..60 => format!("{s} s"),
        60..3600 => format!("{} min {:02} s", s / 60, s % 60),
        3600..86_400 => format!("{} h {:02} min", s / 3600, s / 60 % 60),
        _ => HumanDuration(d).to_string(),
    }
}

/// The bar of a training run. Step lines of the log are left to the file while it is shown.
pub struct RunBar<'a> {
    log: &'a Log,
    bar: Option<ProgressBar>,
}

impl<'a> RunBar<'a> {
    /// A bar over `steps` updates, if the screen is a terminal.
    pub fn new(log: &'a Log, steps: u64) -> Self {
        let bar = log.terminal().then(|| {
            let style = ProgressStyle::with_template("{pos}/{len} [{bar:12}] {wide_msg}");
            let bar = ProgressBar::new(steps).with_style(style.expect("a valid template"));
            log.show(&bar);
            bar
        });
        RunBar { log, bar }
    }
}

impl Watch for RunBar<'_> {
    fn updated(&self, u: &Update) {
        let Some(bar) = &self.bar else { return };
        bar.set_position(u.step);
        bar.set_message(message(u));
    }
}

/// What stands beside the bar.
fn message(u: &Update) -> String {
    // What matters most first: a narrow terminal cuts the end off.
    let mut text = format!(
        "loss {:.4}  ppl {:.2}  {:.0} tok/s  eta {}",
        u.loss,
        u.loss.exp(),
        u.tokens_per_s,
        span(u.remaining)
    );
    if let Some(ocr) = u.ocr_qk {
        text += &format!("  ocr(q,k) {ocr:.3}");
    }
    if let Some(align) = u.align {
        text += &format!("  align {align:.2e}");
    }
    text
}

impl Drop for RunBar<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            self.log.hide();
        }
    }
}

/// The bar of `prepare`, stage after stage.
pub struct PrepareBar<'a> {
    log: &'a Log,
    bar: Option<ProgressBar>,
    /// Stage, when it began, when the last line was written.
    state: Mutex<(Stage, Instant, Instant)>,
}

impl<'a> PrepareBar<'a> {
    /// A bar, if the screen is a terminal.
    pub fn new(log: &'a Log) -> Self {
        let bar = log.terminal().then(|| {
            let style = ProgressStyle::with_template("[{bar:20}] {wide_msg}");
            let bar = ProgressBar::new(1000).with_style(style.expect("a valid template"));
            log.show(&bar);
            bar
        });
        let now = Instant::now();
        PrepareBar { log, bar, state: Mutex::new((Stage::Hash, now, now)) }
    }

    /// Shows how far a stage has come.
    pub fn show(&self, p: &Progress) {
        let Ok(mut state) = self.state.lock() else { return };
        let now = Instant::now();
        if state.0 != p.stage {
            (state.0, state.1) = (p.stage, now);
        }
        let (text, done) = describe(p, now - state.1);
        match &self.bar {
            Some(bar) => {
                bar.set_position((1000.0 * done.unwrap_or(0.0)) as u64);
                bar.set_message(text);
            }
            None if now - state.2 >= LINE_EVERY => {
                state.2 = now;
                tracing::info!("{text}");
            }
            None => {}
        }
    }
}

impl Drop for PrepareBar<'_> {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
            self.log.hide();
        }
    }
}

/// A line about a stage that began `elapsed` ago, and the share of it that is done, where known.
fn describe(p: &Progress, elapsed: Duration) -> (String, Option<f64>) {
    let seconds = elapsed.as_secs_f64().max(1e-3);
    let megabytes = p.bytes as f64 / 1e6;
    let speed = format!("{megabytes:.0} MB, {:.1} MB/s", megabytes / seconds);
    let (text, read) = match p.stage {
        Stage::Hash => (format!("reading inputs: {speed}"), Some(p.bytes)),
        Stage::TrainTokenizer => (format!("training the tokenizer: {speed}"), None),
        Stage::Encode => (
            format!("encoding: {} documents, {} tokens, {speed}", p.documents, p.tokens),
            Some(p.read),
        ),
    };
    let done = read.map(|r| (r as f64 / p.input_bytes.max(1) as f64).min(1.0));
    match done.filter(|d| *d > 0.0) {
        Some(d) => {
            let left = Duration::from_secs_f64(seconds * (1.0 - d) / d);
            (format!("{text}, eta {}", span(left)), done)
        }
        None => (text, done),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_is_one_line_with_everything_that_is_known() {
        let mut u = Update {
            step: 3,
            steps: 10,
            loss: 2.0,
            align: Some(0.012),
            ocr_qk: Some(0.25),
            tokens_per_s: 9188.4,
            remaining: Duration::from_secs(125),
        };
        let full =
            "loss 2.0000  ppl 7.39  9188 tok/s  eta 2 min 05 s  ocr(q,k) 0.250  align 1.20e-2";
        assert_eq!(message(&u), full);
        (u.align, u.ocr_qk) = (None, None);
        assert_eq!(message(&u), "loss 2.0000  ppl 7.39  9188 tok/s  eta 2 min 05 s");
    }

    #[test]
    fn encoding_tells_speed_and_the_time_that_is_left() {
        let p = Progress {
            stage: Stage::Encode,
            documents: 10,
            bytes: 40_000_000,
            read: 5_000_000,
            tokens: 9,
            input_bytes: 20_000_000,
        };
        let (text, done) = describe(&p, Duration::from_secs(10));
        assert_eq!(text, "encoding: 10 documents, 9 tokens, 40 MB, 4.0 MB/s, eta 30 s");
        assert_eq!(done, Some(0.25));
        let start = Progress { read: 0, bytes: 0, ..p };
        assert!(!describe(&start, Duration::ZERO).0.contains("eta"));
    }

    #[test]
    fn spans_are_read_at_a_glance() {
        let text = |s| span(Duration::from_secs(s));
        assert_eq!([text(0), text(61), text(7500)], ["0 s", "1 min 01 s", "2 h 05 min"]);
        assert_eq!(text(3 * 86_400), "3 days");
    }
}
