//! Head and cross-entropy in chunks of tokens: the logits of one chunk exist at a time.
//! `include/cross_entropy.h`

use super::bindings::chtsl_act;
use super::gemm::of_matrix;
use super::launch::{launch, query};
use super::memory::{Act, Buf, TOKEN_PADDING, code};
use super::runtime::{Element, Gemm, GemmOperand};
use super::{Cuda, Scratch, check_act};
use crate::backend::{LossSum, NO_TARGET, checks};
use crate::error::{Error, Result, check_len};

/// Tokens whose logits are held at once: enough for whole waves of the dense products, 0.5 GB of
/// bf16 logits at a vocabulary of 32,000.
const CHUNK: usize = 8192;

/// What the training pass writes.
struct Gradients<'a> {
    scale: f32,
    dx: &'a mut Act,
    dw: &'a mut Buf,
}

/// Columns of an activation from token `first` on.
fn from_token(x: &Act, first: usize, transposed: bool) -> GemmOperand {
    let whole = x.operand(transposed);
    let data = whole.data.wrapping_byte_add(first * x.element.bytes());
    GemmOperand { data, ..whole }
}

fn run(
    cuda: &Cuda,
    w: &Buf,
    x: &Act,
    targets: &[u32],
    mut gradients: Option<Gradients>,
) -> Result<LossSum> {
    let vocab = checks::head("cross_entropy", w.len, x.extents(), targets)?;
    let count = targets.iter().filter(|t| **t != NO_TARGET).count() as u64;
    if count == 0 && gradients.is_none() {
        return Ok(LossSum::default());
    }
    let features = x.features;
    let a = of_matrix(cuda.operand(w, vocab, features)?, cuda.element, false);
    let widest = x.stride.min(CHUNK);
    let partials = query!(cuda, cross_entropy_partials(vocab as u32, widest as u32)) as usize;
    let logits = cuda.scratch(Scratch::Logits, vocab * widest * cuda.element.bytes())?;
    let mut lists = cuda.scratch(Scratch::Lists, size_of_val(targets))?;
    lists.write(0, targets)?;
    // The loss as f64, one log-sum per token, partial maxima and sums.
    let mut partial = cuda.scratch(Scratch::Partial, 16 + 4 * (widest + partials))?;
    partial.write(0, &[0.0f64])?;
    let loss = partial.pointer().cast::<f64>();
    let lse = partial.pointer().wrapping_byte_add(16).cast::<f32>();
    for first in (0..x.tokens).step_by(CHUNK) {
        let tokens = CHUNK.min(x.tokens - first);
        let stride = tokens.next_multiple_of(TOKEN_PADDING);
        let chunk = chtsl_act {
            data: logits.pointer(),
            features: vocab as u32,
            tokens: tokens as u32,
            stride: stride as u32,
            type_: code(cuda.element),
        };
        let of_logits = |transposed| GemmOperand {
            data: logits.pointer(),
            element: cuda.element,
            stride,
            transposed,
        };
        let product = Gemm {
            m: vocab,
            n: stride,
            k: features,
            a,
            b: from_token(x, first, false),
            c: of_logits(false),
            alpha: 1.0,
            beta: 0.0,
        };
        cuda.gemm(&product)?;
        let targets = lists.pointer().cast::<u32>().cast_const().wrapping_add(first);
        let shares = lse.wrapping_add(widest);
        launch!(cuda, cross_entropy_loss(chunk, targets, lse, shares, loss))?;
        let Some(g) = &mut gradients else { continue };
        launch!(cuda, cross_entropy_gradient(chunk, targets, lse, g.scale))?;
        let back = Gemm {
            m: features,
            k: vocab,
            a: GemmOperand { transposed: true, ..a },
            b: of_logits(false),
            c: from_token(g.dx, first, false),
            ..product
        };
        cuda.gemm(&back)?;
        let weight = Gemm {
            m: vocab,
            n: features,
            k: tokens,
            a: of_logits(false),
            b: from_token(x, first, true),
            c: of_matrix(g.dw.matrix(vocab, features), Element::F32, false),
            alpha: 1.0,
            beta: 1.0,
        };
        cuda.gemm(&weight)?;
    }
    let mut sum = [0.0f64];
    partial.read(0, &mut sum)?;
    Ok(LossSum { loss: sum[0], targets: count })
}

pub(super) fn train(
    cuda: &Cuda,
    w: &Buf,
    x: &Act,
    targets: &[u32],
    scale: f32,
    dx: &mut Act,
    dw: &mut Buf,
) -> Result<LossSum> {
    check_act("cross_entropy", dx, x.features, x.tokens)?;
    check_len("cross_entropy", "weight gradients", w.len, dw.len)?;
    if !scale.is_finite() {
        return Err(Error::shape("cross_entropy", "a finite scale", scale));
    }
    dw.changed();
    run(cuda, w, x, targets, Some(Gradients { scale, dx, dw }))
}

pub(super) fn eval(cuda: &Cuda, w: &Buf, x: &Act, targets: &[u32]) -> Result<LossSum> {
    run(cuda, w, x, targets, None)
}
