//! Removal rules. A rule only gives each link a key (large = keep); [`keep`] selects.

pub mod magnitude;
pub mod soft_magnitude;

use super::select::{Candidate, Ties, keep_largest};
use crate::error::{Error, Result, check_len};
use crate::sparse::Pattern;

/// CSR positions of the `k` links with the largest keys, increasing.
///
/// `keys` in CSR order; -inf is allowed, NaN is an error. Equal keys are decided by `ties` at the
/// link's row-major flat index, then by the lower index. O(nnz).
pub fn keep(pattern: &Pattern, keys: &[f64], ties: Ties, k: usize) -> Result<Vec<u32>> {
    check_len("removal", "keys", pattern.nnz(), keys.len())?;
    if let Some(i) = keys.iter().position(|key| key.is_nan()) {
        return Err(Error::shape("removal", "keys that are numbers", format!("NaN at link {i}")));
    }
    // CSR positions and flat indices have the same order, so positions can stand for them in the
    // comparison; only the tie words need the flat index.
    let mut items: Vec<Candidate> = pattern
        .flat()
        .iter()
        .zip(keys)
        .zip(0u64..)
        .map(|((&flat, &key), i)| Candidate::new(key, ties.word(flat), i))
        .collect();
    keep_largest(&mut items, k);
    let mut kept: Vec<u32> = items.iter().map(|c| c.index as u32).collect();
    kept.sort_unstable();
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_largest_and_refuses_nan() {
        let p = Pattern::from_flat(2, 3, &[0, 2, 3, 5]).unwrap();
        let keys = [1.0, f64::NEG_INFINITY, 3.0, f64::NEG_INFINITY];
        assert_eq!(keep(&p, &keys, Ties::LowerIndex, 3).unwrap(), [0, 1, 2]);
        assert_eq!(keep(&p, &keys, Ties::LowerIndex, 0).unwrap(), [0u32; 0]);
        assert_eq!(keep(&p, &keys, Ties::LowerIndex, 4).unwrap(), [0, 1, 2, 3]);
        assert!(keep(&p, &[1.0, f64::NAN, 0.0, 0.0], Ties::LowerIndex, 2).is_err());
        assert!(keep(&p, &[1.0], Ties::LowerIndex, 1).is_err());
    }
}
