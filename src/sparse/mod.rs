//! What a sparse matrix is on the host: its links and their invariants ([`pattern`]) and how many
//! parameters a sparsity and a rank are worth ([`budget`]).

pub mod budget;
pub mod pattern;

pub use pattern::{Pattern, Transposed};
