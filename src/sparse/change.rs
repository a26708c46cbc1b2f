//! The links of a matrix after an event, and where each was before.

use super::Pattern;
use crate::error::{Result, check_len};

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

    /// The change from `old` to the `target` links of `pattern`, which come from `source`; removal left
    /// `kept` links. Panics when they contradict each other.
    pub(crate) fn new(
        old: &Pattern,
        kept: usize,
        target: usize,
        pattern: Pattern,
        source: Vec<u32>,
    ) -> Self {
        let newcomers = source.iter().filter(|&&s| s == NEW).count();
        assert!(kept + newcomers <= target, "an event grew more links than it was asked for");
        let change = LinkChange {
            pattern,
            source,
            removed: old.nnz() - kept,
            regrown: target - kept,
            returned: target - kept - newcomers,
        };
        change.assert_consistent(old, target);
        change
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

#[cfg(test)]
mod tests {
    use super::*;

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
