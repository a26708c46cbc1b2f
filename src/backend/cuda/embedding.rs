//! Token embedding. `include/embedding.h`

use super::Cuda;
use super::memory::{Act, Buf};
use crate::error::Result;

pub(super) fn forward(_cuda: &Cuda, _table: &Buf, _ids: &[u32], _x: &mut Act) -> Result<()> {
    unimplemented!()
}

pub(super) fn backward(_cuda: &Cuda, _ids: &[u32], _dx: &Act, _dtable: &mut Buf) -> Result<()> {
    unimplemented!()
}
