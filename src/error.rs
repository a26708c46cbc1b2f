//! One error type for the whole crate. Each variant names what was expected, what was found and,
//! for users, what to try next; [`Error::exit_code`] maps it to the process status.

use std::path::{Path, PathBuf};

/// Result with the crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Everything that can go wrong below `main`.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tensor, buffer or pattern has another size than the operation needs.
    #[error("{op}: expected {expected}, got {got}")]
    Shape {
        /// Operation that noticed.
        op: &'static str,
        /// What it needs.
        expected: String,
        /// What it was given.
        got: String,
    },
    /// A wrong flag, configuration key or value.
    #[error("{0}")]
    Config(String),
    /// Training data, tokenizer or corpus files that cannot be used.
    #[error("{}: {message}", path.display())]
    Data {
        /// File or folder concerned.
        path: PathBuf,
        /// What is wrong, where, and what to do.
        message: String,
    },
    /// A checkpoint that is missing, damaged or belongs to another configuration.
    #[error("{}: {message}", path.display())]
    Checkpoint {
        /// File or folder concerned.
        path: PathBuf,
        /// What is wrong and what to do.
        message: String,
    },
    /// Not enough memory.
    #[error("{0}")]
    Memory(String),
    /// Loss or gradient became non-finite.
    #[error("training diverged at step {step}: {message}")]
    Diverged {
        /// Update (counted from 1) that was refused.
        step: u64,
        /// Which quantity, and what to try.
        message: String,
    },
    /// The operating system refused to read or write.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// Verb: "read", "create", "rename", ...
        action: &'static str,
        /// File or folder concerned.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A device, its driver or a library of it is missing or failed.
    #[error("{0}")]
    Device(String),
    /// A signal asked for a stop; the run can be resumed.
    #[error("stopped by a signal after step {step}; resume with `--resume auto`")]
    Stopped {
        /// Last finished update.
        step: u64,
    },
    /// A signal asked for a stop while no training was under way; the command can be run again.
    #[error("{0}")]
    Interrupted(String),
}

impl Error {
    /// [`Error::Shape`] from anything printable.
    pub fn shape(op: &'static str, expected: impl ToString, got: impl ToString) -> Self {
        Error::Shape { op, expected: expected.to_string(), got: got.to_string() }
    }

    /// [`Error::Data`] about `path`.
    pub fn data(path: impl AsRef<Path>, message: impl ToString) -> Self {
        Error::Data { path: path.as_ref().to_path_buf(), message: message.to_string() }
    }

    /// [`Error::Checkpoint`] about `path`.
    pub fn checkpoint(path: impl AsRef<Path>, message: impl ToString) -> Self {
        Error::Checkpoint { path: path.as_ref().to_path_buf(), message: message.to_string() }
    }

    /// Closure for `map_err`: wraps an [`std::io::Error`] with its verb and path.
    pub fn io(action: &'static str, path: impl AsRef<Path>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Error::Io { action, path, source }
    }

    /// Process exit status: 2 usage or configuration, 3 data, 4 checkpoint, 5 memory, 6 diverged,
    /// 7 I/O, 8 device, 75 stopped by a signal and resumable.
    pub fn exit_code(&self) -> u8 {
        match self {
            Error::Shape { .. } | Error::Config(_) => 2,
            Error::Data { .. } => 3,
            Error::Checkpoint { .. } => 4,
            Error::Memory(_) => 5,
            Error::Diverged { .. } => 6,
            // The system had no memory for what it was asked to do.
            Error::Io { source, .. } if source.kind() == std::io::ErrorKind::OutOfMemory => 5,
            Error::Io { .. } => 7,
            Error::Device(_) => 8,
            Error::Stopped { .. } | Error::Interrupted(_) => 75,
        }
    }
}

/// Fails with [`Error::Shape`] unless `expected == got`.
pub fn check_len(op: &'static str, what: &str, expected: usize, got: usize) -> Result<()> {
    if expected == got { Ok(()) } else { Err(Error::shape(op, format!("{expected} {what}"), got)) }
}
