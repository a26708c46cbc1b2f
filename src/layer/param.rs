//! Parameters: values with gradient and Adam moments, dense or one per link.

use crate::backend::{Backend, Csr, Evolved};
use crate::error::Result;
use crate::sparse::{LinkChange, Pattern};

/// Where initial or stored parameters come from.
pub trait ParamSource {
    /// Elements of a dense tensor, row-major.
    fn dense(&mut self, name: &str, shape: [usize; 2], kind: ParamKind) -> Result<Vec<f32>>;
    /// Links and values of a sparse (rows, cols) matrix.
    fn sparse(&mut self, name: &str, rows: usize, cols: usize) -> Result<(Pattern, Vec<f32>)>;
}

/// What a parameter is, for learning rates, initialisation and byte counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ParamKind {
    /// Token embedding.
    Embedding,
    /// Output head.
    Head,
    /// Gains of a norm.
    Norm,
    /// A full projection matrix.
    Dense,
    /// Values at the links of a projection.
    Sparse,
    /// First low-rank factor.
    LowRankA,
    /// Second low-rank factor.
    LowRankB,
}

/// A dense parameter. Without training, gradient and moments are empty.
pub struct Param<B: Backend> {
    /// Hugging Face name.
    pub name: String,
    /// Its class.
    pub kind: ParamKind,
    /// (rows, cols); a vector has one row.
    pub shape: [usize; 2],
    /// Values, row-major.
    pub values: B::Buf,
    /// Gradient of the current update.
    pub grad: B::Buf,
    /// Adam's first moment.
    pub m: B::Buf,
    /// Adam's second moment.
    pub v: B::Buf,
}

impl<B: Backend> Param<B> {
    /// Takes its values from `source`.
    pub fn new(
        backend: &B,
        name: String,
        kind: ParamKind,
        shape: [usize; 2],
        source: &mut dyn ParamSource,
        training: bool,
    ) -> Result<Self> {
        let data = source.dense(&name, shape, kind)?;
        let len = shape[0] * shape[1];
        let mut values = backend.buf(len)?;
        backend.write(&mut values, &data)?;
        backend.round(&mut values)?;
        let n = if training { len } else { 0 };
        Ok(Param {
            name,
            kind,
            shape,
            values,
            grad: backend.buf(n)?,
            m: backend.buf(n)?,
            v: backend.buf(n)?,
        })
    }

    /// This parameter as the visitor sees it.
    pub fn as_ref(&mut self) -> ParamRef<'_, B> {
        ParamRef {
            name: &self.name,
            kind: self.kind,
            shape: self.shape,
            pattern: None,
            values: &mut self.values,
            grad: &mut self.grad,
            m: &mut self.m,
            v: &mut self.v,
            ages: None,
        }
    }
}

/// Values at links with gradient and moments of the same length: no dense shadow.
pub struct SparseParam<B: Backend> {
    /// Hugging Face name of the weight.
    pub name: String,
    /// Links and values.
    pub csr: Csr<B>,
    /// Gradient per link.
    pub grad: B::Buf,
    /// First moment per link.
    pub m: B::Buf,
    /// Second moment per link.
    pub v: B::Buf,
    /// Updates since each link was grown.
    pub ages: B::Buf,
}

impl<B: Backend> SparseParam<B> {
    /// Takes links and values from `source`.
    pub fn new(
        backend: &B,
        name: String,
        rows: usize,
        cols: usize,
        source: &mut dyn ParamSource,
        training: bool,
    ) -> Result<Self> {
        let (pattern, values) = source.sparse(&name, rows, cols)?;
        let n = if training { values.len() } else { 0 };
        let mut csr = Csr::new(backend, pattern, &values)?;
        backend.round(&mut csr.values)?;
        backend.pack(&mut csr)?;
        Ok(SparseParam {
            name,
            csr,
            grad: backend.buf(n)?,
            m: backend.buf(n)?,
            v: backend.buf(n)?,
            ages: backend.buf(n)?,
        })
    }

    /// This parameter as the visitor sees it.
    pub fn as_ref(&mut self) -> ParamRef<'_, B> {
        ParamRef {
            name: &self.name,
            kind: ParamKind::Sparse,
            shape: [self.csr.pattern.rows(), self.csr.pattern.cols()],
            pattern: Some(&self.csr.pattern),
            values: &mut self.csr.values,
            grad: &mut self.grad,
            m: &mut self.m,
            v: &mut self.v,
            ages: Some(&mut self.ages),
        }
    }

    /// Moves values, moments and ages to the links after an event; new links start at zero. Returns
    /// what changed.
    pub fn evolve(&mut self, backend: &B, evolved: Evolved<B>) -> Result<LinkChange> {
        let Evolved { change, index } = evolved;
        let SparseParam { csr, grad, m, v, ages, .. } = self;
        backend.migrate(&change, &mut [&mut csr.values, m, v, ages])?;
        let links = change.pattern.nnz();
        if backend.len(grad) != links {
            *grad = backend.buf(links)?;
        }
        backend.zero(grad)?;
        (csr.pattern, csr.index) = (change.pattern.clone(), index);
        backend.pack(csr)?;
        Ok(change)
    }
}

/// One parameter handed to a visitor.
pub struct ParamRef<'a, B: Backend> {
    /// Hugging Face name.
    pub name: &'a str,
    /// Its class.
    pub kind: ParamKind,
    /// (rows, cols) of the matrix.
    pub shape: [usize; 2],
    /// Links of a sparse parameter.
    pub pattern: Option<&'a Pattern>,
    /// Values; one per link when sparse.
    pub values: &'a mut B::Buf,
    /// Gradient.
    pub grad: &'a mut B::Buf,
    /// First moment.
    pub m: &'a mut B::Buf,
    /// Second moment.
    pub v: &'a mut B::Buf,
    /// Updates since each link was grown, for sparse parameters.
    pub ages: Option<&'a mut B::Buf>,
}
