//! O = S + L, forward and backward. `include/low_rank.h`, `include/alignment.h`

use super::Cuda;
use super::memory::Act;
use crate::backend::{Hybrid, HybridGrads};
use crate::error::Result;

pub(super) fn forward(
    _cuda: &Cuda,
    _w: &Hybrid<Cuda>,
    _x: &Act,
    _u: Option<&mut Act>,
    _o: &mut Act,
    _sums: Option<&mut Act>,
) -> Result<()> {
    unimplemented!()
}

#[allow(clippy::too_many_arguments)]
pub(super) fn backward(
    _cuda: &Cuda,
    _w: &Hybrid<Cuda>,
    _x: &Act,
    _u: Option<&Act>,
    _o: &Act,
    _coefficients: Option<&Act>,
    _d_o: &mut Act,
    _dx: &mut Act,
    _accumulate: bool,
    _grads: HybridGrads<Cuda>,
) -> Result<()> {
    unimplemented!()
}
