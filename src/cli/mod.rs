//! The command line: one file per subcommand. The only user of clap, and the one place where the
//! device is chosen.

mod completions;
mod demo;
mod device;
mod disk;
mod doctor;
mod dry_run;
mod eval;
mod export;
mod generate;
mod import;
mod inspect;
mod logging;
pub mod oom;
mod plot;
mod prepare;
mod pretrain;
mod progress;
mod run_folder;
mod summary;
mod sweep;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use clap::{Parser, Subcommand};

use crate::error::{Error, Result};

/// Version and kind of build.
const LONG_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("CHTSL_BUILD"), ")");

/// Pre-trains sparse language models: every linear layer is O = S + L, S with CSR weights whose
/// links evolve, L = B·SiLU(A·x) of low rank.
#[derive(Parser)]
#[command(name = "chtsl", version, long_version = LONG_VERSION, about, propagate_version = true)]
struct Cli {
    // Behind the options of the command, before help and version.
    /// Show debug messages too, as log.txt of a run has them: backend, data, checkpoints, events.
    #[arg(short, long, global = true, display_order = 900)]
    verbose: bool,
    /// Show no bar and no messages but warnings; results are printed all the same.
    #[arg(short, long, global = true, display_order = 901, conflicts_with = "verbose")]
    quiet: bool,
    #[command(subcommand)]
    command: Command,
}

// Each command's text stands at its arguments.
#[derive(Subcommand)]
enum Command {
    Prepare(prepare::Args),
    Pretrain(pretrain::Args),
    Eval(eval::Args),
    Generate(generate::Args),
    Export(export::Args),
    Import(import::Args),
    Inspect(inspect::Args),
    Plot(plot::Args),
    Doctor(doctor::Args),
    Sweep(sweep::Args),
    Completions(completions::Args),
}

/// Parses the arguments, runs the command and maps the outcome to the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version are not errors; clap prints them to stdout itself.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { 2 } else { 0 });
        }
    };
    oom::catch();
    let log = logging::init(cli.verbose, cli.quiet);
    let (stop, save) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let ready = catch_signals(&stop, &save).and_then(|()| start_threads());
    let outcome = ready.and_then(|()| match cli.command {
        Command::Prepare(args) => prepare::run(args, &stop, &log),
        Command::Pretrain(args) => pretrain::run(args, &stop, &save, &log),
        Command::Eval(args) => eval::run(args, &stop, &log),
        Command::Generate(args) => generate::run(args, &stop),
        Command::Export(args) => export::run(args, &stop),
        Command::Import(args) => import::run(args, &stop),
        Command::Inspect(args) => inspect::run(args),
        Command::Plot(args) => plot::run(args),
        Command::Doctor(args) => doctor::run(args),
        Command::Sweep(args) => sweep::run(args, &stop, &log),
        Command::Completions(args) => completions::run(args),
    });
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        // A closed pipe (`chtsl inspect ... | head`) is the reader's choice, not a failure.
        Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(e) => {
            eprintln!("error: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}

/// The threads that libraries share (encoding and training of tokenizers): asked for here, where a
/// refusal is an error of ours and not a panic of theirs.
fn start_threads() -> Result<()> {
    let built = rayon::ThreadPoolBuilder::new().build_global();
    built.map_err(|e| Error::Memory(format!("cannot start threads: {e}")))
}

/// SIGINT and SIGTERM set `stop`; a second one ends the process at once with code 130. SIGUSR1 sets
/// `save`. SIGXFSZ is ignored: a file at its size limit is an error of the write, not the end.
fn catch_signals(stop: &Arc<AtomicBool>, save: &Arc<AtomicBool>) -> Result<()> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let caught = |signal: i32| move |e| Error::Config(format!("cannot catch signal {signal}: {e}"));
    for signal in [SIGINT, SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 130, stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .map_err(caught(signal))?;
    }
    #[cfg(unix)]
    {
        use signal_hook::consts::{SIGUSR1, SIGXFSZ};
        signal_hook::flag::register(SIGUSR1, save.clone()).map_err(caught(SIGUSR1))?;
        let noticed = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGXFSZ, noticed).map_err(caught(SIGXFSZ))?;
    }
    #[cfg(not(unix))]
    let _ = save;
    Ok(())
}

/// Writes a line to stdout; a failure (such as a closed pipe) becomes an error instead of a panic.
fn say(text: impl std::fmt::Display) -> Result<()> {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(Error::io("write", "<stdout>"))
}
