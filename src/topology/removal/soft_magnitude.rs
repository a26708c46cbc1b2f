//! Soft magnitude removal (CHTs): the kept set is drawn without replacement with probability
//! proportional to |w|^T.
//!
//! Drawing k items in sequence with weights p is the same as taking the k largest `ln p + Gumbel`
//! (Gumbel-top-k; Plackett-Luce law). In log space T = 9 neither underflows nor lets tiny weights
//! tie, which the power itself does in single precision.

use rayon::prelude::*;

use crate::rng::{Stream, ln};
use crate::sparse::Pattern;

/// Keys of the links, `T·ln|w| + Gumbel`, in CSR order.
///
/// The draw of a link is addressed by its row-major flat index in `stream`, not by its CSR
/// position. A zero weight has key -inf at every T, T = 0 included: it goes before any other link.
pub fn keys(pattern: &Pattern, weights: &[f32], temperature: f64, stream: &Stream) -> Vec<f64> {
    pattern
        .flat()
        .par_iter()
        .zip(weights)
        .map(|(&flat, &w)| match f64::from(w).abs() {
            0.0 => f64::NEG_INFINITY,
            magnitude => temperature * ln(magnitude) + stream.gumbel(flat),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    #[test]
    fn keys_by_hand_and_zero_weights() {
        let p = Pattern::from_flat(2, 4, &[1, 6, 7]).unwrap();
        let s = Stream::new(3, Purpose::Removal, 2, 5);
        let got = keys(&p, &[-0.5, 0.0, 2.0], 3.0, &s);
        assert_eq!(got[0], 3.0 * ln(0.5) + s.gumbel(1));
        assert_eq!(got[1], f64::NEG_INFINITY);
        assert_eq!(got[2], 3.0 * ln(2.0) + s.gumbel(7));
        let flat = keys(&p, &[-0.5, 0.0, 2.0], 0.0, &s);
        assert_eq!((flat[0], flat[1]), (s.gumbel(1), f64::NEG_INFINITY));
    }
}
