//! The table of docs/threat-model.md of what signatures do not cover: a row for every exchange and
//! way of signing, and what it says is what the code says.
#![allow(clippy::disallowed_methods)] // a test reads the page that it checks

mod asked;

use asked::{STAMP, algorithms, filled, key, request};
use countersign_core::algorithm::Algorithm;
use countersign_core::exchange::table::Endpoint;
use countersign_core::exchange::{ALL, Exchange, Scheme, named};
use countersign_core::json::Value;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/threat-model.md");

/// What the words in backticks of a row's first cell say, and its second cell.
struct Row {
    exchanges: Vec<String>,
    /// Prefix of paths, kinds of keys.
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

/// The words of a scheme; none where it is what an exchange has for everything else.
fn words(scheme: &Scheme) -> Vec<String> {
    let prefix = Some(scheme.path_prefix).filter(|prefix| *prefix != "/");
    prefix
        .into_iter()
        .chain(scheme.algorithms.iter().map(|algorithm| algorithm.name()))
        .map(str::to_owned)
        .collect()
}

/// Schemes of one exchange that cover the same with the same keys: the one with the widest prefix
/// stands for all of them.
fn told<'a>(schemes: &'a [Scheme], scheme: &'a Scheme) -> &'a Scheme {
    let same =
        |other: &&Scheme| other.binding == scheme.binding && other.algorithms == scheme.algorithms;
    schemes.iter().filter(same).min_by_key(|other| other.path_prefix.len()).unwrap_or(scheme)
}

/// What is not signed, in the order of the page.
///
/// `None` where this row takes no request without parameters, so that others have to show whether a
/// host is signed.
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
