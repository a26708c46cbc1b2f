//! One transformer block: `x += o(attention(norm(x)))`, `x += down(SiLU(gate(norm x))∘up(norm x))`.
//!
//! Norm outputs and the SwiGLU product are recomputed in the backward pass: one cheap pass each
//! instead of 2h + f saved features per token.

use crate::backend::{Activity, AttentionShape, Backend};
use crate::config::{Config, PROJECTIONS};
use crate::error::Result;
use crate::layer::alignment::{
    Alignment, BranchStats, MicroBatch, branch_stats, coefficients, value,
};
use crate::layer::hybrid::Projection;
use crate::layer::param::{Param, ParamKind, ParamRef, ParamSource};
use crate::sparse::budget::projection_shapes;

/// Index of the output projection among the seven.
const O: usize = 3;
/// Index of the down projection.
const DOWN: usize = 6;

/// Parameters of one block.
pub struct Block<B: Backend> {
    /// Gains of the norm before attention.
    pub norm1: Param<B>,
    /// Gains of the norm before the SwiGLU.
    pub norm2: Param<B>,
    /// q, k, v, o, gate, up, down.
    pub projections: Vec<Projection<B>>,
}

/// Activations of one block kept from forward to backward.
pub struct BlockActs<B: Backend> {
    /// Residual stream after attention.
    x_mid: B::Act,
    /// Residual stream after the block.
    pub x_out: B::Act,
    /// Output of each projection; o and down only where alignment needs them.
    outputs: [Option<B::Act>; 7],
    /// A·x of each projection with a low-rank branch.
    u: [Option<B::Act>; 7],
    /// Alignment coefficients per token.
    coefficients: [Option<B::Act>; 7],
    attention: B::Act,
    lse: B::Act,
    rstd1: B::Act,
    rstd2: B::Act,
}

/// Buffers that all blocks share.
pub struct Shared<B: Backend> {
    /// Norm output, h.
    xn: B::Act,
    /// SwiGLU product, f.
    product: B::Act,
    /// Output of o or down where it is not kept, h.
    branch: B::Act,
    /// Statistics of a recomputed norm.
    rstd: B::Act,
    /// Branch sums.
    sums: Option<B::Act>,
    /// Gradients of the backward pass; absent without training.
    grads: Option<SharedGrads<B>>,
}

struct SharedGrads<B: Backend> {
    d_branch: B::Act,
    dxn: B::Act,
    d_attention: B::Act,
    dq: B::Act,
    dk: B::Act,
    dv: B::Act,
    d_product: B::Act,
    d_gate: B::Act,
    d_up: B::Act,
}

impl<B: Backend> Shared<B> {
    /// Buffers for `tokens` tokens.
    pub fn new(backend: &B, config: &Config, tokens: usize, training: bool) -> Result<Self> {
        let (h, f) = (config.model.hidden, config.model.intermediate);
        let act = |features| backend.act(features, tokens);
        let statistics = |rows| backend.statistics(rows, tokens);
        let grads = if training {
            Some(SharedGrads {
                d_branch: act(h)?,
                dxn: act(h)?,
                d_attention: act(h)?,
                dq: act(h)?,
                dk: act(h)?,
                dv: act(h)?,
                d_product: act(f)?,
                d_gate: act(f)?,
                d_up: act(f)?,
            })
        } else {
            None
        };
        let both = config.method.sparse && config.method.low_rank && !config.method.dense;
        let sums = if both { Some(statistics(crate::backend::branch_sums::COUNT)?) } else { None };
        Ok(Shared {
            xn: act(h)?,
            product: act(f)?,
            branch: act(h)?,
            rstd: statistics(1)?,
            sums,
            grads,
        })
    }
}

