//! One projection: a full matrix, or O = S + L with either branch.

use crate::backend::{Activity, Backend, Hybrid, HybridGrads, LowRank, Work};
use crate::config::{Activation, Config};
use crate::error::Result;
use crate::layer::param::{Param, ParamKind, ParamRef, ParamSource, SparseParam};

/// The S side of a projection.
pub enum Sparse<B: Backend> {
    /// No such branch.
    None,
    /// A full matrix: the dense model.
    Dense(Param<B>),
    /// Values at links.
    Links(SparseParam<B>),
}

/// The two factors of the low-rank branch.
pub struct LowRankParam<B: Backend> {
    /// A, (rank, in).
    pub a: Param<B>,
    /// B, (out, rank).
    pub b: Param<B>,
    /// Rank.
    pub rank: usize,
    /// Nonlinearity between the factors.
    pub activation: Activation,
    /// g.
    pub scale: f32,
}

/// A linear layer without bias.
pub struct Projection<B: Backend> {
    /// Hugging Face module name, such as `model.layers.0.self_attn.q_proj`.
    pub name: String,
    /// Outputs.
    pub rows: usize,
    /// Inputs.
    pub cols: usize,
    /// S.
    pub sparse: Sparse<B>,
    /// L.
    pub low_rank: Option<LowRankParam<B>>,
}

impl<B: Backend> Projection<B> {
    /// Builds the branches that `config` asks for.
    pub fn new(
        backend: &B,
        config: &Config,
        name: String,
        (rows, cols): (usize, usize),
        source: &mut dyn ParamSource,
        training: bool,
    ) -> Result<Self> {
        let budget = config.budget()?;
        let weight = format!("{name}.weight");
        let sparse = if config.method.dense {
            let kind = ParamKind::Dense;
            Sparse::Dense(Param::new(backend, weight, kind, [rows, cols], source, training)?)
        } else if config.method.sparse {
            Sparse::Links(SparseParam::new(backend, weight, rows, cols, source, training)?)
        } else {
            Sparse::None
        };
        let low_rank = if budget.rank > 0 && config.method.low_rank && !config.method.dense {
            let rank = budget.rank;
            let mut factor = |which: &str, kind, shape| {
                let name = format!("{name}.low_rank.{which}");
                Param::new(backend, name, kind, shape, source, training)
            };
            Some(LowRankParam {
                a: factor("A", ParamKind::LowRankA, [rank, cols])?,
                b: factor("B", ParamKind::LowRankB, [rows, rank])?,
                rank,
                activation: config.method.activation,
                scale: config.low_rank_scale(rank) as f32,
            })
        } else {
            None
        };
        Ok(Projection { name, rows, cols, sparse, low_rank })
    }

    /// Rank of the low-rank branch, 0 without.
    pub fn rank(&self) -> usize {
        self.low_rank.as_ref().map_or(0, |l| l.rank)
    }

    /// Links of the sparse branch.
    pub fn links(&self) -> Option<&SparseParam<B>> {
        match &self.sparse {
            Sparse::Links(s) => Some(s),
            _ => None,
        }
    }

    /// What its products are, for the clock.
    fn work(&self) -> Work {
        let low_rank = self.rank() * (self.rows + self.cols);
        match &self.sparse {
            Sparse::Dense(_) => Activity::Dense.into(),
            Sparse::None => Work::branches(0, low_rank),
            Sparse::Links(s) => Work::branches(s.csr.pattern.nnz(), low_rank),
        }
    }

    fn hybrid(&self) -> Hybrid<'_, B> {
        Hybrid {
            sparse: self.links().map(|s| &s.csr),
            low_rank: self.low_rank.as_ref().map(|l| LowRank {
                a: &l.a.values,
                b: &l.b.values,
                rank: l.rank,
                activation: l.activation,
                scale: l.scale,
            }),
            rows: self.rows,
            cols: self.cols,
        }
    }

    /// `o = S + L`; `u` keeps A·x for the backward pass, `sums` receives the branch sums.
    pub fn forward(
        &self,
        backend: &B,
        x: &B::Act,
        u: Option<&mut B::Act>,
        o: &mut B::Act,
        sums: Option<&mut B::Act>,
    ) -> Result<()> {
        backend.mark(self.work());
        match &self.sparse {
            Sparse::Dense(w) => backend.dense_forward(&w.values, x, o),
            _ => backend.hybrid_forward(&self.hybrid(), x, u, o, sums),
        }
    }

    /// Gradients of the parameters (accumulated) and of x; `d_o` becomes scratch.
    #[allow(clippy::too_many_arguments)]
    pub fn backward(
        &mut self,
        backend: &B,
        x: &B::Act,
        u: Option<&B::Act>,
        o: &B::Act,
        coefficients: Option<&B::Act>,
        d_o: &mut B::Act,
        dx: &mut B::Act,
        accumulate: bool,
    ) -> Result<()> {
        backend.mark(self.work());
        if let Sparse::Dense(w) = &mut self.sparse {
            backend.dense_backward_weight(d_o, x, &mut w.grad)?;
            return backend.dense_backward_input(&w.values, d_o, dx, accumulate);
        }
        let (mut values, mut a, mut b) = (None, None, None);
        // Gradients are taken apart from the weights that the same call reads.
        let csr = match &mut self.sparse {
            Sparse::Links(s) => {
                values = Some(&mut s.grad);
                Some(&s.csr)
            }
            _ => None,
        };
        let low_rank = self.low_rank.as_mut().map(|l| {
            a = Some(&mut l.a.grad);
            b = Some(&mut l.b.grad);
            LowRank {
                a: &l.a.values,
                b: &l.b.values,
                rank: l.rank,
                activation: l.activation,
                scale: l.scale,
            }
        });
        let w = Hybrid { sparse: csr, low_rank, rows: self.rows, cols: self.cols };
        let grads = HybridGrads { values, a, b };
        backend.hybrid_backward(&w, x, u, o, coefficients, d_o, dx, accumulate, grads)
    }

    /// Visits the parameters of both branches.
    pub fn visit(&mut self, f: &mut dyn FnMut(ParamRef<B>) -> Result<()>) -> Result<()> {
        match &mut self.sparse {
            Sparse::None => {}
            Sparse::Dense(w) => f(w.as_ref())?,
            Sparse::Links(s) => f(s.as_ref())?,
        }
        if let Some(l) = &mut self.low_rank {
            f(l.a.as_ref())?;
            f(l.b.as_ref())?;
        }
        Ok(())
    }

    /// Refreshes packed copies after the values changed.
    pub fn pack(&mut self, backend: &B) -> Result<()> {
        match &mut self.sparse {
            Sparse::Links(s) => backend.pack(&mut s.csr),
            _ => Ok(()),
        }
    }
}
