//! Tests limits on every row that places orders. An order that is too large, or for another
//! instrument, is refused on every row.

mod asked;

use asked::{algorithms, client, key, request};
use countersign_core::algorithm::Algorithm;
use countersign_core::decimal::Amount;
use countersign_core::exchange::classify::classify;
use countersign_core::exchange::table::{Endpoint, Opening, Role, ValueSource, WHOLE_BODY};
use countersign_core::exchange::{ALL, Exchange};
use countersign_core::json::Value;
use countersign_core::policy::{Client, Decision, Policy};
use countersign_core::request::Request;
use countersign_core::scope::Scope;

const SYMBOL: &str = "BTC-USD";

/// Judges a request of a client that may do everything, but may order at most 1 of one instrument.
fn limited(exchange: &dyn Exchange, algorithm: Algorithm, request: &Request) -> Result<(), String> {
    let key = key(exchange, algorithm);
    let client = Client {
        symbols: Some([SYMBOL.to_owned()].into()),
        max_quantity: [(SYMBOL.to_owned(), Amount::parse("1").expect("a decimal"))].into(),
        ..client(&key)
    };
    let classified = classify(exchange, algorithm, request).map_err(|refusal| refusal.message)?;
    match Policy::default().decide(&client, &key, exchange, &classified) {
        Decision::Allow { .. } => Ok(()),
        Decision::Ask { .. } => Err("asks".to_owned()),
        Decision::Deny(denied) => Err(denied.refusal.message),
    }
}

/// An order for this row: `quantity` of `symbol`, in every parameter of the row for it. It has a
/// size in the quote asset only if the row has no other size.
fn order(
    exchange: &dyn Exchange,
    row: &Endpoint,
    opening: &Opening,
    symbol: &str,
    quantity: &str,
) -> Request {
    let orders = &exchange.facts().orders;
    let kinds = orders.priced.iter().chain(orders.unpriced).copied();
    let kind = kinds.into_iter().find(|kind| !kind.is_empty()).unwrap_or("limit");
    let value = |role| match role {
        Role::Symbol | Role::Common => symbol,
        Role::Quantity | Role::Quote => quantity,
        Role::Side => "buy",
        Role::Type => kind,
        Role::Price => "1",
        _ => "x",
    };
    let list = opening.name_of(Role::List);
    let (mut item, mut beside) = (Vec::new(), Vec::new());
    for (role, name) in
        opening.roles.iter().filter_map(|(role, source)| Some((*role, source.parameter()?)))
    {
        let member = (name.to_owned(), value(role).into());
        match role {
            Role::List => {}
            Role::Quote if opening.name_of(Role::Quantity).is_some() => {}
            Role::Common => beside.push(member),
            _ => item.push(member),
        }
    }
    let read =
        |name: &&&str| !opening.roles.iter().any(|(_, source)| source.parameter() == Some(**name));
    for name in opening.required.iter().filter(read) {
        if list.is_some() { &mut beside } else { &mut item }.push(((*name).to_owned(), "x".into()));
    }
    let params = match list {
        None => Value::Object(item),
        Some(WHOLE_BODY) => Value::Array(vec![Value::Object(item)]),
        Some(name) => {
            beside.push((name.to_owned(), Value::Array(vec![Value::Object(item)])));
            Value::Object(beside)
        }
    };
    let filled = |(index, part): (usize, &str)| {
        let role = opening.roles.iter().find(|(_, source)| *source == ValueSource::PathPart(index));
        role.map_or_else(|| part.replace(['{', '}'], ""), |(role, _)| value(*role).to_owned())
    };
    let path: Vec<_> = row.path.split('/').enumerate().map(filled).collect();
    request(row.method, &path.join("/"), params).expect("a row's names are plain")
}

#[test]
fn what_is_too_large_or_of_another_instrument_is_refused_on_every_row() {
    let (mut within, mut tried) = (0, 0);
    for (exchange, algorithm) in
        ALL.iter().flat_map(|exchange| algorithms(*exchange).map(move |kind| (*exchange, kind)))
    {
        let table = exchange.table();
        let orders = table.openings().iter().map(|opening| (table.endpoint(opening), opening));
        for (row, opening) in
            orders.filter(|(row, opening)| row.scope == Scope::Trade && !opening.places_no_order)
        {
            let asked = |symbol, quantity| {
                limited(exchange, algorithm, &order(exchange, row, opening, symbol, quantity))
            };
            let line = format!("{} {} {}", exchange.facts().name, row.method, row.path);
            assert!(asked(SYMBOL, "1000000").is_err(), "{line}: too large");
            assert!(asked("OTHER", "0.1").is_err(), "{line}: another instrument");
            within += usize::from(asked(SYMBOL, "0.1").is_ok());
            tried += 1;
        }
    }
    // Otherwise this test would try nothing.
    assert!(within > tried / 4, "{within} of {tried} are within the limits");
}
