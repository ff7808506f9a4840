//! One exchange request, parsed once at the edge into parts that cannot be wrong.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::instrument::is_foreign;
use crate::json::{Value, twice};
use crate::refusal::Refusal;

/// An HTTP method, exact and upper case.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Method {
    Delete,
    Get,
    Patch,
    Post,
    Put,
}

impl Method {
    pub const ALL: [Self; 5] = [Self::Delete, Self::Get, Self::Patch, Self::Post, Self::Put];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Delete => "DELETE",
            Self::Get => "GET",
            Self::Patch => "PATCH",
            Self::Post => "POST",
            Self::Put => "PUT",
        }
    }

    pub fn parse(text: &str) -> Result<Self, Refusal> {
        Self::ALL.into_iter().find(|method| method.name() == text).ok_or_else(|| {
            Refusal::malformed("the method is not one of DELETE, GET, PATCH, POST, PUT")
        })
    }
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A path in its only spelling: no escapes, empty or dot segments, query or fragment.
///
/// An exchange may normalise the paths it receives. A path that can be normalised could be judged
/// as one endpoint and served as another.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Path(String);

/// Longest path taken, in bytes.
const MAX_PATH: usize = 512;

impl Path {
    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let Some(rest) = text.strip_prefix('/') else {
            return Err(Refusal::malformed("the path does not start with '/'"));
        };
        let plain = |character: char| {
            character.is_ascii_alphanumeric() || matches!(character, '/' | '_' | '.' | ':' | '-')
        };
        // The endpoint table says which segments are names of instruments. It takes other segments
        // in ASCII only.
        if text.len() > MAX_PATH
            || !text.chars().all(|character| plain(character) || is_foreign(character))
        {
            return Err(Refusal::malformed(
                "the path may hold letters, digits, '/', '_', '.', ':' and '-' only",
            ));
        }
        // One trailing slash is a spelling of its own; the endpoint table says which paths have it.
        let mut segments = rest.strip_suffix('/').unwrap_or(rest).split('/');
        if !rest.is_empty() && segments.any(|segment| matches!(segment, "" | "." | "..")) {
            return Err(Refusal::malformed("the path has an empty or dot segment"));
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Path {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The place in which the caller wants the parameters. The recipe knows the usual place.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ParamsIn {
    Form,
    Json,
    None,
    PayloadJson,
    Query,
    #[serde(rename = "query+json")]
    QueryAndJson,
    /// In a frame of the exchange's WebSocket API.
    WsApi,
}

impl ParamsIn {
    pub const ALL: [Self; 7] = [
        Self::None,
        Self::Query,
        Self::Form,
        Self::Json,
        Self::QueryAndJson,
        Self::PayloadJson,
        Self::WsApi,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Json => "json",
            Self::None => "none",
            Self::PayloadJson => "payload-json",
            Self::Query => "query",
            Self::QueryAndJson => "query+json",
            Self::WsApi => "ws-api",
        }
    }

    pub fn parse(text: &str) -> Result<Self, Refusal> {
        let known = Self::ALL.into_iter().find(|place| place.name() == text);
        known.ok_or_else(|| {
            Refusal::malformed(format!(
                "params_in is not one of {}",
                Self::ALL.map(Self::name).join(", ")
            ))
        })
    }
}

/// Business parameters: a JSON object, or an array if the API takes one. Their order is kept, and
/// their names are plain.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Params(Value);

/// Longest parameter name taken, in bytes.
const MAX_PARAMETER_NAME: usize = 64;

impl Params {
    pub fn empty() -> Self {
        Self(Value::Object(Vec::new()))
    }

    /// Refuses names that are not plain ASCII, and two names of one object that differ in case
    /// only.
    pub fn new(value: Value) -> Result<Self, Refusal> {
        if !matches!(value, Value::Array(_) | Value::Object(_)) {
            return Err(Refusal::malformed("params is neither an object nor an array"));
        }
        check_names(&value)?;
        Ok(Self(value))
    }

    pub fn value(&self) -> &Value {
        &self.0
    }

    /// The members of the object; empty for an array.
    pub fn members(&self) -> &[(String, Value)] {
        self.0.members().unwrap_or_default()
    }

    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.member(name)
    }

    pub fn is_empty(&self) -> bool {
        match &self.0 {
            Value::Array(items) => items.is_empty(),
            other => other.members().is_none_or(<[_]>::is_empty),
        }
    }
}

fn check_names(value: &Value) -> Result<(), Refusal> {
    match value {
        Value::Array(items) => items.iter().try_for_each(check_names),
        Value::Object(members) => {
            members.iter().try_for_each(|(name, _)| check_name(name))?;
            if let Some(name) = twice(members.iter().map(|(name, _)| name.as_str()), without_case) {
                let message = format!("the parameter {name:?} stands twice, in different case");
                return Err(Refusal::ambiguous(message));
            }
            members.iter().try_for_each(|(_, value)| check_names(value))
        }
        _ => Ok(()),
    }
}

fn without_case(one: &str, other: &str) -> Ordering {
    let lower = u8::to_ascii_lowercase;
    one.as_bytes().iter().map(lower).cmp(other.as_bytes().iter().map(lower))
}

fn check_name(name: &str) -> Result<(), Refusal> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    if name.is_empty() || name.len() > MAX_PARAMETER_NAME || !name.bytes().all(plain) {
        let message = "a parameter name is 1 to 64 letters, digits, '_', '-' or '.'; it is never \
                       escaped or bracketed";
        return Err(Refusal::malformed(message));
    }
    Ok(())
}

