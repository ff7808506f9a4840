//! Tests the table in docs/threat-model.md about the parts that signatures do not cover. It must
//! have a row for every exchange and way of signing, and must agree with the code.
#![allow(clippy::disallowed_methods)] // a test reads the page that it checks

mod asked;

use asked::{STAMP, algorithms, client, filled, key, request};
use countersign_core::algorithm::Algorithm;
use countersign_core::decimal::Amount;
use countersign_core::exchange::classify::classify;
use countersign_core::exchange::table::Endpoint;
use countersign_core::exchange::{ALL, Exchange, Scheme, named};
use countersign_core::json::Value;
use countersign_core::policy::{Client, Decision, Destination, NO_NETWORK, Policy, TransferRule};
use countersign_core::refusal::Code;
use countersign_core::request::Method;
use countersign_core::scope::{Scope, Scopes};

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/threat-model.md");

/// One row of the table: the words in backticks of its first cell, and its second cell.
struct Row {
    exchanges: Vec<String>,
    /// A prefix of paths, and kinds of keys.
    scheme: Vec<String>,
    unsigned: String,
}

fn rows() -> Vec<Row> {
    let page = std::fs::read_to_string(PAGE).expect("the page is there");
    let (_, table) = page.split_once("| exchange | not signed |").expect("the table is there");
    let lines = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    let rows = lines.map(|line| {
        let cells: Vec<_> = line.split(" | ").collect();
        let words = cells[0].split('`').skip(1).step_by(2).map(str::to_owned);
        let (exchanges, scheme) = words.partition(|word| named(word).is_some());
        Row { exchanges, scheme, unsigned: cells[1].to_owned() }
    });
    rows.collect()
}

/// The words for a scheme in the table. Empty for the scheme that takes everything else.
fn words(scheme: &Scheme) -> Vec<String> {
    let prefix = Some(scheme.path_prefix).filter(|prefix| *prefix != "/");
    prefix
        .into_iter()
        .chain(scheme.algorithms.iter().map(|algorithm| algorithm.name()))
        .map(str::to_owned)
        .collect()
}

/// The scheme that stands in the table for this one. Of the schemes that cover the same with the
/// same keys, it has the shortest prefix.
fn told<'a>(schemes: &'a [Scheme], scheme: &'a Scheme) -> &'a Scheme {
    let same =
        |other: &&Scheme| other.binding == scheme.binding && other.algorithms == scheme.algorithms;
    schemes.iter().filter(same).min_by_key(|other| other.path_prefix.len()).unwrap_or(scheme)
}

/// The parts that are not signed, in the order of the page.
///
/// `None` if this row takes no request without parameters. Other rows then have to show if the host
/// is signed.
fn unsigned(exchange: &dyn Exchange, algorithm: Algorithm, row: &Endpoint) -> Option<String> {
    let binding = exchange.facts().scheme(algorithm, row.path).binding;
    let asked =
        request(row.method, &filled(row.path), Value::Object(Vec::new())).expect("a plain path");
    let message =
        |host| Some(exchange.draft(&asked, &key(exchange, algorithm), host, &STAMP).ok()?.message);
    let host = message("one.example")? != message("two.example")?;
    let parts = [
        ("method", binding.method),
        ("path", binding.path),
        ("query", binding.query),
        ("body", binding.body),
        ("host", host),
    ];
    let open: Vec<_> =
        parts.into_iter().filter(|(_, signed)| !signed).map(|(part, _)| part).collect();
    Some(if open.is_empty() { "nothing".to_owned() } else { open.join(", ") })
}

#[test]
fn what_is_not_signed_is_said_of_every_exchange() {
    let (rows, mut used) = (rows(), Vec::new());
    for exchange in ALL {
        let facts = exchange.facts();
        for algorithm in algorithms(*exchange) {
            for endpoint in exchange.table().endpoints() {
                let scheme = words(told(facts.schemes, facts.scheme(algorithm, endpoint.path)));
                let fits = |row: &Row| {
                    row.exchanges.iter().any(|name| name == facts.name) && row.scheme == scheme
                };
                let Some(row) = rows.iter().position(fits) else {
                    panic!("no row for {} {scheme:?}", facts.name)
                };
                let (path, said) = (endpoint.path, &rows[row].unsigned);
                if let Some(unsigned) = unsigned(*exchange, algorithm, endpoint) {
                    assert_eq!(*said, unsigned, "{} {algorithm} {path}", facts.name);
                    used.push((row, facts.name));
                }
            }
        }
    }
    for (index, row) in rows.iter().enumerate() {
        let unused = row.exchanges.iter().find(|name| !used.contains(&(index, name.as_str())));
        assert_eq!(unused, None, "a row says what no exchange does");
        assert!(!row.exchanges.is_empty(), "a row without an exchange");
    }
}

