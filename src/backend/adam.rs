//! Numbers of an Adam update, shared by the backends so that they round alike.

use super::AdamStep;

/// What the elements of one update have in common, in f32.
#[derive(Clone, Copy, Debug)]
pub struct AdamNumbers {
    /// 1 − β₁, rounded once from f64 (1 − 0.999 in f32 would be 1e-5 off).
    pub one_minus_beta1: f32,
    /// β₂.
    pub beta2: f32,
    /// 1 − β₂.
    pub one_minus_beta2: f32,
    /// Learning rate ÷ (1 − β₁ᵗ).
    pub step_size: f32,
    /// 1 ÷ √(1 − β₂ᵗ).
    pub root_correction: f32,
    /// ε.
    pub eps: f32,
    /// Factor on the gradient.
    pub grad_scale: f32,
    /// Decay added to the gradient.
    pub coupled_decay: f32,
    /// Factor on the weight: decoupled decay.
    pub shrink: f32,
}

impl AdamNumbers {
    /// Numbers of update `t`, counted from 1.
    pub fn new(s: &AdamStep, t: f64) -> Self {
        let correction1 = 1.0 - libm::pow(s.beta1, t);
        let correction2 = 1.0 - libm::pow(s.beta2, t);
        AdamNumbers {
            one_minus_beta1: (1.0 - s.beta1) as f32,
            beta2: s.beta2 as f32,
            one_minus_beta2: (1.0 - s.beta2) as f32,
            step_size: (s.lr / correction1) as f32,
            root_correction: (1.0 / correction2.sqrt()) as f32,
            eps: s.eps as f32,
            grad_scale: s.grad_scale as f32,
            coupled_decay: if s.decoupled { 0.0 } else { s.weight_decay as f32 },
            shrink: if s.decoupled { (1.0 - s.lr * s.weight_decay) as f32 } else { 1.0 },
        }
    }
}

/// Age beyond which both bias corrections are 1 in f32, so that a table by age can end.
pub fn longest_age(s: &AdamStep) -> usize {
    [s.beta1, s.beta2]
        .iter()
        .map(|b| if *b > 0.0 { (libm::log(1e-9) / libm::log(*b)).ceil() } else { 1.0 })
        .fold(1.0, f64::max)
        .min(1e6) as usize
}
