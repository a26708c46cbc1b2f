//! Log lines on stderr and, once a run folder exists, in its `log.txt`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, fmt};

use crate::error::{Error, Result};

/// Handle to add the log file later.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Option<File>>>);

impl Log {
    /// Appends from now on to `dir/log.txt` as well.
    pub fn to_file(&self, dir: &Path) -> Result<()> {
        let path = dir.join("log.txt");
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        *self.0.lock().expect("the log is poisoned") = Some(file);
        Ok(())
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(file) = &mut *self.0.lock().expect("the log is poisoned") {
            // A full disk must not end the run through its log.
            let _ = file.write_all(bytes);
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Log;
    fn make_writer(&'a self) -> Log {
        self.clone()
    }
}

/// Installs the subscriber.
pub fn init(verbose: u8, quiet: bool) -> Log {
    let level = match (quiet, verbose) {
        (true, _) => LevelFilter::WARN,
        (_, 0) => LevelFilter::INFO,
        (_, 1) => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let log = Log::default();
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let screen = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(ansi)
        .with_target(false)
        .without_time()
        .with_filter(level);
    let file = fmt::layer()
        .with_writer(log.clone())
        .with_ansi(false)
        .with_target(false)
        .with_filter(LevelFilter::DEBUG.max(level));
    let subscriber = tracing_subscriber::registry().with(screen).with(file);
    // Only fails when one is installed already (tests that call main twice).
    let _ = tracing::subscriber::set_global_default(subscriber);
    log
}