/// A request as a client asked for it: business parameters only, nothing the agent sets itself.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: Method,
    pub path: Path,
    pub params: Params,
    pub params_in: Option<ParamsIn>,
    pub host: Option<String>,
}

impl Request {
    /// A parameter's text; `None` if it is not a string, number or boolean.
    pub fn scalar(&self, name: &str) -> Option<&str> {
        self.params.get(name)?.scalar()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::Code;

    #[test]
    fn a_path_has_one_spelling() {
        for path in [
            "/",
            "/api/v3/order",
            "/0/private/Balance",
            "/api/v2/btc_withdrawal/",
            "/v2/auth/r/trades/t:BTC-F0/hist",
            "/v/龙虾_USDT",
        ] {
            assert!(Path::parse(path).is_ok(), "{path}");
        }
        for path in [
            "",
            "api",
            "//",
            "/a//",
            "/a//b",
            "/a/../b",
            "/a/./b",
            "/a/b/..",
            "/a%2e",
            "/a;x=1",
            "/a?b",
            "/a#b",
            "/a b",
            "/a\nb",
            "/a\\b",
            "/\u{200b}",
            "/a\u{3000}",
            "/a／b",
            "/a{b}",
            "/a\"",
            "/..",
            "/a\0",
        ] {
            assert!(Path::parse(path).is_err(), "{path:?}");
        }
    }

    #[test]
    fn methods_are_exact() {
        for method in ["get", "GET ", " GET", "Get", "HEAD", "OPTIONS", "", "WS"] {
            assert!(Method::parse(method).is_err(), "{method:?}");
        }
    }

    #[test]
    fn names_are_plain_and_unique_without_case() {
        let parse = |text: &str| Params::new(Value::parse(text)?);
        for text in [
            r#"{"a[]":1}"#,
            r#"{"a%20":1}"#,
            r#"{"":1}"#,
            r#"{"é":1}"#,
            r#"{"x":{"a=b":1}}"#,
            "1",
            "\"a\"",
        ] {
            assert_eq!(parse(text).expect_err(text).code, Code::RequestMalformed);
        }
        let twice = parse(r#"{"symbol":"A","Symbol":"B"}"#).expect_err("differ in case only");
        assert_eq!(twice.code, Code::RequestAmbiguous);
        assert!(parse(r#"[{"a":1},{"a":2}]"#).is_ok());
    }
}
