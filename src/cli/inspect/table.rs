//! Tables as text: the first column to the left, the others to the right, each as wide as its content.

/// Rows under a heading.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// Without rows yet.
    pub fn new(heading: &[&str]) -> Self {
        Table { rows: vec![heading.iter().map(|h| h.to_string()).collect()] }
    }

    /// Adds a row with a cell for each column; an empty cell says that there is no such thing.
    pub fn row(&mut self, cells: Vec<String>) {
        debug_assert_eq!(cells.len(), self.rows[0].len());
        self.rows.push(cells);
    }

    /// The lines, heading first. Columns without any content are left out.
    pub fn lines(&self) -> Vec<String> {
        let (heading, body) = self.rows.split_first().expect("made with a heading");
        let filled = |c: &usize| body.iter().any(|row| !row[*c].is_empty());
        let columns: Vec<usize> = (0..heading.len()).filter(filled).collect();
        let width = |c: usize| self.rows.iter().map(|row| row[c].chars().count()).max();
        let line = |row: &Vec<String>| {
            let mut line = String::new();
            for (i, &c) in columns.iter().enumerate() {
                let width = width(c).unwrap_or(0);
                line += &match i {
                    0 => format!("{:<width$}", row[c]),
                    _ => format!("  {:>width$}", row[c]),
                };
            }
            line.trim_end().to_string()
        };
        self.rows.iter().map(line).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_empty_ones_left_out() {
        let mut t = Table::new(&["name", "absent", "n"]);
        t.row(["a", "", "1000"].map(String::from).into());
        t.row(["longer", "", ""].map(String::from).into());
        assert_eq!(t.lines(), ["name       n", "a       1000", "longer"]);
    }
}
