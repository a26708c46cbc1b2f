//! CH2-L3n, the node-based Cannistraci-Hebb score on paths of length three (CHTs, eq. 3).
//!
//! Rows (outputs) and columns (inputs) are the two sides of a bipartite graph. For a missing link
//! (i, a), with `c_ij` the common neighbours of rows i, j, `g_ab` those of columns a, b, degrees d:
//!
//! ```text
//! score(i,a) =   Σ  { E_ij : j ∈ N(a), c_ij > 0 },   E_ij = (1 + c_ij) / (d_j - c_ij)
//!              + Σ  { F_ab : b ∈ N(i), g_ab > 0 },   F_ab = (1 + g_ab) / (d_b - g_ab)
//! ```
//!
//! The members j and b are the inner nodes of the paths i - b - j - a; 1 + c counts a member's links
//! inside the community, d - c is one more than those outside. Both sums are the same sum with the
//! sides exchanged: [`half`] does one of them for eight nodes of a side at once.
//!
//! Each term is rounded to a multiple of 2⁻³⁶ and summed as an integer, so that a score is the same
//! number in whatever order a thread, a tile or a device adds it up. A term is at least 2/d, so the
//! relative error of a score is below d·2⁻³⁸ for the largest degree d: 2e-8 at d = 5461.

use rayon::prelude::*;

use super::Scores;
use crate::error::{Error, Result};
use crate::sparse::{Pattern, Transposed};

/// Nodes scored together: eight 64-bit sums are one cache line, and one walk over the links serves
/// all of them.
const LANES: usize = 8;

/// One fixed-point unit is 2⁻³⁶.
const UNIT: f64 = (1u64 << 36) as f64;

/// Neighbours of the nodes of one side.
#[derive(Clone, Copy)]
struct Side<'a> {
    offsets: &'a [u32],
    indices: &'a [u32],
}

impl<'a> Side<'a> {
    fn rows(pattern: &'a Pattern) -> Self {
        Side { offsets: pattern.row_offsets(), indices: pattern.column_indices() }
    }

    fn columns(transposed: &'a Transposed) -> Self {
        Side { offsets: &transposed.col_offsets, indices: &transposed.row_indices }
    }

    fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    fn neighbours(&self, node: usize) -> &'a [u32] {
        &self.indices[self.offsets[node] as usize..self.offsets[node + 1] as usize]
    }
}

/// `(1 + common)/(degree - common)` in fixed point, 0 without common neighbours.
///
/// When the denominator is 0 every neighbour of the member is linked to the seed already: the term
/// reaches no candidate, and any finite value will do.
fn term(common: u32, degree: u32) -> u64 {
    if common == 0 {
        return 0;
    }
    let outside = (degree - common).max(1);
    ((1.0 + f64::from(common)) * UNIT / f64::from(outside) + 0.5) as i64 as u64
}

/// Adds to `sums[x][l]` the terms of all members of the own side that are linked to node x of the
/// other side, for seed `first + l` of the own side. `common` must be zero and is left zero.
///
/// Sums at existing links are meaningless. Cost: one counter step per path of length two from the
/// seeds, then at most nnz additions of eight lanes.
fn half(
    own: Side,
    other: Side,
    first: usize,
    common: &mut [[u32; LANES]],
    sums: &mut [[u64; LANES]],
) {
    for (lane, seed) in (first..own.len()).take(LANES).enumerate() {
        for &b in own.neighbours(seed) {
            for &j in other.neighbours(b as usize) {
                common[j as usize][lane] += 1;
            }
        }
    }
    for (j, count) in common.iter_mut().enumerate() {
        if *count == [0; LANES] {
            continue;
        }
        let neighbours = own.neighbours(j);
        let terms = count.map(|c| term(c, neighbours.len() as u32));
        *count = [0; LANES];
        for &x in neighbours {
            let sum = &mut sums[x as usize];
            for lane in 0..LANES {
                // `Ch2L3n::new` has bounded every sum; wrapping only frees tests of the checks.
                sum[lane] = sum[lane].wrapping_add(terms[lane]);
            }
        }
    }
}

/// CH2-L3n of every missing link of a pattern; weights play no part.
///
/// The sum over rows is made when the scorer is built and kept (8 bytes per matrix position: 89 MB
/// at 2048 × 5461); the sum over columns is made eight columns at a time while visiting. Together
/// at most `nnz·(rows + cols)/8` additions of eight lanes, fewer while links still form a band.
pub struct Ch2L3n<'a> {
    pattern: &'a Pattern,
    transposed: Transposed,
    /// Block `i/8` holds `cols` groups of the sums for rows `i/8·8 ..`.
    row_sums: Vec<[u64; LANES]>,
}

/// Working memory of one thread.
pub struct Scratch {
    common: Vec<[u32; LANES]>,
    sums: Vec<[u64; LANES]>,
    linked: Vec<u8>,
}

