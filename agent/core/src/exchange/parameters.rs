//! Writes parameters into a query, a form or a JSON body, for all recipes.

use std::borrow::Cow;
use std::fmt::{Display, Write};

use percent_encoding::{AsciiSet, percent_decode_str, utf8_percent_encode};

use super::table::{Content, Table};
use crate::draft::UNRESERVED;
use crate::instrument::is_foreign;
use crate::json::Value;
use crate::refusal::Refusal;
use crate::request::{Method, ParamsIn, Request};

/// The part of a request in which an exchange expects the parameters.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ParameterPlace {
    Body(ParamsIn),
    Query,
}

impl ParameterPlace {
    /// GET and DELETE carry a query, the other methods a body of this kind.
    pub fn of(method: Method, body: ParamsIn) -> Self {
        if matches!(method, Method::Delete | Method::Get) { Self::Query } else { Self::Body(body) }
    }

    /// GET carries a query, all others a JSON body.
    pub fn but_get(method: Method) -> Self {
        if method == Method::Get { Self::Query } else { Self::Body(ParamsIn::Json) }
    }

    /// Refuses a request that asks for its parameters in another part: the agent signs exactly what
    /// is sent.
    pub fn check(self, request: &Request) -> Result<(), Refusal> {
        let usual = match self {
            Self::Body(kind) => kind,
            Self::Query => ParamsIn::Query,
        };
        match request.params_in {
            None => Ok(()),
            Some(ParamsIn::None) if request.params.is_empty() => Ok(()),
            Some(asked) if asked == usual => Ok(()),
            Some(_) => Err(Refusal::malformed(
                "this exchange takes the parameters of this request elsewhere",
            )),
        }
    }
}

/// Refuses an array where the API takes named parameters.
pub fn named(request: &Request) -> Result<&[(String, Value)], Refusal> {
    let members = request.params.value().members();
    members.ok_or_else(|| {
        Refusal::malformed("this request takes an object of named parameters, not an array")
    })
}

/// The text of a parameter in a query or form.
pub fn scalar<'a>(name: &str, value: &'a Value) -> Result<&'a str, Refusal> {
    value.scalar().ok_or_else(|| {
        Refusal::malformed(format!(
            "the parameter {name:?} is not a string, number or boolean: a query cannot carry it"
        ))
    })
}

/// `name=value&…`.
#[derive(Debug)]
pub struct Pairs(String);

impl Pairs {
    pub fn empty() -> Self {
        /// Bytes. Most requests need fewer.
        const USUAL_TEXT: usize = 256;
        Self(String::with_capacity(USUAL_TEXT))
    }

    /// Adds a name and a value as they are.
    pub fn push(&mut self, name: &str, value: impl Display) {
        self.separate();
        write!(self.0, "{name}={value}").expect("writing to a String never fails");
    }

    pub fn push_percent(&mut self, name: &str, value: &str) {
        self.push_encoded(name, value, UNRESERVED);
    }

    /// Adds a name and a value with the bytes of `set` percent-encoded.
    pub fn push_encoded(&mut self, name: &str, value: &str, set: &'static AsciiSet) {
        self.separate();
        self.0.extend(utf8_percent_encode(name, set));
        self.0.push('=');
        self.0.extend(utf8_percent_encode(value, set));
    }

    pub fn into_text(self) -> String {
        self.0
    }

    fn separate(&mut self) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
    }
}

/// `name=value&…` of scalars, percent-encoded.
pub fn query(params: &[(String, Value)]) -> Result<String, Refusal> {
    let mut pairs = Pairs::empty();
    for (name, value) in params {
        pairs.push_percent(name, scalar(name, value)?);
    }
    Ok(pairs.into_text())
}

/// The same, but a list is written as its name repeated for each item. An empty list is left out.
pub fn query_repeated(params: &[(String, Value)]) -> Result<String, Refusal> {
    let mut pairs = Pairs::empty();
    for (name, value) in params {
        let Value::Array(items) = value else {
            pairs.push_percent(name, scalar(name, value)?);
            continue;
        };
        for item in items {
            let text = match item {
                // The clients in Python use this spelling, but only in lists.
                Value::Bool(true) => "True",
                Value::Bool(false) => "False",
                item => scalar(name, item)?,
            };
            pairs.push_percent(name, text);
        }
    }
    Ok(pairs.into_text())
}

