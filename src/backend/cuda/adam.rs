//! Adam with the refresh of the rounded copy. `include/adam.h`

use super::Cuda;
use super::memory::Buf;
use crate::backend::AdamStep;
use crate::error::Result;

pub(super) fn adam(
    _cuda: &Cuda,
    _p: &mut Buf,
    _g: &Buf,
    _m: &mut Buf,
    _v: &mut Buf,
    _ages: Option<&mut Buf>,
    _s: AdamStep,
) -> Result<()> {
    unimplemented!()
}
