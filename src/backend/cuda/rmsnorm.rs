//! RMSNorm. `include/rmsnorm.h`

use super::Cuda;
use super::memory::{Act, Buf};
use crate::error::Result;

pub(super) fn forward(
    _cuda: &Cuda,
    _x: &Act,
    _gain: &Buf,
    _eps: f32,
    _y: &mut Act,
    _rstd: &mut Act,
) -> Result<()> {
    unimplemented!()
}

pub(super) fn backward(
    _cuda: &Cuda,
    _dy: &Act,
    _x: &Act,
    _gain: &Buf,
    _rstd: &Act,
    _dx: &mut Act,
    _dgain: &mut Buf,
) -> Result<()> {
    unimplemented!()
}
