//! Tests what limits count of orders of single exchanges, written by hand. Each rule of an exchange
//! has its own table.

mod contracts;
mod gate_orders;
mod kraken_orders;
mod kucoin_orders;
mod mexc_orders;
mod okx_orders;
mod spot;
mod woo_orders;

#[path = "../asked/mod.rs"]
mod asked;

use std::collections::BTreeMap;

use asked::{key, request};
use countersign_core::exchange::classify::classify;
use countersign_core::exchange::order::Order;
use countersign_core::exchange::{Exchange, named, worth};
use countersign_core::json::Value;
use countersign_core::policy::{Client, Decision, Policy, Release};
use countersign_core::request::{Method, Request};
use countersign_core::scope::Scope;

/// An endpoint, as `POST /path`.
struct At(&'static str, &'static str);

/// Stands for a size or a worth that cannot be computed.
const NONE: &str = "-";

impl At {
    fn exchange(&self) -> &'static dyn Exchange {
        named(self.0).expect("in the registry")
    }

    /// `None` if a name is not plain: the agent refuses that.
    fn request(&self, params: &str) -> Option<Request> {
        let (method, path) = self.1.split_once(' ').expect("METHOD PATH");
        request(Method::parse(method).expect("a method"), path, Value::parse(params).expect("JSON"))
    }

    /// Size and worth of the orders. Those of several orders are joined by `+`.
    fn counted(&self, params: &str) -> (String, String) {
        let exchange = self.exchange();
        let nothing = || (NONE.to_owned(), NONE.to_owned());
        let Some(asked) = self.request(params) else { return nothing() };
        let Ok(judged) = classify(exchange, exchange.facts().algorithms[0], &asked) else {
            return nothing();
        };
        let Ok(orders) = &judged.orders else { return nothing() };
        let sized = || orders.iter().filter(|order| order.sized);
        let joined =
            |text: &dyn Fn(&Order<'_>) -> String| sized().map(text).collect::<Vec<_>>().join("+");
        let unknown = |_| NONE.to_owned();
        let size = |order: &Order<'_>| {
            worth::size(exchange, order).map_or_else(unknown, |size| size.to_string())
        };
        let worth = |order: &Order<'_>| {
            worth::notional(exchange, order)
                .map_or_else(unknown, |(asset, amount)| format!("{amount} {asset}"))
        };
        (joined(&size), joined(&worth))
    }

    /// Asserts what limits count of each order: parameters, size, worth.
    fn counts(&self, cases: &[(&str, &str, &str)]) {
        for (params, size, worth) in cases {
            assert_eq!(
                self.counted(params),
                ((*size).to_owned(), (*worth).to_owned()),
                "{} {} {params}",
                self.0,
                self.1
            );
        }
    }

    /// Asserts that neither the size nor the worth of these orders is known.
    fn knows_nothing(&self, cases: &[&str]) {
        for params in cases {
            let (size, worth) = self.counted(params);
            let known = |text: &str| text.split('+').any(|part| part != NONE);
            assert!(
                !known(&size) && !known(&worth),
                "{} {} {params}: {size}; {worth}",
                self.0,
                self.1
            );
        }
    }

    /// True if a client that may use only this symbol may send the request.
    fn is_within(&self, symbol: &str, params: &str) -> bool {
        let exchange = self.exchange();
        let Some(asked) = self.request(params) else { return false };
        let algorithm = exchange.facts().algorithms[0];
        let key = key(exchange, algorithm);
        let client = Client {
            name: "bot".to_owned(),
            uid: 1,
            keys: [key.name.clone()].into(),
            scopes: Scope::ALL.into_iter().collect(),
            symbols: Some([symbol.to_owned()].into()),
            max_quantity: BTreeMap::new(),
            limits: BTreeMap::new(),
            rate: None,
            unbound: Release::Signature,
        };
        classify(exchange, algorithm, &asked).is_ok_and(|classified| {
            matches!(
                Policy::default().decide(&client, &key, exchange, &classified),
                Decision::Allow { .. }
            )
        })
    }
}

/// A JSON object with `more` added at its end.
fn with(order: &str, more: &str) -> String {
    let open = order.trim_end().strip_suffix('}').expect("an object");
    format!("{open},{more}}}")
}

/// A text as JSON.
fn quoted(text: &str) -> String {
    Value::from(text).to_json()
}
