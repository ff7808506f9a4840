//! Compares the orders that ccxt sends, with the options it documents, with a golden file that a
//! reviewer reads. The file holds the size and worth that limits count, or the reason why they
//! cannot. `tests/conformance/orders.py` writes the requests.

#![allow(clippy::disallowed_methods)] // a test reads the files that it compares

mod asked;

use asked::request;
use countersign_core::exchange::classify::classify;
use countersign_core::exchange::order::Order;
use countersign_core::exchange::{Exchange, named, worth};
use countersign_core::json::Value;
use countersign_core::request::Method;

fn file(name: &str) -> String {
    format!("{}/../../tests/orders/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn said(exchange: &dyn Exchange, order: &Order<'_>) -> String {
    let size = worth::size(exchange, order).map(|size| size.to_string());
    let worth = worth::notional(exchange, order).map(|(asset, amount)| format!("{amount} {asset}"));
    let text = |part: Result<String, String>| part.unwrap_or_else(|reason| format!("- ({reason})"));
    format!("size {}; worth {}", text(size), text(worth))
}

/// One line of the golden file.
fn judged(case: &Value) -> Option<String> {
    let text = |name: &str| case.member(name).and_then(Value::scalar).expect("a text").to_owned();
    let exchange = named(&text("exchange")).expect("in the registry");
    let (method, path) = (Method::parse(&text("method")).expect("a method"), text("path"));
    let asked = request(method, &path, case.member("params").expect("parameters").clone())?;
    let judged = match classify(exchange, exchange.facts().algorithms[0], &asked) {
        Err(refusal) => format!("{}: {}", refusal.code, refusal.message),
        Ok(judged) => match &judged.orders {
            Err(reason) => format!("cannot be read: {reason}"),
            Ok(orders) => {
                let sized = orders.iter().filter(|order| order.sized);
                sized.map(|order| said(exchange, order)).collect::<Vec<_>>().join(" | ")
            }
        },
    };
    Some(format!("{} {}: {method} {path}: {judged}\n", text("exchange"), text("call")))
}

fn golden() -> String {
    let cases = std::fs::read_to_string(file("ccxt.jsonl")).expect("the requests");
    cases.lines().filter_map(|line| judged(&Value::parse(line).expect("JSON"))).collect()
}

#[test]
fn orders_of_ccxt_are_counted_as_reviewed() {
    let reviewed = std::fs::read_to_string(file("ccxt.golden")).expect("the golden file");
    for (found, reviewed) in golden().lines().zip(reviewed.lines()) {
        assert_eq!(found, reviewed, "`make golden` writes what is found");
    }
    assert_eq!(golden().lines().count(), reviewed.lines().count());
}

#[test]
#[ignore = "writes the golden file"]
fn write() {
    std::fs::write(file("ccxt.golden"), golden()).expect("the golden file is written");
}
