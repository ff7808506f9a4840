//! CoinEx v2. What its page calls a digest with the secret is an HMAC; older clients hashed the secret beside the message.
//!
//! <https://docs.coinex.com/api/v2/authorization>

use std::sync::LazyLock;

use super::parameters::{Pairs, Place, named, raw, scalar, sorted};
use super::table::Table;
use super::worth::{ending_in, priced, quoted};
use super::{Exchange, Facts, Hosts, Stamp};
use crate::decimal::Amount;
use crate::draft::{Draft, Encoding, Template};
use crate::exchange::classify::Order;
use crate::json::Value;
use crate::key::{Environment, Key};
use crate::refusal::Refusal;
use crate::request::{ParamsIn, Request};

#[derive(Debug)]
pub struct Coinex;

static FACTS: Facts = Facts {
    name: "coinex",
    documentation: "https://docs.coinex.com/api/v2/authorization",
    hosts: &[Hosts { environment: Environment::Production, path_prefix: "/", hosts: &["api.coinex.com"] }],
    managed: &["tonce"],
    ..Facts::PLAIN
};

static TABLE: LazyLock<Table> =
    LazyLock::new(|| Table::parse(&FACTS, include_str!("coinex.scopes"), include_str!("coinex.params")));

impl Exchange for Coinex {
    fn facts(&self) -> &'static Facts {
        &FACTS
    }

    fn table(&self) -> &'static Table {
        &TABLE
    }
    fn draft(&self, request: &Request, key: &Key, host: &str, stamp: &Stamp) -> Result<Draft, Refusal> {
        let place = Place::of(request.method, ParamsIn::Json);
        place.check(request)?;
        let params = sorted(named(request)?);
        let (mut target, mut body) = (request.path.to_string(), None);
        match place {
            Place::Body(_) => body = Some(Value::Object(params).to_json()),
            Place::Query if params.is_empty() => {}
            Place::Query => target += &format!("?{}", query(&params)?),
        }
        let now = stamp.now_ms;
        let message = format!("{}{target}{}{now}", request.method, body.as_deref().unwrap_or_default());
        Ok(Draft::new(request, key, stamp, message, Encoding::Hex, format!("https://{host}{target}"))
            .header("Content-Type", "application/json")
            .header("Accept", "application/json")
            .header("X-COINEX-KEY", key.api_key.clone())
            .header("X-COINEX-SIGN", Template::signature())
            .header("X-COINEX-TIMESTAMP", now.to_string())
            .body(body))
    }

    fn base_quantity<'a>(&self, order: &'a Order<'_>) -> Option<&'a str> {
        // `ccy` says which asset the amount of a market order is in.
        order.quantity.as_deref().filter(|_| order.extra("ccy").is_none() && order.kind.as_deref() != Some("market"))
    }

    fn notional<'a>(&self, order: &'a Order<'_>) -> Result<(&'a str, Amount), &'static str> {
        if !matches!(order.extra("market_type"), Some("MARGIN" | "SPOT")) {
            return Err("a contract's worth is not in its order");
        }
        let quote = ending_in(order.symbol.as_deref(), &["BTC", "USDC", "USDT"])?;
        match (order.kind.as_deref(), order.extra("ccy")) {
            (Some("limit" | "maker_only" | "ioc" | "fok"), None) => {
                priced(quote, order.quantity.as_deref(), order.price.as_deref())
            }
            (Some("market"), Some(unit)) if unit == quote => quoted(quote, order.quantity.as_deref()),
            _ => Err("it has no limit price and no size in the quote asset"),
        }
    }
}

/// The address is signed as it is sent, and what sends it escapes all that is not ASCII: names of instruments too have to be.
fn query(params: &[(String, Value)]) -> Result<String, Refusal> {
    let mut pairs = Pairs::empty();
    for (name, value) in params {
        pairs.push(name, raw(name, scalar(name, value)?)?);
    }
    Ok(pairs.into_text())
}
