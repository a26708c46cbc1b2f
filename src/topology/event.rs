//! One remove-regrow event of one matrix.

use super::regrowth::{self, Choice, ch2_l3n::Ch2L3n};
use super::removal::{self, magnitude, soft_magnitude};
use super::schedule;
use super::select::Ties;
use crate::config::{LinkCount, Regrowth, Removal, TopologyConfig};
use crate::error::{Error, Result, check_len};
use crate::rng::{Purpose, Stream};
use crate::sparse::Pattern;

/// [`LinkChange::source`] of a link that did not exist before.
pub const NEW: u32 = u32::MAX;

/// The links after an event, and where each was before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkChange {
    /// Links after the event.
    pub pattern: Pattern,
    /// For each of them its CSR position before the event, or [`NEW`].
    pub source: Vec<u32>,
    /// Links that removal took, those regrown at once included.
    pub removed: usize,
    /// Links that regrowth added, those just removed included.
    pub regrown: usize,
    /// Links removed and regrown in this event: they keep value and moments.
    pub returned: usize,
}

impl LinkChange {
    /// Links before the event.
    pub fn previous_nnz(&self) -> usize {
        self.pattern.nnz() - self.regrown + self.removed
    }

    /// Moves an array that holds one entry per link (weights, moments, ages): survivors and returned
    /// links keep theirs, newcomers get zero. Overwrites `new`.
    ///
    /// Errors: `Error::Shape` when `old` does not have one entry per previous link.
    pub fn migrate<T: Copy + Default>(&self, old: &[T], new: &mut Vec<T>) -> Result<()> {
        check_len("migrate", "entries", self.previous_nnz(), old.len())?;
        new.clear();
        new.extend(self.source.iter().map(|&s| match s {
            NEW => T::default(),
            _ => old[s as usize],
        }));
        Ok(())
    }

    /// The invariants of an event, checked in every run. O(nnz). Panics: a broken one is our bug.
    fn assert_consistent(&self, old: &Pattern, target: usize) {
        assert_eq!(self.pattern.nnz(), target, "an event left another number of links");
        assert_eq!(self.source.len(), target, "an event lost track of its links");
        assert_eq!(self.previous_nnz(), old.nnz(), "an event miscounted its links");
        let (before, after) = (old.flat(), self.pattern.flat());
        let mut new = 0;
        for (&link, &source) in after.iter().zip(&self.source) {
            match source {
                NEW => {
                    new += 1;
                    assert!(before.binary_search(&link).is_err(), "newcomer {link} existed");
                }
                s => assert_eq!(before[s as usize], link, "a survivor was mapped to another link"),
            }
        }
        assert_eq!(self.regrown - self.returned, new, "newcomers were miscounted");
    }
}

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
    let EventInput { config, pattern, weights, t, target_nnz, .. } = input;
    let (nnz, size) = (pattern.nnz(), pattern.rows() * pattern.cols());
    check_len("topology event", "weights", nnz, weights.len())?;
    if target_nnz > size {
        return Err(Error::shape("topology event", format!("at most {size} links"), target_nnz));
    }
    if let Some(i) = weights.iter().position(|w| !w.is_finite()) {
        return Err(Error::Diverged {
            step: t,
            message: format!(
                "weight {i} of matrix {} is {}, its links cannot be ranked; lower train.lr",
                input.layer, weights[i]
            ),
        });
    }
    let number = u32::try_from(t)
        .map_err(|_| Error::shape("topology event", "an update number below 2^32", t))?;
    let stream = |purpose| Stream::new(input.seed, purpose, input.layer, number);
    let ties = |purpose| match config.count {
        LinkCount::Rounded => Ties::Random(stream(purpose)),
        LinkCount::Released => Ties::LowerIndex,
    };

    let zeta = schedule::zeta(config, t, input.steps).clamp(0.0, 1.0);
    let keys = match config.removal {
        Removal::None => None,
        Removal::Magnitude => Some(magnitude::keys(weights)),
        Removal::SoftMagnitude => {
            let temperature = schedule::removal_temperature(config, t, input.steps);
            Some(soft_magnitude::keys(pattern, weights, temperature, &stream(Purpose::Removal)))
        }
    };
    let remove = if keys.is_some() { (nnz as f64 * zeta).floor() as usize } else { 0 };
    let keep = (nnz - remove).min(target_nnz);
    // Without a rule only a target below nnz removes, and then the smallest weights go.
    let keys = keys.unwrap_or_else(|| magnitude::keys(weights));
    let kept = removal::keep(pattern, &keys, ties(Purpose::Removal), keep)?;

    let before = pattern.flat();
    let survivors: Vec<u64> = kept.iter().map(|&i| before[i as usize]).collect();
    let regrown = if target_nnz > keep {
        let rest = Pattern::from_flat(pattern.rows(), pattern.cols(), &survivors)?;
        let choice = Choice {
            select: config.regrow_select,
            temperature: config.regrow_temperature,
            stream: stream(Purpose::Regrowth),
            ties: ties(Purpose::Regrowth),
        };
        match config.regrowth {
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
            while former < nnz && before[former] < link {
                former += 1;
            }
            if before.get(former) == Some(&link) { former as u32 } else { NEW }
        })
        .collect();
    let newcomers = source.iter().filter(|&&s| s == NEW).count();
    let change = LinkChange {
        pattern: Pattern::from_flat(pattern.rows(), pattern.cols(), &after)?,
        source,
        removed: nnz - keep,
        regrown: target_nnz - keep,
        returned: target_nnz - keep - newcomers,
    };
    change.assert_consistent(pattern, target_nnz);
    Ok(change)
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

    #[test]
    fn migrate_moves_values_and_checks_their_number() {
        let change = LinkChange {
            pattern: Pattern::from_flat(2, 2, &[0, 1, 2]).unwrap(),
            source: vec![0, NEW, 1],
            removed: 2,
            regrown: 2,
            returned: 1,
        };
        let mut new = vec![9.0; 7];
        change.migrate(&[1.0f32, 2.0, 3.0], &mut new).unwrap();
        assert_eq!(new, [1.0, 0.0, 2.0]);
        assert!(change.migrate(&[1.0f32; 4], &mut new).is_err());
        change.assert_consistent(&Pattern::from_flat(2, 2, &[0, 2, 3]).unwrap(), 3);
    }
}
