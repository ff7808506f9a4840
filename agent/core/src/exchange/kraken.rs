//! The recipe for Kraken spot. Every request is a POST, with its nonce first in the body.
//!
//! <https://docs.kraken.com/api/docs/guides/spot-rest-auth>

use std::fmt::Write;
use std::sync::LazyLock;

use percent_encoding::AsciiSet;
use sha2::{Digest, Sha256};

use super::facts::{Facts, Hosts, Nonce, SecretFormat};
use super::login::SessionLogin;
use super::login_token::token;
use super::order::Order;
use super::order_facts::{OrderFacts, Unit, Whole};
use super::parameters::{Pairs, named, without_separators};
use super::recipe::Exchange;
use super::table::Table;
use crate::algorithm::Algorithm;
use crate::draft::{Draft, Encoding, SessionDraft, Template, UNRESERVED};
use crate::json::Value;
use crate::key::{Environment, Key, NonceUnit};
use crate::refusal::Refusal;
use crate::request::{Method, ParamsIn, Request};
use crate::scope::Scope;
use crate::stamp::Stamp;

#[derive(Debug)]
pub struct Kraken;

static FACTS: Facts = Facts {
    name: "kraken",
    documentation: "https://docs.kraken.com/api/docs/guides/spot-rest-auth",
    algorithms: &[Algorithm::HmacSha512],
    secret: SecretFormat::Base64,
    nonce: Nonce::Increasing(NonceUnit::Milliseconds),
    // The method is not signed, but there is only one.
    hosts: &[Hosts {
        environment: Environment::Production,
        path_prefix: "/",
        hosts: &["api.kraken.com"],
    }],
    session_grants: &[Scope::Read, Scope::Trade],
    orders: OrderFacts {
        priced: &["iceberg", "limit"],
        unpriced: &[
            "market",
            "stop-loss",
            "stop-loss-limit",
            "take-profit",
            "take-profit-limit",
            "trailing-stop",
            "trailing-stop-limit",
        ],
        quoted: &["market"],
        whole: Whole::No(
            "https://docs.kraken.com/api/docs/rest-api/add-order: a volume of zero, or the type \
             settle-position, which is not on these lists",
        ),
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::parse(&FACTS, include_str!("kraken.scopes"), include_str!("kraken.params"))
});

impl Exchange for Kraken {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn table(&self) -> &'static Table {
        &TABLE
    }

    fn draft(
        &self,
        request: &Request,
        key: &Key,
        host: &str,
        stamp: &Stamp,
    ) -> Result<Draft, Refusal> {
        if request.method != Method::Post {
            return Err(Refusal::malformed("every private request of this exchange is a POST"));
        }
        let (body, content_type) = match kind_of_body(request)? {
            Body::Form => (form(request, stamp.nonce)?, "application/x-www-form-urlencoded"),
            Body::Json => (json(request, stamp.nonce)?, "application/json"),
        };
        let mut message = request.path.as_str().as_bytes().to_vec();
        message.extend(Sha256::digest(format!("{}{body}", stamp.nonce)));
        Ok(Draft {
            algorithm: key.algorithm,
            message,
            encoding: Encoding::Base64,
            method: request.method,
            url: format!("https://{host}{}", request.path).into(),
            headers: vec![
                ("API-Key", key.api_key.clone().into()),
                ("API-Sign", Template::signature()),
                ("Content-Type", content_type.into()),
            ],
            body: Some(body.into()),
            timestamp_ms: stamp.now_ms,
        })
    }

    /// <https://docs.kraken.com/api/docs/guides/spot-ws-auth>
    fn session(
        &self,
        key: &Key,
        login: &SessionLogin,
        stamp: &Stamp,
    ) -> Result<SessionDraft, Refusal> {
        login.plain()?;
        token(self, "api.kraken.com", "/0/private/GetWebSocketsToken", key, stamp)
    }

    fn unit(&self, order: &Order<'_>) -> Unit {
        let flags = || order.extra("oflags").into_iter().flat_map(|flags| flags.split(','));
        if flags().any(|flag| !OTHER_FLAGS.contains(&flag) && flag != VOLUME_IN_QUOTE) {
            return Unit::Unknown("its oflags are not all known");
        }
        if !flags().any(|flag| flag == VOLUME_IN_QUOTE) {
            return Unit::Base;
        }
        let margin = ["leverage", "margin"].iter().any(|name| order.member(name).is_some());
        match order.side.as_deref() {
            Some("buy") if !margin => Unit::Quote,
            _ => Unit::Unknown(
                "its oflags say viqc, which is known of orders that buy without margin",
            ),
        }
    }

    fn quote_asset<'a>(&self, order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        quote_of(order.symbol.as_deref().ok_or("it names no pair")?)
    }
}

