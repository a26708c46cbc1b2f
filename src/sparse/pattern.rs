//! The links of one sparse matrix in CSR, on the host, with the invariants everything relies on.

use crate::error::{Error, Result};

/// Links of an (rows = outputs, cols = inputs) matrix in CSR order, without values.
///
/// Invariants, established by every constructor: `row_offsets` has `rows + 1` entries, starts at 0,
/// never decreases and ends at `nnz`; the column indices of a row increase strictly and are below
/// `cols`; `nnz` and `rows·cols` fit the index types of the kernels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    rows: usize,
    cols: usize,
    row_offsets: Vec<u32>,
    column_indices: Vec<u32>,
}

/// The same links in CSC order: for transposed products and for walking the inputs of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transposed {
    /// `cols + 1` offsets into `row_indices`.
    pub col_offsets: Vec<u32>,
    /// Row of each link, increasing within a column.
    pub row_indices: Vec<u32>,
    /// CSR position of each link, so `values_t[i] = values[source[i]]`.
    pub source: Vec<u32>,
}

impl Pattern {
    /// Checks all invariants; the error names the first that fails.
    pub fn new(
        rows: usize,
        cols: usize,
        row_offsets: Vec<u32>,
        column_indices: Vec<u32>,
    ) -> Result<Self> {
        let bad = |expected: String, got: String| Err(Error::shape("pattern", expected, got));
        if rows >= 1 << 31 || cols >= 1 << 31 {
            return bad("dimensions below 2^31".into(), format!("{rows} x {cols}"));
        }
        if row_offsets.len() != rows + 1 {
            return bad(format!("{} row offsets", rows + 1), row_offsets.len().to_string());
        }
        if row_offsets[0] != 0 || row_offsets[rows] as usize != column_indices.len() {
            return bad(
                format!("row offsets from 0 to nnz = {}", column_indices.len()),
                format!("{} to {}", row_offsets[0], row_offsets[rows]),
            );
        }
        for m in 0..rows {
            let (start, end) = (row_offsets[m] as usize, row_offsets[m + 1] as usize);
            if start > end || end > column_indices.len() {
                return bad("non-decreasing row offsets".into(), format!("{start} > {end} at {m}"));
            }
            let row = &column_indices[start..end];
            for (i, &c) in row.iter().enumerate() {
                if c as usize >= cols {
                    return bad(format!("columns below {cols}"), format!("{c} in row {m}"));
                }
                if i > 0 && row[i - 1] >= c {
                    return bad(
                        "strictly increasing columns".into(),
                        format!("{} then {c} in row {m}", row[i - 1]),
                    );
                }
            }
        }
        Ok(Pattern { rows, cols, row_offsets, column_indices })
    }

    /// From row-major flat indices (`row·cols + col`), sorted and unique.
    pub fn from_flat(rows: usize, cols: usize, flat: &[u64]) -> Result<Self> {
        let mut row_offsets = vec![0u32; rows + 1];
        let mut column_indices = Vec::with_capacity(flat.len());
        for (i, &f) in flat.iter().enumerate() {
            let row = (f / cols.max(1) as u64) as usize;
            if row >= rows || (i > 0 && flat[i - 1] >= f) {
                return Err(Error::shape(
                    "pattern",
                    format!("sorted unique flat indices below {}", rows * cols),
                    f,
                ));
            }
            row_offsets[row + 1] += 1;
            column_indices.push((f % cols as u64) as u32);
        }
        for m in 0..rows {
            row_offsets[m + 1] += row_offsets[m];
        }
        Pattern::new(rows, cols, row_offsets, column_indices)
    }

    /// All `rows·cols` links.
    pub fn full(rows: usize, cols: usize) -> Self {
        Pattern {
            rows,
            cols,
            row_offsets: (0..=rows).map(|m| (m * cols) as u32).collect(),
            column_indices: (0..rows).flat_map(|_| 0..cols as u32).collect(),
        }
    }

    /// Number of outputs.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of inputs.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Number of links.
    pub fn nnz(&self) -> usize {
        self.column_indices.len()
    }

    /// `rows + 1` offsets into [`Pattern::column_indices`].
    pub fn row_offsets(&self) -> &[u32] {
        &self.row_offsets
    }

    /// Input of each link, increasing within a row.
    pub fn column_indices(&self) -> &[u32] {
        &self.column_indices
    }

    /// Positions of row `m` among the links.
    pub fn range(&self, m: usize) -> std::ops::Range<usize> {
        self.row_offsets[m] as usize..self.row_offsets[m + 1] as usize
    }

    /// Inputs that output `m` is linked to.
    pub fn row(&self, m: usize) -> &[u32] {
        &self.column_indices[self.range(m)]
    }

    /// Share of the possible links that exist.
    pub fn density(&self) -> f64 {
        self.nnz() as f64 / (self.rows as f64 * self.cols as f64).max(1.0)
    }

