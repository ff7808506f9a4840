//! Tables: aligned on a terminal, tab-separated where they are piped.

use crate::output::plain;

/// Rows of text under one header.
#[derive(Debug)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new<const COLUMNS: usize>(header: [&str; COLUMNS]) -> Self {
        Self { rows: vec![header.iter().map(|text| (*text).to_owned()).collect()] }
    }

    pub(crate) fn row<const COLUMNS: usize>(&mut self, cells: [String; COLUMNS]) {
        self.rows.push(cells.iter().map(|cell| plain(cell)).collect());
    }

    pub(crate) fn write(&self, aligned: bool) -> String {
        let widths = if aligned { self.widths() } else { Vec::new() };
        let mut text = String::new();
        for row in &self.rows {
            let cells: Vec<String> = row
                .iter()
                .enumerate()
                .map(|(column, cell)| format!("{cell:width$}", width = widths.get(column).copied().unwrap_or(0)))
                .collect();
            text.push_str(cells.join(if aligned { "  " } else { "\t" }).trim_end_matches(' '));
            text.push('\n');
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        (0..columns).map(width).collect()
    }
}

/// One fact a line, the names aligned: `scope  trade`.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    facts.iter().map(|(name, value)| format!("{name:width$}  {}\n", plain(value))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_for_people_and_plain_for_programs() {
        let mut table = Table::new(["NAME", "SCOPES"]);
        table.row(["a".to_owned(), "read, trade".to_owned()]);
        table.row(["binance\n".to_owned(), String::new()]);
        assert_eq!(table.write(true), "NAME       SCOPES\na          read, trade\nbinance\\n\n");
        assert_eq!(table.write(false), "NAME\tSCOPES\na\tread, trade\nbinance\\n\t\n");
    }

    #[test]
    fn facts_stand_under_each_other() {
        assert_eq!(facts(&[("a", "1".to_owned()), ("bcd", "2".to_owned())]), "a    1\nbcd  2\n");
    }
}
