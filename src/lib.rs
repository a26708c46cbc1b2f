//! `chtsl`: pre-training of LLaMA-style language models whose linear layers are truly sparse.
pub mod backend;
pub mod config;
pub mod demo;
pub mod error;
pub mod rng;
pub mod sparse;
pub mod topology;

pub use error::{Error, Result};
