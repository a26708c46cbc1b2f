//! Tests of the emulator: it names every planted mistake and lets sound kernels pass.

mod faults;
mod host;
mod library;
mod mutation;
mod planted;
mod sound;
