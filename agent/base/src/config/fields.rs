//! Reads one table of the file field by field, and refuses every field that is not known.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::conceal;
use super::problem::{ConfigProblem, Problems};

pub(super) type FieldName<'a> = &'a Spanned<DeString<'a>>;
pub(super) type FieldValue<'a> = &'a Spanned<DeValue<'a>>;

/// The fields of one table that have not been read yet.
///
/// The tree is read by hand, not through serde. Serde stops at the first error, and the operator
/// should see all errors at once.
pub(super) struct Fields<'a> {
    /// The title as the file writes it, for example `[client.mm-bot]`.
    section: String,
    /// Place in the file at which a missing field is reported.
    at: Range<usize>,
    rest: BTreeMap<&'a str, (FieldName<'a>, FieldValue<'a>)>,
    asked: Vec<&'static str>,
    problems: &'a Problems,
}

impl<'a> Fields<'a> {
    pub(super) fn new(
        section: String,
        at: Range<usize>,
        table: &'a DeTable<'a>,
        problems: &'a Problems,
    ) -> Self {
        let rest =
            table.iter().map(|(key, value)| (key.get_ref().as_ref(), (key, value))).collect();
        Self { section, at, rest, asked: Vec::new(), problems }
    }

    /// The fields of a section that the file can have only once.
    pub(super) fn of_section(
        section: &str,
        value: FieldValue<'a>,
        problems: &'a Problems,
    ) -> Option<Self> {
        match value.get_ref() {
            DeValue::Table(table) => {
                Some(Self::new(section.to_owned(), value.span(), table, problems))
            }
            _ => problems.refuse(wrong_type(
                value,
                "a table",
                format!("write {section} on a line of its own"),
            )),
        }
    }

    pub(super) fn problems(&self) -> &'a Problems {
        self.problems
    }

    pub(super) fn at(&self) -> Range<usize> {
        self.at.clone()
    }

    /// The text of a field, not checked. The code that reads the field checks it.
    pub(super) fn glance(&self, name: &str) -> Option<&'a str> {
        match self.rest.get(name)?.1.get_ref() {
            DeValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// Place of the field's value, if the field was not read yet.
    pub(super) fn span(&self, name: &str) -> Option<Range<usize>> {
        self.rest.get(name).map(|(_, value)| value.span())
    }

    /// Reads a field. `None` if it is absent, or if it is wrong and now among the problems.
    pub(super) fn optional<T>(
        &mut self,
        name: &'static str,
        read: impl FnOnce(FieldValue<'a>, &'a Problems) -> Option<T>,
    ) -> Option<T> {
        self.asked.push(name);
        let (_, value) = self.rest.remove(name)?;
        read(value, self.problems)
    }

    /// Reads a field that must be there; `example` shows a value for it.
    pub(super) fn required<T>(
        &mut self,
        name: &'static str,
        example: &str,
        read: impl FnOnce(FieldValue<'a>, &'a Problems) -> Option<T>,
    ) -> Option<T> {
        if !self.rest.contains_key(name) {
            let problem = ConfigProblem::new(
                self.at(),
                format!("expected a field `{name}`"),
                "it is missing here",
                format!("add to {}: {name} = {example}", self.section),
            );
            self.problems.add(problem);
        }
        self.optional(name, read)
    }

    /// Refuses every field that was not read.
    pub(super) fn finish(self) {
        for (name, (key, value)) in &self.rest {
            if self.section.starts_with("[token.") || conceal::is_secret_name(name) {
                self.problems.hide(value.span());
            }
            let what = if self.section.starts_with('[') { "field" } else { "section" };
            let title = format!("expected a {what} of {}", self.section);
            let problem = ConfigProblem::new(
                key.span(),
                title,
                format!("no such {what}"),
                choose(name, &self.asked),
            );
            self.problems.add(problem);
        }
    }
}

/// Says which words are known here, and which of them the operator probably meant.
pub(super) fn choose<'a>(wrong: &str, known: impl IntoIterator<Item = &'a &'a str>) -> String {
    const SIMILAR: f64 = 0.8;
    let mut known: Vec<&str> = known.into_iter().copied().collect();
    let alike = |name: &str| (strsim::jaro_winkler(&wrong.to_lowercase(), name) * 1000.0) as u32;
    known.sort_by_key(|name| (Reverse(alike(name)), *name));
    let likely = known.first().filter(|name| f64::from(alike(name)) >= SIMILAR * 1000.0).copied();
    known.sort_unstable();
    let all = known.join(", ");
    match likely {
        Some(name) => format!("did you mean {name}? There are: {all}"),
        None if all.is_empty() => "there are none".to_owned(),
        None => format!("there are: {all}"),
    }
}

/// The tables of `[section.ONE]` and `[section.OTHER]`, with their names.
pub(super) fn named_tables<'a>(
    section: &str,
    value: FieldValue<'a>,
    problems: &'a Problems,
) -> Option<Vec<(&'a str, Fields<'a>)>> {
    let DeValue::Table(tables) = value.get_ref() else {
        return problems.refuse(wrong_type(value, "a table", format!("write [{section}.NAME]")));
    };
    let named = tables.iter().filter_map(|(key, value)| {
        let name = key.get_ref().as_ref();
        let DeValue::Table(table) = value.get_ref() else {
            if section == "token" {
                problems.hide(value.span());
            }
            let problem = ConfigProblem::new(
                key.span(),
                "expected a name with a table",
                format!("found {}", kind(value)),
                format!("give it a name: [{section}.NAME]"),
            );
            return problems.refuse(problem);
        };
        Some((name, Fields::new(format!("[{section}.{name}]"), key.span(), table, problems)))
    });
    Some(named.collect())
}

/// The tables of a list, each shown as `section`; `help` shows how to write them.
pub(super) fn repeated_tables<'a>(
    section: &str,
    help: &str,
    value: FieldValue<'a>,
    problems: &'a Problems,
) -> Option<Vec<Fields<'a>>> {
    let DeValue::Array(list) = value.get_ref() else {
        return problems.refuse(wrong_type(value, "a list of tables", help));
    };
    let tables = list.iter().filter_map(|value| match value.get_ref() {
        DeValue::Table(table) => {
            Some(Fields::new(section.to_owned(), value.span(), table, problems))
        }
        _ => problems.refuse(wrong_type(value, "a table", help)),
    });
    Some(tables.collect())
}

/// The problem of a value that is of another type than `expected`.
pub(super) fn wrong_type(
    value: FieldValue<'_>,
    expected: &str,
    help: impl Into<String>,
) -> ConfigProblem {
    ConfigProblem::new(
        value.span(),
        format!("expected {expected}"),
        format!("found {}", kind(value)),
        help,
    )
}

fn kind(value: FieldValue<'_>) -> &'static str {
    match value.get_ref() {
        DeValue::Array(_) => "a list",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Float(_) | DeValue::Integer(_) => "a number",
        DeValue::String(_) => "text",
        DeValue::Table(_) => "a table",
    }
}
