//! The recipe for CoinEx v2. Its page speaks of a digest with the secret, which is an HMAC. Older
//! clients hashed the secret beside the message.
//!
//! <https://docs.coinex.com/api/v2/authorization>

use std::sync::LazyLock;

use super::facts::{Facts, Hosts};
use super::order::Order;
use super::order_facts::{OrderFacts, Unit, Whole};
use super::parameters::{Pairs, ParameterPlace, named, raw, scalar, sorted};
use super::recipe::Exchange;
use super::table::Table;
use super::worth::ending_in;
use crate::draft::{Draft, Encoding, Template};
use crate::json::Value;
use crate::key::{Environment, Key};
use crate::refusal::Refusal;
use crate::request::{ParamsIn, Request};
use crate::stamp::Stamp;

#[derive(Debug)]
pub struct Coinex;

static FACTS: Facts = Facts {
    name: "coinex",
    documentation: "https://docs.coinex.com/api/v2/authorization",
    hosts: &[Hosts {
        environment: Environment::Production,
        path_prefix: "/",
        hosts: &["api.coinex.com"],
    }],
    managed: &["tonce"],
    orders: OrderFacts {
        priced: &["fok", "ioc", "limit", "maker_only"],
        unpriced: &["market"],
        quoted: &["market"],
        whole: Whole::No(
            "https://docs.coinex.com/api/v2/futures/order/http/put-order: every order has an \
             amount",
        ),
        ..OrderFacts::UNKNOWN
    },
    ..Facts::PLAIN
};

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    Table::parse(&FACTS, include_str!("coinex.scopes"), include_str!("coinex.params"))
});

impl Exchange for Coinex {
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
        let place = ParameterPlace::of(request.method, ParamsIn::Json);
        place.check(request)?;
        let params = sorted(named(request)?);
        let (mut target, mut body) = (request.path.to_string(), None);
        match place {
            ParameterPlace::Body(_) => body = Some(Value::Object(params).to_json()),
            ParameterPlace::Query if params.is_empty() => {}
            ParameterPlace::Query => target += &format!("?{}", query(&params)?),
        }
        let now = stamp.now_ms;
        let message =
            format!("{}{target}{}{now}", request.method, body.as_deref().unwrap_or_default());
        Ok(Draft::new(
            request,
            key,
            stamp,
            message,
            Encoding::Hex,
            format!("https://{host}{target}"),
        )
        .header("Content-Type", "application/json")
        .header("Accept", "application/json")
        .header("X-COINEX-KEY", key.api_key.clone())
        .header("X-COINEX-SIGN", Template::signature())
        .header("X-COINEX-TIMESTAMP", now.to_string())
        .body(body))
    }

    fn unit(&self, order: &Order<'_>) -> Unit {
        let markets = if order.market.as_deref() == Some("FUTURES") {
            FUTURES_MARKET_TYPES
        } else {
            SPOT_MARKET_TYPES
        };
        if order
            .member("market_type")
            .is_some_and(|market| !market.scalar().is_some_and(|name| markets.contains(&name)))
        {
            return Unit::Unknown("its market_type is not that of its path");
        }
        // A stop order keeps the unit that it was placed in, which an amendment does not repeat.
        if !order.typed
            && order.market.as_deref() == Some("SPOT")
            && order.member("stop_id").is_some()
        {
            return Unit::Unknown("its size is in the asset that the stop order was placed in");
        }
        // `ccy` says which asset the amount of a market order is in.
        match (order.kind.as_deref(), order.extra("ccy")) {
            // Futures are sized in the traded asset. Closing a position is not an order with a
            // size.
            (Some("market"), None) if order.market.as_deref() == Some("FUTURES") => Unit::Base,
            (Some("market"), Some(unit)) if self.quote_asset(order) == Ok(unit) => Unit::Quote,
            (Some("market"), _) | (_, Some(_)) => Unit::Unknown("its size may be in either asset"),
            _ => Unit::Base,
        }
    }

    fn quote_asset<'a>(&self, order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        match order.market.as_deref() {
            Some("SPOT") => ending_in(order.symbol.as_deref(), &["BTC", "USDC", "USDT"]),
            _ => Err("a contract's worth is not in its order"),
        }
    }
}

/// The values of `market_type` by path.
const FUTURES_MARKET_TYPES: &[&str] = &["FUTURES"];
const SPOT_MARKET_TYPES: &[&str] = &["MARGIN", "SPOT"];

/// The address is signed as it is sent, and the program that sends it escapes every character that
/// is not ASCII. So the names of instruments must be ASCII too.
fn query(params: &[(String, Value)]) -> Result<String, Refusal> {
    let mut pairs = Pairs::empty();
    for (name, value) in params {
        pairs.push(name, raw(name, scalar(name, value)?)?);
    }
    Ok(pairs.into_text())
}
