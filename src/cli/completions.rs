//! `chtsl completions`: what a shell needs to complete commands and flags.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::error::{Error, Result};

/// Print a completion script for a shell.
///
/// Example: chtsl completions bash > ~/.local/share/bash-completion/completions/chtsl
#[derive(Debug, clap::Args)]
pub struct Args {
    /// bash, elvish, fish, powershell or zsh.
    shell: Shell,
}

/// Runs the command.
pub fn run(args: Args) -> Result<()> {
    // Through memory: a closed pipe is an error of ours, not a panic of the library.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "chtsl", &mut script);
    std::io::stdout().lock().write_all(&script).map_err(Error::io("write", "<stdout>"))
}