/// The volume is in the quote currency.
const VOLUME_IN_QUOTE: &str = "viqc";
/// Flags that do not change a size. An empty text is no flag.
const OTHER_FLAGS: &[&str] = &["", "fcib", "fciq", "nompp", "post"];

enum Body {
    Form,
    Json,
}

/// Batches and relative prices (`5%`) are taken as JSON only. All other requests usually have a
/// form.
fn kind_of_body(request: &Request) -> Result<Body, Refusal> {
    let batch = ["/0/private/AddOrderBatch", "/0/private/CancelOrderBatch"]
        .contains(&request.path.as_str());
    let relative = request.scalar("price").is_some_and(|price| price.ends_with('%'));
    match request.params_in {
        None => Ok(if batch || relative { Body::Json } else { Body::Form }),
        Some(ParamsIn::None) if request.params.is_empty() && !batch => Ok(Body::Form),
        Some(ParamsIn::Form) if !batch && !relative => Ok(Body::Form),
        Some(ParamsIn::Json) => Ok(Body::Json),
        Some(_) => {
            Err(Refusal::malformed("this exchange takes the parameters of this request elsewhere"))
        }
    }
}

fn json(request: &Request, nonce: u64) -> Result<String, Refusal> {
    let mut members = vec![("nonce".to_owned(), Value::String(nonce.to_string()))];
    members.extend(named(request)?.iter().cloned());
    // The content type is not signed.
    without_separators(Value::Object(members).to_json())
}

/// In a value, everything but unreserved characters and brackets is escaped.
const FORM_ESCAPED: &AsciiSet = &UNRESERVED.remove(b'[').remove(b']');

fn form(request: &Request, nonce: u64) -> Result<String, Refusal> {
    let mut pairs = Pairs::empty();
    pairs.push("nonce", nonce);
    for (name, value) in named(request)? {
        push(&mut pairs, name, value)?;
    }
    Ok(pairs.into_text())
}

/// Nested names stand in brackets: `close[price]=1`, `orders[0]=…`.
fn push(pairs: &mut Pairs, name: &str, value: &Value) -> Result<(), Refusal> {
    let nested = |key: &dyn std::fmt::Display| {
        let mut nested = name.to_owned();
        write!(nested, "[{key}]").expect("writing to a String never fails");
        nested
    };
    let text = match value {
        Value::Array(items) => {
            return items
                .iter()
                .enumerate()
                .try_for_each(|(index, item)| push(pairs, &nested(&index), item));
        }
        Value::Object(members) => {
            return members.iter().try_for_each(|(key, value)| push(pairs, &nested(key), value));
        }
        // The clients in Python use this spelling, and Kraken takes it.
        Value::Bool(true) => "True",
        Value::Bool(false) => "False",
        Value::Null => {
            return Err(Refusal::malformed(format!(
                "the parameter {name:?} is null: a form cannot carry it"
            )));
        }
        Value::Number(text) | Value::String(text) => text,
    };
    pairs.push_encoded(name, text, FORM_ESCAPED);
    Ok(())
}

/// Endings of a pair, with the asset they mean: `XBTUSDT`, `XXBTZUSD`.
const QUOTES: &[(&str, &str)] = &[
    ("AUD", "AUD"),
    ("CAD", "CAD"),
    ("CHF", "CHF"),
    ("DAI", "DAI"),
    ("ETH", "ETH"),
    ("EUR", "EUR"),
    ("GBP", "GBP"),
    ("JPY", "JPY"),
    ("USD", "USD"),
    ("USDC", "USDC"),
    ("USDT", "USDT"),
    ("XBT", "XBT"),
    ("XETH", "ETH"),
    ("XXBT", "XBT"),
    ("ZAUD", "AUD"),
    ("ZCAD", "CAD"),
    ("ZEUR", "EUR"),
    ("ZGBP", "GBP"),
    ("ZJPY", "JPY"),
    ("ZUSD", "USD"),
];

