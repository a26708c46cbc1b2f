//! Progress of a long-running command.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::train_bpe::TRAIN_BYTES;

/// What a run is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Hashing the input files.
    Hash,
    /// Reading text to train a tokenizer on.
    TrainTokenizer,
    /// Merging pairs of its tokens.
    Merge,
    /// Encoding and writing.
    Encode,
}

/// Progress, told several times a second.
#[derive(Clone, Copy, Debug)]
pub struct Progress {
    /// Current stage.
    pub stage: Stage,
    /// Documents done in this stage.
    pub documents: u64,
    /// Bytes done in this stage: of the files while hashing, of text otherwise.
    pub bytes: u64,
    /// Bytes of the files read while training a tokenizer or encoding.
    pub read: u64,
    /// Tokens written.
    pub tokens: u64,
    /// Size on disk of the files that this stage reads, in bytes.
    pub input_bytes: u64,
}

impl Progress {
    /// Share of the stage that is done, in 0..=1; `None` where nobody can tell.
    pub fn share(&self) -> Option<f64> {
        let of = |done: u64, all: u64| (done as f64 / all.max(1) as f64).min(1.0);
        match self.stage {
            Stage::Hash => Some(of(self.bytes, self.input_bytes)),
            // It ends with the files or with as much text as is wanted, whichever comes first.
            Stage::TrainTokenizer => {
                Some(of(self.read, self.input_bytes).max(of(self.bytes, TRAIN_BYTES)))
            }
            Stage::Merge => None,
            Stage::Encode => Some(of(self.read, self.input_bytes)),
        }
    }
}

/// Passes progress on, at most ten times a second.
pub(super) struct Reporter<'a> {
    callback: &'a (dyn Fn(&Progress) + Sync),
    state: Mutex<(Progress, Instant)>,
}

impl<'a> Reporter<'a> {
    /// Reporter that tells `callback`.
    pub fn new(callback: &'a (dyn Fn(&Progress) + Sync)) -> Self {
        let progress = Progress {
            stage: Stage::Hash,
            documents: 0,
            bytes: 0,
            read: 0,
            tokens: 0,
            input_bytes: 0,
        };
        Reporter { callback, state: Mutex::new((progress, Instant::now())) }
    }

    /// Starts a stage over files of `input_bytes` with its counters at zero.
    pub fn stage(&self, stage: Stage, input_bytes: u64) {
        self.update(|p| {
            *p = Progress { stage, input_bytes, documents: 0, bytes: 0, read: 0, tokens: 0 };
        });
    }

    /// Tells that it is still at work.
    pub fn tick(&self) {
        self.update(|_| {});
    }

    /// Changes the counters.
    pub fn update(&self, change: impl FnOnce(&mut Progress)) {
        let Ok(mut state) = self.state.lock() else { return };
        change(&mut state.0);
        if state.1.elapsed() >= Duration::from_millis(100) {
            state.1 = Instant::now();
            let told = state.0;
            drop(state);
            (self.callback)(&told);
        }
    }
}
