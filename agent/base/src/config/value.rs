//! Reads single values: text, numbers, amounts, paths, lists.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::{Component, Path, PathBuf};

use countersign_core::decimal::Amount;
use countersign_core::instrument;
use countersign_core::key::{KeyName, NotAName};
use countersign_core::policy::Rate;
use toml::de::{DeTable, DeValue};

use super::fields::{FieldName, FieldValue, choose, wrong_type};
use super::listener::LONGEST_SOCKET_PATH;
use super::problem::{ConfigProblem, Problems};

/// Text that is not empty and has no control characters.
pub(super) fn text<'a>(value: FieldValue<'a>, problems: &Problems) -> Option<&'a str> {
    text_for("text", "write what is meant in quotes, or leave the field out", value, problems)
}

/// Reads text as [`text`] does, with more exact words for the error.
fn text_for<'a>(
    expected: &str,
    help: &str,
    value: FieldValue<'a>,
    problems: &Problems,
) -> Option<&'a str> {
    let DeValue::String(text) = value.get_ref() else {
        return problems.refuse(wrong_type(value, &format!("{expected} in quotes"), help));
    };
    let problem =
        |found| ConfigProblem::new(value.span(), format!("expected {expected}"), found, help);
    problems.keep(is_text(text).map(|()| text.as_ref()).map_err(problem))
}

fn is_text(text: &str) -> Result<(), &'static str> {
    match text {
        text if text.trim().is_empty() => Err("it is empty"),
        text if text.chars().any(char::is_control) => Err("it has control characters"),
        _ => Ok(()),
    }
}

/// A word of printable ASCII, as exchanges use it for networks and addresses.
pub(super) fn word<'a>(value: FieldValue<'a>, problems: &Problems) -> Option<&'a str> {
    let word = text(value, problems)?;
    problems.keep(is_word(word).map(|()| word).map_err(|found| not_a_word(value.span(), found)))
}

/// The name of an asset or a symbol, which may have letters of any script.
pub(super) fn instrument<'a>(value: FieldValue<'a>, problems: &Problems) -> Option<&'a str> {
    let name = text(value, problems)?;
    problems.keep(
        is_instrument(name).map(|()| name).map_err(|found| not_an_instrument(value.span(), found)),
    )
}

/// The name of an asset or a symbol, used as the name of a field.
pub(super) fn instrument_key<'a>(key: FieldName<'a>, problems: &Problems) -> Option<&'a str> {
    let name = key.get_ref().as_ref();
    problems.keep(
        is_instrument(name).map(|()| name).map_err(|found| not_an_instrument(key.span(), found)),
    )
}

/// Checks that a text can be the name of an asset or a symbol. The error says what is wrong with
/// it.
pub(super) fn is_instrument(name: &str) -> Result<(), &'static str> {
    match name {
        "" => Err("it is empty"),
        name if instrument::is_name(name) => Ok(()),
        _ => Err("it has blanks, controls or characters that are neither ASCII nor letters"),
    }
}

fn not_an_instrument(span: std::ops::Range<usize>, found: &str) -> ConfigProblem {
    ConfigProblem::new(
        span,
        "expected the name of an asset or a symbol",
        found,
        "write it exactly as the exchange does",
    )
}

fn is_word(word: &str) -> Result<(), &'static str> {
    match word {
        "" => Err("it is empty"),
        word if word.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(()),
        _ => Err("it has blanks or characters that are not ASCII"),
    }
}

fn not_a_word(span: std::ops::Range<usize>, found: &str) -> ConfigProblem {
    ConfigProblem::new(
        span,
        "expected one word of printable ASCII",
        found,
        "write it exactly as the exchange does",
    )
}

pub(super) fn boolean(value: FieldValue<'_>, problems: &Problems) -> Option<bool> {
    match value.get_ref() {
        DeValue::Boolean(yes) => Some(*yes),
        _ => problems.refuse(wrong_type(value, "true or false", "write it without quotes")),
    }
}

/// A whole number within a range.
pub(super) fn integer(
    value: FieldValue<'_>,
    range: RangeInclusive<u32>,
    problems: &Problems,
) -> Option<u32> {
    let DeValue::Integer(integer) = value.get_ref() else {
        return problems.refuse(wrong_type(value, "a whole number", "write it without quotes"));
    };
    let number = u32::from_str_radix(integer.as_str(), integer.radix())
        .ok()
        .filter(|number| range.contains(number));
    let expected = || format!("expected a whole number from {} to {}", range.start(), range.end());
    problems.keep(number.ok_or_else(|| {
        ConfigProblem::new(
            value.span(),
            expected(),
            "it is outside",
            "choose a number between the two",
        )
    }))
}

