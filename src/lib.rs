//! `chtsl`: pre-training of LLaMA-style language models whose linear layers are truly sparse.
pub mod config;
pub mod data;
pub mod error;
pub mod rng;
pub mod sparse;

pub use error::{Error, Result};
