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

use asked::{key, replaced, request};
use countersign_core::decimal::Amount;
use countersign_core::exchange::classify::classify;
use countersign_core::exchange::order::Order;
use countersign_core::exchange::{Exchange, named, worth};
use countersign_core::json::Value;
use countersign_core::key::KeyName;
use countersign_core::policy::{Client, Decision, Policy, Release, SpendLimit};
use countersign_core::refusal::Code;
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

    fn row(&self) -> bool {
        let (method, path) = self.1.split_once(' ').expect("METHOD PATH");
        let method = Method::parse(method).expect("a method");
        self.exchange().table().find(method, path).is_some()
    }

    /// Size and worth of the orders. Those of several orders are joined by `+`. `Err` if the
    /// request is refused to every client.
    fn counted(&self, params: &str) -> Result<(String, String), Code> {
        assert!(self.row(), "{} has no row {}", self.0, self.1);
        let exchange = self.exchange();
        let asked = self.request(params).ok_or(Code::RequestMalformed)?;
        let judged = classify(exchange, exchange.facts().algorithms[0], &asked);
        let judged = judged.map_err(|refusal| refusal.code)?;
        let Ok(orders) = &judged.orders else { return Ok((NONE.to_owned(), NONE.to_owned())) };
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
        Ok((joined(&size), joined(&worth)))
    }

    /// Asserts what limits count of each order: parameters, size, worth.
    fn counts(&self, cases: &[(&str, &str, &str)]) {
        for (params, size, worth) in cases {
            let place = format!("{} {} {params}", self.0, self.1);
            if (*size, *worth) == (NONE, NONE) {
                self.knows_nothing(&[params]);
                continue;
            }
            let expected = ((*size).to_owned(), (*worth).to_owned());
            assert_eq!(self.counted(params), Ok(expected), "{place}");
        }
    }

    /// Asserts that neither the size nor the worth of these orders is known. A client without
    /// limits gets them signed. A client with a limit does not, because of that limit.
    fn knows_nothing(&self, cases: &[&str]) {
        for params in cases {
            let place = format!("{} {} {params}", self.0, self.1);
            let (size, worth) = self.counted(params).expect(&place);
            let known = |text: &str| text.split('+').any(|part| part != NONE);
            assert!(!known(&size) && !known(&worth), "{place}: {size}; {worth}");
            assert_eq!(self.judged(client(), params), Ok(()), "{place}: without limits");
            let no_more = Amount::parse("1000000000000").expect("a decimal");
            let spend = SpendLimit { per_request: Some(no_more), per_day: None };
            let sized = Client { max_quantity: self.limits_of_all(params, no_more), ..client() };
            let worth = Client { limits: [("USDT".to_owned(), spend)].into(), ..client() };
            for limited in [sized, worth] {
                let (code, reason) = self.judged(limited, params).expect_err(&place);
                assert_eq!(code, Code::PolicyLimit, "{place}: {reason}");
                let unknown = REASONS.iter().any(|known| reason.contains(known));
                assert!(unknown, "{place}: {reason}");
            }
        }
    }

    /// Asserts that these requests are refused to every client, with this code.
    fn refuses(&self, code: Code, cases: &[&str]) {
        for params in cases {
            assert_eq!(self.counted(params), Err(code), "{} {} {params}", self.0, self.1);
        }
    }

    /// Asserts that the order has every name that its row requires or reads.
    fn carries_what_it_reads(&self, order: &str) {
        let (method, path) = self.1.split_once(' ').expect("METHOD PATH");
        let method = Method::parse(method).expect("a method");
        let table = self.exchange().table();
        let (row, _) = table.find(method, path).expect("a row");
        let order = Value::parse(order).expect("JSON");
        let members = order.members().expect("an object");
        for opening in table.openings_of(row) {
            let read = opening.roles.iter().filter_map(|(_, source)| source.parameter());
            for name in opening.required.iter().copied().chain(read) {
                assert!(members.iter().any(|(known, _)| known == name), "{path}: {name}");
            }
        }
    }

    /// Asserts that a client with a limit is refused because the body is not signed, and that a
    /// client without limits is not refused.
    fn is_refused_as_unsigned(&self, params: &str) {
        self.knows_nothing(&[params]);
        let client = Client { symbols: Some(["any".to_owned()].into()), ..client() };
        let (_, reason) = self.judged(client, params).expect_err(self.1);
        assert!(reason.contains("the exchange does not sign"), "{}: {reason}", self.1);
    }

    /// A limit for each symbol of the request's orders.
    fn limits_of_all(&self, params: &str, limit: Amount) -> BTreeMap<String, Amount> {
        let exchange = self.exchange();
        let asked = self.request(params).expect("plain names");
        let judged = classify(exchange, exchange.facts().algorithms[0], &asked).expect("judged");
        let orders = judged.orders.iter().flatten();
        let symbols = orders.filter_map(|order| order.symbol.as_deref()).map(str::to_owned);
        symbols.chain(["any".to_owned()]).map(|symbol| (symbol, limit)).collect()
    }

    fn judged(&self, client: Client, params: &str) -> Result<(), (Code, String)> {
        let exchange = self.exchange();
        let asked = self.request(params).expect("plain names");
        let algorithm = exchange.facts().algorithms[0];
        let key = key(exchange, algorithm);
        let judged = classify(exchange, algorithm, &asked)
            .map_err(|refusal| (refusal.code, refusal.message))?;
        match Policy::default().decide(&client, &key, exchange, &judged) {
            Decision::Allow { .. } => Ok(()),
            Decision::Deny(denied) => Err((denied.refusal.code, denied.refusal.message)),
            Decision::Ask { .. } => panic!("an order asks nobody"),
        }
    }

    /// True if a client that may use only this symbol may send the request. If not, the limit is
    /// the reason.
    fn is_within(&self, symbol: &str, params: &str) -> bool {
        assert_eq!(self.judged(client(), params), Ok(()), "without limits: {params}");
        let client = Client { symbols: Some([symbol.to_owned()].into()), ..client() };
        let judged = self.judged(client, params);
        let refused = judged.as_ref().err().map(|(code, _)| *code);
        assert!(matches!(refused, None | Some(Code::PolicyLimit)), "{params}: {judged:?}");
        judged.is_ok()
    }
}

/// Parts of the reasons for which a limit refuses an order that cannot be counted.
const REASONS: &[&str] = &[
    "cannot be known from the request",
    "the exchange does not sign what this request trades",
    "the list of orders holds a value that is not an order",
    "the orders of this endpoint cannot be read",
];

/// A client with all scopes and no limits.
fn client() -> Client {
    Client {
        name: "bot".to_owned(),
        uid: 1,
        keys: [KeyName::parse("key").expect("a plain name")].into(),
        scopes: Scope::ALL.into_iter().collect(),
        symbols: None,
        max_quantity: BTreeMap::new(),
        limits: BTreeMap::new(),
        rate: None,
        unbound: Release::Signature,
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
