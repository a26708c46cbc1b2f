//! Products with the links of a matrix: forward and transposed. `include/spmm.h`, `include/scatter.h`

use super::launch::launch;
use super::memory::{Act, Buf, Memory};
use super::runtime::{Element, Gemm, GemmOperand};
use super::{Cuda, Scratch, Strategy, check_act};
use crate::backend::Csr;
use crate::error::{Result, check_len};

/// Compares a matrix with its index.
pub(super) fn check(op: &'static str, w: &Csr<Cuda>) -> Result<()> {
    check_len(op, "links in the index", w.pattern.nnz(), w.index.nnz)?;
    check_len(op, "values", w.index.nnz, w.values.len)
}

pub(super) fn forward(cuda: &Cuda, w: &Csr<Cuda>, x: &Act, y: &mut Act) -> Result<()> {
    check("spmm", w)?;
    check_act("spmm", x, w.index.cols, x.tokens)?;
    check_act("spmm", y, w.index.rows, x.tokens)?;
    match cuda.strategy {
        Strategy::Links => {
            let values = cuda.operand(&w.values, 1, w.index.nnz)?;
            launch!(cuda, spmm_forward(w.index.csr(), values.data, x.raw(), y.raw(), cuda.version))
        }
        Strategy::Dense => {
            let (dense, a) = scatter(cuda, w)?;
            let product = Gemm {
                m: w.index.rows,
                n: x.stride,
                k: w.index.cols,
                a,
                b: x.operand(false),
                c: y.operand(false),
                alpha: 1.0,
                beta: 0.0,
            };
            cuda.gemm(&product)?;
            drop(dense);
            Ok(())
        }
    }
}

pub(super) fn transposed(
    cuda: &Cuda,
    w: &Csr<Cuda>,
    dy: &Act,
    dx: &mut Act,
    accumulate: bool,
) -> Result<()> {
    check("spmm_transposed", w)?;
    check_act("spmm_transposed", dy, w.index.rows, dy.tokens)?;
    check_act("spmm_transposed", dx, w.index.cols, dy.tokens)?;
    match cuda.strategy {
        Strategy::Links => {
            let values = cuda.operand(&w.values, 1, w.index.nnz)?;
            let (source, add) = (w.index.source.pointer().cast(), i32::from(accumulate));
            launch!(
                cuda,
                spmm_transposed(
                    w.index.csc(),
                    source,
                    values.data,
                    dy.raw(),
                    dx.raw(),
                    add,
                    cuda.version
                )
            )
        }
        Strategy::Dense => {
            let (dense, a) = scatter(cuda, w)?;
            let product = Gemm {
                m: w.index.cols,
                n: dy.stride,
                k: w.index.rows,
                a: GemmOperand { transposed: true, ..a },
                b: dy.operand(false),
                c: dx.operand(false),
                alpha: 1.0,
                beta: f32::from(accumulate),
            };
            cuda.gemm(&product)?;
            drop(dense);
            Ok(())
        }
    }
}

impl Cuda {
    /// Dense form of `w` in scratch memory, as [`Strategy::Dense`] makes it for every product; by itself
    /// for measurements.
    pub fn scatter(&self, w: &Csr<Cuda>) -> Result<()> {
        check("scatter", w)?;
        scatter(self, w).map(drop)
    }

    /// Adds what the dense scratch matrix holds at the links of `w` to `dvalues`, as
    /// [`Strategy::Dense`] does after the dense product of every weight gradient; by itself for
    /// measurements.
    pub fn gather(&self, w: &Csr<Cuda>, dvalues: &mut Buf) -> Result<()> {
        check("gather", w)?;
        check_len("gather", "gradients", w.index.nnz, dvalues.len)?;
        dvalues.changed();
        let (rows, cols) = (w.index.rows, w.index.cols);
        let memory = self.scratch(Scratch::Dense, rows * cols * 4)?;
        let dense = super::memory::matrix(memory.pointer(), rows, cols, cols, Element::F32);
        launch!(self, scatter_gather(w.index.csr(), dense, dvalues.raw(), scatter_version(self)))
    }
}

/// Naive or default: a further version asked of the backend is that of other kernels.
fn scatter_version(cuda: &Cuda) -> i32 {
    i32::from(cuda.version == 1)
}

/// The links as a dense matrix in scratch memory, which stays borrowed while it is used.
fn scatter<'a>(
    cuda: &'a Cuda,
    w: &Csr<Cuda>,
) -> Result<(std::sync::MutexGuard<'a, Memory>, GemmOperand)> {
    let unit = 16 / cuda.element.bytes();
    let stride = w.index.cols.next_multiple_of(unit);
    let bytes = w.index.rows * stride * cuda.element.bytes();
    let memory = cuda.scratch(Scratch::Dense, bytes)?;
    let out =
        super::memory::matrix(memory.pointer(), w.index.rows, w.index.cols, stride, cuda.element);
    launch!(cuda, scatter_values(w.index.csr(), w.values.raw(), out, scatter_version(cuda)))?;
    let operand =
        GemmOperand { data: memory.pointer(), element: cuda.element, stride, transposed: false };
    Ok((memory, operand))
}

/// Gradient at the links by a dense product: `dvalues += (dy·xᵀ)` gathered.
pub(super) fn gathered_gradient(
    cuda: &Cuda,
    w: &Csr<Cuda>,
    dy: &Act,
    x: &Act,
    dvalues: *mut f32,
) -> Result<()> {
    let (rows, cols) = (w.index.rows, w.index.cols);
    let memory = cuda.scratch(Scratch::Dense, rows * cols * 4)?;
    let c = GemmOperand {
        data: memory.pointer(),
        element: Element::F32,
        stride: cols,
        transposed: false,
    };
    // The padding of tokens is zero and could be summed; the true count is shorter.
    let product = Gemm {
        m: rows,
        n: cols,
        k: x.tokens,
        a: dy.operand(false),
        b: x.operand(true),
        c,
        alpha: 1.0,
        beta: 0.0,
    };
    cuda.gemm(&product)?;
    let dense = super::memory::matrix(memory.pointer(), rows, cols, cols, Element::F32);
    launch!(cuda, scatter_gather(w.index.csr(), dense, dvalues, scatter_version(cuda)))
}
