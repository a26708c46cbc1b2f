//! Selection of the k largest keys under one total order: key, then tie word, then lower index.
//!
//! The order is strict, so the selected set is unique: it does not depend on the order in which
//! candidates arrive, on how they were split over threads, or on the selection algorithm.

use std::sync::atomic::{AtomicU64, Ordering as Memory};

use crate::rng::Stream;

/// Maps doubles to integers of the same order; -inf is allowed, NaN must have been refused before.
pub fn order_bits(key: f64) -> u64 {
    debug_assert!(!key.is_nan());
    let bits = (key + 0.0).to_bits(); // -0.0 becomes 0.0: equal keys must have equal bits
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

/// Inverse of [`order_bits`].
fn from_order_bits(bits: u64) -> f64 {
    f64::from_bits(if bits >> 63 == 1 { bits & !(1 << 63) } else { !bits })
}

/// What decides between equal keys, before the lower index does.
#[derive(Clone, Copy, Debug)]
pub enum Ties {
    /// Two Philox words of this stream at the candidate's index: fair and reproducible.
    Random(Stream),
    /// Nothing: the lower index wins at once, as traces of the released code need.
    LowerIndex,
}

impl From<Option<Stream>> for Ties {
    fn from(stream: Option<Stream>) -> Self {
        stream.map_or(Ties::LowerIndex, Ties::Random)
    }
}

impl Ties {
    /// Tie word of the candidate at `index`. Words 2 and 3, because Gumbel draws use 0 and 1.
    pub fn word(&self, index: u64) -> u64 {
        match self {
            Ties::Random(stream) => {
                let w = stream.words(index);
                u64::from(w[2]) << 32 | u64::from(w[3])
            }
            Ties::LowerIndex => 0,
        }
    }
}

/// One candidate of a selection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// [`order_bits`] of the key.
    pub key: u64,
    /// Tie word.
    pub tie: u64,
    /// Row-major flat index of the link, unique among the candidates.
    pub index: u64,
}

impl Candidate {
    /// Candidate at `index` with a floating-point key.
    pub fn new(key: f64, tie: u64, index: u64) -> Self {
        Candidate { key: order_bits(key), tie, index }
    }

    /// Best first.
    fn rank(&self, other: &Self) -> std::cmp::Ordering {
        (other.key, other.tie, self.index).cmp(&(self.key, self.tie, other.index))
    }
}

/// Leaves the `k` largest in `items`, in no particular order; all of them if there are fewer.
/// O(n): a partition, not a sort.
pub fn keep_largest(items: &mut Vec<Candidate>, k: usize) {
    if k == 0 {
        items.clear();
    } else if k < items.len() {
        items.select_nth_unstable_by(k - 1, Candidate::rank);
        items.truncate(k);
    }
}

/// Streaming form of [`keep_largest`]: holds at most about 2k candidates of any number, and tells
/// which keys need not be offered any more.
///
/// Several collectors of one selection share `bound`, the largest k-th best key that any of them
/// has seen. Whatever its value at a given moment, no member of the final k lies below it, so the
/// race between threads changes the work done and never the result.
pub struct Collector<'a> {
    k: usize,
    items: Vec<Candidate>,
    bound: &'a AtomicU64,
    threshold: f64,
}

impl<'a> Collector<'a> {
    /// Empty collector for the `k` largest; `bound` starts at 0.
    pub fn new(k: usize, bound: &'a AtomicU64) -> Self {
        Collector { k, items: Vec::new(), bound, threshold: f64::NEG_INFINITY }
    }

    /// Candidates with a smaller key cannot be selected. -inf while nothing is known.
    pub fn threshold(&self) -> f64 {
        self.threshold
    }

    /// Takes over what the other collectors of the selection found out.
    pub fn refresh(&mut self) {
        let bits = self.bound.load(Memory::Relaxed);
        if bits != 0 {
            self.threshold = self.threshold.max(from_order_bits(bits));
        }
    }

