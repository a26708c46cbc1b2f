//! Adam and AdamW. In pure bf16 every intermediate that PyTorch would store is rounded.

use rayon::prelude::*;

use super::Cpu;
use super::elementwise::CHUNK;
use super::memory::Floats;
use super::simd::pointwise::Adam;
use crate::backend::AdamStep;
use crate::backend::adam::{AdamNumbers, longest_age};
use crate::error::{Result, check_len};

pub(super) fn adam(
    cpu: &Cpu,
    p: &mut Floats,
    g: &Floats,
    m: &mut Floats,
    v: &mut Floats,
    ages: Option<&mut Floats>,
    s: AdamStep,
) -> Result<()> {
    let len = p.len();
    for (what, other) in [("gradients", g.len()), ("moments", m.len()), ("moments", v.len())] {
        check_len("adam", what, len, other)?;
    }
    if let Some(ages) = ages {
        check_len("adam", "ages", len, ages.len())?;
        by_age(cpu, p, g, m, v, ages, &s);
        return Ok(());
    }
    let n = AdamNumbers::new(&s, s.step as f64);
    cpu.pool.install(|| {
        p.par_chunks_mut(CHUNK)
            .zip(g.par_chunks(CHUNK))
            .zip(m.par_chunks_mut(CHUNK))
            .zip(v.par_chunks_mut(CHUNK))
            .for_each(|(((p, g), m), v)| {
                if cpu.bf16 {
                    for i in 0..p.len() {
                        bf16_step(&mut p[i], g[i], &mut m[i], &mut v[i], &n);
                    }
                } else {
                    // SAFETY: the kernel checks its own bounds.
                    unsafe { cpu.level.run(Adam { p, g, m, v, n }) }
                }
            });
    });
    Ok(())
}

/// Every element with its own step count, as counted in `ages`.
fn by_age(
    cpu: &Cpu,
    p: &mut Floats,
    g: &Floats,
    m: &mut Floats,
    v: &mut Floats,
    ages: &mut Floats,
    s: &AdamStep,
) {
    let oldest = ages.iter().fold(0.0f32, |a, &b| a.max(b)) as usize + 1;
    let table: Vec<(f32, f32)> = (0..=oldest.min(longest_age(s)))
        .map(|age| {
            let n = AdamNumbers::new(s, age.max(1) as f64);
            (n.step_size, n.root_correction)
        })
        .collect();
    let n = AdamNumbers::new(s, 1.0);
    cpu.pool.install(|| {
        p.par_chunks_mut(CHUNK)
            .zip(g.par_chunks(CHUNK))
            .zip(m.par_chunks_mut(CHUNK))
            .zip(v.par_chunks_mut(CHUNK))
            .zip(ages.par_chunks_mut(CHUNK))
            .for_each(|((((p, g), m), v), ages)| {
                for i in 0..p.len() {
                    ages[i] += 1.0;
                    let (step_size, root_correction) =
                        table[(ages[i] as usize).min(table.len() - 1)];
                    let n = AdamNumbers { step_size, root_correction, ..n };
                    if cpu.bf16 {
                        bf16_step(&mut p[i], g[i], &mut m[i], &mut v[i], &n);
                        continue;
                    }
                    let grad = g[i] * n.grad_scale + n.coupled_decay * p[i];
                    m[i] += n.one_minus_beta1 * (grad - m[i]);
                    v[i] = n.beta2 * v[i] + n.one_minus_beta2 * grad * grad;
                    let step = m[i] / (v[i].sqrt() * n.root_correction + n.eps);
                    p[i] = p[i] * n.shrink - n.step_size * step;
                }
            });
    });
}

/// One element with weights, gradients and moments stored in bf16: `m ← m + (1−β₁)(g−m)`,
/// `v ← β₂v` and `v ← v + (1−β₂)g²` each rounded, then the root, its correction and ε one by one.
fn bf16_step(p: &mut f32, g: f32, m: &mut f32, v: &mut f32, n: &AdamNumbers) {
    let r = |x: f32| half::bf16::from_f32(x).to_f32();
    let g = r(r(g * n.grad_scale) + n.coupled_decay * *p);
    *m = r(*m + n.one_minus_beta1 * (g - *m));
    *v = r(r(n.beta2 * *v) + n.one_minus_beta2 * g * g);
    let root = r(r(r(v.sqrt()) * n.root_correction) + n.eps);
    *p = r(r(*p * n.shrink) - n.step_size * (*m / root));
}
