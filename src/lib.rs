//! `chtsl` pre-trains LLaMA-style language models whose linear layers are truly sparse: each
//! projection is O = S + L with S stored and trained as CSR (links evolve by CHTs), L = B·SiLU(A·x)
//! of low rank, kept from cancelling each other by an alignment loss (CHTsL).
//!
//! # The journey of a batch
//!
//! [`data::Dataset::fill`] → [`train::Trainer::run`] → [`model::Llama::forward`] →
//! [`layer::block::Block::forward`] → [`layer::Projection::forward`] →
//! [`backend::Backend::hybrid_forward`] → the SIMD tile kernel in `backend/cpu/simd/hybrid.rs`.
//! The backward pass climbs the same list; [`optim::update`] and [`topology::event()`] follow.
//!
//! # The rooms
//!
//! | room | what it does | may use |
//! |---|---|---|
//! | [`cli`] | subcommands; the only user of clap | everything below |
//! | [`train`], [`mod@eval`], [`generate`] | loops over batches, rows, tokens | data, model, optim, topology, checkpoint, metrics |
//! | [`export`] | Hugging Face folders from checkpoints, and back | checkpoint, model, data |
//! | [`plot`] | charts and a page of runs, from their metrics | metrics |
//! | [`checkpoint`], [`metrics`] | what a run leaves on disk | layer, backend, sparse |
//! | [`optim`] | gradient norm, Adam, learning rate | model, backend |
//! | [`model`] | embedding, blocks, head; decoding | layer, backend |
//! | [`layer`] | projections, blocks, alignment | backend, sparse |
//! | [`topology`] | initial links, removal, regrowth | sparse, rng |
//! | [`backend`] | the operations, one trait; the CPU's | sparse, rng |
//! | [`data`] | text to tokens to batches | config |
//! | [`demo`] | the built-in corpus | rng |
//! | [`sparse`], [`config`], [`rng`] | patterns and budgets, settings, Philox | |
//! | [`files`], [`error`] | careful reads and durable writes, errors; used by all | |

#![warn(missing_docs)]

pub mod backend;
pub mod checkpoint;
pub mod cli;
pub mod config;
pub mod data;
pub mod demo;
pub mod error;
pub mod eval;
pub mod export;
pub mod files;
pub mod generate;
pub mod layer;
pub mod metrics;
pub mod model;
pub mod optim;
pub mod plot;
pub mod rng;
pub mod sparse;
pub mod topology;
pub mod train;

pub use error::{Error, Result};