impl<B: Backend> Shared<B> {
    /// Every buffer.
    pub fn buffers(&mut self) -> impl Iterator<Item = &mut B::Act> {
        let Shared { xn, product, branch, rstd, sums, grads } = self;
        let grads = grads.iter_mut().flat_map(|g| {
            let SharedGrads { d_branch, dxn, d_attention, dq, dk, dv, d_product, d_gate, d_up } = g;
            [d_branch, dxn, d_attention, dq, dk, dv, d_product, d_gate, d_up]
        });
        [xn, product, branch, rstd].into_iter().chain(sums).chain(grads)
    }
}

impl<B: Backend> BlockActs<B> {
    /// Every buffer.
    pub fn buffers(&mut self) -> impl Iterator<Item = &mut B::Act> {
        let BlockActs { x_mid, x_out, outputs, u, coefficients, attention, lse, rstd1, rstd2 } =
            self;
        let kept = [outputs, u, coefficients].into_iter().flatten().flatten();
        [x_mid, x_out, attention, lse, rstd1, rstd2].into_iter().chain(kept)
    }

    /// Buffers for `tokens` tokens.
    pub fn new(backend: &B, config: &Config, block: &Block<B>, tokens: usize) -> Result<Self> {
        let h = config.model.hidden;
        let act = |features| backend.act(features, tokens);
        let statistics = |rows| backend.statistics(rows, tokens);
        let aligned = config.method.aligned()?;
        let mut outputs: [Option<B::Act>; 7] = Default::default();
        let mut u: [Option<B::Act>; 7] = Default::default();
        let mut coefficients: [Option<B::Act>; 7] = Default::default();
        for (i, p) in block.projections.iter().enumerate() {
            let aligned = aligned[i] && p.rank() > 0 && p.links().is_some();
            if (i != O && i != DOWN) || aligned {
                outputs[i] = Some(act(p.rows)?);
            }
            if p.rank() > 0 {
                u[i] = Some(act(p.rank())?);
            }
            if aligned {
                coefficients[i] = Some(statistics(1)?);
            }
        }
        Ok(BlockActs {
            x_mid: act(h)?,
            x_out: act(h)?,
            outputs,
            u,
            coefficients,
            attention: act(h)?,
            lse: statistics(config.model.heads)?,
            rstd1: statistics(1)?,
            rstd2: statistics(1)?,
        })
    }
}

/// What a forward pass has to do beside the output.
#[derive(Clone, Copy)]
pub struct ForwardPlan<'a> {
    /// The micro-batch; `None` outside training.
    pub batch: &'a MicroBatch<'a>,
    /// The alignment term, if it is to be differentiated.
    pub alignment: Option<&'a Alignment>,
    /// Gather branch statistics.
    pub stats: bool,
    /// Statistics over all positions instead of those with a target.
    pub all_positions: bool,
}

/// Runs one projection with its statistics and alignment coefficients.
#[allow(clippy::too_many_arguments)]
fn project<B: Backend>(
    backend: &B,
    projection: &Projection<B>,
    index: usize,
    x: &B::Act,
    u: Option<&mut B::Act>,
    o: &mut B::Act,
    sums: Option<&mut B::Act>,
    coef: Option<&mut B::Act>,
    plan: &ForwardPlan,
    stats: &mut [BranchStats; 7],
) -> Result<()> {
    let alignment = plan.alignment.filter(|a| a.projections[index]);
    let wants = plan.stats || alignment.is_some_and(Alignment::needs_sums);
    let mut sums = sums.filter(|_| wants && projection.rank() > 0);
    projection.forward(backend, x, u, o, sums.as_deref_mut())?;
    let host = match &sums {
        Some(s) => backend.read_act(s)?,
        None => Vec::new(),
    };
    if plan.stats && sums.is_some() {
        stats[index].add(&branch_stats(&host, projection.rows, plan.batch, plan.all_positions));
        if let Some(a) = alignment {
            stats[index].align += value(a.reduction, &host, projection.rows, plan.batch);
        }
    }
    if let (Some(a), Some(coef)) = (alignment, coef) {
        backend.write_act(coef, &coefficients(a, &host, projection.rows, plan.batch))?;
    }
    Ok(())
}

