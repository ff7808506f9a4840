//! Writes the bytes that Binance wants signed, which are also the query or form. Its endpoints
//! differ in how they want values written.

use percent_encoding::{AsciiSet, utf8_percent_encode};

use super::{TABLE, WINDOW_PARAMETER};
use crate::draft::UNRESERVED;
use crate::exchange::parameters::{Pairs, ParameterPlace, holds, named, raw, scalar};
use crate::exchange::table::Content;
use crate::json::Value;
use crate::refusal::Refusal;
use crate::request::{Method, ParamsIn, Request};
use crate::stamp::Stamp;

/// The bytes to sign: `timestamp`, the parameters in the caller's order, the receive window last.
pub(super) fn payload(request: &Request, stamp: &Stamp) -> Result<String, Refusal> {
    let params = named(request)?;
    let writing = Writing::of(request);
    let given = |name: &str| params.iter().any(|(candidate, _)| candidate == name);
    let mut pairs = Pairs::empty();
    // Only a vector carries a timestamp of its own: the agent refuses it from a client.
    match request.scalar("timestamp") {
        Some(given) => pairs.push("timestamp", given),
        None => pairs.push("timestamp", stamp.now_ms),
    }
    for (name, value) in
        params.iter().filter(|(name, _)| name != "timestamp" && !writing.is_list(name))
    {
        writing.push(&mut pairs, request, name, value)?;
    }
    if let Some(window) = stamp.receive_window_ms.filter(|_| !given(WINDOW_PARAMETER)) {
        pairs.push(WINDOW_PARAMETER, window);
    }
    for name in writing.lists() {
        if let Some(list) = request.params.get(name) {
            push_list(&mut pairs, name, list)?;
        }
    }
    Ok(pairs.into_text())
}

/// The way in which an endpoint wants its values written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Writing {
    /// As `Raw`, but `batchOrders` as JSON text.
    Batch,
    /// Lists of ids stand at the end, in escaped brackets. The symbol is escaped, everything else
    /// is as `Raw`.
    CancelBatch,
    Percent,
    /// Unescaped if the exchange then reads the value as it is meant, else escaped.
    Raw,
    /// A list is written as its name repeated for each item.
    Repeat,
}

impl Writing {
    fn of(request: &Request) -> Self {
        let path = request.path.as_str();
        let unescaped = path.starts_with("/sapi/")
            && ["sub-account", "staking", "simple-earn"].iter().any(|part| path.contains(part));
        match request.method {
            Method::Delete if path.ends_with("/batchOrders") => Self::CancelBatch,
            _ if path.ends_with("/batchOrders") => Self::Batch,
            _ if path == "/sapi/v1/asset/dust" => Self::Repeat,
            _ if unescaped || path == "/sapi/v1/capital/withdraw/apply" => Self::Raw,
            _ => Self::Percent,
        }
    }

    const fn lists(self) -> &'static [&'static str] {
        match self {
            Self::CancelBatch => &[
                "orderidlist",
                "origclientorderidlist",
                "orderIdList",
                "origClientOrderIdList",
                "orderIds",
                "clientOrderIds",
            ],
            _ => &[],
        }
    }

    fn is_list(self, name: &str) -> bool {
        self.lists().contains(&name)
    }

    fn push(
        self,
        pairs: &mut Pairs,
        request: &Request,
        name: &str,
        value: &Value,
    ) -> Result<(), Refusal> {
        match (self, value) {
            (Self::Batch, Value::Array(_)) if name == "batchOrders" || name == "orders" => {
                push_as_read(pairs, request, name, &value.to_json());
            }
            (Self::CancelBatch, _) if name == "symbol" => {
                pairs.push(name, utf8_percent_encode(scalar(name, value)?, COMPONENT));
            }
            (Self::Repeat, Value::Array(items)) => {
                for item in items {
                    pairs.push_percent(name, scalar(name, item)?);
                }
            }
            (Self::Percent | Self::Repeat, _) => pairs.push_percent(name, scalar(name, value)?),
            (Self::Batch | Self::CancelBatch | Self::Raw, _) => {
                push_as_read(pairs, request, name, scalar(name, value)?);
            }
        }
        Ok(())
    }
}

