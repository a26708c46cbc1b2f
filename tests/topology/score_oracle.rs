//! CH2-L3n against its definition: every path of length three is walked.

use chtsl::rng::{Purpose, Stream};
use chtsl::sparse::Pattern;
use chtsl::topology::regrowth::ch2_l3n::Ch2L3n;
use proptest::prelude::*;

/// Score of every missing link from the definition alone: the members of the local community are
/// collected from the paths i - b - j - a, then the links of each member are counted as inside the
/// community, outside it, or to a seed. Sum over members of (1 + inside)/(1 + outside).
fn by_paths(p: &Pattern) -> Vec<Option<f64>> {
    let (rows, cols) = (p.rows(), p.cols());
    let mut linked = vec![false; rows * cols];
    p.flat().iter().for_each(|&f| linked[f as usize] = true);
    let has = |i: usize, a: usize| linked[i * cols + a];
    let score = |i: usize, a: usize| {
        let (mut row_member, mut col_member) = (vec![false; rows], vec![false; cols]);
        for b in (0..cols).filter(|&b| b != a && has(i, b)) {
            for j in (0..rows).filter(|&j| j != i && has(j, b) && has(j, a)) {
                row_member[j] = true;
                col_member[b] = true;
            }
        }
        let mut sum = 0.0;
        for j in (0..rows).filter(|&j| row_member[j]) {
            let degree = (0..cols).filter(|&x| has(j, x)).count();
            let inside = (0..cols).filter(|&x| has(j, x) && col_member[x]).count();
            let outside = degree - inside - usize::from(has(j, a));
            sum += (1 + inside) as f64 / (1 + outside) as f64;
        }
        for b in (0..cols).filter(|&b| col_member[b]) {
            let degree = (0..rows).filter(|&x| has(x, b)).count();
            let inside = (0..rows).filter(|&x| has(x, b) && row_member[x]).count();
            let outside = degree - inside - usize::from(has(i, b));
            sum += (1 + inside) as f64 / (1 + outside) as f64;
        }
        sum
    };
    (0..rows * cols).map(|f| (!linked[f]).then(|| score(f / cols, f % cols))).collect()
}

/// Links drawn independently with probability `density`.
pub fn random_pattern(rows: usize, cols: usize, density: f64, seed: u64) -> Pattern {
    let s = Stream::new(seed, Purpose::Init, 7, 0);
    let flat: Vec<u64> = (0..(rows * cols) as u64).filter(|&f| s.uniform(f) < density).collect();
    Pattern::from_flat(rows, cols, &flat).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Tolerance: at most rows + cols terms, each rounded by 2⁻³⁷ at most, and as much again in
    /// relative terms for the oracle's own sums.
    #[test]
    fn fast_scores_equal_path_enumeration(
        rows in 1usize..24, cols in 1usize..24, density in 0.0f64..1.0, seed in any::<u64>(),
    ) {
        let p = random_pattern(rows, cols, density, seed);
        let (fast, slow) = (Ch2L3n::new(&p).unwrap().dense(), by_paths(&p));
        for (i, pair) in fast.iter().zip(&slow).enumerate() {
            match pair {
                (Some(f), Some(s)) => {
                    let tolerance = (rows + cols) as f64 * 2f64.powi(-37) + 1e-13 * s;
                    prop_assert!((f - s).abs() <= tolerance, "at {i}: {f} {s}");
                    prop_assert_eq!(*f > 0.0, *s > 0.0);
                }
                (None, None) => {}
                other => prop_assert!(false, "at {}: {:?}", i, other),
            }
        }
    }

    /// A score belongs to the link, not to the storage: transposing the matrix transposes them, to
    /// the bit, because sums of integers have no order.
    #[test]
    fn scores_are_equivariant_to_transposition(
        rows in 1usize..40, cols in 1usize..40, density in 0.0f64..0.5, seed in any::<u64>(),
    ) {
        let p = random_pattern(rows, cols, density, seed);
        let mut flat: Vec<u64> = p
            .flat()
            .iter()
            .map(|f| f % cols as u64 * rows as u64 + f / cols as u64)
            .collect();
        flat.sort_unstable();
        let q = Pattern::from_flat(cols, rows, &flat).unwrap();
        let (a, b) = (Ch2L3n::new(&p).unwrap().dense(), Ch2L3n::new(&q).unwrap().dense());
        for i in 0..rows {
            for j in 0..cols {
                prop_assert_eq!(a[i * cols + j], b[j * rows + i]);
            }
        }
    }
}
