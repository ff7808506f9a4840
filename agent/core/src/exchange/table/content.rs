//! Says which text a value may hold if it is signed unescaped, by the name of its parameter.

use super::{Opening, Role};

/// The kinds of text that a value may hold if it is signed unescaped.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Content {
    /// The name of an asset or a symbol, in letters of any script.
    Instrument,
    /// A text that the exchange itself gave out, to be sent back as it came, such as the cursor of
    /// a page.
    Opaque,
    /// A text that cannot end its parameter and cannot be read in two ways.
    Plain,
}

/// A table's lines `opaque NAME # source` and `instrument NAME # source`, and the names that its
/// roles call assets and symbols.
#[derive(Debug)]
pub(super) struct ContentNames {
    opaque: Vec<&'static str>,
    instruments: Vec<&'static str>,
}

const OPAQUE: &str = "opaque ";
const INSTRUMENT: &str = "instrument ";

/// True if a line of a `.params` file says what a value may hold. Such a line is not a row.
pub(super) fn says_content(line: &str) -> bool {
    line.starts_with(OPAQUE) || line.starts_with(INSTRUMENT)
}

impl ContentNames {
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

    /// `reads` is true if the request is for a row of scope read. No other request may hold an
    /// opaque value, because the rules must be able to read it.
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