/// Adds a value as it is if it needs no escapes, else escaped: the signed text is the text that is
/// sent.
fn push_as_read(pairs: &mut Pairs, request: &Request, name: &str, text: &str) {
    if holds(content(request, name), text) {
        pairs.push(name, text)
    } else {
        pairs.push_percent(name, text)
    }
}

/// A body may hold an instrument's name in any script. A query would be escaped on its way, and its
/// signature would not cover the escapes.
fn content(request: &Request, name: &str) -> Content {
    let in_body = ParameterPlace::of(request.method, ParamsIn::Form) != ParameterPlace::Query;
    let is_instrument =
        name == "batchOrders" || TABLE.content(request, name) == Content::Instrument;
    if in_body && is_instrument { Content::Instrument } else { Content::Plain }
}

/// The bytes that `encodeURIComponent` escapes.
const COMPONENT: &AsciiSet =
    &UNRESERVED.remove(b'!').remove(b'\'').remove(b'(').remove(b')').remove(b'*');

/// `[1,2]` or `["a","b"]` with brackets, commas and quotes escaped.
fn push_list(pairs: &mut Pairs, name: &str, list: &Value) -> Result<(), Refusal> {
    let Value::Array(items) = list else {
        return Err(Refusal::malformed(format!("the parameter {name:?} is not a list of ids")));
    };
    if items.is_empty() {
        return Ok(());
    }
    let quote = if name.to_ascii_lowercase().contains("client") { "%22" } else { "" };
    let ids: Result<Vec<_>, Refusal> = items
        .iter()
        .map(|id| Ok(format!("{quote}{}{quote}", raw(name, scalar(name, id)?)?)))
        .collect();
    // The API knows the list of client ids in one spelling only.
    let name = if name == "origClientOrderIdList" { "origclientorderidlist" } else { name };
    pairs.push(name, format_args!("%5B{}%5D", ids?.join("%2C")));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Params, Path};

    fn written(method: Method, path: &str, params: &str) -> Result<String, Refusal> {
        let params = Params::new(Value::parse(params).expect("JSON")).expect("plain names");
        let path = Path::parse(path).expect("a plain path");
        let request = Request { method, path, params, params_in: None, host: None };
        payload(
            &request,
            &Stamp { now_ms: 7, nonce: 0, random: [0; 16], receive_window_ms: Some(10_000) },
        )
    }

    #[test]
    fn each_endpoint_has_its_writing() {
        let (post, delete) = (Method::Post, Method::Delete);
        let earn = "/sapi/v1/simple-earn/flexible/subscribe";
        for (method, path, params, expected) in [
            (Method::Get, "/api/v3/account", "{}", ""),
            (
                post,
                "/api/v3/order",
                r#"{"b":"x é","a":true,"c":1.50}"#,
                "&b=x%20%C3%A9&a=true&c=1.50",
            ),
            (
                post,
                earn,
                r#"{"productId":"USDT/001","amount":"1,5"}"#,
                "&productId=USDT/001&amount=1,5",
            ),
            (post, "/sapi/v1/asset/dust", r#"{"asset":["BTC","USDT"]}"#, "&asset=BTC&asset=USDT"),
            (
                post,
                "/fapi/v1/batchOrders",
                r#"{"batchOrders":[{"symbol":"A","q":"1"}]}"#,
                r#"&batchOrders=[{"symbol":"A","q":"1"}]"#,
            ),
            (Method::Put, "/fapi/v1/batchOrders", r#"{"batchOrders":"[{}]"}"#, "&batchOrders=[{}]"),
        ] {
            let expected = format!("timestamp=7{expected}&recvWindow=10000");
            assert_eq!(written(method, path, params).expect(path), expected);
        }
        let cancel = r#"{"orderidlist":["1","2"],"symbol":"币USDT","origClientOrderIdList":["a-b"],
            "recvWindow":9}"#;
        let expected = "timestamp=7&symbol=%E5%B8%81USDT&recvWindow=9&orderidlist=%5B1%2C2%5D\
                        &origclientorderidlist=%5B%22a-b%22%5D";
        assert_eq!(
            written(delete, "/dapi/v1/batchOrders", cancel).expect("a list of ids"),
            expected
        );
    }

    #[test]
    fn a_value_that_would_be_read_as_another_is_escaped() {
        let (get, post, delete) = (Method::Get, Method::Post, Method::Delete);
        let (list, withdraw) = ("/sapi/v1/sub-account/list", "/sapi/v1/capital/withdraw/apply");
        let (batch, earn) = ("/fapi/v1/batchOrders", "/sapi/v1/simple-earn/flexible/subscribe");
        for (method, path, params, expected) in [
            (get, list, r#"{"email":"a@x.com"}"#, "email=a@x.com"),
            (get, list, r#"{"email":"a+b@x.com"}"#, "email=a%2Bb%40x.com"),
            (post, withdraw, r#"{"name":"my wallet"}"#, "name=my%20wallet"),
            (post, withdraw, r#"{"name":"é","address":"a b"}"#, "name=%C3%A9&address=a%20b"),
            (
                post,
                "/sapi/v1/sub-account/universalTransfer",
                r#"{"amount":"1&amount=9"}"#,
                "amount=1%26amount%3D9",
            ),
            (post, withdraw, r#"{"name":"a%26b\r\n#;?"}"#, "name=a%2526b%0D%0A%23%3B%3F"),
            (post, earn, r#"{"asset":"币安人生"}"#, "asset=币安人生"),
            (get, "/sapi/v1/simple-earn/flexible/list", r#"{"asset":"币"}"#, "asset=%E5%B8%81"),
            (
                post,
                batch,
                r#"{"batchOrders":[{"s":"a&b"}]}"#,
                "batchOrders=%5B%7B%22s%22%3A%22a%26b%22%7D%5D",
            ),
            (
                post,
                batch,
                r#"{"batchOrders":[{"symbol":"币USDT"}]}"#,
                r#"batchOrders=[{"symbol":"币USDT"}]"#,
            ),
            (post, batch, r#"{"batchOrders":"[]&x=1"}"#, "batchOrders=%5B%5D%26x%3D1"),
            (delete, batch, r#"{"orderId":"a+b"}"#, "orderId=a%2Bb"),
        ] {
            let expected = format!("timestamp=7&{expected}&recvWindow=10000");
            assert_eq!(written(method, path, params).expect(path), expected);
        }
    }

    #[test]
    fn the_receive_window_stays_where_the_caller_put_it() {
        let text = written(
            Method::Get,
            "/api/v3/account",
            r#"{"recvWindow":5000,"omitZeroBalances":true}"#,
        );
        assert_eq!(text.expect("scalars"), "timestamp=7&recvWindow=5000&omitZeroBalances=true");
    }

    #[test]
    fn values_that_could_be_read_in_two_ways_are_refused() {
        for (method, path, params) in [
            (Method::Delete, "/fapi/v1/batchOrders", r#"{"orderidlist":"[1]"}"#),
            (Method::Delete, "/fapi/v1/batchOrders", r#"{"orderidlist":["1%2C2"]}"#),
            (Method::Get, "/api/v3/account", r#"{"a":[1]}"#),
            (Method::Get, "/api/v3/account", r#"{"a":null}"#),
            (Method::Get, "/api/v3/account", r#"[{"a":1}]"#),
        ] {
            assert!(written(method, path, params).is_err(), "{path} {params}");
        }
    }
}
