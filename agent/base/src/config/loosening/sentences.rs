//! Collects the sentences about a loosening: one for each section and field, with the values that a
//! person has to judge.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::Path;

use countersign_core::legible::{LegibleName, Likeness, quoted, word};
use countersign_core::policy::Rate;

/// The sentences that were collected so far.
#[derive(Debug, Default)]
pub(super) struct Sentences(Vec<String>);

impl Sentences {
    pub(super) fn add(&mut self, sentence: String) {
        self.0.push(sentence);
    }

    /// Adds the sentence that a field has changed from one value to another.
    pub(super) fn change(&mut self, section: &str, field: &str, before: &str, after: &str) {
        self.add(format!("{section} {field}: from {before} to {after}"));
    }

    /// Adds a new section, with all its fields.
    pub(super) fn new_section<T: Display>(
        &mut self,
        section: &str,
        fields: impl IntoIterator<Item = (T, String)>,
    ) {
        self.add(format!("{section} is new"));
        for (field, value) in fields {
            self.add(format!("{section} {field}: {value}"));
        }
    }

    /// Warns of a name that a person may take for another one.
    pub(super) fn warn_of_looks<'a>(
        &mut self,
        section: &str,
        name: &str,
        others: impl Iterator<Item = &'a LegibleName<'a>>,
    ) {
        let look = LegibleName::of(name);
        let mut warned = BTreeSet::new();
        for other in others {
            let differ = match look.like(other) {
                Some(Likeness::Blanks) => "differs only in blanks or unseen characters from",
                Some(Likeness::Letters) => "looks like",
                None => continue,
            };
            if warned.insert(other.name()) {
                self.add(format!(
                    "{section}: LOOK TWICE, {} {differ} {}",
                    quoted(name),
                    quoted(other.name())
                ));
            }
        }
    }

    pub(super) fn count(&self) -> usize {
        self.0.len()
    }

    pub(super) fn into_list(self) -> Vec<String> {
        self.0
    }
}

/// The title of a section, for example `[client.NAME]`.
pub(super) fn section(kind: &str, name: &str) -> String {
    format!("[{kind}.{}]", word(name))
}

pub(super) fn path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

pub(super) fn maybe_path(found: Option<&Path>) -> String {
    found.map_or_else(|| "none".to_owned(), path)
}

pub(super) fn maybe(text: Option<&str>) -> String {
    text.map_or_else(|| "none".to_owned(), quoted)
}

/// Lists the words; `none` stands for an empty list. A word that is itself `any` or `none` is put
/// in quotes.
pub(super) fn list<T: AsRef<str>>(words: impl IntoIterator<Item = T>, none: &str) -> String {
    let show = |one: &str| if ["any", "none"].contains(&one) { quoted(one) } else { word(one) };
    let words: Vec<String> = words.into_iter().map(|one| show(one.as_ref())).collect();
    if words.is_empty() { none.to_owned() } else { words.join(", ") }
}

/// The rate as `agent.toml` writes it.
pub(super) fn rate(rate: Option<Rate>) -> String {
    match rate {
        None => "no limit".to_owned(),
        Some(Rate { count, per_ms: 1_000 }) => format!("{count}/s"),
        Some(Rate { count, per_ms: 60_000 }) => format!("{count}/min"),
        Some(Rate { count, per_ms }) => format!("{count} in {per_ms} ms"),
    }
}
