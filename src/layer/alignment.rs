//! The alignment term between the branches, their overlap cancellation ratio and their sizes, all
//! from the per-token sums that the forward pass emits.
//!
//! Every reading of ‖S−L‖ has a gradient `c_t·(S−L)` with one coefficient per token, so the backward
//! pass needs (1, N) numbers and nothing else (methods C.3):
//!
//! | reading | value | c_t |
//! |---|---|---|
//! | `mse` | Σ_targets ‖D_t‖² / (targets·M) | 2λ / (targets·M) |
//! | `frobenius` | ‖D‖_F / (B·T·M) | λ / (B·T·M·‖D‖_F) |
//! | `frobenius_per_sample` | mean_b ‖D_b‖_F / (T·M) | λ / (B·T·M·‖D_b‖_F) |
//! | `token_l2` | Σ_targets ‖D_t‖₂ / targets | λ / (targets·‖D_t‖₂) |
//!
//! `targets` counts the whole update, so `mse` and `token_l2` do not depend on how it is cut into
//! micro-batches; the Frobenius readings are means over micro-batches by definition.

use crate::backend::{NO_TARGET, branch_sums};
use crate::config::AlignReduction;

/// Norms below this have no direction; their gradient is taken as zero.
const SMALLEST_NORM: f64 = 1e-12;

/// ε of the overlap cancellation ratio.
pub const OCR_EPS: f64 = 1e-8;

/// The alignment term of a run.
#[derive(Clone, Copy, Debug)]
pub struct Alignment {
    /// Reading.
    pub reduction: AlignReduction,
    /// λ as it multiplies the term.
    pub lambda: f64,
    /// Projections covered, in the order of [`crate::config::PROJECTIONS`].
    pub projections: [bool; 7],
}

impl Alignment {
    /// Whether coefficients depend on the branch sums.
    pub fn needs_sums(&self) -> bool {
        !matches!(self.reduction, AlignReduction::None | AlignReduction::Mse)
    }
}

/// One micro-batch as the loss sees it.
#[derive(Clone, Copy, Debug)]
pub struct MicroBatch<'a> {
    /// Target of each position, or [`NO_TARGET`].
    pub targets: &'a [u32],
    /// Sequences.
    pub sequences: usize,
    /// Tokens per sequence.
    pub seq_len: usize,
    /// Divisor of token losses: targets of the whole update (or micro-batch targets times
    /// micro-batches under `per_micro_batch`).
    pub target_divisor: f64,
    /// Micro-batches in the update.
    pub micro_batches: usize,
    /// First position of each token's document within its sequence.
    pub starts: Option<&'a [u32]>,
}

/// Sums over tokens of one projection.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct BranchStats {
    /// Unweighted alignment value.
    pub align: f64,
    /// Σ min(|S|,|L|) over opposite signs.
    pub cancelled: f64,
    /// Σ min(|S|,|L|).
    pub overlap: f64,
    /// Σ S².
    pub sparse: f64,
    /// Σ L².
    pub low_rank: f64,
    /// Elements summed: positions × outputs.
    pub elements: f64,
}

impl BranchStats {
    /// Adds the sums of another micro-batch.
    pub fn add(&mut self, other: &BranchStats) {
        self.align += other.align;
        self.cancelled += other.cancelled;
        self.overlap += other.overlap;
        self.sparse += other.sparse;
        self.low_rank += other.low_rank;
        self.elements += other.elements;
    }

    /// Overlap cancellation ratio, in [0, 1).
    pub fn ocr(&self) -> f64 {
        self.cancelled / (self.overlap + OCR_EPS)
    }

    /// Root mean square of S.
    pub fn rms_sparse(&self) -> f64 {
        (self.sparse / self.elements.max(1.0)).sqrt()
    }

    /// Root mean square of L.
    pub fn rms_low_rank(&self) -> f64 {
        (self.low_rank / self.elements.max(1.0)).sqrt()
    }
}

