//! The bar of `prepare`, stage after stage.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::{Bar, LINE_EVERY};
use crate::cli::logging::Log;
use crate::data::{Progress, Stage};
use crate::train::span;

/// The bar of `prepare`.
pub struct PrepareBar<'a> {
    bar: Bar<'a>,
    /// Stage, when it began, when the last line was written.
    state: Mutex<(Stage, Instant, Instant)>,
}

impl<'a> PrepareBar<'a> {
    /// A bar, if the screen is a terminal.
    pub fn new(log: &'a Log) -> Self {
        let now = Instant::now();
        // Two lines, so that the time left is not what a narrow terminal cuts off.
        let bar = Bar::new(log, 1000, "[{wide_bar}] {prefix}\n{wide_msg}");
        PrepareBar { bar, state: Mutex::new((Stage::Hash, now, now)) }
    }

    /// Shows how far a stage has come.
    pub fn show(&self, p: &Progress) {
        let Ok(mut state) = self.state.lock() else { return };
        let now = Instant::now();
        if state.0 != p.stage {
            (state.0, state.1) = (p.stage, now);
        }
        let elapsed = now - state.1;
        let (text, left) = (describe(p, elapsed), time_left(p, elapsed));
        match self.bar.get() {
            Some(bar) => {
                bar.set_position((1000.0 * p.share().unwrap_or(0.0)) as u64);
                bar.set_prefix(left.unwrap_or_default());
                bar.set_message(text);
            }
            None if now - state.2 >= LINE_EVERY => {
                state.2 = now;
                tracing::info!("{text}{}", left.map_or(String::new(), |left| format!(", {left}")));
            }
            None => {}
        }
    }
}

/// A line about a stage that began `elapsed` ago.
fn describe(p: &Progress, elapsed: Duration) -> String {
    let megabytes = p.bytes as f64 / 1e6;
    let per_second = megabytes / elapsed.as_secs_f64().max(1e-3);
    let speed = format!("{megabytes:.0} MB, {per_second:.1} MB/s");
    match p.stage {
        Stage::Hash => format!("reading inputs: {speed}"),
        Stage::TrainTokenizer => format!("training the tokenizer: {speed}"),
        Stage::Merge => format!("training the tokenizer: merging, {}", span(elapsed)),
        Stage::Encode => {
            format!("encoding: {} documents, {} tokens, {speed}", p.documents, p.tokens)
        }
    }
}

/// When the stage will be over, where that can be told.
fn time_left(p: &Progress, elapsed: Duration) -> Option<String> {
    let share = p.share().filter(|share| *share > 0.0)?;
    Some(format!("eta {}", span(elapsed.mul_f64((1.0 - share) / share))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENCODING: Progress = Progress {
        stage: Stage::Encode,
        documents: 10,
        bytes: 40_000_000,
        read: 5_000_000,
        tokens: 9,
        input_bytes: 20_000_000,
    };

    fn told(p: &Progress) -> (String, Option<String>) {
        let ten = Duration::from_secs(10);
        (describe(p, ten), time_left(p, ten))
    }

    #[test]
    fn encoding_tells_speed_and_the_time_that_is_left() {
        let (text, left) = told(&ENCODING);
        assert_eq!(text, "encoding: 10 documents, 9 tokens, 40 MB, 4.0 MB/s");
        assert_eq!(left.unwrap(), "eta 30 s");
        assert_eq!(told(&Progress { read: 0, bytes: 0, ..ENCODING }).1, None);
        // As much as a terminal of 80 columns has room for.
        let (documents, tokens) = (364_868_892, 156_000_000_000);
        let c4 = Progress { documents, tokens, bytes: 806_000_000_000, ..ENCODING };
        assert!(told(&c4).0.len() <= 80, "{}", told(&c4).0);
    }

    #[test]
    fn training_a_tokenizer_has_an_end_and_merging_a_clock() {
        let p = Progress { stage: Stage::TrainTokenizer, ..ENCODING };
        let (text, left) = told(&p);
        assert_eq!(text, "training the tokenizer: 40 MB, 4.0 MB/s");
        assert_eq!(left.unwrap(), "eta 30 s");
        // Of a large corpus only the first GiB of text is read.
        let p = Progress { bytes: 1 << 29, input_bytes: 1 << 40, ..p };
        assert_eq!(told(&p).1.unwrap(), "eta 10 s");
        let (text, left) = told(&Progress { stage: Stage::Merge, ..p });
        assert_eq!((text.as_str(), left), ("training the tokenizer: merging, 10 s", None));
    }
}