/// Reads one of the known words, and returns its meaning.
pub(super) fn one_of<T: Copy>(
    value: FieldValue<'_>,
    words: &[(&str, T)],
    problems: &Problems,
) -> Option<T> {
    let names: Vec<&str> = words.iter().map(|(name, _)| *name).collect();
    let word = text_for("a known word", &choose("", &names), value, problems)?;
    let known = words.iter().find(|(known, _)| *known == word).map(|(_, meaning)| *meaning);
    let problem = || {
        ConfigProblem::new(
            value.span(),
            "expected a known word",
            "no such word here",
            choose(word, &names),
        )
    };
    problems.keep(known.ok_or_else(problem))
}

const PLAIN_DECIMAL: &str = "digits, optionally a point and digits: \"0.5\"; no sign, exponent, \
                             separator or leading \
                             zero, at most 28 digits";

/// A decimal of zero or more.
pub(super) fn amount(value: FieldValue<'_>, problems: &Problems) -> Option<Amount> {
    let in_quotes = |number: &dyn std::fmt::Display| {
        let problem = ConfigProblem::new(
            value.span(),
            "expected a decimal in quotes",
            "found a number without quotes",
            format!("write it as a string, so that no digit is lost: \"{number}\""),
        );
        Err(problem)
    };
    let amount = match value.get_ref() {
        DeValue::Float(number) => in_quotes(number),
        DeValue::Integer(number) => in_quotes(number),
        DeValue::String(text) => Amount::parse(text).map_err(|_| {
            ConfigProblem::new(
                value.span(),
                "expected a plain decimal",
                "not a plain decimal",
                PLAIN_DECIMAL,
            )
        }),
        _ => Err(wrong_type(value, "a decimal in quotes", "for example \"0.5\"")),
    };
    problems.keep(amount)
}

/// A limit above zero. Zero would allow nothing, and is more likely a mistake.
pub(super) fn limit(value: FieldValue<'_>, problems: &Problems) -> Option<Amount> {
    let amount = amount(value, problems)?;
    let problem = || {
        ConfigProblem::new(
            value.span(),
            "expected a decimal above zero",
            "zero allows nothing",
            "to forbid something, leave out the scope, symbol or section that allows it",
        )
    };
    problems.keep(if amount.is_zero() { Err(problem()) } else { Ok(amount) })
}

/// `50/s` or `600/min`.
pub(super) fn rate(value: FieldValue<'_>, problems: &Problems) -> Option<Rate> {
    const RATE_HELP: &str =
        "a whole number from 1 to 1000000, a slash, and s or min: \"50/s\", \"600/min\"";
    let rate = text_for("a rate", RATE_HELP, value, problems)?;
    problems.keep(parse_rate(rate).ok_or_else(|| {
        ConfigProblem::new(value.span(), "expected a rate", "not a rate", RATE_HELP)
    }))
}

fn parse_rate(text: &str) -> Option<Rate> {
    const MOST_PER_PERIOD: u32 = 1_000_000;
    let (count, unit) = text.split_once('/')?;
    let per_ms = match unit {
        "min" => 60_000,
        "s" => 1_000,
        _ => return None,
    };
    let plain = count.bytes().all(|byte| byte.is_ascii_digit()) && !count.starts_with('0');
    let count =
        count.parse().ok().filter(|count| plain && (1..=MOST_PER_PERIOD).contains(count))?;
    Some(Rate { count, per_ms })
}

/// An absolute path without `..`.
pub(super) fn path(value: FieldValue<'_>, problems: &Problems) -> Option<PathBuf> {
    const PATH_HELP: &str = "write the whole path, from / on";
    let path = Path::new(text_for("an absolute path", PATH_HELP, value, problems)?);
    let problem = |found: &str| {
        ConfigProblem::new(value.span(), "expected an absolute path", found, PATH_HELP)
    };
    problems.keep(if !path.is_absolute() {
        Err(problem("it does not start with /"))
    } else if path.components().any(|component| component == Component::ParentDir) {
        Err(problem("it has a .. in it"))
    } else {
        Ok(path.components().collect())
    })
}

