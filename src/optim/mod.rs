//! The update rule over all parameters: gradient norm, clipping, Adam; and the learning rate.

pub mod schedule;

use crate::backend::{Activity, AdamStep, Backend};
use crate::config::{Optimizer, TrainConfig};
use crate::error::Result;
use crate::layer::ParamKind;
use crate::model::Llama;

/// Norm of the gradient over all parameters; non-finite if any gradient is.
pub fn gradient_norm<B: Backend>(backend: &B, model: &mut Llama<B>) -> Result<f64> {
    backend.mark(Activity::Optimizer.into());
    let mut sum = 0.0;
    model.visit(&mut |p| {
        sum += backend.sum_squares(p.grad)?;
        Ok(())
    })?;
    Ok(sum.sqrt())
}

/// Factor that brings a gradient of norm `norm` to at most `clip` (0 = never).
pub fn clip_factor(norm: f64, clip: f64) -> f64 {
    if clip > 0.0 && norm > clip { clip / norm } else { 1.0 }
}

/// One update of every parameter at learning rate `lr`; `step` counts optimizer updates from 1.
pub fn update<B: Backend>(
    backend: &B,
    model: &mut Llama<B>,
    t: &TrainConfig,
    lr: f64,
    step: u64,
    grad_scale: f64,
) -> Result<()> {
    let base = AdamStep {
        lr,
        beta1: t.beta1,
        beta2: t.beta2,
        eps: t.eps,
        weight_decay: t.weight_decay,
        decoupled: t.optimizer == Optimizer::Adamw,
        step,
        grad_scale,
    };
    backend.mark(Activity::Optimizer.into());
    model.visit(&mut |p| {
        let low_rank = matches!(p.kind, ParamKind::LowRankA | ParamKind::LowRankB);
        let scale = if low_rank { t.low_rank_lr_scale } else { 1.0 };
        let step = AdamStep { lr: lr * scale, ..base };
        let ages = if t.per_link_steps { p.ages } else { None };
        backend.adam(p.values, p.grad, p.m, p.v, ages, step)
    })?;
    model.pack(backend)
}
