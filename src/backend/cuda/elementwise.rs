//! Operations element by element. `include/elementwise.h`

use super::launch::{launch, query};
use super::memory::{Act, Buf, Memory};
use super::{Cuda, Scratch, check_act};
use crate::error::{Error, Result};

/// Compares activations of one operation, and their types.
fn check(op: &'static str, like: &Act, others: &[&Act]) -> Result<()> {
    for x in others {
        check_act(op, x, like.features, like.tokens)?;
        if x.element != like.element {
            let (expected, got) =
                (format!("{:?} elements", like.element), format!("{:?}", x.element));
            return Err(Error::shape(op, expected, got));
        }
    }
    Ok(())
}

pub(super) fn sum_squares(cuda: &Cuda, x: &Buf) -> Result<f64> {
    let len = x.len as u64;
    let partials = query!(cuda, elementwise_partials(len)) as usize;
    // The result lies behind the partial sums.
    let memory = cuda.scratch(Scratch::Partial, 8 * (partials + 1))?;
    let partial = memory.pointer().cast::<f64>();
    launch!(cuda, elementwise_sum_squares(x.raw(), len, partial, partial.wrapping_add(partials)))?;
    let mut sum = [0.0];
    memory.read(8 * partials, &mut sum)?;
    Ok(sum[0])
}

pub(super) fn copy(x: &Act, y: &mut Act) -> Result<()> {
    check("copy", x, &[y])?;
    y.memory.copy_from(&x.memory)
}

pub(super) fn add(cuda: &Cuda, a: &Act, b: &Act, y: &mut Act) -> Result<()> {
    check("add", a, &[b, y])?;
    launch!(cuda, elementwise_add(a.raw(), b.raw(), y.raw()))
}

pub(super) fn swiglu_forward(cuda: &Cuda, gate: &Act, up: &Act, y: &mut Act) -> Result<()> {
    check("swiglu_forward", gate, &[up, y])?;
    launch!(cuda, elementwise_swiglu_forward(gate.raw(), up.raw(), y.raw()))
}

pub(super) fn swiglu_backward(
    cuda: &Cuda,
    dy: &Act,
    gate: &Act,
    up: &Act,
    dgate: &mut Act,
    dup: &mut Act,
) -> Result<()> {
    check("swiglu_backward", dy, &[gate, up, dgate, dup])?;
    let (dgate, dup) = (dgate.raw(), dup.raw());
    launch!(cuda, elementwise_swiglu_backward(dy.raw(), gate.raw(), up.raw(), dgate, dup))
}

pub(super) fn read_token(cuda: &Cuda, x: &Act, token: usize) -> Result<Vec<f32>> {
    if token >= x.tokens {
        return Err(Error::shape("read_token", format!("token below {}", x.tokens), token));
    }
    let column = Memory::new(&cuda.runtime, 4 * x.features)?;
    launch!(cuda, elementwise_column(x.raw(), token as u32, column.pointer().cast()))?;
    let mut values = vec![0.0; x.features];
    column.read(0, &mut values)?;
    Ok(values)
}
