//! What a sparse matrix is on the host: its links and their invariants ([`pattern`]), how they change
//! ([`change`]) and how many parameters a sparsity and a rank are worth ([`budget`]).

pub mod budget;
pub mod change;
pub mod pattern;

pub use change::{LinkChange, NEW};
pub use pattern::{Pattern, Transposed};