/// `name=value&…` of scalars as they are. A value that holds a delimiter is refused, unless the
/// table allows it.
pub fn query_raw(
    request: &Request,
    table: &Table,
    params: &[(String, Value)],
) -> Result<String, Refusal> {
    let mut pairs = Pairs::empty();
    for (name, value) in params {
        let text = raw_in(request, table, name, scalar(name, value)?)?;
        // Only a value that the exchange gave out may hold a %.
        if !is_escaped(text) {
            return Err(Refusal::malformed(format!(
                "the parameter {name:?} has a % that escapes no text"
            )));
        }
        pairs.push(name, text);
    }
    Ok(pairs.into_text())
}

/// True if a text can be sent as it is: every % begins an escape, and the escapes decode to text
/// without control characters.
fn is_escaped(text: &str) -> bool {
    if !text.contains('%') {
        return true;
    }
    let hex = |escape: &str| {
        escape.len() >= 2 && escape.bytes().take(2).all(|byte| byte.is_ascii_hexdigit())
    };
    let decoded = percent_decode_str(text).decode_utf8();
    text.split('%').skip(1).all(hex)
        && decoded.is_ok_and(|text| !text.chars().any(char::is_control))
}

/// The parameters in the order of their names' bytes.
pub fn sorted(params: &[(String, Value)]) -> Vec<(String, Value)> {
    let mut sorted = params.to_vec();
    sorted.sort_by(|(one, _), (other, _)| one.cmp(other));
    sorted
}

/// A request as most exchanges want it: GET and DELETE have a query, the other methods a JSON body.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WrittenRequest {
    /// The path, and the query after `?` if there is one.
    pub target: String,
    /// Compact JSON. None if the parameters are an empty object.
    pub body: Option<String>,
    pub place: ParameterPlace,
}

impl WrittenRequest {
    /// `query` writes the parameters of a GET or DELETE.
    pub fn new(
        request: &Request,
        query: impl FnOnce(&[(String, Value)]) -> Result<String, Refusal>,
    ) -> Result<Self, Refusal> {
        Self::at(request, ParameterPlace::of(request.method, ParamsIn::Json), query)
    }

    /// The same, for an exchange that has its own rule for the place of its parameters.
    pub fn at(
        request: &Request,
        place: ParameterPlace,
        query: impl FnOnce(&[(String, Value)]) -> Result<String, Refusal>,
    ) -> Result<Self, Refusal> {
        place.check(request)?;
        let (mut target, mut body) = (request.path.to_string(), None);
        match place {
            ParameterPlace::Query if request.params.is_empty() => {}
            ParameterPlace::Query => {
                target.push('?');
                target.push_str(&query(named(request)?)?);
            }
            // For an empty object no body is sent. An empty array is sent.
            ParameterPlace::Body(_) if named(request).is_ok_and(<[_]>::is_empty) => {}
            ParameterPlace::Body(_) => body = Some(request.params.value().to_json()),
        }
        Ok(Self { target, body, place })
    }

    /// The body's text, empty if there is none.
    pub fn body_text(&self) -> &str {
        self.body.as_deref().unwrap_or_default()
    }
}

/// Refuses a name that begins with a digit, because it would continue the number that is signed
/// right before it.
pub fn after_number(params: &[(String, Value)]) -> Result<&[(String, Value)], Refusal> {
    match params.iter().find(|(name, _)| name.starts_with(|first: char| first.is_ascii_digit())) {
        Some((name, _)) => Err(Refusal::malformed(format!(
            "no parameter of this exchange begins with a digit: {name:?}"
        ))),
        None => Ok(params),
    }
}

/// Refuses a JSON body that would begin new parameters if it were sent as a form or a query.
/// Exchanges need this if their signature covers the text of a body but not its type.
pub fn without_separators(json: String) -> Result<String, Refusal> {
    if json.contains(['&', ';']) {
        return Err(Refusal::malformed("a JSON body for this exchange may not hold '&' or ';'"));
    }
    Ok(json)
}

/// A value that is signed unescaped. A value that could end its parameter or be read in two ways is
/// refused.
pub fn raw<'a>(name: &str, text: impl Into<Cow<'a, str>>) -> Result<Cow<'a, str>, Refusal> {
    let text = text.into();
    if holds(Content::Plain, &text) { Ok(text) } else { Err(not_raw(Content::Plain, name)) }
}

