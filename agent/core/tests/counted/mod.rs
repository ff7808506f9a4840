//! Writes the size and worth that limits count of an order as a text, for tables of cases.

#![allow(dead_code)] // each test is a program of its own, and uses some of it

use countersign_core::exchange::classify::classify;
use countersign_core::exchange::order::Order;
use countersign_core::exchange::{Exchange, named, worth};
use countersign_core::json::Value;
use countersign_core::request::Method;

use crate::asked::request;

/// A limit order of Bitget's unified account.
pub(crate) const UTA: &str = r#"{"category":"USDT-FUTURES","symbol":"BTCUSDT","side":"buy",
    "orderType":"limit","qty":"0.5","price":"100"}"#;

/// Size and worth of all orders of a request. `-` means that a client with such a limit is refused.
fn counted(name: &str, method: Method, path: &str, params: &str) -> String {
    let exchange = named(name).expect("in the registry");
    let asked = request(method, path, Value::parse(params).expect(params)).expect(params);
    // A Coinbase token does not cover the body.
    let algorithm = *exchange.facts().algorithms.last().expect("an algorithm");
    let Ok(classified) = classify(exchange, algorithm, &asked) else { return "refused".to_owned() };
    let Ok(orders) = &classified.orders else { return "- -".to_owned() };
    let sized = orders.iter().filter(|order| order.sized).map(|order| said(exchange, order));
    sized.collect::<Vec<_>>().join(" + ")
}

fn said(exchange: &dyn Exchange, order: &Order<'_>) -> String {
    let size =
        worth::size(exchange, order).map_or_else(|_| "-".to_owned(), |size| size.to_string());
    let worth = worth::notional(exchange, order)
        .map_or_else(|_| "-".to_owned(), |(_, amount)| amount.to_string());
    format!("{size} {worth}")
}

/// An order with `more` added. A name in `more` replaces the same name in `order`.
fn with(order: &str, more: &str) -> String {
    let members = |text: &str| Value::parse(text).expect(text).members().expect(text).to_vec();
    let (mut all, more) = (members(order), members(more));
    all.retain(|(name, _)| !more.iter().any(|(other, _)| other == name));
    Value::Object(all.into_iter().chain(more).collect()).to_json()
}

/// One endpoint: an order for it, and what limits count if the order holds more.
pub(crate) type Cases<'a> = (&'a str, Method, &'a str, &'a str, &'a [(&'a str, &'a str)]);

pub(crate) fn check(endpoints: &[Cases<'_>]) {
    for (exchange, method, path, order, cases) in endpoints {
        for (more, expected) in *cases {
            let found = counted(exchange, *method, path, &with(order, more));
            assert_eq!(found, *expected, "{exchange} {method} {path} {more}");
        }
    }
}
