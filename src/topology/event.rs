//! One remove-regrow event of one matrix.

use super::regrowth::{self, Choice, ch2_l3n::Ch2L3n};
use super::removal::{self, magnitude, soft_magnitude};
use super::schedule;
use crate::backend::{Backend, Csr, EvolveRules, Evolved, RemovalKeys};
use crate::config::{LinkCount, Regrowth, Removal, TopologyConfig};
use crate::error::{Error, Result, check_len};
use crate::rng::{Purpose, Stream};
use crate::sparse::{LinkChange, NEW, Pattern};

/// What an event of one matrix depends on.
#[derive(Clone, Copy, Debug)]
pub struct EventInput<'a> {
    /// Rules and their parameters.
    pub config: &'a TopologyConfig,
    /// Seed of the run.
    pub seed: u64,
    /// Unique number of the matrix in the model.
    pub layer: u32,
    /// Update, counted from 1; its own number separates the draws of different events.
    pub t: u64,
    /// Updates of the whole run.
    pub steps: u64,
    /// Links the event must leave, from [`target_nnz`](super::target_nnz).
    pub target_nnz: usize,
    /// Links before the event.
    pub pattern: &'a Pattern,
    /// Their weights, in CSR order.
    pub weights: &'a [f32],
}

/// The event in numbers: how many links stay, the exponents of this update, the streams of its draws.
/// Weights are not looked at.
///
/// Without a removal rule only a target below nnz removes, and then the smallest weights go.
///
/// Errors: `Error::Shape` when the target exceeds the matrix or the update 32 bits.
pub fn rules(input: &EventInput) -> Result<EvolveRules> {
    let EventInput { config, pattern, t, steps, target_nnz, .. } = *input;
    let (nnz, size) = (pattern.nnz(), pattern.rows() * pattern.cols());
    if target_nnz > size {
        return Err(Error::shape("topology event", format!("at most {size} links"), target_nnz));
    }
    let number = u32::try_from(t)
        .map_err(|_| Error::shape("topology event", "an update number below 2^32", t))?;
    let stream = |purpose| Stream::new(input.seed, purpose, input.layer, number);
    let ties = |purpose| match config.count {
        LinkCount::Rounded => Some(stream(purpose)),
        LinkCount::Released => None,
    };
    let zeta = schedule::zeta(config, t, steps).clamp(0.0, 1.0);
    let remove = match config.removal {
        Removal::None => 0,
        Removal::Magnitude | Removal::SoftMagnitude => (nnz as f64 * zeta).floor() as usize,
    };
    Ok(EvolveRules {
        step: t,
        layer: input.layer,
        keep: (nnz - remove).min(target_nnz),
        target_nnz,
        removal: match config.removal {
            Removal::None | Removal::Magnitude => RemovalKeys::Magnitude,
            Removal::SoftMagnitude => RemovalKeys::SoftMagnitude {
                temperature: schedule::removal_temperature(config, t, steps),
                draws: stream(Purpose::Removal),
            },
        },
        removal_ties: ties(Purpose::Removal),
        regrowth: config.regrowth,
        regrow_select: config.regrow_select,
        regrow_temperature: config.regrow_temperature,
        regrow_draws: stream(Purpose::Regrowth),
        regrow_ties: ties(Purpose::Regrowth),
    })
}

/// One event (CHTs): remove `floor(nnz·ζ_t)` links, score the missing ones, regrow up to the target.
///
/// 1. Keep the `nnz - floor(nnz·ζ_t)` links with the largest removal keys, or `target_nnz` of them
///    when that is less (a schedule that lowers the density).
/// 2. Score every missing link of what is left, links removed just now included.
/// 3. Select `target_nnz - kept` of them.
///
/// With ζ_t = 0 and the target already met nothing is scored and the links stay as they are. With
/// ζ_t = 1 no link is left to score by: all candidates count as zero and the whole pattern is drawn
/// anew, uniformly (top-k: by tie). `Removal::None` removes nothing and only fills up to the target.
/// Equal keys are decided by a Philox word, or by the lower index when `count = released`, as traces
/// of the released code need.
///
/// Memory: 8 bytes per matrix position while scoring. Errors: `Error::Diverged` when a weight is not
/// finite; `Error::Shape` when lengths disagree or the target exceeds the matrix.
pub fn event(input: EventInput) -> Result<LinkChange> {
    apply(input.pattern, input.weights, &rules(&input)?)
}