/// If method and path are signed, a request needs the scope of its own endpoint, and no other. The
/// request for a login also needs the scopes of the login.
#[test]
fn where_method_and_path_are_signed_the_scope_is_that_of_the_endpoint() {
    let mut bound = Vec::new();
    for exchange in ALL {
        let facts = exchange.facts();
        for algorithm in algorithms(*exchange) {
            for endpoint in exchange.table().endpoints() {
                let binding = facts.scheme(algorithm, endpoint.path).binding;
                if !(binding.method && binding.path) {
                    continue;
                }
                let asked =
                    request(endpoint.method, &filled(endpoint.path), Value::Object(Vec::new()));
                let asked = asked.expect("a plain path");
                let judged = classify(*exchange, algorithm, &asked).expect("a row of the table");
                let of_login = match endpoint.scope {
                    Scope::Session => exchange.session_scopes(facts.session_grants),
                    _ => Scopes::default(),
                };
                let expected = Scopes::only(endpoint.scope).union(of_login);
                assert_eq!(judged.effective, expected, "{} {}", facts.name, endpoint.path);
                bound.push(facts.name);
            }
        }
    }
    bound.dedup();
    assert_eq!(bound.len(), 21, "{bound:?}");
}

/// Judges a request of a client whose orders have a quantity of 5 at most. Transfers of BTC have a
/// limit and one destination.
fn within_limits(
    exchange: &'static str,
    algorithm: Algorithm,
    path: &str,
    params: &str,
) -> Result<(), Code> {
    let five = Amount::parse("5").expect("a decimal");
    let exchange = named(exchange).expect("in the registry");
    let key = key(exchange, algorithm);
    let client = Client {
        max_quantity: ["BTC-PERP-INTX", "btcusdt"].map(|symbol| (symbol.to_owned(), five)).into(),
        ..client(&key)
    };
    let rule = TransferRule { per_request: Some(five), ..TransferRule::default() };
    let transfers = ["BTC", "btc"].map(|asset| (asset.to_owned(), rule.clone())).into();
    let destination = Destination {
        label: "cold".to_owned(),
        asset: "BTC".to_owned(),
        network: NO_NETWORK.to_owned(),
        address: "1Address".to_owned(),
        memo: None,
    };
    let policy = Policy { transfers, destinations: vec![destination], ..Policy::default() };
    let asked = request(Method::Post, path, Value::parse(params).expect("JSON")).expect("plain");
    let judged = classify(exchange, algorithm, &asked).map_err(|refusal| refusal.code)?;
    match policy.decide(&client, &key, exchange, &judged) {
        Decision::Deny(denied) => Err(denied.refusal.code),
        Decision::Allow { .. } | Decision::Ask { .. } => Ok(()),
    }
}

/// The client can replace the body after the signature. So a body within the limits proves nothing
/// about the body that is sent.
#[test]
fn where_the_body_is_not_signed_no_order_and_no_transfer_is_within_a_limit() {
    use Algorithm::{EcdsaP256Sha256, Ed25519, HmacSha256};
    const CLOSE: &str = "/api/v3/brokerage/orders/close_position";
    let transfer = r#"{"currency":"btc","amount":"1","from-account":"1","to-account":"2"}"#;
    let order = r#"{"symbol":"btcusdt","type":"buy-limit","amount":"1","price":"1"}"#;
    let sent = r#"{"type":"send","to":"1Address","amount":"1","currency":"BTC"}"#;
    let closed = r#"{"product_id":"BTC-PERP-INTX","client_order_id":"x","size":"1"}"#;
    let (limit, destination) = (Code::PolicyLimit, Code::PolicyDestination);
    for (exchange, algorithm, path, params, refused) in [
        ("htx", HmacSha256, "/v1/account/transfer", transfer, limit),
        ("htx", Ed25519, "/v1/account/transfer", transfer, limit),
        ("htx", HmacSha256, "/v1/order/orders/place", order, limit),
        ("coinbase", EcdsaP256Sha256, "/v2/accounts/a/transactions", sent, destination),
        ("coinbase", Ed25519, "/v2/accounts/a/transactions", sent, destination),
        ("coinbase", EcdsaP256Sha256, CLOSE, closed, limit),
    ] {
        let judged = within_limits(exchange, algorithm, path, params);
        assert_eq!(judged, Err(refused), "{exchange} {algorithm} {path}");
    }
    // The earlier kind of keys signs the body.
    let signed = within_limits("coinbase", HmacSha256, "/v2/accounts/a/transactions", sent);
    assert_eq!(signed, Ok(()));
    let signed = within_limits("coinbase", HmacSha256, CLOSE, closed);
    assert_eq!(signed, Ok(()));
}
