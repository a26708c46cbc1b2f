//! The `chtsl` program: parse, run, exit code.

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: chtsl::cli::oom::Remembering = chtsl::cli::oom::Remembering;

fn main() -> ExitCode {
    chtsl::cli::main()
}
