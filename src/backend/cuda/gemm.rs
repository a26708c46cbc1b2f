//! Dense products through the runtime's library, and the operands they read.

use super::bindings::chtsl_matrix;
use super::launch::launch;
use super::memory::{Act, Buf, Memory, Operand};
use super::runtime::{Element, Gemm, GemmOperand};
use super::{Cuda, check_act};
use crate::error::{Result, check_len};

impl Cuda {
    /// A product; nothing happens when an extent of the result is 0, and without a sum (`k` = 0) the
    /// result is `beta·c`.
    pub(super) fn gemm(&self, product: &Gemm) -> Result<()> {
        let Gemm { m, n, k, c, .. } = *product;
        if m == 0 || n == 0 {
            return Ok(());
        }
        if k == 0 {
            if product.beta == 0.0 {
                let bytes = ((m - 1) * c.stride + n) * c.element.bytes();
                // SAFETY: the rows of c, as for the product below.
                return unsafe { self.runtime.clear(c.data, bytes) };
            }
            return Ok(());
        }
        // SAFETY: callers make operands from memory that they hold, with extents they have compared.
        unsafe { self.runtime.gemm(product) }
    }

    /// A parameter as products read it: its f32 values, or its bf16 copy, refreshed when outdated.
    ///
    /// Errors: `Error::Shape` unless it has `rows·cols` elements.
    pub(super) fn operand(&self, x: &Buf, rows: usize, cols: usize) -> Result<chtsl_matrix> {
        check_len("operand", "elements of a parameter", rows * cols, x.len)?;
        if self.element == Element::F32 {
            return Ok(x.matrix(rows, cols));
        }
        let mut slot = x.operand.lock().expect("not poisoned");
        let fits = |o: &Operand| (o.rows, o.cols) == (rows, cols);
        let operand = match &mut *slot {
            Some(o) if fits(o) => o,
            other => {
                let stride = cols.next_multiple_of(8);
                let memory = Memory::new(&self.runtime, rows * stride * 2)?;
                other.insert(Operand { memory, rows, cols, stride, current: false })
            }
        };
        if !operand.current && x.len > 0 {
            launch!(self, elementwise_cast(x.matrix(rows, cols), operand.raw()))?;
        }
        operand.current = true;
        Ok(operand.raw())
    }
}

/// A parameter as an operand of the dense library.
pub(super) fn of_matrix(m: chtsl_matrix, element: Element, transposed: bool) -> GemmOperand {
    GemmOperand { data: m.data, element, stride: m.stride as usize, transposed }
}

pub(super) fn forward(cuda: &Cuda, w: &Buf, x: &Act, y: &mut Act) -> Result<()> {
    let m = y.features;
    check_act("dense_forward", y, m, x.tokens)?;
    check_len("dense_forward", "weights", m * x.features, w.len)?;
    let a = of_matrix(cuda.operand(w, m, x.features)?, cuda.element, false);
    let (b, c) = (x.operand(false), y.operand(false));
    // Padded tokens are computed too: zeros in, zeros out, and rows without gaps.
    cuda.gemm(&Gemm { m, n: x.stride, k: x.features, a, b, c, alpha: 1.0, beta: 0.0 })
}

pub(super) fn backward_input(
    cuda: &Cuda,
    w: &Buf,
    dy: &Act,
    dx: &mut Act,
    accumulate: bool,
) -> Result<()> {
    check_act("dense_backward_input", dx, dx.features, dy.tokens)?;
    check_len("dense_backward_input", "weights", dy.features * dx.features, w.len)?;
    let a = of_matrix(cuda.operand(w, dy.features, dx.features)?, cuda.element, true);
    let (m, n, k) = (dx.features, dy.stride, dy.features);
    let (b, c) = (dy.operand(false), dx.operand(false));
    cuda.gemm(&Gemm { m, n, k, a, b, c, alpha: 1.0, beta: f32::from(accumulate) })
}

pub(super) fn backward_weight(cuda: &Cuda, dy: &Act, x: &Act, dw: &mut Buf) -> Result<()> {
    check_act("dense_backward_weight", x, x.features, dy.tokens)?;
    check_len("dense_backward_weight", "weight gradients", dy.features * x.features, dw.len)?;
    dw.changed();
    let c = of_matrix(dw.matrix(dy.features, x.features), Element::F32, false);
    let (a, b) = (dy.operand(false), x.operand(true));
    let (m, n, k) = (dy.features, x.features, x.tokens);
    cuda.gemm(&Gemm { m, n, k, a, b, c, alpha: 1.0, beta: 1.0 })
}
