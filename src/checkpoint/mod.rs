//! Checkpoints: complete or absent, hashed, durable.
//!
//! A checkpoint is a folder `checkpoints/step-NNNNNNNN` with `model.safetensors` (weights under
//! Hugging Face names, sparse ones with torch's CSR names), `optim.safetensors` (moments, link ages,
//! positions ever active), `state.json`, `config.toml`, the tokenizer if there is one, and
//! `manifest.json` with the hash of every file, written last. It is made in a hidden staging folder,
//! synced file by file, renamed into place, and the parent is synced; only then are older ones pruned.

pub mod folder;
pub mod save;
pub mod state;
pub mod tensors;

pub use folder::{Checkpoint, find, latest, list};
pub use save::save;
pub use state::State;
pub use tensors::TensorFile;
