//! Reads and writes JSON as the protocol takes it: order and number text kept, no name twice at any
//! depth, bounded depth.

use std::cmp::Ordering;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::refusal::Refusal;

/// Deepest nesting taken. Real requests use four levels. The parser reads a value again for each
/// level around it.
pub const MAX_DEPTH: usize = 8;
/// Most values taken in one document, named or in lists, at all depths together. The fullest batch
/// that an exchange documents has about 1,430: 75 operations of Bitfinex with every parameter of an
/// order. 64 KiB could hold ten times as many, and the agent would have to keep, compare and judge
/// each of them.
pub const MAX_VALUES: usize = 2_000;

/// One JSON value; an object keeps its order, a number its text.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Value {
    Array(Vec<Value>),
    Bool(bool),
    Null,
    Number(String),
    Object(Vec<(String, Value)>),
    String(String),
}

impl Value {
    /// Parses one document; a duplicate or escaped name, deep nesting or trailing text is refused.
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        Self::from_raw(raw(text)?)
    }

    /// The same for a part of a document, which is known to be well-formed.
    pub(crate) fn from_raw(raw: &RawValue) -> Result<Self, Refusal> {
        let mut left = MAX_VALUES;
        Self::at_depth(raw, 0, &mut left)
    }

    /// Parses text that the agent itself wrote, such as a line of its journal, with any number of
    /// values.
    pub fn parse_own(text: &str) -> Result<Self, Refusal> {
        Self::own(raw(text)?)
    }

    fn own(raw: &RawValue) -> Result<Self, Refusal> {
        let mut left = usize::MAX;
        Self::at_depth(raw, 0, &mut left)
    }

    /// An object of texts and other values: `object([("op", "login".into())])`.
    pub fn object<'a>(members: impl IntoIterator<Item = (&'a str, Self)>) -> Self {
        Self::Object(members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
    }

    /// The members of an object.
    pub fn members(&self) -> Option<&[(String, Value)]> {
        match self {
            Self::Object(members) => Some(members),
            _ => None,
        }
    }

    pub fn member(&self, name: &str) -> Option<&Value> {
        self.members()?.iter().find_map(|(candidate, value)| (candidate == name).then_some(value))
    }

    /// The text of a string, number or boolean; `None` for the others.
    pub fn scalar(&self) -> Option<&str> {
        match self {
            Self::Bool(true) => Some("true"),
            Self::Bool(false) => Some("false"),
            Self::Number(text) | Self::String(text) => Some(text),
            Self::Array(_) | Self::Null | Self::Object(_) => None,
        }
    }

    /// True for a value that is neither an object nor a list.
    pub const fn is_plain(&self) -> bool {
        !matches!(self, Self::Array(_) | Self::Object(_))
    }

    /// Compact JSON, UTF-8 unescaped, order and number text kept.
    pub fn to_json(&self) -> String {
        let mut text = String::with_capacity(256);
        self.write_json(&mut text);
        text
    }

    pub fn write_json(&self, out: &mut String) {
        match self {
            Self::Array(items) => {
                write_list(out, ('[', ']'), items, |out, item| item.write_json(out))
            }
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::Null => out.push_str("null"),
            Self::Number(text) => out.push_str(text),
            Self::Object(members) => write_list(out, ('{', '}'), members, |out, (name, value)| {
                write_string(out, name);
                out.push(':');
                value.write_json(out);
            }),
            Self::String(text) => write_string(out, text),
        }
    }

    /// `left` is the number of values that the rest of the document may have.
    fn at_depth(raw: &RawValue, depth: usize, left: &mut usize) -> Result<Self, Refusal> {
        let text = raw.get();
        if depth > MAX_DEPTH {
            return Err(Refusal::malformed(format!(
                "JSON is nested deeper than {MAX_DEPTH} levels"
            )));
        }
        match text.as_bytes().first() {
            Some(b'"') => string(text).map(Self::String),
            Some(b'{') => {
                let members = parse::<Members<'_>>(text)?.0;
                take(left, members.len())?;
                let mut parsed = Vec::with_capacity(members.len());
                for (name, raw) in members {
                    parsed.push((name.to_owned(), Self::at_depth(raw, depth + 1, left)?));
                }
                Ok(Self::Object(parsed))
            }
            Some(b'[') => {
                let items = parse::<Items<'_>>(text)?.0;
                take(left, items.len())?;
                let items = items.into_iter().map(|raw| Self::at_depth(raw, depth + 1, left));
                items.collect::<Result<_, _>>().map(Self::Array)
            }
            Some(b't') => Ok(Self::Bool(true)),
            Some(b'f') => Ok(Self::Bool(false)),
            Some(b'n') => Ok(Self::Null),
            _ => Ok(Self::Number(text.to_owned())),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::String(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::String(text)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number.to_string())
    }
}

fn raw(text: &str) -> Result<&RawValue, Refusal> {
    serde_json::from_str(text).map_err(|error| Refusal::malformed(format!("JSON: {error}")))
}

fn take(left: &mut usize, values: usize) -> Result<(), Refusal> {
    *left = left.checked_sub(values).ok_or_else(|| Refusal::malformed(too_many()))?;
    Ok(())
}

fn too_many() -> String {
    format!("JSON has more than {MAX_VALUES} values")
}

/// Texts up to this length, in bytes, are parsed quickly at any depth.
const LONG: usize = 4 * 1024;

/// True for a long text whose objects and lists are nested deeper than `most`: found before any of
/// it is parsed, because a parser goes through thousands of levels before it fails.
pub(crate) fn is_long_and_deeper(text: &str, most: usize) -> bool {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    text.len() > LONG
        && text.bytes().any(|byte| {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                b'[' | b'{' if !in_string => depth += 1,
                b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth > most
        })
}

/// The text of a well-formed JSON string.
fn string(quoted: &str) -> Result<String, Refusal> {
    match quoted.get(1..quoted.len() - 1) {
        Some(text) if !text.contains('\\') => Ok(text.to_owned()),
        _ => parse(quoted),
    }
}

/// A name that is there twice by `order`, if there is one. The names are sorted because the 64 KiB
/// of a payload hold thousands of them. They are sorted by length first because few names have the
/// same length.
pub(crate) fn twice<'a>(
    names: impl Iterator<Item = &'a str>,
    order: impl Fn(&str, &str) -> Ordering,
) -> Option<&'a str> {
    let by_length =
        |one: &&str, other: &&str| one.len().cmp(&other.len()).then_with(|| order(one, other));
    let mut names: Vec<&str> = names.collect();
    names.sort_unstable_by(by_length);
    names.windows(2).find(|pair| by_length(&pair[0], &pair[1]).is_eq()).map(|pair| pair[0])
}