/// The path of a Unix socket.
pub(super) fn socket(value: FieldValue<'_>, problems: &Problems) -> Option<PathBuf> {
    let path = path(value, problems)?;
    let problem = |found: &str| {
        Err(ConfigProblem::new(
            value.span(),
            "expected the path of a socket",
            found,
            "such as /run/countersign/agent.sock",
        ))
    };
    problems.keep(if path.file_name().is_none() {
        problem("it has no file name")
    } else if path.as_os_str().len() > LONGEST_SOCKET_PATH {
        problem("it is longer than 107 bytes, which the system does not take")
    } else {
        Ok(path)
    })
}

/// The name of a key, enrolled already or later.
pub(super) fn key_name(value: FieldValue<'_>, problems: &Problems) -> Option<KeyName> {
    let expected = "the name of a key";
    let name = text_for(expected, &NotAName.to_string(), value, problems)?;
    let problem = |error: NotAName| {
        ConfigProblem::new(
            value.span(),
            format!("expected {expected}"),
            "this cannot be one",
            error.to_string(),
        )
    };
    problems.keep(KeyName::parse(name).map_err(problem))
}

/// A list in which no value occurs twice.
pub(super) fn list<'a, T: Ord>(
    value: FieldValue<'a>,
    problems: &'a Problems,
    read: impl Fn(FieldValue<'a>, &'a Problems) -> Option<T>,
) -> Option<BTreeSet<T>> {
    let DeValue::Array(list) = value.get_ref() else {
        return problems.refuse(wrong_type(
            value,
            "a list",
            "write it in brackets, also for one: [\"…\"]",
        ));
    };
    let mut set = BTreeSet::new();
    for element in list.iter() {
        let Some(item) = read(element, problems) else { continue };
        if !set.insert(item) {
            problems.add(ConfigProblem::new(
                element.span(),
                "expected each only once",
                "it is in the list already",
                "remove one of them, or correct what was meant",
            ));
        }
    }
    Some(set)
}

/// A list that must not be empty, because the meaning of an empty list would be unclear.
pub(super) fn filled_list<'a, T: Ord>(
    value: FieldValue<'a>,
    help: &str,
    problems: &'a Problems,
    read: impl Fn(FieldValue<'a>, &'a Problems) -> Option<T>,
) -> Option<BTreeSet<T>> {
    if matches!(value.get_ref(), DeValue::Array(list) if list.is_empty()) {
        return problems.refuse(ConfigProblem::new(
            value.span(),
            "expected at least one",
            "the list is empty",
            help,
        ));
    }
    list(value, problems, read)
}

/// A table of names and values of one kind.
pub(super) fn table<'a>(value: FieldValue<'a>, problems: &Problems) -> Option<&'a DeTable<'a>> {
    match value.get_ref() {
        DeValue::Table(table) => Some(table),
        _ => problems.refuse(wrong_type(value, "a table", "write it in braces: { name = … }")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        for (text, count, per_ms) in
            [("50/s", 50, 1_000), ("600/min", 600, 60_000), ("1000000/s", 1_000_000, 1_000)]
        {
            assert_eq!(parse_rate(text), Some(Rate { count, per_ms }), "{text}");
        }
        for text in [
            "",
            "/s",
            "0/s",
            "05/s",
            "+5/s",
            "5",
            "5/",
            "5/h",
            "5 /s",
            "5/S",
            "1000001/s",
            "1.5/s",
            "5/s/s",
        ] {
            assert_eq!(parse_rate(text), None, "{text}");
        }
    }

    #[test]
    fn words() {
        assert!(is_word("BTC-USD_P:1000").is_ok());
        for word in ["", "BTC USDT", "bc1q…", "a\tb"] {
            assert!(is_word(word).is_err(), "{word:?}");
        }
    }

    #[test]
    fn instruments() {
        for name in ["BTC-USD_P:1000", "币安人生USDT", "龙虾USDT", "MØTHUSDT"] {
            assert!(is_instrument(name).is_ok(), "{name:?}");
        }
        for name in [
            "",
            "BTC USDT",
            "币 USDT",
            "BTC\u{200b}USDT",
            "\u{202e}BTC",
            "a\tb",
            "BTC＆",
            "BTC\u{3000}",
        ] {
            assert!(is_instrument(name).is_err(), "{name:?}");
        }
    }
}