impl<'a> Ch2L3n<'a> {
    /// Prepares the scores of `pattern`.
    ///
    /// Errors: `Error::Shape` when a fixed-point sum could overflow. A term reaching a candidate is
    /// at most the member's degree and each member counts once, so a score is at most 2·nnz; the
    /// sums left behind at existing links stay below 2·nnz + rows + cols. 2²⁸ of these units of 1
    /// fit 64 bits with 36 fractional ones: over a hundred million links in one matrix.
    pub fn new(pattern: &'a Pattern) -> Result<Self> {
        let (rows, cols) = (pattern.rows(), pattern.cols());
        let largest = 2 * pattern.nnz() + rows + cols;
        if largest >= 1 << 28 {
            return Err(Error::shape(
                "ch2_l3n",
                "2·nnz + rows + cols below 2^28 in one matrix",
                largest,
            ));
        }
        let transposed = pattern.transposed();
        let (own, other) = (Side::rows(pattern), Side::columns(&transposed));
        let mut row_sums = vec![[0; LANES]; rows.div_ceil(LANES) * cols];
        row_sums.par_chunks_mut(cols.max(1)).enumerate().for_each_init(
            || vec![[0; LANES]; rows],
            |common, (block, sums)| half(own, other, block * LANES, common, sums),
        );
        Ok(Ch2L3n { pattern, transposed, row_sums })
    }

    /// Visits the missing links of eight columns with their scores in units of 2⁻³⁶.
    fn visit_fixed<F: FnMut(u64, u64)>(&self, piece: usize, scratch: &mut Scratch, mut each: F) {
        let (rows, cols) = (self.pattern.rows(), self.pattern.cols());
        let (own, other) = (Side::columns(&self.transposed), Side::rows(self.pattern));
        let Scratch { common, sums, linked } = scratch;
        sums.fill([0; LANES]);
        linked.fill(0);
        let first = piece * LANES;
        let width = LANES.min(cols - first);
        half(own, other, first, common, sums);
        for lane in 0..width {
            for &i in own.neighbours(first + lane) {
                linked[i as usize] |= 1 << lane;
            }
        }
        for i in 0..rows {
            let row = &self.row_sums[i / LANES * cols + first..][..width];
            for lane in 0..width {
                if linked[i] >> lane & 1 == 0 {
                    let score = row[lane][i % LANES] + sums[i][lane];
                    each((i * cols + first + lane) as u64, score);
                }
            }
        }
    }

    /// Scores of all positions in row-major order, `None` where a link exists. For inspection and
    /// tests: regrowth itself never holds them.
    pub fn dense(&self) -> Vec<Option<f64>> {
        let mut all = vec![None; self.pattern.rows() * self.pattern.cols()];
        let mut scratch = self.scratch();
        for piece in 0..self.pieces() {
            self.visit(piece, &mut scratch, |index, score| all[index as usize] = Some(score));
        }
        all
    }
}

impl Scores for Ch2L3n<'_> {
    type Scratch = Scratch;

    fn pieces(&self) -> usize {
        self.pattern.cols().div_ceil(LANES)
    }

    fn scratch(&self) -> Scratch {
        Scratch {
            common: vec![[0; LANES]; self.pattern.cols()],
            sums: vec![[0; LANES]; self.pattern.rows()],
            linked: vec![0; self.pattern.rows()],
        }
    }

    fn visit<F: FnMut(u64, f64)>(&self, piece: usize, scratch: &mut Scratch, mut each: F) {
        // The power of two divides exactly, and sums below 2⁵³ (scores below 2¹⁷) convert exactly.
        self.visit_fixed(piece, scratch, |index, score| each(index, score as f64 * (1.0 / UNIT)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_of_three_by_three_by_hand() {
        // Rows 110 / 011 / 001. For (0,2): the paths are 0 - 1 - 1 - 2; member row 1 has c = 1,
        // d = 2, member column 1 has g = 1, d = 2: 2/1 + 2/1 = 4. (1,0) mirrors it: row 0 has c = 1,
        // d = 2 and column 1 has g = 1, d = 2. (2,1): row 1 (c 1, d 2), column 2 (g 1, d 2).
        let p = Pattern::from_flat(3, 3, &[0, 1, 4, 5, 8]).unwrap();
        let s = Ch2L3n::new(&p).unwrap().dense();
        let (none, four) = (None, Some(4.0));
        assert_eq!(s, [none, none, four, four, none, none, Some(0.0), four, none]);
    }

    #[test]
    fn empty_full_and_thin_matrices() {
        assert!(Ch2L3n::new(&Pattern::full(9, 17)).unwrap().dense().iter().all(Option::is_none));
        let empty = Pattern::from_flat(3, 2, &[]).unwrap();
        assert_eq!(Ch2L3n::new(&empty).unwrap().dense(), [Some(0.0); 6]);
        // One row: no path of length three leads to a missing link.
        let thin = Pattern::from_flat(1, 9, &[0, 8]).unwrap();
        let s = Ch2L3n::new(&thin).unwrap().dense();
        assert!(s.iter().flatten().all(|&x| x == 0.0) && s.iter().flatten().count() == 7);
        let none = Pattern::from_flat(0, 0, &[]).unwrap();
        assert_eq!(Ch2L3n::new(&none).unwrap().dense(), []);
    }
}