/// Writes a JSON string: quotes, backslash and control characters escaped, everything else as it
/// is.
pub fn write_string(out: &mut String, text: &str) {
    if needs_no_escape(text) {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::to_string(text).expect("a string always serialises"));
    }
}

/// True if a JSON string can hold the text as it is.
pub(crate) fn needs_no_escape(text: &str) -> bool {
    text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\')
}

fn write_list<T>(
    out: &mut String,
    (open, close): (char, char),
    items: &[T],
    write: impl Fn(&mut String, &T),
) {
    out.push(open);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        write(out, item);
    }
    out.push(close);
}

fn parse<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, Refusal> {
    serde_json::from_str(text).map_err(|error| {
        if error.to_string().starts_with(DUPLICATE) {
            return Refusal::ambiguous(error.to_string());
        }
        Refusal::malformed(format!("JSON: {error}"))
    })
}

const DUPLICATE: &str = "the same name twice";

/// An order has about as many members.
const USUAL_MEMBERS: usize = 8;

struct Members<'a>(Vec<(&'a str, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor).map(Members)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Vec<(&'de str, &'de RawValue)>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members: Self::Value = Vec::with_capacity(USUAL_MEMBERS);
        while let Some((name, value)) = map.next_entry::<Name<'de>, &'de RawValue>()? {
            members.push((name.0, value));
            if members.len() > MAX_VALUES {
                return Err(A::Error::custom(too_many()));
            }
        }
        match twice(members.iter().map(|(name, _)| *name), Ord::cmp) {
            Some(name) => Err(A::Error::custom(format_args!("{DUPLICATE}: {name:?}"))),
            None => Ok(members),
        }
    }
}

/// A member's name as it stands in the text. A name with an escape cannot be borrowed and is
/// refused, so that each name has one spelling.
struct Name<'a>(&'a str);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(NameVisitor).map(Name)
    }
}

struct NameVisitor;

impl<'de> Visitor<'de> for NameVisitor {
    type Value = &'de str;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a name without escapes")
    }

    fn visit_borrowed_str<E: serde::de::Error>(self, name: &'de str) -> Result<Self::Value, E> {
        Ok(name)
    }
}

struct Items<'a>(Vec<&'a RawValue>);

impl<'de: 'a, 'a> Deserialize<'de> for Items<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(ItemsVisitor).map(Items)
    }
}

struct ItemsVisitor;

