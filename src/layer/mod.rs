//! Layers: parameters with their gradients and moments, forward and backward side by side.
//!
//! * [`param`]: a dense parameter, a sparse one, and the visitor over both
//! * [`hybrid`]: a projection O = S + L, or a full matrix
//! * [`alignment`]: the alignment term, OCR and branch sizes from per-token sums
//! * [`block`]: one transformer block and the activations it saves

pub mod alignment;
pub mod block;
pub mod hybrid;
pub mod param;

pub use alignment::{Alignment, BranchStats, MicroBatch};
pub use block::{Block, BlockActs, Shared};
pub use hybrid::{LowRankParam, Projection, Sparse};
pub use param::{Param, ParamKind, ParamRef, ParamSource, SparseParam};