impl<B: Backend> Block<B> {
    /// Block `layer` with parameters from `source`.
    pub fn new(
        backend: &B,
        config: &Config,
        layer: usize,
        source: &mut dyn ParamSource,
        training: bool,
    ) -> Result<Self> {
        let h = config.model.hidden;
        let prefix = format!("model.layers.{layer}");
        let mut norm = |which: &str| {
            let name = format!("{prefix}.{which}.weight");
            Param::new(backend, name, ParamKind::Norm, [1, h], source, training)
        };
        let norm1 = norm("input_layernorm")?;
        let norm2 = norm("post_attention_layernorm")?;
        let projections = PROJECTIONS
            .iter()
            .zip(projection_shapes(h, config.model.intermediate))
            .enumerate()
            .map(|(i, (name, shape))| {
                let part = if i < 4 { "self_attn" } else { "mlp" };
                let name = format!("{prefix}.{part}.{name}");
                Projection::new(backend, config, name, shape, source, training)
            })
            .collect::<Result<_>>()?;
        Ok(Block { norm1, norm2, projections })
    }

    /// `acts.x_out` from `x`. Adds to `stats` what `plan` asks for.
    #[allow(clippy::too_many_arguments)]
    pub fn forward(
        &self,
        backend: &B,
        config: &Config,
        x: &B::Act,
        acts: &mut BlockActs<B>,
        shared: &mut Shared<B>,
        plan: &ForwardPlan,
        stats: &mut [BranchStats; 7],
    ) -> Result<()> {
        let eps = config.model.rms_eps as f32;
        let mut run = |i: usize,
                       x: &B::Act,
                       outputs: &mut [Option<B::Act>; 7],
                       u: &mut [Option<B::Act>; 7],
                       coef: &mut [Option<B::Act>; 7],
                       branch: &mut B::Act,
                       sums: &mut Option<B::Act>| {
            let o = outputs[i].as_mut().unwrap_or(branch);
            project(
                backend,
                &self.projections[i],
                i,
                x,
                u[i].as_mut(),
                o,
                sums.as_mut(),
                coef[i].as_mut(),
                plan,
                stats,
            )
        };
        let BlockActs { x_mid, x_out, outputs, u, coefficients, attention, lse, rstd1, rstd2 } =
            acts;
        let Shared { xn, product, branch, sums, .. } = shared;

        let mark = |activity: Activity| backend.mark(activity.into());
        mark(Activity::Rest);
        backend.rmsnorm_forward(x, &self.norm1.values, eps, xn, rstd1)?;
        for i in 0..3 {
            run(i, xn, outputs, u, coefficients, branch, sums)?;
        }
        let [q, k, v] = [0, 1, 2].map(|i| outputs[i].as_ref().expect("q, k, v are kept"));
        let shape = attention_shape(config, plan.batch);
        mark(Activity::Attention);
        backend.attention_forward(shape, config.model.rope_base, q, k, v, attention, lse)?;
        run(O, attention, outputs, u, coefficients, branch, sums)?;
        mark(Activity::Rest);
        backend.add(x, outputs[O].as_ref().unwrap_or(branch), x_mid)?;

        backend.rmsnorm_forward(x_mid, &self.norm2.values, eps, xn, rstd2)?;
        for i in 4..6 {
            run(i, xn, outputs, u, coefficients, branch, sums)?;
        }
        let [gate, up] = [4, 5].map(|i| outputs[i].as_ref().expect("gate and up are kept"));
        mark(Activity::Rest);
        backend.swiglu_forward(gate, up, product)?;
        run(DOWN, product, outputs, u, coefficients, branch, sums)?;
        mark(Activity::Rest);
        backend.add(x_mid, outputs[DOWN].as_ref().unwrap_or(branch), x_out)
    }