impl<'de> Visitor<'de> for ItemsVisitor {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element()? {
            items.push(item);
            if items.len() > MAX_VALUES {
                return Err(A::Error::custom(too_many()));
            }
        }
        Ok(items)
    }
}

/// Reads answers, which the agent itself wrote, with any number of values. The values of a request
/// are bounded.
impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Self::own(raw).map_err(|refusal| D::Error::custom(refusal.message))
    }
}

impl serde::Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let raw = RawValue::from_string(self.to_json()).map_err(serde::ser::Error::custom)?;
        raw.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Code;

    #[test]
    fn order_and_number_text_are_kept() {
        for text in [
            r#"{"b":1.0,"a":[1e-7,0.10,{"z":null,"y":true}],"c":"é/\n"}"#,
            "[]",
            "{}",
            r#"[{"a":"1"}]"#,
        ] {
            assert_eq!(Value::parse(text).expect(text).to_json(), text);
        }
    }

    #[test]
    fn strings_are_written_as_by_another_writer() {
        let ascii: String = (0..128).map(char::from).collect();
        for text in ["", "BTCUSDT", "é\u{2028}\u{7f}", "a\"b", "a\\b", "a\nb", "\0", &ascii] {
            let mut written = String::from("[");
            write_string(&mut written, text);
            assert_eq!(written[1..], serde_json::to_string(text).expect("serialises"));
        }
    }

    #[test]
    fn hostile_documents_are_refused() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        let unclosed = "[".repeat(60_000);
        for text in [
            "",
            "{",
            r#"{"a":1}{"b":2}"#,
            "\u{feff}{}",
            r#"{"a":1,"\u0061":2}"#,
            r#"{"\u0061":2}"#,
            r#""\ud800""#,
            "01",
            "+1",
            "NaN",
            ".5",
            "{'a':1}",
            &deep,
            &unclosed,
            "[1,]",
            "{\"a\":1,}",
            "\"\u{1}\"",
        ] {
            assert!(Value::parse(text).is_err(), "{text:.40}");
        }
    }

    #[test]
    fn depth_and_values_are_bounded() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let list = |values: usize| format!("[{}]", vec!["0"; values].join(","));
        let names = |values: usize| {
            let members: Vec<_> = (0..values).map(|number| format!("\"n{number}\":0")).collect();
            format!("{{{}}}", members.join(","))
        };
        let objects =
            |values: usize| format!("[{}]", vec![r#"{"a":1,"b":2,"c":3}"#; values / 4].join(","));
        assert!(
            Value::parse(&nested(MAX_DEPTH)).is_ok()
                && Value::parse(&nested(MAX_DEPTH + 1)).is_err()
        );
        for text in [list, names, objects].map(|text| text(MAX_VALUES)) {
            assert!(Value::parse(&text).is_ok(), "{text:.40}");
        }
        assert!(
            Value::parse_own(&objects(MAX_VALUES + 4)).is_ok(),
            "a journal's line has as many as it has"
        );
        assert!(
            serde_json::from_str::<Value>(&objects(MAX_VALUES + 4)).is_ok(),
            "and so has an answer"
        );
        for text in [list(MAX_VALUES + 1), names(MAX_VALUES + 1), objects(MAX_VALUES + 4)] {
            let refusal = Value::parse(&text).expect_err("too many");
            assert!(refusal.message.contains("more than 2000 values"), "{}", refusal.message);
        }
    }

    #[test]
    fn a_long_deep_text_is_known_before_it_is_parsed() {
        let long = "x".repeat(LONG);
        for (text, deeper) in [
            (format!("[[\"{long}\"]]"), false),
            (format!("[[[\"{long}\"]]]"), true),
            (format!("[[\"[[{long}\\\"[[\"],[]]"), false),
            (format!("[[\"{long}\\\\\",[{{}}]]]"), true),
            ("[[[]]]".to_owned(), false),
        ] {
            assert_eq!(is_long_and_deeper(&text, 2), deeper, "{text:.20}");
        }
    }

    #[test]
    fn an_escaped_name_is_called_so() {
        let refusal = Value::parse(r#"{"\u0061":2}"#).expect_err("escaped");
        assert!(refusal.message.contains("a name without escapes"), "{}", refusal.message);
    }

    #[test]
    fn a_name_twice_is_ambiguous_at_any_depth() {
        for text in [r#"{"a":1,"a":1}"#, r#"[{"x":{"a":1,"b":2,"a":3}}]"#] {
            assert_eq!(Value::parse(text).expect_err(text).code, Code::RequestAmbiguous);
        }
    }
}
