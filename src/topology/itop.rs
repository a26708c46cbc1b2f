//! In-time over-parameterisation (Liu et al., ICML'21): which positions of a matrix have ever
//! carried a link. Its rate tells whether the topology explores or has frozen.

use crate::error::{Error, Result, check_len};
use crate::sparse::Pattern;

/// Positions of one matrix that were ever active, one bit each, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Itop {
    rows: usize,
    cols: usize,
    words: Vec<u64>,
    seen: usize,
}

impl Itop {
    /// Nothing seen yet.
    pub fn new(rows: usize, cols: usize) -> Self {
        Itop { rows, cols, words: vec![0; (rows * cols).div_ceil(64)], seen: 0 }
    }

    /// Marks the links of `pattern`. Call it once with the initial links and after every event.
    ///
    /// Errors: `Error::Shape` when the pattern belongs to another matrix.
    pub fn update(&mut self, pattern: &Pattern) -> Result<()> {
        if (pattern.rows(), pattern.cols()) != (self.rows, self.cols) {
            return Err(Error::shape(
                "itop",
                format!("a {} x {} pattern", self.rows, self.cols),
                format!("{} x {}", pattern.rows(), pattern.cols()),
            ));
        }
        for row in 0..self.rows {
            for &col in pattern.row(row) {
                let f = row * self.cols + col as usize;
                let (word, bit) = (&mut self.words[f / 64], 1 << (f % 64));
                self.seen += usize::from(*word & bit == 0);
                *word |= bit;
            }
        }
        Ok(())
    }

    /// Number of positions ever active.
    pub fn seen(&self) -> usize {
        self.seen
    }

    /// Share of all positions that were ever active, in 0..=1.
    pub fn rate(&self) -> f64 {
        self.seen as f64 / (self.rows as f64 * self.cols as f64).max(1.0)
    }

    /// Whether position (`row`, `col`) was ever active.
    pub fn contains(&self, row: usize, col: usize) -> bool {
        let f = row * self.cols + col;
        self.words[f / 64] >> (f % 64) & 1 == 1
    }

    /// Little-endian words of the bitset, for checkpoints.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|w| w.to_le_bytes()).collect()
    }

    /// Inverse of [`Itop::to_bytes`].
    ///
    /// Errors: `Error::Shape` when the length is not that of the matrix or a bit beyond it is set.
    pub fn from_bytes(rows: usize, cols: usize, bytes: &[u8]) -> Result<Self> {
        let size = rows * cols;
        check_len("itop", "bytes", size.div_ceil(64) * 8, bytes.len())?;
        let words: Vec<u64> =
            bytes.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b)).collect();
        if let Some(&last) = words.last()
            && !size.is_multiple_of(64)
            && last >> (size % 64) != 0
        {
            return Err(Error::shape("itop", format!("bits below {size}"), "a bit beyond"));
        }
        let seen = words.iter().map(|w| w.count_ones() as usize).sum();
        Ok(Itop { rows, cols, words, seen })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn union_of_patterns_survives_bytes() {
        let mut itop = Itop::new(3, 30);
        itop.update(&Pattern::from_flat(3, 30, &[0, 63, 64]).unwrap()).unwrap();
        itop.update(&Pattern::from_flat(3, 30, &[63, 89]).unwrap()).unwrap();
        assert_eq!((itop.seen(), itop.rate()), (4, 4.0 / 90.0));
        assert!(itop.contains(2, 29) && itop.contains(2, 4) && !itop.contains(0, 1));
        let bytes = itop.to_bytes();
        assert_eq!(Itop::from_bytes(3, 30, &bytes).unwrap(), itop);
        assert!(Itop::from_bytes(3, 29, &[0; 8]).is_err());
        assert!(Itop::from_bytes(3, 29, &bytes).is_err(), "position 89 is outside 3 x 29");
        assert!(itop.update(&Pattern::full(30, 3)).is_err());
    }
}
