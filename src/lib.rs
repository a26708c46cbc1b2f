//! `chtsl`: pre-training of LLaMA-style language models whose linear layers are truly sparse.
pub mod backend;
pub mod checkpoint;
pub mod config;
pub mod data;
pub mod error;
pub mod layer;
pub mod model;
pub mod optim;
pub mod rng;
pub mod sparse;
pub mod topology;

pub use error::{Error, Result};