/// The event on a matrix of a backend: there if the backend has it, else here, on a copy of the
/// weights. Both give the same links.
pub fn evolve<B: Backend>(backend: &B, w: &Csr<B>, rules: &EvolveRules) -> Result<Evolved<B>> {
    if let Some(evolved) = backend.evolve(w, rules)? {
        return Ok(evolved);
    }
    let change = apply(&w.pattern, &backend.read(&w.values)?, rules)?;
    Ok(Evolved { index: backend.index(&change.pattern)?, change })
}

/// The event on the host.
fn apply(pattern: &Pattern, weights: &[f32], rules: &EvolveRules) -> Result<LinkChange> {
    let EvolveRules { keep, target_nnz, .. } = *rules;
    let (rows, cols) = (pattern.rows(), pattern.cols());
    check_len("topology event", "weights", pattern.nnz(), weights.len())?;
    if let Some(i) = weights.iter().position(|w| !w.is_finite()) {
        return Err(rules.unrankable(i, weights[i]));
    }
    let keys = match &rules.removal {
        RemovalKeys::Magnitude => magnitude::keys(weights),
        RemovalKeys::SoftMagnitude { temperature, draws } => {
            soft_magnitude::keys(pattern, weights, *temperature, draws)
        }
    };
    let kept = removal::keep(pattern, &keys, rules.removal_ties.into(), keep)?;

    let before = pattern.flat();
    let survivors: Vec<u64> = kept.iter().map(|&i| before[i as usize]).collect();
    let regrown = if target_nnz > keep {
        let rest = Pattern::from_flat(rows, cols, &survivors)?;
        let choice = Choice {
            select: rules.regrow_select,
            temperature: rules.regrow_temperature,
            stream: rules.regrow_draws,
            ties: rules.regrow_ties.into(),
        };
        match rules.regrowth {
            Regrowth::Ch2L3n => regrowth::regrow(&Ch2L3n::new(&rest)?, &choice, target_nnz - keep)?,
        }
    } else {
        Vec::new()
    };

    let mut after = [survivors, regrown].concat();
    after.sort_unstable();
    // Both lists increase: one walk finds every link's former position.
    let mut former = 0;
    let source: Vec<u32> = after
        .iter()
        .map(|&link| {
            while former < before.len() && before[former] < link {
                former += 1;
            }
            if before.get(former) == Some(&link) { former as u32 } else { NEW }
        })
        .collect();
    let links = Pattern::from_flat(rows, cols, &after)?;
    Ok(LinkChange::new(pattern, keep, target_nnz, links, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input<'a>(
        config: &'a TopologyConfig,
        pattern: &'a Pattern,
        weights: &'a [f32],
    ) -> EventInput<'a> {
        let target_nnz = pattern.nnz();
        EventInput { config, seed: 1, layer: 0, t: 1, steps: 100, target_nnz, pattern, weights }
    }

    #[test]
    fn refuses_what_cannot_be_ranked_or_placed() {
        let config = TopologyConfig::default();
        let p = Pattern::from_flat(2, 2, &[0, 3]).unwrap();
        for bad in [f32::NAN, f32::INFINITY] {
            let e = event(input(&config, &p, &[0.5, bad])).unwrap_err();
            assert!(matches!(e, Error::Diverged { step: 1, .. }), "{e}");
            assert!(e.to_string().contains("weight 1 of matrix 0"), "{e}");
        }
        assert!(event(input(&config, &p, &[0.5])).is_err());
        let weights = [0.5, 0.25];
        assert!(event(EventInput { target_nnz: 5, ..input(&config, &p, &weights) }).is_err());
        assert!(event(EventInput { t: 1 << 32, ..input(&config, &p, &weights) }).is_err());
    }
}
