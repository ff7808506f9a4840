//! Tests the values that stand right before a number of the agent's in a signed text without a
//! separator. The sender of a request may move digits from one to the other. On every row of such
//! an exchange the tests look at what the sender gains by that, as docs/threat-model.md says it.

mod asked;

use asked::{STAMP, algorithms, draft, filled, key, request};
use countersign_core::exchange::table::{Endpoint, Opening, Role, WHOLE_BODY};
use countersign_core::exchange::{Exchange, named};
use countersign_core::json::Value;
use countersign_core::request::Method;
use countersign_core::scope::Scope;

fn exchange(name: &str) -> &'static dyn Exchange {
    named(name).expect("in the registry")
}

fn rows(name: &str) -> impl Iterator<Item = (usize, &'static Endpoint)> {
    let rows = exchange(name).table().endpoints();
    rows.iter().map(move |row| {
        let (index, _) = exchange(name).table().find(row.method, row.path).expect("a row");
        (index, row)
    })
}

/// All names that a row takes, in the order of its lines.
fn names(name: &str, row: usize) -> Vec<&'static str> {
    let mut names = Vec::new();
    for taken in exchange(name).table().openings_of(row).flat_map(Opening::names) {
        let known = names.iter().any(|known: &&str| known.eq_ignore_ascii_case(taken));
        if taken != WHOLE_BODY && !known {
            names.push(taken);
        }
    }
    names
}

