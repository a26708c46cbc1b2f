//! Every operation of the backends against plain f64 loops, on every backend present: values,
//! gradients, refused extents, and what holds across operations.

mod adam;
mod alignment;
mod attention;
mod branches;
mod broken;
mod cross_entropy;
mod elementwise;
mod embedding;
mod gemm;
mod invariance;
mod launchers;
mod low_rank;
mod rmsnorm;
mod rope;
mod sddmm;
mod spmm;
#[path = "../support/mod.rs"]
mod support;
mod topology;
