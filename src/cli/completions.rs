//! `chtsl completions`: what a shell needs to complete commands, flags and their values.

use std::io::Write;

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command, CommandFactory, ValueHint};
use clap_complete::Shell;

use crate::config::layers;
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
    let mut program = super::Cli::command().mut_subcommands(|c| match c.get_name() {
        "pretrain" => hinted(c, &["list"]),
        _ => hinted(c, &[]),
    });
    // Through memory: a closed pipe is an error of ours, not a panic of the library.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, "chtsl", &mut script);
    std::io::stdout().lock().write_all(&script).map_err(Error::io("write", "<stdout>"))
}

/// A command whose arguments say what they take; `more` is what `--preset` takes besides presets.
///
/// Said here alone: the parser itself must take any name for a preset, since the configuration has the
/// better error for an unknown one.
fn hinted(command: Command, more: &[&'static str]) -> Command {
    command.mut_args(|arg| {
        if !arg.get_action().takes_values() || !arg.get_possible_values().is_empty() {
            return arg;
        }
        if arg.get_id() == "preset" {
            // Static, as clap wants its names; the process ends with the script.
            let names = layers::preset_names().into_iter().map(|n| &*n.leak());
            return arg.value_parser(PossibleValuesParser::new(names.chain(more.iter().copied())));
        }
        let hint = value_hint(&arg);
        arg.value_hint(hint)
    })
}

/// What an argument takes, by the name of its value ("DIR", "auto|PATH").
fn value_hint(arg: &Arg) -> ValueHint {
    let names = arg.get_value_names().unwrap_or_default();
    let is = |wanted: &[&str]| names.iter().flat_map(|n| n.split('|')).any(|n| wanted.contains(&n));
    if is(&["DIR", "RUN"]) {
        ValueHint::DirPath
    } else if is(&["FILE", "PATH"]) {
        ValueHint::FilePath
    } else {
        // Numbers, names, texts: the files that lie about are no answer.
        ValueHint::Other
    }
}
