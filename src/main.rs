//! The `chtsl` program: parse, run, exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    chtsl::cli::main()
}
