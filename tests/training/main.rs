//! The training loop as a whole: resume, repeat, accumulation, guards, derivatives, golden losses.

mod accumulation;
mod derivatives;
mod golden_run;
mod guards;
mod mutants;
mod resume;
mod setup;