    /// Row-major flat index of every link, increasing.
    pub fn flat(&self) -> Vec<u64> {
        (0..self.rows)
            .flat_map(|m| self.row(m).iter().map(move |&c| (m * self.cols) as u64 + u64::from(c)))
            .collect()
    }

    /// Links per input.
    pub fn column_degrees(&self) -> Vec<u32> {
        let mut degrees = vec![0u32; self.cols];
        for &c in &self.column_indices {
            degrees[c as usize] += 1;
        }
        degrees
    }

    /// Outputs and inputs without any link.
    pub fn unlinked(&self) -> (usize, usize) {
        let rows = (0..self.rows).filter(|&m| self.range(m).is_empty()).count();
        let cols = self.column_degrees().iter().filter(|&&d| d == 0).count();
        (rows, cols)
    }

    /// Share of the columns that panels of `height` consecutive rows keep, averaged over panels:
    /// the work of a panel kernel relative to the dense product.
    pub fn kept_columns(&self, height: usize) -> f64 {
        let mut seen = vec![usize::MAX; self.cols];
        let (mut kept, mut panels) = (0usize, 0usize);
        for first in (0..self.rows).step_by(height.max(1)) {
            for m in first..self.rows.min(first + height) {
                for &c in self.row(m) {
                    if seen[c as usize] != first {
                        seen[c as usize] = first;
                        kept += 1;
                    }
                }
            }
            panels += 1;
        }
        kept as f64 / (panels * self.cols).max(1) as f64
    }

    /// The same links in CSC order.
    pub fn transposed(&self) -> Transposed {
        let mut col_offsets = vec![0u32; self.cols + 1];
        for &c in &self.column_indices {
            col_offsets[c as usize + 1] += 1;
        }
        for k in 0..self.cols {
            col_offsets[k + 1] += col_offsets[k];
        }
        let mut next = col_offsets.clone();
        let mut row_indices = vec![0u32; self.nnz()];
        let mut source = vec![0u32; self.nnz()];
        for m in 0..self.rows {
            for i in self.range(m) {
                let slot = &mut next[self.column_indices[i] as usize];
                row_indices[*slot as usize] = m as u32;
                source[*slot as usize] = i as u32;
                *slot += 1;
            }
        }
        Transposed { col_offsets, row_indices, source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constructors_refuse_every_broken_invariant() {
        let ok = Pattern::new(2, 3, vec![0, 2, 3], vec![0, 2, 1]).unwrap();
        assert_eq!((ok.nnz(), ok.row(0), ok.row(1)), (3, &[0u32, 2][..], &[1u32][..]));
        for (offsets, columns) in [
            (vec![0, 2], vec![0, 2]),
            (vec![1, 2, 3], vec![0, 2, 1]),
            (vec![0, 2, 4], vec![0, 2, 1]),
            (vec![0, 5, 3], vec![0, 2, 1]),
            (vec![0, 2, 3], vec![2, 0, 1]),
            (vec![0, 2, 3], vec![1, 1, 1]),
            (vec![0, 2, 3], vec![0, 3, 1]),
        ] {
            assert!(Pattern::new(2, 3, offsets.clone(), columns.clone()).is_err(), "{offsets:?}");
        }
        assert!(Pattern::from_flat(2, 3, &[0, 0]).is_err());
        assert!(Pattern::from_flat(2, 3, &[6]).is_err());
    }

    #[test]
    fn transposed_lists_every_link_once() {
        let p = Pattern::from_flat(3, 4, &[1, 3, 4, 5, 7, 9]).unwrap();
        let t = p.transposed();
        let flat = p.flat();
        let mut seen = vec![];
        for k in 0..4 {
            for i in t.col_offsets[k] as usize..t.col_offsets[k + 1] as usize {
                let f = u64::from(t.row_indices[i]) * 4 + k as u64;
                assert_eq!(flat[t.source[i] as usize], f);
                seen.push(f);
            }
        }
        seen.sort_unstable();
        assert_eq!(seen, flat);
        assert_eq!(p.unlinked(), (0, 1));
        assert_eq!(Pattern::from_flat(2, 2, &[0]).unwrap().unlinked(), (1, 1));
    }

    #[test]
    fn kept_columns_counts_the_union_of_each_panel() {
        // Rows {1,3}, {0,1,3}, {1} of 4 columns: panels {0,1,3} and {1}.
        let p = Pattern::from_flat(3, 4, &[1, 3, 4, 5, 7, 9]).unwrap();
        assert_eq!(p.kept_columns(2), (3.0 + 1.0) / 8.0);
        assert_eq!(p.kept_columns(16), 3.0 / 4.0);
        assert_eq!(Pattern::full(5, 3).kept_columns(2), 1.0);
    }
}
