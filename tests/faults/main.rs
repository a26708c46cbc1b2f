//! What can go wrong around a run, and what must come of it. `tests/faults.sh` runs the same tests with
//! the numbers of the record; here each is small enough for every change.
#![cfg(target_os = "linux")]

mod configuration;
mod decay;
mod files;
mod limits;
#[path = "../support/program.rs"]
mod program;
#[path = "../support/record.rs"]
mod record;
mod runs;
mod soak;

use record::{count, told};
