//! RMSNorm. `include/rmsnorm.h`

use super::launch::{launch, query};
use super::memory::{Act, Buf};
use super::{Cuda, Scratch, check_act};
use crate::error::{Result, check_len};

pub(super) fn forward(
    cuda: &Cuda,
    x: &Act,
    gain: &Buf,
    eps: f32,
    y: &mut Act,
    rstd: &mut Act,
) -> Result<()> {
    const OP: &str = "rmsnorm_forward";
    check_act(OP, y, x.features, x.tokens)?;
    check_act(OP, rstd, 1, x.tokens)?;
    check_len(OP, "gains", x.features, gain.len)?;
    launch!(cuda, rmsnorm_forward(x.raw(), gain.raw(), eps, y.raw(), rstd.raw()))
}

pub(super) fn backward(
    cuda: &Cuda,
    dy: &Act,
    x: &Act,
    gain: &Buf,
    rstd: &Act,
    dx: &mut Act,
    dgain: &mut Buf,
) -> Result<()> {
    const OP: &str = "rmsnorm_backward";
    check_act(OP, dy, x.features, x.tokens)?;
    check_act(OP, dx, x.features, x.tokens)?;
    check_act(OP, rstd, 1, x.tokens)?;
    check_len(OP, "gains", x.features, gain.len)?;
    check_len(OP, "gradients", x.features, dgain.len)?;
    dgain.changed();
    let partials = query!(cuda, rmsnorm_partials(x.features as u32, x.tokens as u32)) as usize;
    let partial = cuda.scratch(Scratch::Partial, 4 * partials)?;
    let (dx, sums) = (dx.raw(), partial.pointer().cast());
    let (gain, dgain) = (gain.raw(), dgain.raw());
    launch!(cuda, rmsnorm_backward(dy.raw(), x.raw(), gain, rstd.raw(), dx, dgain, sums))
}