/// Sums over the positions with a target (`all` = over all positions) of a projection with `rows`
/// outputs; `sums` is row-major ([`branch_sums::COUNT`], N).
pub fn branch_stats(sums: &[f32], rows: usize, batch: &MicroBatch, all: bool) -> BranchStats {
    let n = batch.targets.len();
    let total = |which: usize| -> f64 {
        let row = &sums[which * n..(which + 1) * n];
        row.iter()
            .zip(batch.targets)
            .filter(|(_, t)| all || **t != NO_TARGET)
            .map(|(x, _)| f64::from(*x))
            .sum()
    };
    let positions = batch.targets.iter().filter(|t| all || **t != NO_TARGET).count();
    BranchStats {
        align: 0.0,
        cancelled: total(branch_sums::CANCELLED),
        overlap: total(branch_sums::OVERLAP),
        sparse: total(branch_sums::SPARSE),
        low_rank: total(branch_sums::LOW_RANK),
        elements: (positions * rows) as f64,
    }
}

/// Unweighted value of the term for one micro-batch; the values of an update's micro-batches add up.
pub fn value(reduction: AlignReduction, sums: &[f32], rows: usize, batch: &MicroBatch) -> f64 {
    let n = batch.targets.len();
    let d2 = &sums[branch_sums::DIFFERENCE * n..][..n];
    let live = || d2.iter().zip(batch.targets).filter(|(_, t)| **t != NO_TARGET);
    let total: f64 = d2.iter().map(|x| f64::from(*x)).sum();
    let (sequences, micro) = (batch.sequences as f64, batch.micro_batches as f64);
    let elements = (batch.seq_len * rows) as f64;
    match reduction {
        AlignReduction::None => 0.0,
        AlignReduction::Mse => {
            let sum: f64 = live().map(|(x, _)| f64::from(*x)).sum();
            sum / (batch.target_divisor * rows as f64)
        }
        AlignReduction::Frobenius => total.sqrt() / (sequences * elements * micro),
        AlignReduction::FrobeniusPerSample => {
            let sum: f64 = sequence_norms(d2, batch).sum();
            sum / (sequences * elements * micro)
        }
        AlignReduction::TokenL2 => {
            let sum: f64 = live().map(|(x, _)| f64::from(*x).sqrt()).sum();
            sum / batch.target_divisor
        }
    }
}

fn sequence_norms<'a>(d2: &'a [f32], batch: &MicroBatch) -> impl Iterator<Item = f64> + 'a {
    d2.chunks(batch.seq_len).map(|s| s.iter().map(|x| f64::from(*x)).sum::<f64>().sqrt())
}