    /// Turns the gradient of `x_out` in `dx` into that of the block's input `x`, and accumulates the
    /// parameters' gradients.
    #[allow(clippy::too_many_arguments)]
    pub fn backward(
        &mut self,
        backend: &B,
        config: &Config,
        x: &B::Act,
        acts: &BlockActs<B>,
        shared: &mut Shared<B>,
        batch: &MicroBatch,
        aligned: bool,
        dx: &mut B::Act,
    ) -> Result<()> {
        let eps = config.model.rms_eps as f32;
        let Shared { xn, product, branch, rstd, grads, .. } = shared;
        let g = grads.as_mut().expect("buffers made for training");
        let outputs = |i: usize| acts.outputs[i].as_ref();
        let coef = |i: usize| acts.coefficients[i].as_ref().filter(|_| aligned);
        let u = |i: usize| acts.u[i].as_ref();
        let kept = |i: usize| outputs(i).expect("kept by the forward pass");

        let mark = |activity: Activity| backend.mark(activity.into());
        mark(Activity::Rest);
        backend.swiglu_forward(kept(4), kept(5), product)?;
        backend.copy(dx, &mut g.d_branch)?;
        let down = &mut self.projections[DOWN];
        let o = outputs(DOWN).unwrap_or(branch);
        let (d, c) = (&mut g.d_branch, coef(DOWN));
        down.backward(backend, product, u(DOWN), o, c, d, &mut g.d_product, false)?;
        mark(Activity::Rest);
        let (dg, du) = (&mut g.d_gate, &mut g.d_up);
        backend.swiglu_backward(&g.d_product, kept(4), kept(5), dg, du)?;
        backend.rmsnorm_forward(&acts.x_mid, &self.norm2.values, eps, xn, rstd)?;
        for (i, d, accumulate) in [(4, dg, false), (5, du, true)] {
            let p = &mut self.projections[i];
            p.backward(backend, xn, u(i), kept(i), coef(i), d, &mut g.dxn, accumulate)?;
        }
        mark(Activity::Rest);
        let (gain, dgain) = (&self.norm2.values, &mut self.norm2.grad);
        backend.rmsnorm_backward(&g.dxn, &acts.x_mid, gain, &acts.rstd2, dx, dgain)?;

        backend.copy(dx, &mut g.d_branch)?;
        let p = &mut self.projections[O];
        let o = outputs(O).unwrap_or(branch);
        let (d, c) = (&mut g.d_branch, coef(O));
        p.backward(backend, &acts.attention, u(O), o, c, d, &mut g.d_attention, false)?;
        mark(Activity::Attention);
        let (dq, dk, dv) = (&mut g.dq, &mut g.dk, &mut g.dv);
        backend.attention_backward(
            attention_shape(config, batch),
            config.model.rope_base,
            kept(0),
            kept(1),
            kept(2),
            &acts.attention,
            &acts.lse,
            &g.d_attention,
            dq,
            dk,
            dv,
        )?;
        mark(Activity::Rest);
        backend.rmsnorm_forward(x, &self.norm1.values, eps, xn, rstd)?;
        for (i, d) in [dq, dk, dv].into_iter().enumerate() {
            let p = &mut self.projections[i];
            p.backward(backend, xn, u(i), kept(i), coef(i), d, &mut g.dxn, i > 0)?;
        }
        mark(Activity::Rest);
        let (gain, dgain) = (&self.norm1.values, &mut self.norm1.grad);
        backend.rmsnorm_backward(&g.dxn, x, gain, &acts.rstd1, dx, dgain)
    }

    /// Visits all parameters of the block.
    pub fn visit(&mut self, f: &mut dyn FnMut(ParamRef<B>) -> Result<()>) -> Result<()> {
        f(self.norm1.as_ref())?;
        f(self.norm2.as_ref())?;
        for p in &mut self.projections {
            p.visit(f)?;
        }
        Ok(())
    }
}

fn attention_shape<'a>(config: &Config, batch: &MicroBatch<'a>) -> AttentionShape<'a> {
    AttentionShape {
        sequences: batch.sequences,
        seq_len: batch.seq_len,
        heads: config.model.heads,
        head_dim: config.model.head_dim(),
        starts: batch.starts,
    }
}
