//! What can go wrong around a run, and what must come of it. `tests/faults.sh` runs the same tests with
//! the numbers of the record; here each is small enough for every change.
#![cfg(target_os = "linux")]

mod configuration;
mod decay;
mod files;
mod limits;
#[path = "../support/program.rs"]
mod program;
mod runs;
mod soak;

/// The first number for every change, the second with `CHTSL_FAULTS=full`.
fn count(gate: usize, full: usize) -> usize {
    match std::env::var("CHTSL_FAULTS").as_deref() {
        Ok("full") => full,
        _ => gate,
    }
}

/// A line for the record.
fn told(what: &str) {
    println!("fault: {what}");
}
