//! Adam with the refresh of the rounded copy. `include/adam.h`

use super::Cuda;
use super::bindings::{chtsl_adam_step, chtsl_matrix};
use super::launch::launch;
use super::memory::{Buf, Memory};
use crate::backend::AdamStep;
use crate::backend::adam::{AdamNumbers, longest_age};
use crate::error::{Result, check_len};

/// Bias corrections by age, made once per pair of decays: they do not depend on the learning rate.
pub(super) struct Corrections {
    beta1: f64,
    beta2: f64,
    entries: usize,
    table: Memory,
}

impl Corrections {
    fn new(cuda: &Cuda, s: &AdamStep) -> Result<Self> {
        let unit = AdamStep { lr: 1.0, ..*s };
        let table: Vec<[f32; 2]> = (0..=longest_age(s))
            .map(|age| {
                let n = AdamNumbers::new(&unit, age.max(1) as f64);
                [n.step_size, n.root_correction]
            })
            .collect();
        Ok(Corrections {
            beta1: s.beta1,
            beta2: s.beta2,
            entries: table.len(),
            table: Memory::from_slice(&cuda.runtime, &table)?,
        })
    }
}

pub(super) fn adam(
    cuda: &Cuda,
    p: &mut Buf,
    g: &Buf,
    m: &mut Buf,
    v: &mut Buf,
    ages: Option<&mut Buf>,
    s: AdamStep,
) -> Result<()> {
    for (what, len) in [("gradients", g.len), ("moments", m.len), ("moments", v.len)] {
        check_len("adam", what, p.len, len)?;
    }
    let n = AdamNumbers::new(&s, s.step as f64);
    let step = chtsl_adam_step {
        one_minus_beta1: n.one_minus_beta1,
        beta2: n.beta2,
        one_minus_beta2: n.one_minus_beta2,
        eps: n.eps,
        grad_scale: n.grad_scale,
        coupled_decay: n.coupled_decay,
        shrink: n.shrink,
        lr: s.lr as f32,
        step_size: n.step_size,
        root_correction: n.root_correction,
    };
    let mut corrections = cuda.corrections.lock().expect("not poisoned");
    let (mut age, mut table, mut entries) = (std::ptr::null_mut(), std::ptr::null(), 0);
    if let Some(ages) = ages {
        check_len("adam", "ages", p.len, ages.len)?;
        ages.changed();
        if !corrections.as_ref().is_some_and(|c| (c.beta1, c.beta2) == (s.beta1, s.beta2)) {
            *corrections = Some(Corrections::new(cuda, &s)?);
        }
        let c = corrections.as_ref().expect("made above");
        (age, table, entries) = (ages.raw(), c.table.pointer().cast_const().cast(), c.entries);
    }
    m.changed();
    v.changed();
    let values = p.raw();
    let len = p.len as u64;
    let copy = p.operand.get_mut().expect("not poisoned");
    let operand = match copy {
        Some(copy) => {
            copy.current = true;
            copy.raw()
        }
        None => chtsl_matrix { data: std::ptr::null_mut(), rows: 0, cols: 0, stride: 0, type_: 0 },
    };
    launch!(
        cuda,
        adam(
            values,
            g.raw(),
            m.raw(),
            v.raw(),
            age,
            table,
            entries as u32,
            len,
            step,
            operand,
            cuda.version
        )
    )
}
