//! LLaMA over the [`Backend`] trait: embedding, blocks, final norm, untied head.
//!
//! [`Llama::forward`] fills the planned [`Activations`]; [`Llama::loss`] runs head and cross-entropy
//! in token chunks; [`Llama::loss_and_backward`] also climbs back through the blocks. Gradients accumulate until
//! [`Llama::zero_gradients`].

pub mod activations;
pub mod decode;
pub mod init;

use crate::backend::{Activity, Backend, LossSum};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::layer::block::ForwardPlan;
use crate::layer::{Alignment, Block, BranchStats, MicroBatch};
use crate::layer::{Param, ParamKind, ParamRef, ParamSource};

pub use activations::Activations;
pub use decode::Decoder;
pub use init::RandomInit;

/// A LLaMA-style model whose projections are O = S + L.
pub struct Llama<B: Backend> {
    config: Config,
    /// Token embedding, (vocab, hidden).
    pub embedding: Param<B>,
    /// The blocks.
    pub blocks: Vec<Block<B>>,
    /// Gains of the final norm.
    pub norm: Param<B>,
    /// Output head, (vocab, hidden).
    pub head: Param<B>,
}

/// What one forward pass should gather and differentiate.
#[derive(Clone, Copy, Default)]
pub struct ForwardOptions<'a> {
    /// Compute alignment coefficients for the backward pass.
    pub alignment: Option<&'a Alignment>,
    /// Gather branch statistics per block and projection.
    pub stats: bool,
    /// Statistics over all positions, padding included.
    pub all_positions: bool,
}

impl<B: Backend> Llama<B> {
    /// Builds the model with parameters from `source`; `training` adds gradients and moments.
    pub fn new(
        backend: &B,
        config: &Config,
        source: &mut dyn ParamSource,
        training: bool,
    ) -> Result<Self> {
        let m = &config.model;
        let (vocab, hidden) = (m.vocab, m.hidden);
        let param = |name: &str, kind, shape, source: &mut dyn ParamSource| {
            Param::new(backend, name.to_string(), kind, shape, source, training)
        };
        let (table, row) = ([vocab, hidden], [1, hidden]);
        let embedding = param("model.embed_tokens.weight", ParamKind::Embedding, table, source)?;
        let blocks = (0..m.layers)
            .map(|i| Block::new(backend, config, i, source, training))
            .collect::<Result<_>>()?;
        let norm = param("model.norm.weight", ParamKind::Norm, row, source)?;
        let head = param("lm_head.weight", ParamKind::Head, table, source)?;
        Ok(Llama { config: config.clone(), embedding, blocks, norm, head })
    }

    /// The configuration it was built with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Hidden states after the final norm, in `acts`; returns branch statistics per block (zero
    /// unless asked for).
    pub fn forward(
        &self,
        backend: &B,
        ids: &[u32],
        batch: &MicroBatch,
        options: ForwardOptions,
        acts: &mut Activations<B>,
    ) -> Result<Vec<[BranchStats; 7]>> {
        if ids.len() != batch.targets.len() || ids.len() != batch.sequences * batch.seq_len {
            return Err(Error::shape(
                "forward",
                format!("{} x {} ids and targets", batch.sequences, batch.seq_len),
                format!("{} and {}", ids.len(), batch.targets.len()),
            ));
        }
        backend.mark(Activity::Rest.into());
        backend.embedding_forward(&self.embedding.values, ids, &mut acts.x0)?;
        let mut stats = vec![[BranchStats::default(); 7]; self.blocks.len()];
        let plan = ForwardPlan {
            batch,
            alignment: options.alignment,
            stats: options.stats,
            all_positions: options.all_positions,
        };
        for (i, block) in self.blocks.iter().enumerate() {
            let (before, rest) = acts.blocks.split_at_mut(i);
            let x = before.last().map_or(&acts.x0, |b| &b.x_out);
            let c = &self.config;
            block.forward(backend, c, x, &mut rest[0], &mut acts.shared, &plan, &mut stats[i])?;
        }
        backend.mark(Activity::Rest.into());
        let x = acts.blocks.last().map_or(&acts.x0, |b| &b.x_out);
        let eps = self.config.model.rms_eps as f32;
        backend.rmsnorm_forward(x, &self.norm.values, eps, &mut acts.xf, &mut acts.rstd)?;
        Ok(stats)
    }

    /// Loss of the hidden states in `acts`, without gradients.
    pub fn loss(&self, backend: &B, batch: &MicroBatch, acts: &Activations<B>) -> Result<LossSum> {
        backend.mark(Activity::Head.into());
        backend.cross_entropy_eval(&self.head.values, &acts.xf, batch.targets)
    }

    /// Loss of the hidden states in `acts` and all gradients of
    /// `Σ loss / target_divisor + λ·alignment`, accumulated. `aligned` must match the forward pass.
    pub fn loss_and_backward(
        &mut self,
        backend: &B,
        ids: &[u32],
        batch: &MicroBatch,
        aligned: bool,
        acts: &mut Activations<B>,
    ) -> Result<LossSum> {
        let Activations { x0, blocks, xf, rstd, shared, grads, .. } = acts;
        let (dx, dxf) = grads.as_mut().ok_or_else(|| {
            Error::shape("backward", "activations made for training", "inference")
        })?;
        let scale = (1.0 / batch.target_divisor) as f32;
        let head = &mut self.head;
        backend.mark(Activity::Head.into());
        let loss = backend.cross_entropy_train(
            &head.values,
            xf,
            batch.targets,
            scale,
            dxf,
            &mut head.grad,
        )?;
        let x = blocks.last().map_or(&*x0, |b| &b.x_out);
        backend.mark(Activity::Rest.into());
        // The norm's backward adds to dx, which starts at zero here.
        backend.zero_act(dx)?;
        backend.rmsnorm_backward(dxf, x, &self.norm.values, rstd, dx, &mut self.norm.grad)?;
        for i in (0..self.blocks.len()).rev() {
            let x = if i == 0 { &*x0 } else { &blocks[i - 1].x_out };
            let c = &self.config;
            self.blocks[i].backward(backend, c, x, &blocks[i], shared, batch, aligned, dx)?;
        }
        backend.mark(Activity::Rest.into());
        backend.embedding_backward(ids, dx, &mut self.embedding.grad)?;
        Ok(loss)
    }

    /// Logits of all positions of the hidden states in `acts`, row-major (vocab, tokens); for tests
    /// and dumps of small models.
    pub fn logits(&self, backend: &B, acts: &Activations<B>, tokens: usize) -> Result<Vec<f32>> {
        let mut logits = backend.act(self.config.model.vocab, tokens)?;
        backend.dense_forward(&self.head.values, &acts.xf, &mut logits)?;
        backend.read_act(&logits)
    }

    /// Visits every parameter in a fixed order.
    pub fn visit(&mut self, f: &mut dyn FnMut(ParamRef<B>) -> Result<()>) -> Result<()> {
        f(self.embedding.as_ref())?;
        for b in &mut self.blocks {
            b.visit(f)?;
        }
        f(self.norm.as_ref())?;
        f(self.head.as_ref())
    }

    /// Sets all gradients to zero.
    pub fn zero_gradients(&mut self, backend: &B) -> Result<()> {
        backend.mark(Activity::Optimizer.into());
        self.visit(&mut |p| backend.zero(p.grad))
    }

    /// Refreshes packed copies after the values changed.
    pub fn pack(&mut self, backend: &B) -> Result<()> {
        for b in &mut self.blocks {
            for p in &mut b.projections {
                p.pack(backend)?;
            }
        }
        Ok(())
    }
}