/// Sets of names with which a row can be asked for: each name, each pair, all, and all without one.
fn choices(names: &[&'static str]) -> Vec<Vec<&'static str>> {
    let mut choices = vec![names.to_vec(), names.iter().rev().copied().collect()];
    for one in names {
        choices.push(vec![one]);
        choices.push(names.iter().filter(|other| *other != one).copied().collect());
        choices.extend(names.iter().filter(|other| *other != one).map(|other| vec![*one, *other]));
    }
    choices.retain(|choice| !choice.is_empty());
    choices
}

/// The query that is sent, as names and values. `None` if the recipe refuses the request.
fn query(name: &str, row: &Endpoint, names: &[&str], value: &str) -> Option<Vec<(String, String)>> {
    let members = names.iter().map(|name| ((*name).to_owned(), value.into())).collect();
    let asked = request(row.method, &filled(row.path), Value::Object(members)).expect("plain");
    let exchange = exchange(name);
    let drafted = draft(exchange, exchange.facts().algorithms[0], &asked).ok()?;
    let url = drafted.finish(&[7; 32], None).expect("a signature fits").url;
    let pairs = url.split_once('?').map_or("", |(_, query)| query).split('&');
    Some(
        pairs
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect(),
    )
}

/// True if a line of the row reads a size, an amount, a price or an address from this name.
fn is_money(name: &str, row: usize, parameter: &str) -> bool {
    const MONEY: [Role; 6] =
        [Role::Address, Role::Amount, Role::Memo, Role::Price, Role::Quantity, Role::Quote];
    let read =
        |opening: &Opening| MONEY.iter().any(|role| opening.name_of(*role) == Some(parameter));
    exchange(name).table().openings_of(row).any(read)
}

/// The names that may stand before the nonce of Kraken Futures in a request that does more than
/// read. Each is that of a word, of an id, or of a number that no limit counts.
const KRAKEN_WORDS: &[&str] = &[
    "acceptLong",
    "acceptShort",
    "contract",
    "contractType",
    "currency",
    "enabled",
    "fromAccount",
    "pnlPreference",
    "side",
    "sourceWallet",
    "strategy",
    "symbol",
    "timeFrame",
    "tradingEnabled",
    "unit",
];
const KRAKEN_IDS: &[&str] = &["cliOrdId", "clientOrderId", "id", "orderId", "order_id"];
const KRAKEN_UNCOUNTED: &[&str] = &["maxLeverage", "timeout"];

#[test]
fn on_no_row_of_kraken_futures_digits_of_the_nonce_change_a_size_or_an_amount() {
    const NAME: &str = "krakenfutures";
    let (mut written, mut refused) = (0, 0);
    for (index, row) in rows(NAME) {
        let names = names(NAME, index);
        let batch = row.path.ends_with("/batchorder");
        if row.scope == Scope::Read || names.is_empty() || batch {
            continue;
        }
        let place = format!("{} {}", row.method, row.path);
        assert!(query(NAME, row, &names, "v").is_some(), "{place} with all of its names");
        for choice in choices(&names) {
            for value in ["v", "17"] {
                let Some(query) = query(NAME, row, &choice, value) else {
                    refused += 1;
                    continue;
                };
                let (last, _) = query.last().expect("a parameter");
                let last = last.as_str();
                assert!(!is_money(NAME, index, last), "{place} {choice:?}: {last}");
                let harmless = [KRAKEN_WORDS, KRAKEN_IDS, KRAKEN_UNCOUNTED]
                    .iter()
                    .any(|list| list.contains(&last));
                assert!(harmless, "{place} {choice:?}: {last}");
                let asset = ["currency", "fromAccount", "sourceWallet", "unit"].contains(&last);
                assert!(!asset || value == "v", "{place} {choice:?}: {last} would be cut");
                written += 1;
            }
        }
    }
    assert!(written > 500 && refused > 100, "{written} {refused}");
}

/// A batch is a form with JSON in it, which ends with a bracket before the nonce.
#[test]
fn a_batch_of_kraken_futures_ends_with_a_bracket() {
    let path = "/derivatives/api/v3/batchorder";
    let params = Value::parse(r#"{"batchOrder":[{"order":"send","size":1}]}"#).expect("JSON");
    let asked = request(Method::Post, path, params).expect("plain");
    let exchange = exchange("krakenfutures");
    let drafted = draft(exchange, exchange.facts().algorithms[0], &asked).expect("a draft");
    let body = drafted.finish(&[7; 32], None).expect("a signature fits").body.expect("a body");
    assert!(body.ends_with("}]}"), "{body}");
}

/// Rows of Phemex that do more than read and have a query, apart from those that place an order.
/// The sender may send them with a shorter last value, and for longer. They end or change what is
/// there already: orders, settings of positions, a withdrawal that waits for its code.
const PHEMEX_CHANGES: &[&str] = &[
    "DELETE /g-orders",
    "DELETE /g-orders/all",
    "DELETE /g-orders/cancel",
    "DELETE /orders",
    "DELETE /orders/all",
    "DELETE /orders/cancel",
    "DELETE /spot/orders",
    "DELETE /spot/orders/all",
    "GET /exchange/wallets/confirm/withdraw",
    "POST /positions/assign",
    "PUT /g-orders/replace",
    "PUT /g-positions/leverage",
    "PUT /g-positions/switch-pos-mode-sync",
    "PUT /orders/replace",
    "PUT /positions/leverage",
    "PUT /positions/riskLimit",
    "PUT /spot/orders",
];

#[test]
fn a_query_of_phemex_that_may_live_longer_reads_or_changes_what_is_there() {
    const NAME: &str = "phemex";
    let (mut changes, mut placed) = (Vec::new(), 0);
    for (index, row) in rows(NAME).filter(|(_, row)| row.scope != Scope::Read) {
        let place = format!("{} {}", row.method, row.path);
        let names = names(NAME, index);
        let all = query(NAME, row, &names, "v").expect("a draft");
        if all.is_empty() {
            continue;
        }
        if !row.path.ends_with("/create") {
            changes.push(place);
            continue;
        }
        for choice in choices(&names) {
            assert_eq!(query(NAME, row, &choice, "17"), None, "{place} {choice:?} ends in a digit");
            let Some(query) = query(NAME, row, &choice, "v") else { continue };
            let (last, _) = query.last().expect("a parameter");
            assert_eq!(last, "symbol", "{place} {choice:?}");
            placed += 1;
        }
    }
    changes.sort();
    assert_eq!(changes, PHEMEX_CHANGES);
    assert!(placed > 50, "{placed}");
}

/// BitMEX and CoinEx sign expiry or time right after the query. No row but a GET has a query, and a
/// GET that is more than a read only shows keys.
#[test]
fn only_a_get_of_bitmex_and_coinex_has_a_query() {
    const SHOW_KEYS: &[(&str, &str)] = &[
        ("bitmex", "/api/v1/apiKey"),
        ("coinex", "/v2/account/subs/api"),
        ("coinex", "/v2/account/subs/api-detail"),
    ];
    let mut shown = Vec::new();
    for name in ["bitmex", "coinex"] {
        for (_, row) in rows(name) {
            let sent = query(name, row, &["symbol"], "17").expect("a draft");
            assert_eq!(sent.is_empty(), row.method != Method::Get, "{name} {}", row.path);
            // The path of a request without parameters stands before the number too.
            let end = row.path.chars().last().expect("a path");
            assert!(end != '}' && !end.is_ascii_digit(), "{name} {}", row.path);
            if row.method == Method::Get && !matches!(row.scope, Scope::Read | Scope::Session) {
                shown.push((name, row.path));
            }
        }
    }
    assert_eq!(shown, SHOW_KEYS);
}

/// Bitfinex signs the nonce right after the path. A path that may end in a digit is that of a read.
#[test]
fn a_path_of_bitfinex_that_may_end_in_a_digit_reads() {
    let mut reads = Vec::new();
    for (_, row) in rows("bitfinex") {
        let end = row.path.chars().last().expect("a path");
        if end == '}' || end.is_ascii_digit() {
            assert_eq!(row.scope, Scope::Read, "{}", row.path);
            reads.push(row.path);
        }
    }
    assert!(reads.len() > 4, "{reads:?}");
}

/// Crypto.com signs the nonce right after the last value, and takes a nonce of the last minute
/// only. So nothing but zeros can be moved.
#[test]
fn on_no_row_of_crypto_com_that_names_all_it_needs_an_amount_stands_last() {
    const NAME: &str = "cryptocom";
    let mut seen = 0;
    for (index, row) in rows(NAME).filter(|(_, row)| row.scope != Scope::Read) {
        for opening in exchange(NAME).table().openings_of(index) {
            // The recipe sorts the names.
            let Some(last) = opening.required.iter().max() else { continue };
            assert!(!is_money(NAME, index, last), "{} {last}", row.path);
            seen += 1;
        }
    }
    assert!(seen > 5, "{seen}");
}

/// The query of a request to Coinbase Advanced is not signed for keys of both kinds.
#[test]
fn only_reads_of_coinbase_have_a_query() {
    const NAME: &str = "coinbase";
    let (mut queries, exchange) = (0, exchange(NAME));
    for (_, row) in rows(NAME) {
        for algorithm in algorithms(exchange) {
            let params = Value::object([("limit", "17".into())]);
            let asked = request(row.method, &filled(row.path), params).expect("plain");
            let host = exchange.host(&asked, countersign_core::key::Environment::Production);
            let drafted = exchange
                .draft(&asked, &key(exchange, algorithm), host.expect("a host"), &STAMP)
                .expect("a draft");
            let url = drafted.finish(&[7; 64], None).expect("a signature fits").url;
            let place = format!("{} {} {algorithm}", row.method, row.path);
            assert_eq!(url.contains('?'), row.method == Method::Get, "{place}");
            if url.contains('?') {
                assert_eq!(row.scope, Scope::Read, "{place}");
                queries += 1;
            }
        }
    }
    assert!(queries > 50, "{queries}");
}
