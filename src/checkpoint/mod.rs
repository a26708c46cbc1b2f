//! Checkpoints.
pub mod tensors;
