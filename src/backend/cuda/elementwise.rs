//! Operations element by element. `include/elementwise.h`

use super::Cuda;
use super::memory::{Act, Buf};
use crate::error::Result;

pub(super) fn sum_squares(_cuda: &Cuda, _x: &Buf) -> Result<f64> {
    unimplemented!()
}

pub(super) fn copy(_x: &Act, _y: &mut Act) -> Result<()> {
    unimplemented!()
}

pub(super) fn add(_cuda: &Cuda, _a: &Act, _b: &Act, _y: &mut Act) -> Result<()> {
    unimplemented!()
}

pub(super) fn swiglu_forward(_cuda: &Cuda, _gate: &Act, _up: &Act, _y: &mut Act) -> Result<()> {
    unimplemented!()
}

pub(super) fn swiglu_backward(
    _cuda: &Cuda,
    _dy: &Act,
    _gate: &Act,
    _up: &Act,
    _dgate: &mut Act,
    _dup: &mut Act,
) -> Result<()> {
    unimplemented!()
}

pub(super) fn read_token(_cuda: &Cuda, _x: &Act, _token: usize) -> Result<Vec<f32>> {
    unimplemented!()
}