    /// Offers a candidate; returns whether [`Collector::threshold`] has risen.
    pub fn push(&mut self, candidate: Candidate) -> bool {
        if self.k == 0 {
            return false;
        }
        self.items.push(candidate);
        // Room for as many again, but at least a page of candidates: partitions stay rare.
        if self.items.len() < self.k + self.k.max(256) {
            return false;
        }
        keep_largest(&mut self.items, self.k);
        let worst = self.items.iter().map(|c| c.key).min().unwrap_or(0);
        self.bound.fetch_max(worst, Memory::Relaxed);
        self.refresh();
        true
    }

    /// Joins the candidates of two collectors of the same selection.
    pub fn merge(mut self, other: Collector<'a>) -> Self {
        self.items.extend(other.items);
        keep_largest(&mut self.items, self.k);
        self
    }

    /// Indices of the `k` largest (or of all, if fewer were offered), increasing.
    pub fn finish(mut self) -> Vec<u64> {
        keep_largest(&mut self.items, self.k);
        let mut indices: Vec<u64> = self.items.iter().map(|c| c.index).collect();
        indices.sort_unstable();
        indices
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    fn naive(items: &[Candidate], k: usize) -> Vec<u64> {
        let mut sorted = items.to_vec();
        sorted.sort_by(Candidate::rank);
        let mut top: Vec<u64> = sorted.iter().take(k).map(|c| c.index).collect();
        top.sort_unstable();
        top
    }

    #[test]
    fn keys_keep_their_order() {
        let keys = [f64::NEG_INFINITY, -1e300, -1.0, -5e-324, 0.0, 5e-324, 1.0, f64::INFINITY];
        for pair in keys.windows(2) {
            assert!(order_bits(pair[0]) < order_bits(pair[1]), "{pair:?}");
        }
        assert_eq!(order_bits(-0.0), order_bits(0.0));
        assert!(keys.iter().all(|&k| from_order_bits(order_bits(k)) == k));
    }

    #[test]
    fn collector_equals_a_full_sort_however_it_is_split() {
        let s = Stream::new(5, Purpose::Regrowth, 0, 0);
        for n in [0usize, 1, 7, 1000, 3000] {
            // Few distinct keys and tie words, so that every level of the order decides somewhere.
            let items: Vec<Candidate> = (0..n as u64)
                .map(|i| Candidate::new(-((s.below(i, 9)) as f64).ln(), s.bits(i) & 3, i))
                .collect();
            for k in [0, 1, n / 3, n.saturating_sub(1), n, n + 4] {
                for parts in [1usize, 2, 5] {
                    let bound = AtomicU64::new(0);
                    let mut all = Collector::new(k, &bound);
                    for part in 0..parts {
                        let mut c = Collector::new(k, &bound);
                        c.refresh();
                        for item in items.iter().skip(part).step_by(parts) {
                            if item.key >= order_bits(c.threshold()) {
                                c.push(*item);
                            }
                        }
                        all = all.merge(c);
                    }
                    assert_eq!(all.finish(), naive(&items, k), "n {n} k {k} parts {parts}");
                }
                let mut kept = items.clone();
                keep_largest(&mut kept, k);
                assert_eq!(kept.len(), k.min(n));
            }
        }
    }

    #[test]
    fn ties_are_fair_or_by_index() {
        let ties = Ties::Random(Stream::new(1, Purpose::Removal, 0, 0));
        let (mut low, rounds) = (0, 4000u64);
        for i in 0..rounds {
            let mut pair =
                [2 * i, 2 * i + 1].map(|j| Candidate::new(1.0, ties.word(j), j)).to_vec();
            keep_largest(&mut pair, 1);
            low += u64::from(pair[0].index == 2 * i);
            let mut pair =
                [1, 0].map(|j| Candidate::new(1.0, Ties::LowerIndex.word(j), j)).to_vec();
            keep_largest(&mut pair, 1);
            assert_eq!(pair[0].index, 0);
        }
        // Five standard deviations of a fair coin.
        assert!((low as f64 - rounds as f64 / 2.0).abs() < 2.5 * (rounds as f64).sqrt(), "{low}");
    }
}
