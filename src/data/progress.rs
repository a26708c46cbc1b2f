//! Progress of a long-running command.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// What a run is busy with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Hashing the input files.
    Hash,
    /// Training a tokenizer.
    TrainTokenizer,
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
    /// Bytes of the input files read while encoding.
    pub read: u64,
    /// Tokens written.
    pub tokens: u64,
    /// Size of all inputs on disk, in bytes.
    pub input_bytes: u64,
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

    /// Starts a stage with its counters at zero.
    pub fn stage(&self, stage: Stage) {
        self.update(|p| {
            let input_bytes = p.input_bytes;
            *p = Progress { stage, input_bytes, documents: 0, bytes: 0, read: 0, tokens: 0 };
        });
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
