//! What values may hold where an exchange signs them unescaped, by the names of their parameters.

use super::{Opening, Role};

/// What a value that is signed unescaped may hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Content {
    /// The name of an asset or a symbol, in letters of any script.
    Instrument,
    /// What the exchange itself gave out, to be sent back as it came: a page's cursor.
    Opaque,
    /// Nothing that could end a parameter, or be read in two ways.
    Plain,
}

/// A table's lines `opaque NAME # source` and `instrument NAME # source`, and the names that its
/// roles call assets and symbols.
#[derive(Debug)]
pub(super) struct Contents {
    opaque: Vec<&'static str>,
    instruments: Vec<&'static str>,
}

const OPAQUE: &str = "opaque ";
const INSTRUMENT: &str = "instrument ";

/// Whether a line of a `.params` file says what a value may hold, so that it is not a row.
pub(super) fn says_content(line: &str) -> bool {
    line.starts_with(OPAQUE) || line.starts_with(INSTRUMENT)
}

impl Contents {
    /// # Panics
    /// On a line without exactly one name and a source: the files are part of the program.
    pub(super) fn parse(params: &'static str, openings: &[Opening]) -> Self {
        let said = |word: &str| {
            params.lines().filter_map(|line| line.strip_prefix(word)).map(parse_name).collect()
        };
        let mut instruments: Vec<_> = said(INSTRUMENT);
        for (role, source) in openings.iter().flat_map(|opening| &opening.roles) {
            if let (Role::Asset | Role::Common | Role::Symbol, Some(name)) =
                (role, source.parameter())
            {
                instruments.push(name);
            }
        }
        Self { opaque: said(OPAQUE), instruments }
    }

    /// `reads`: whether the request is for a row of scope read. What is not is judged by values
    /// that say what they are.
    pub(super) fn of(&self, name: &str, reads: bool) -> Content {
        if reads && self.opaque.contains(&name) {
            Content::Opaque
        } else if self.instruments.contains(&name) {
            Content::Instrument
        } else {
            Content::Plain
        }
    }

    pub(super) fn has_opaque(&self) -> bool {
        !self.opaque.is_empty()
    }
}

fn parse_name(rest: &'static str) -> &'static str {
    let (name, source) = rest.split_once('#').unwrap_or_else(|| panic!("without a source: {rest}"));
    let mut words = name.split_whitespace();
    match (words.next(), words.next()) {
        (Some(name), None) if !source.trim().is_empty() => name,
        _ => panic!("not one name and its source: {rest}"),
    }
}
