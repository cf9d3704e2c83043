//! Plain text tables for terminals.

/// A table: a header and rows of the same length. A column of numbers is set to the right.
#[derive(Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub fn new(header: &[&str]) -> Self {
        Self { rows: vec![header.iter().map(ToString::to_string).collect()] }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    fn columns(&self) -> usize {
        self.rows.iter().map(Vec::len).max().unwrap_or(0)
    }

    fn cell(&self, row: usize, column: usize) -> &str {
        let row = self.rows.get(row);
        row.and_then(|row| row.get(column)).map_or("", String::as_str)
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let rows = self.rows.len();
        let layout: Vec<(usize, bool)> = (0..self.columns())
            .map(|column| {
                let cells = || (0..rows).map(|row| self.cell(row, column));
                let width = cells().map(|cell| cell.chars().count()).max().unwrap_or(0);
                let numbers = cells().skip(1).all(|cell| cell.chars().all(|c| "0123456789.,/".contains(c)));
                (width, numbers && rows > 1)
            })
            .collect();
        for row in 0..rows {
            let mut line = String::new();
            for (column, &(width, right)) in layout.iter().enumerate() {
                let cell = self.cell(row, column);
                line.push_str(&if right { format!("{cell:>width$}  ") } else { format!("{cell:<width$}  ") });
            }
            writeln!(f, "{}", line.trim_end())?;
            if row == 0 {
                let rule: usize = layout.iter().map(|(width, _)| width + 2).sum();
                writeln!(f, "{}", "-".repeat(rule.saturating_sub(2)))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_to_the_left_and_numbers_to_the_right() {
        let mut table = Table::new(&["name", "count"]);
        table.row(["a".to_owned(), "7".to_owned()]);
        table.row(["longer".to_owned(), "12".to_owned()]);
        assert_eq!(table.to_string(), "name    count\n-------------\na           7\nlonger     12\n");
    }
}
