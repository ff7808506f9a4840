//! Tests that requests with the same signed bytes are judged alike. The tests read the signed
//! bytes, not the data that says what a signature covers.

mod asked;

use std::collections::HashMap;

use asked::{STAMP, algorithms, draft, draft_at, filled, key, request};
use countersign_core::algorithm::Algorithm;
use countersign_core::exchange::classify::classify;
use countersign_core::exchange::login::SessionLogin;
use countersign_core::exchange::table::{Endpoint, Role, WHOLE_BODY};
use countersign_core::exchange::{ALL, Exchange};
use countersign_core::json::Value;
use countersign_core::request::{ParamsIn, Request};
use countersign_core::scope::{Scope, Scopes};
use countersign_core::stamp::Stamp;

/// If the requests of two rows have the same message, a request for one row needs the scopes of the
/// other too.
#[test]
fn what_is_signed_alike_is_judged_alike() {
    let mut alike = 0;
    for exchange in ALL {
        let name = exchange.facts().name;
        for algorithm in kinds(*exchange) {
            for (params, rows) in openings(*exchange) {
                let by_message = by_message(*exchange, algorithm, &params);
                for other in rows {
                    let Some(message) = message(*exchange, algorithm, other, &params) else {
                        continue;
                    };
                    for asked in
                        by_message[&message].iter().filter(|asked| !std::ptr::eq(**asked, other))
                    {
                        let Some(needed) = judged(*exchange, algorithm, asked, &params) else {
                            continue;
                        };
                        let is_told =
                            needed.contains(other.scope) || gains_nothing(*exchange, asked, other);
                        assert!(
                            is_told,
                            "{name} {} {} is {} {}",
                            asked.method, asked.path, other.method, other.path
                        );
                        alike += 1;
                    }
                }
            }
        }
    }
    assert!(alike > 10_000, "{alike}");
}

/// The kinds of keys to try: all if their signatures cover different things, else the first.
fn kinds(exchange: &dyn Exchange) -> impl Iterator<Item = Algorithm> {
    let differ = exchange.facts().schemes.iter().any(|scheme| !scheme.algorithms.is_empty());
    algorithms(exchange).take(if differ { usize::MAX } else { 1 })
}

/// Parameters that open some rows beyond reads, and those rows.
fn openings(exchange: &dyn Exchange) -> Vec<(Value, Vec<&'static Endpoint>)> {
    let table = exchange.table();
    let mut openings: Vec<(Value, Vec<&'static Endpoint>)> = Vec::new();
    for opening in table.openings().iter().filter(|opening| table.counts(opening)) {
        let members =
            opening.required.iter().map(|name| ((*name).to_owned(), "1".into())).collect();
        let is_list = opening.name_of(Role::List) == Some(WHOLE_BODY);
        let params = if is_list { Value::Array(vec!["1".into()]) } else { Value::Object(members) };
        let row = table.endpoint(opening);
        match openings.iter_mut().find(|(known, _)| *known == params) {
            Some((_, rows)) => rows.push(row),
            None => openings.push((params, vec![row])),
        }
    }
    openings
}

/// Every row of the exchange, by the message that is signed if it is asked with these parameters.
fn by_message(
    exchange: &'static dyn Exchange,
    algorithm: Algorithm,
    params: &Value,
) -> HashMap<Vec<u8>, Vec<&'static Endpoint>> {
    let mut by_message: HashMap<Vec<u8>, Vec<&Endpoint>> = HashMap::new();
    for row in exchange.table().endpoints() {
        if let Some(message) = message(exchange, algorithm, row, params) {
            by_message.entry(message).or_default().push(row);
        }
    }
    by_message
}

fn message(
    exchange: &dyn Exchange,
    algorithm: Algorithm,
    row: &Endpoint,
    params: &Value,
) -> Option<Vec<u8>> {
    let asked = request(row.method, &filled(row.path), params.clone()).expect("plain names");
    Some(draft(exchange, algorithm, &asked).ok()?.message)
}

fn judged(
    exchange: &dyn Exchange,
    algorithm: Algorithm,
    row: &Endpoint,
    params: &Value,
) -> Option<Scopes> {
    let asked = request(row.method, &filled(row.path), params.clone()).expect("plain names");
    Some(classify(exchange, algorithm, &asked).ok()?.effective)
}

/// A client that may send money away gains nothing by staking it, nor by a setting of transfers
/// (decision 0004).
fn gains_nothing(exchange: &dyn Exchange, asked: &Endpoint, other: &Endpoint) -> bool {
    let openings = exchange.table().openings().iter();
    let mut openings =
        openings.filter(|opening| std::ptr::eq(exchange.table().endpoint(opening), other));
    match (asked.scope, other.scope) {
        (Scope::Transfer | Scope::Withdraw, Scope::Account) => true,
        (Scope::Withdraw, Scope::Transfer) => openings.all(|opening| opening.roles.is_empty()),
        _ => false,
    }
}

/// If a login has the same message as a request or a frame, each needs the scopes of the other, but
/// for `read`.
#[test]
fn what_is_signed_as_a_login_is_judged_as_one() {
    let stamp = Stamp { receive_window_ms: None, ..STAMP };
    let mut alike = Vec::new();
    for exchange in ALL {
        for (algorithm, row) in
            algorithms(*exchange).flat_map(|key| rows(*exchange).map(move |row| (key, row)))
        {
            let Ok(session) =
                exchange.session(&key(*exchange, algorithm), &SessionLogin::ws(), &stamp)
            else {
                continue;
            };
            for place in [None, Some(ParamsIn::WsApi)] {
                let mut asked = request(row.method, &filled(row.path), Value::Object(Vec::new()))
                    .expect("plain");
                asked.params_in = place;
                let drafted = draft_at(*exchange, algorithm, &asked, &stamp);
                if drafted.is_ok_and(|draft| draft.message == session.message)
                    && takes_nothing(*exchange, row)
                {
                    check_login(*exchange, algorithm, &asked);
                    alike.push((exchange.facts().name, place));
                }
            }
        }
    }
    alike.dedup();
    let frames = Some(ParamsIn::WsApi);
    assert_eq!(alike, [("binance", frames), ("mexc", None), ("upbit", None), ("woo", None)]);
}

fn check_login(exchange: &dyn Exchange, algorithm: Algorithm, asked: &Request) {
    let (name, read) = (exchange.facts().name, Scopes::only(Scope::Read));
    let grants = exchange.session_grants(algorithm, &SessionLogin::ws());
    let Ok(classified) = classify(exchange, algorithm, asked) else { return };
    let (granted, needed) =
        (grants.iter().copied().collect::<Scopes>(), exchange.session_scopes(grants).union(read));
    let (opened, path) = (classified.effective, &asked.path);
    assert!(opened.without(needed).is_empty(), "a login to {name} is {} {path}", asked.method);
    assert!(
        granted.without(opened.union(read)).is_empty(),
        "{} {path} is a login to {name}",
        asked.method
    );
}

fn rows(exchange: &'static dyn Exchange) -> impl Iterator<Item = &'static Endpoint> {
    exchange.table().endpoints().iter()
}

/// True if a row is known to take a request without parameters, or is a read.
fn takes_nothing(exchange: &dyn Exchange, row: &Endpoint) -> bool {
    let table = exchange.table();
    let mut own =
        table.openings().iter().filter(|opening| std::ptr::eq(table.endpoint(opening), row));
    row.scope == Scope::Read || own.any(|opening| opening.required.is_empty())
}