/// The same as [`raw`], but the table may allow more characters in the value of this name. The
/// table is looked at only if the value holds one of them.
pub fn raw_in<'a>(
    request: &Request,
    table: &Table,
    name: &str,
    text: &'a str,
) -> Result<&'a str, Refusal> {
    if holds(Content::Plain, text) {
        return Ok(text);
    }
    let content = table.content(request, name);
    if holds(content, text) { Ok(text) } else { Err(not_raw(content, name)) }
}

/// True if a value can be signed unescaped. No value may hold `&`, `#` or `;`, because each of them
/// ends a parameter on some exchange. An opaque value may hold `=`, which ends nothing after the
/// name. It may also hold `%` and `+`, which are decoded only after the parameters are told apart.
pub fn holds(content: Content, text: &str) -> bool {
    text.chars().all(|character| match character {
        '#' | '&' | ';' | '?' => false,
        '%' | '+' | '=' => content == Content::Opaque,
        character if character.is_ascii_graphic() => true,
        character => content == Content::Instrument && is_foreign(character),
    })
}

fn not_raw(content: Content, name: &str) -> Refusal {
    let refused = match content {
        Content::Instrument => {
            "any of & = # % + ; ? or blanks, controls or non-ASCII characters other than letters"
        }
        Content::Opaque => "any of & # ; ? or blanks, controls or non-ASCII characters",
        Content::Plain => "any of & = # % + ; ? or space, control or non-ASCII characters",
    };
    Refusal::malformed(format!(
        "the parameter {name:?} is signed unescaped and may not hold {refused}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_values_cannot_end_their_parameter() {
        for text in
            ["TQn9Y2khEsLJW1ChVWFMSMeRDow5KcbLSE", "sub@example.com", "[{\"a\":\"1\",\"b\":2}]", ""]
        {
            assert_eq!(raw("p", text).expect(text), text);
        }
        for text in [
            "1&amount=9",
            "a=b",
            "a;b",
            "%26",
            "a+b",
            "a#b",
            "a?b",
            "a b",
            "a\0",
            "a\r\n",
            "é",
            "\u{ff11}",
        ] {
            assert!(raw("p", text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_a_value_may_hold_hangs_on_what_it_is() {
        let delimited = [
            "1&amount=9",
            "a;b",
            "a#b",
            "a?b",
            "a b",
            "a\0",
            "a\r\n",
            "a\u{200b}",
            "a\u{202e}b",
            "a\u{3000}b",
        ];
        for content in [Content::Instrument, Content::Opaque, Content::Plain] {
            assert!(delimited.iter().all(|text| !holds(content, text)), "{content:?}");
            assert!(holds(content, "BTC-USDT_1/2:3,4"), "{content:?}");
        }
        for text in ["币安人生USDT", "龙虾USDT", "MØTHUSDT"] {
            assert!(holds(Content::Instrument, text) && !holds(Content::Plain, text), "{text}");
            assert!(!holds(Content::Opaque, text), "{text}");
        }
        for text in
            ["1321052653536515584%3A1672217748287%2C", "page_token%3D39380%26", "a+b/c==", "%"]
        {
            assert!(holds(Content::Opaque, text), "{text}");
            assert!(!holds(Content::Instrument, text) && !holds(Content::Plain, text), "{text}");
        }
    }

    #[test]
    fn escapes_that_are_sent_as_they_are_say_text() {
        for text in ["", "abc", "page_token%3D39380%26", "%2525", "%E5%B8%81", "a+b/c=="] {
            assert!(is_escaped(text), "{text}");
        }
        for text in ["%", "%4", "%zz", "a%", "%E5", "%FF", "%00", "a%0D%0Ab", "%C2%85"] {
            assert!(!is_escaped(text), "{text}");
        }
    }

    #[test]
    fn queries_carry_scalars_only() {
        let params = |text| Value::parse(text).expect("JSON").members().expect("object").to_vec();
        let text = query(&params(r#"{"a":"x y/&=é~","b":1.50,"c":true,"d":"","e":1e-05}"#))
            .expect("scalars");
        assert_eq!(text, "a=x%20y%2F%26%3D%C3%A9~&b=1.50&c=true&d=&e=1e-05");
        for bad in [r#"{"a":null}"#, r#"{"a":[1]}"#, r#"{"a":{"b":1}}"#] {
            assert!(query(&params(bad)).is_err(), "{bad}");
        }
    }
}
