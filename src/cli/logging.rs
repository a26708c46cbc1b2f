//! Log lines on stderr and, once a run folder exists, in its `log.txt`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};

use indicatif::ProgressBar;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::dynamic_filter_fn;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, fmt};

use crate::error::{Error, Result};
use crate::train::STEPS;

/// Handle to add the log file later, and to share the screen with a progress bar.
#[derive(Clone, Default)]
pub struct Log {
    file: Arc<Mutex<Option<File>>>,
    screen: Screen,
    /// Bars may be shown: stderr is a terminal and messages are wanted.
    terminal: bool,
    /// The flags that make another process of this program as talkative.
    flags: &'static [&'static str],
}

/// Stderr, with a bar below the lines where there is one.
#[derive(Clone, Default)]
struct Screen(Arc<Mutex<Option<ProgressBar>>>);

impl Screen {
    fn bar(&self) -> Option<ProgressBar> {
        self.0.lock().expect("the log is poisoned").clone()
    }
}

impl Log {
    /// Appends from now on to `dir/log.txt` as well.
    pub fn to_file(&self, dir: &Path) -> Result<()> {
        let path = dir.join("log.txt");
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        *self.file.lock().expect("the log is poisoned") = Some(file);
        Ok(())
    }

    /// Whether a bar may be shown.
    pub fn terminal(&self) -> bool {
        self.terminal
    }

    /// -v or -q, if one was given: for processes that this one starts.
    pub fn flags(&self) -> &'static [&'static str] {
        self.flags
    }

    /// Keeps `bar` below the lines from now on; lines about single steps go to the file alone.
    pub fn show(&self, bar: &ProgressBar) {
        *self.screen.0.lock().expect("the log is poisoned") = Some(bar.clone());
    }

    /// The bar is gone.
    pub fn hide(&self) {
        *self.screen.0.lock().expect("the log is poisoned") = None;
    }
}

impl Write for Screen {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut stderr = std::io::stderr();
        match self.bar() {
            Some(bar) => bar.suspend(|| stderr.write_all(bytes))?,
            None => stderr.write_all(bytes)?,
        }
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        std::io::stderr().flush()
    }
}

impl<'a> MakeWriter<'a> for Screen {
    type Writer = Screen;
    fn make_writer(&'a self) -> Screen {
        self.clone()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if let Some(file) = &mut *self.file.lock().expect("the log is poisoned") {
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

/// Installs the subscriber. The file has the debug messages whatever the screen shows.
pub fn init(verbose: bool, quiet: bool) -> Log {
    let (level, flags): (_, &[&str]) = match (quiet, verbose) {
        (true, _) => (LevelFilter::WARN, &["-q"]),
        (false, true) => (LevelFilter::DEBUG, &["-v"]),
        (false, false) => (LevelFilter::INFO, &[]),
    };
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let log = Log { terminal: ansi && !quiet, flags, ..Log::default() };
    let shared = log.screen.clone();
    let screen = fmt::layer()
        .with_writer(log.screen.clone())
        .with_ansi(ansi)
        .with_target(false)
        .without_time()
        .with_filter(dynamic_filter_fn(move |m, _| m.target() != STEPS || shared.bar().is_none()))
        .with_filter(level);
    let file = fmt::layer()
        .with_writer(log.clone())
        .with_ansi(false)
        .with_target(false)
        .with_filter(LevelFilter::DEBUG);
    let subscriber = tracing_subscriber::registry().with(screen).with(file);
    // Only fails when one is installed already (tests that call main twice).
    let _ = tracing::subscriber::set_global_default(subscriber);
    log
}
