//! The training loop as a whole: resume, repeat, accumulation, guards, derivatives, golden losses.

mod accumulation;
mod derivatives;
mod emulated_device;
mod golden_run;
mod guards;
mod resume;
mod setup;

#[path = "../support/program.rs"]
mod program;

#[allow(dead_code)] // shared with the tests of operations
#[path = "../support/emulated.rs"]
mod emulated;
