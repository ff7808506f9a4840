//! Writes tables: aligned on a terminal, tab-separated in a pipe.

use crate::output::plain;

/// Rows of text under one header.
#[derive(Debug)]
pub(crate) struct TextTable {
    rows: Vec<Vec<String>>,
}

impl TextTable {
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
                .map(|(column, cell)| {
                    format!("{cell:width$}", width = widths.get(column).copied().unwrap_or(0))
                })
                .collect();
            text.push_str(cells.join(if aligned { "  " } else { "\t" }).trim_end_matches(' '));
            text.push('\n');
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let columns = self.rows.first().map_or(0, Vec::len);
        let width = |column: usize| {
            self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0)
        };
        (0..columns).map(width).collect()
    }
}

/// One fact a line, the names aligned: `scope  trade`.
pub(crate) fn facts(facts: &[(&str, String)]) -> String {
    facts_within(None, facts)
}

/// The same in lines of at most `columns` columns. A longer value goes on in the next line,
/// indented further than any value begins. So no part of it can be taken for a fact or a value of
/// its own.
pub(crate) fn facts_within(columns: Option<usize>, facts: &[(&str, String)]) -> String {
    let width = facts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let value = |value: &str| match columns {
        Some(columns) => hung(&plain(value), columns, width + GAP),
        None => plain(value),
    };
    facts.iter().map(|(name, text)| format!("{name:width$}{:GAP$}{}\n", "", value(text))).collect()
}

const GAP: usize = 2;

/// Cuts `text` into lines of at most `columns`; the first line begins at `indent`. Cuts after a
/// blank if one is near, because people compare words and groups.
fn hung(text: &str, columns: usize, indent: usize) -> String {
    // A terminal may put the last column on a line of its own.
    let end = columns.saturating_sub(1).max(indent + NARROWEST);
    let (mut lines, mut line, mut start) =
        (String::with_capacity(text.len()), String::new(), indent);
    for letter in text.chars() {
        if start + wide(&line) + wide(letter.encode_utf8(&mut [0; 4])) > end {
            let near = line.rfind(' ').map(|blank| blank + 1).filter(|cut| *cut > line.len() / 2);
            let rest = line.split_off(near.unwrap_or(line.len()));
            start = indent + FURTHER;
            lines.push_str(&format!("{line}\n{:start$}", ""));
            line = rest;
        }
        line.push(letter);
    }
    lines + &line
}

/// Largest number of columns that the text can take.
fn wide(text: &str) -> usize {
    text.chars().map(|letter| if letter.is_ascii() { 1 } else { 2 }).sum()
}

const FURTHER: usize = 4;
/// Shortest line: a narrower terminal gets lines of this length all the same.
const NARROWEST: usize = 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_for_people_and_plain_for_programs() {
        let mut table = TextTable::new(["NAME", "SCOPES"]);
        table.row(["a".to_owned(), "read, trade".to_owned()]);
        table.row(["binance\n".to_owned(), String::new()]);
        assert_eq!(table.write(true), "NAME       SCOPES\na          read, trade\nbinance\\n\n");
        assert_eq!(table.write(false), "NAME\tSCOPES\na\tread, trade\nbinance\\n\t\n");
    }

    #[test]
    fn facts_stand_under_each_other() {
        assert_eq!(facts(&[("a", "1".to_owned()), ("bcd", "2".to_owned())]), "a    1\nbcd  2\n");
    }

    #[test]
    fn a_long_value_goes_on_further_in_and_whole() {
        let long =
            format!("{}loosens  nothing, approvals  0 of 0 \u{51b7}\u{51b7}", "x".repeat(70));
        let told = [("loosens", long.clone()), ("", "+line".to_owned())];
        for columns in [0, 1, 20, 40, 79, 80, 81, 200] {
            let text = facts_within(Some(columns), &told);
            let lines: Vec<&str> = text.lines().collect();
            let value = |line: &&str| line.get(9..).expect("the column of values").to_owned();
            for line in &lines {
                assert!(wide(line) < columns.max(30), "{columns}: {line}");
                let begins = line.starts_with("loosens  x") || line.starts_with("         ");
                assert!(begins, "{columns}: {line}");
            }
            let (last, first) = lines.split_last().expect("lines");
            assert_eq!(*last, "         +line");
            let parts: Vec<String> = first.iter().map(value).collect();
            assert!(parts[1..].iter().all(|part| part.starts_with("    ")), "{columns}: {parts:?}");
            let whole = parts[1..].iter().fold(parts[0].clone(), |all, part| all + &part[4..]);
            assert_eq!(whole, long, "{columns}");
        }
        assert_eq!(facts_within(None, &told), facts(&told), "programs get whole lines");
        let address = [("address", "bc1q ar0s rrr7 xfkv y5l6 43ly".to_owned())];
        let text = facts_within(Some(32), &address);
        assert_eq!(
            text, "address  bc1q ar0s rrr7 xfkv \n             y5l6 43ly\n",
            "no group is cut"
        );
    }
}
