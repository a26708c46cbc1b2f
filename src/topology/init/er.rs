//! Erdős-Rényi links: a uniformly random set of positions of exactly the wanted size.

use super::{Draw, stream};
use crate::error::{Error, Result};
use crate::sparse::Pattern;

/// `nnz` uniformly random links of a (rows, cols) matrix.
///
/// Floyd's sampling: for j in N-nnz..N draw t in 0..=j and take t, or j if t is taken already; every
/// set of nnz positions is equally likely. nnz draws and one bit per position, no sorting.
/// Errors: `Error::Shape` when `nnz` exceeds the number of positions.
pub fn links(seed: u64, layer: u32, rows: usize, cols: usize, nnz: usize) -> Result<Pattern> {
    let size = rows * cols;
    if nnz > size {
        return Err(Error::shape("er", format!("at most {size} links"), nnz));
    }
    let stream = stream(seed, layer, Draw::Positions);
    let mut taken = vec![0u64; size.div_ceil(64)];
    for j in size - nnz..size {
        let t = stream.below((j - (size - nnz)) as u64, j as u64 + 1) as usize;
        let chosen = if taken[t / 64] >> (t % 64) & 1 == 0 { t } else { j };
        taken[chosen / 64] |= 1 << (chosen % 64);
    }
    let mut flat = Vec::with_capacity(nnz);
    for (base, &word) in (0u64..).step_by(64).zip(&taken) {
        let mut rest = word;
        while rest != 0 {
            flat.push(base + u64::from(rest.trailing_zeros()));
            rest &= rest - 1;
        }
    }
    Pattern::from_flat(rows, cols, &flat)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_count_and_equal_chances() {
        let (rows, cols, nnz, rounds) = (5, 14, 21, 4000u64);
        let mut hits = [0f64; 70];
        for seed in 0..rounds {
            let p = links(seed, 3, rows, cols, nnz).unwrap();
            assert_eq!(p.nnz(), nnz);
            p.flat().iter().for_each(|&f| hits[f as usize] += 1.0);
        }
        // Every position is linked with probability 0.3; five standard deviations of the share.
        let sd = (0.3f64 * 0.7 / rounds as f64).sqrt();
        assert!(hits.iter().all(|h| (h / rounds as f64 - 0.3).abs() < 5.0 * sd));
        assert_eq!(links(1, 0, 3, 5, 15).unwrap(), Pattern::full(3, 5));
        assert_eq!(links(1, 0, 3, 5, 0).unwrap().nnz(), 0);
        assert!(links(1, 0, 3, 5, 16).is_err());
        assert_ne!(links(1, 0, 9, 9, 20).unwrap(), links(1, 1, 9, 9, 20).unwrap());
    }
}