/// Coefficient c_t per token; `sums` may be empty for `mse`.
pub fn coefficients(a: &Alignment, sums: &[f32], rows: usize, batch: &MicroBatch) -> Vec<f32> {
    let n = batch.targets.len();
    let elements = (batch.seq_len * rows) as f64;
    let all = batch.sequences as f64 * elements * batch.micro_batches as f64;
    let over = |norm: f64, c: f64| if norm < SMALLEST_NORM { 0.0 } else { (c / norm) as f32 };
    let at_targets = |c: &dyn Fn(usize) -> f32| -> Vec<f32> {
        let live = |t: usize| batch.targets[t] != NO_TARGET;
        (0..n).map(|t| if live(t) { c(t) } else { 0.0 }).collect()
    };
    match a.reduction {
        AlignReduction::None => vec![0.0; n],
        AlignReduction::Mse => {
            let c = (2.0 * a.lambda / (batch.target_divisor * rows as f64)) as f32;
            at_targets(&|_| c)
        }
        AlignReduction::Frobenius => {
            let total: f64 = sums[..n].iter().map(|x| f64::from(*x)).sum();
            vec![over(total.sqrt(), a.lambda / all); n]
        }
        AlignReduction::FrobeniusPerSample => sequence_norms(&sums[..n], batch)
            .flat_map(|q| std::iter::repeat_n(over(q, a.lambda / all), batch.seq_len))
            .collect(),
        AlignReduction::TokenL2 => {
            at_targets(&|t| over(f64::from(sums[t]).sqrt(), a.lambda / batch.target_divisor))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sums_of(s: &[f64], l: &[f64], rows: usize, n: usize) -> Vec<f32> {
        let mut out = vec![0.0f32; branch_sums::COUNT * n];
        for m in 0..rows {
            for t in 0..n {
                let (s, l) = (s[m * n + t], l[m * n + t]);
                let overlap = s.abs().min(l.abs());
                out[t] += ((s - l) * (s - l)) as f32;
                out[n + t] += if s * l < 0.0 { overlap as f32 } else { 0.0 };
                out[2 * n + t] += overlap as f32;
                out[3 * n + t] += (s * s) as f32;
                out[4 * n + t] += (l * l) as f32;
            }
        }
        out
    }

    fn random(seed: u64, n: usize) -> Vec<f64> {
        let s = crate::rng::Stream::new(seed, crate::rng::Purpose::Init, 0, 0);
        (0..n as u64).map(|i| s.normal(i)).collect()
    }

    #[test]
    fn coefficients_are_the_derivative_of_the_value() {
        let (rows, n) = (5, 6);
        let targets = [1, 2, NO_TARGET, 0, 3, NO_TARGET];
        let batch = MicroBatch {
            targets: &targets,
            sequences: 2,
            seq_len: 3,
            target_divisor: 7.0,
            micro_batches: 2,
            starts: None,
        };
        let (s, l) = (random(1, rows * n), random(2, rows * n));
        for reduction in [
            AlignReduction::Mse,
            AlignReduction::Frobenius,
            AlignReduction::FrobeniusPerSample,
            AlignReduction::TokenL2,
        ] {
            let a = Alignment { reduction, lambda: 0.7, projections: [true; 7] };
            let c = coefficients(&a, &sums_of(&s, &l, rows, n), rows, &batch);
            for i in 0..rows * n {
                let f = |h: f64| {
                    let mut s = s.clone();
                    s[i] += h;
                    0.7 * value(reduction, &sums_of(&s, &l, rows, n), rows, &batch)
                };
                let h = 1e-2;
                let numeric = (f(h) - f(-h)) / (2.0 * h);
                let exact = f64::from(c[i % n]) * (s[i] - l[i]);
                // Third-order term of a norm at h = 1e-2 and f32 sums: 1e-4 relative to the largest.
                assert!((numeric - exact).abs() < 2e-4, "{reduction:?} {i}: {numeric} {exact}");
            }
        }
    }

    #[test]
    fn ocr_of_opposite_signs_complements() {
        let (rows, n) = (40, 30);
        let targets = vec![0u32; n];
        let batch = MicroBatch {
            targets: &targets,
            sequences: 1,
            seq_len: n,
            target_divisor: n as f64,
            micro_batches: 1,
            starts: None,
        };
        let (s, l) = (random(3, rows * n), random(4, rows * n));
        let minus: Vec<f64> = l.iter().map(|x| -x).collect();
        let ocr = |l: &[f64]| branch_stats(&sums_of(&s, l, rows, n), rows, &batch, false).ocr();
        assert!((ocr(&l) + ocr(&minus) - 1.0).abs() < 1e-6);
        assert!((ocr(&l) - 0.5).abs() < 0.05, "independent signs cancel half of the overlap");
        assert_eq!(ocr(&s), 0.0);
        let st = branch_stats(&sums_of(&s, &l, rows, n), rows, &batch, false);
        assert!((st.rms_sparse() - 1.0).abs() < 0.1 && (st.rms_low_rank() - 1.0).abs() < 0.1);
    }
}