fn quote_of(pair: &str) -> Result<&str, &'static str> {
    if let Some((_, quote)) = pair.split_once('/') {
        return Ok(quote);
    }
    let endings =
        QUOTES.iter().filter(|(ending, _)| pair.len() > ending.len() && pair.ends_with(ending));
    let longest = endings.max_by_key(|(ending, _)| ending.len());
    longest.map(|(_, asset)| *asset).ok_or("the quote asset of its pair is not known")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::worth;
    use crate::request::{Params, Path};

    fn request(path: &str, params: &str, params_in: Option<ParamsIn>) -> Request {
        let params = Params::new(Value::parse(params).expect("JSON")).expect("plain names");
        Request {
            method: Method::Post,
            path: Path::parse(path).expect("a path"),
            params,
            params_in,
            host: None,
        }
    }

    #[test]
    fn forms_nest_in_brackets() {
        let params = r#"{"a":[1,{"b":"x y"}],"c":{"d":{"e":"[é]"}},"f":true,"g":[],"h":"+5"}"#;
        let body = form(&request("/0/private/AddOrder", params, None), 9).expect("a form");
        assert_eq!(body, "nonce=9&a[0]=1&a[1][b]=x%20y&c[d][e]=[%C3%A9]&f=True&h=%2B5");
        assert!(form(&request("/0/private/AddOrder", r#"{"a":null}"#, None), 9).is_err());
        assert!(form(&request("/0/private/AddOrder", "[1]", None), 9).is_err());
    }

    #[test]
    fn batches_and_relative_prices_are_json() {
        let add = "/0/private/AddOrder";
        let batch = "/0/private/AddOrderBatch";
        for (path, params, asked, json) in [
            (add, r#"{"price":"5"}"#, None, Some(false)),
            (add, r#"{"price":"5%"}"#, None, Some(true)),
            (add, r#"{"price":"5"}"#, Some(ParamsIn::Json), Some(true)),
            (add, r#"{"price":"5%"}"#, Some(ParamsIn::Form), None),
            (add, "{}", Some(ParamsIn::None), Some(false)),
            (add, r#"{"price":"5"}"#, Some(ParamsIn::Query), None),
            (batch, r#"{"orders":[]}"#, None, Some(true)),
            (batch, r#"{"orders":[]}"#, Some(ParamsIn::Form), None),
            ("/0/private/CancelOrderBatch", r#"{"orders":["a"]}"#, None, Some(true)),
        ] {
            let kind = kind_of_body(&request(path, params, asked))
                .ok()
                .map(|kind| matches!(kind, Body::Json));
            assert_eq!(kind, json, "{path} {params} {asked:?}");
        }
        let body = json(&request(batch, r#"{"b":1.0,"a":"é"}"#, None), 9).expect("an object");
        assert_eq!(body, r#"{"nonce":"9","b":1.0,"a":"é"}"#);
        let form = r#"{"cl_ord_id":"&nonce=1&pair=XDGUSD&x="}"#;
        assert!(
            json(&request(add, form, Some(ParamsIn::Json)), 9).is_err(),
            "it would be a form as well"
        );
    }

    #[test]
    fn worth_is_in_the_quote_of_the_pair() {
        fn order<'a>(
            symbol: &'a str,
            kind: &'a str,
            price: Option<&'a str>,
            flags: Option<&str>,
        ) -> Order<'a> {
            let flags = flags.map(|flags| ("oflags".to_owned(), Value::String(flags.to_owned())));
            Order {
                symbol: Some(symbol.into()),
                side: Some("buy".into()),
                kind: Some(kind.into()),
                quantity: Some("2".into()),
                price: price.map(Into::into),
                members: flags.into_iter().collect(),
                typed: true,
                ..Order::default()
            }
        }
        for (order, worth) in [
            (order("XBTUSD", "limit", Some("3"), Some("post")), Some("6 USD")),
            (order("XXBTZUSD", "limit", Some("3"), None), Some("6 USD")),
            (order("XETHXXBT", "limit", Some("3"), None), Some("6 XBT")),
            (order("XBT/USDT", "limit", Some("3"), None), Some("6 USDT")),
            (order("XBTUSDT", "market", None, Some("fciq,viqc")), Some("2 USDT")),
            (order("XBTUSD", "limit", Some("3"), Some("viqc")), None),
            (order("XBTUSD", "market", None, None), None),
            (order("XBTUSD", "limit", Some("+3"), None), None),
            (order("XBTUSD", "limit", Some("3%"), None), None),
            (order("XBTUSD", "stop-loss-limit", Some("3"), None), None),
            (order("NOSUCH", "limit", Some("3"), None), None),
        ] {
            let known = worth::notional(&Kraken, &order)
                .ok()
                .map(|(asset, amount)| format!("{amount} {asset}"));
            assert_eq!(known.as_deref(), worth, "{order:?}");
            assert_eq!(worth::size(&Kraken, &order).is_err(), Kraken.unit(&order) == Unit::Quote);
        }
    }
}
