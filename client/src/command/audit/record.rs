//! Writes journal records as text for people, including kinds that this version does not know.

use countersign::core::json::Value;

use crate::output::{Output, plain};
use crate::table::facts;

/// Members that the line shows at its front, or does not show.
const NOT_ON_A_LINE: [&str; 7] =
    ["seq", "time_ms", "kind", "prev", "message_sha256", "params_sha256", "request_id"];

pub(super) fn seq(record: &Value) -> Option<u64> {
    number(record, "seq")
}

/// One line: number, time, kind, then the members that are text or lists of text.
pub(super) fn line(record: &Value, output: &Output) -> String {
    let kind = record.member("kind").and_then(Value::scalar).unwrap_or("?");
    let mut line =
        format!("{:>6}  {}  {:<14}", seq(record).unwrap_or(0), time(record, output), plain(kind));
    for (name, value) in record.members().unwrap_or_default() {
        if NOT_ON_A_LINE.contains(&name.as_str()) {
            continue;
        }
        if let Some(text) = short(value) {
            line.push_str(&format!(" {}={}", plain(name), plain(&text)));
        }
    }
    line.truncate(line.trim_end().len());
    line.push('\n');
    line
}

/// Every member, one a line.
pub(super) fn whole(record: &Value, hash: Option<&str>, output: &Output) -> String {
    let members = record.members().unwrap_or_default().iter();
    let mut lines: Vec<(&str, String)> = members
        .map(|(name, value)| match name.as_str() {
            "time_ms" => ("time", time(record, output)),
            name => (name, value.scalar().map_or_else(|| value.to_json(), str::to_owned)),
        })
        .collect();
    if let Some(hash) = hash {
        lines.push(("hash", hash.to_owned()));
    }
    facts(&lines)
}

fn time(record: &Value, output: &Output) -> String {
    number(record, "time_ms").map_or_else(|| "?".to_owned(), |unix_ms| output.time(unix_ms))
}

fn number(record: &Value, name: &str) -> Option<u64> {
    record.member(name)?.scalar()?.parse().ok()
}

/// A text, in quotes if it is empty or has blanks, or a list of texts. `None` if it is nested
/// deeper.
fn short(value: &Value) -> Option<String> {
    if let Some(text) = value.scalar() {
        let quoted = text.is_empty() || text.contains(char::is_whitespace);
        return Some(if quoted { format!("{text:?}") } else { text.to_owned() });
    }
    match value {
        Value::Array(items) if !items.is_empty() => {
            Some(items.iter().map(Value::scalar).collect::<Option<Vec<_>>>()?.join(","))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = r#"{"seq":17,"time_ms":1700000000000,"kind":"of_tomorrow","client":"bot",
        "scopes":["read","trade"],
        "reason":"a b","nested":{"x":1},"spends":[{"a":1}],"prev":"00"}"#;

    #[test]
    fn a_line_tells_what_happened() {
        let record = Value::parse(RECORD).expect("JSON");
        let output = Output::new(false);
        assert_eq!(
            line(&record, &output),
            "    17  2023-11-14T22:13:20.000Z  of_tomorrow    client=bot scopes=read,trade \
             reason=\"a b\"\n"
        );
        let whole = whole(&record, Some("ff"), &output);
        assert!(whole.contains("nested  {\"x\":1}\n") && whole.contains("hash    ff\n"), "{whole}");
        assert_eq!(seq(&record), Some(17));
    }
}
