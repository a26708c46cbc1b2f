//! The order of training samples: a pure function of (seed, epoch, index).
//!
//! Each epoch visits every row once, in an order given by a keyed bijection of 0..n. Nothing is
//! stored: the position of a run is one number, and a resumed run crosses an epoch boundary like
//! any other.

use crate::rng::{Purpose, Stream};

/// Philox rounds are strong on their own, so four Feistel rounds already give a pseudo-random
/// permutation of large domains (Luby and Rackoff); the others are for domains of a few bits.
const ROUNDS: u32 = 8;

/// Epoch and row of the sample with number `global` (counted from 0 over the whole run) among
/// `rows` rows; `rows` must not be 0.
pub fn sample(seed: u64, rows: u64, global: u64) -> (u64, u64) {
    let epoch = global / rows;
    (epoch, permute(seed, epoch, rows, global % rows))
}

/// Place `index` goes to in the permutation of `0..rows` that belongs to (seed, epoch).
///
/// Feistel network on the smallest even number of bits that holds `rows`; values that land outside
/// are sent through again until they do not ("cycle walking"), which keeps it a bijection and
/// takes fewer than four passes on average.
pub fn permute(seed: u64, epoch: u64, rows: u64, index: u64) -> u64 {
    debug_assert!(index < rows);
    if rows <= 1 {
        return 0;
    }
    let bits = 64 - (rows - 1).leading_zeros();
    let half = bits.div_ceil(2);
    let mask = (1u64 << half) - 1;
    let mut value = index;
    loop {
        let (mut left, mut right) = (value >> half, value & mask);
        for round in 0..ROUNDS {
            let stream = Stream::new(seed, Purpose::Data, round, epoch as u32);
            (left, right) = (right, left ^ stream.bits(right) & mask);
        }
        value = left << half | right;
        if value < rows {
            return value;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_epoch_visits_every_row_once() {
        let sizes = (1..70).chain([127, 128, 129, 1000, 1023, 1024, 1025, 4097, 30_011]);
        for rows in sizes {
            for (seed, epoch) in [(1, 0), (1, 1), (u64::MAX, 7)] {
                let mut seen = vec![false; rows as usize];
                for i in 0..rows {
                    let row = permute(seed, epoch, rows, i) as usize;
                    assert!(!std::mem::replace(&mut seen[row], true), "{rows} {row}");
                }
            }
        }
    }

    #[test]
    fn orders_differ_by_seed_and_epoch_and_look_random() {
        let rows = 1000;
        let order = |seed, epoch| -> Vec<u64> {
            (0..rows).map(|i| permute(seed, epoch, rows, i)).collect()
        };
        let base = order(1, 0);
        for other in [order(2, 0), order(1, 1), (0..rows).collect()] {
            let equal = base.iter().zip(&other).filter(|(a, b)| a == b).count();
            // Expected 1 fixed point (Poisson); 10 or more has probability about 1e-7.
            assert!(equal < 10, "{equal}");
        }
        // Correlation of place and value has standard deviation 1/sqrt(n) = 0.03.
        let mean = (rows - 1) as f64 / 2.0;
        let dot: f64 =
            base.iter().enumerate().map(|(i, &v)| (i as f64 - mean) * (v as f64 - mean)).sum();
        let norm: f64 = (0..rows).map(|i| (i as f64 - mean).powi(2)).sum();
        assert!((dot / norm).abs() < 0.16, "{}", dot / norm);
    }

    #[test]
    fn huge_row_counts_stay_in_range() {
        for rows in [u64::MAX, 1 << 63, (1 << 40) + 12345] {
            for i in [0, 1, rows / 2, rows - 1] {
                assert!(permute(3, 0, rows, i) < rows);
            }
        }
    }

    #[test]
    fn samples_cross_epochs() {
        assert_eq!(sample(5, 10, 25).0, 2);
        let epoch: std::collections::HashSet<u64> = (10..20).map(|g| sample(5, 10, g).1).collect();
        assert_eq!(epoch.len(), 10);
    }
}
