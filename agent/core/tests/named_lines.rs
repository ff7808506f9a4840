//! Tests the line that a refusal of an unlisted name tells people to add. With that line the
//! request passes, on every exchange that does not sign all of method and path.

mod asked;

use asked::{algorithms, filled, request};
use countersign_core::draft::Draft;
use countersign_core::exchange::classify::classify;
use countersign_core::exchange::order::Order;
use countersign_core::exchange::table::Table;
use countersign_core::exchange::{Exchange, Facts, named};
use countersign_core::json::Value;
use countersign_core::key::Key;
use countersign_core::refusal::{Code, Refusal};
use countersign_core::request::Request;
use countersign_core::scope::Scope;
use countersign_core::stamp::Stamp;

/// The exchange, its `.scopes` file and its `.params` file.
const FILES: &[(&str, &str, &str)] = &[
    (
        "binance",
        include_str!("../src/exchange/binance.scopes"),
        include_str!("../src/exchange/binance.params"),
    ),
    (
        "bybit",
        include_str!("../src/exchange/bybit.scopes"),
        include_str!("../src/exchange/bybit.params"),
    ),
    (
        "krakenfutures",
        include_str!("../src/exchange/krakenfutures.scopes"),
        include_str!("../src/exchange/krakenfutures.params"),
    ),
    (
        "mexc",
        include_str!("../src/exchange/mexc.scopes"),
        include_str!("../src/exchange/mexc.params"),
    ),
    (
        "phemex",
        include_str!("../src/exchange/phemex.scopes"),
        include_str!("../src/exchange/phemex.params"),
    ),
    (
        "upbit",
        include_str!("../src/exchange/upbit.scopes"),
        include_str!("../src/exchange/upbit.params"),
    ),
    ("woo", include_str!("../src/exchange/woo.scopes"), include_str!("../src/exchange/woo.params")),
];

/// The exchange with another table.
struct Amended {
    exchange: &'static dyn Exchange,
    table: &'static Table,
}

impl Exchange for Amended {
    fn facts(&self) -> &'static Facts {
        self.exchange.facts()
    }

    fn table(&self) -> &'static Table {
        self.table
    }

    fn draft(
        &self,
        request: &Request,
        key: &Key,
        host: &str,
        stamp: &Stamp,
    ) -> Result<Draft, Refusal> {
        self.exchange.draft(request, key, host, stamp)
    }

    fn quote_asset<'a>(&self, order: &'a Order<'_>) -> Result<&'a str, &'static str> {
        self.exchange.quote_asset(order)
    }
}

/// The parts of a text in quotation marks.
fn quoted(text: &str) -> Vec<&str> {
    text.split('"').skip(1).step_by(2).collect()
}

/// The file with `word` in the line that begins with `row`.
fn with_word(params: &str, row: &str, word: &str) -> String {
    let is_its = |line: &&str| {
        line.trim_start_matches(['~', '-', ' '])
            .strip_prefix(row)
            .is_some_and(|rest| rest.starts_with([' ', '#']) || rest.is_empty())
    };
    let line = params.lines().find(is_its).unwrap_or_else(|| panic!("no line of {row}"));
    params.replacen(line, &format!("{line} {word}"), 1)
}

/// The exchange's lines, once with each of the lines that the refusal names.
fn amended(params: &str, message: &str) -> Vec<String> {
    let (row, harmless) = message
        .split_once(".params needs ")
        .and_then(|(_, needed)| needed.split_once(';'))
        .expect(message);
    let row = match quoted(row)[..] {
        [line] => format!("{params}\n{line}\n"),
        [word, row] => with_word(params, row, word),
        _ => panic!("{message}"),
    };
    let [line] = quoted(harmless)[..] else { panic!("{message}") };
    vec![row, format!("{params}\n{line}\n")]
}

#[test]
fn a_line_added_as_the_refusal_says_lets_the_request_through() {
    const NAME: &str = "zq9";
    let mut tried = 0;
    for (name, scopes, params) in FILES {
        let exchange = named(name).expect("in the registry");
        let table = exchange.table();
        let algorithm = exchange.facts().algorithms[0];
        let is_open = |path: &str| {
            let binding = exchange.facts().scheme(algorithm, path).binding;
            !(binding.path && binding.method)
        };
        for has_line in [true, false] {
            let row = table.endpoints().iter().enumerate().find(|(index, row)| {
                row.scope == Scope::Read
                    && is_open(row.path)
                    && table.openings_of(*index).next().is_some() == has_line
            });
            let (_, row) = row.unwrap_or_else(|| panic!("{name} {has_line}"));
            let params_of_it = Value::object([(NAME, "1".into())]);
            let request =
                request(row.method, &filled(row.path), params_of_it).expect("plain names");
            let refusal = classify(exchange, algorithm, &request).expect_err(row.path);
            assert_eq!(refusal.code, Code::RequestForbiddenParameter, "{name} {}", row.path);
            for lines in amended(params, &refusal.message) {
                tried += 1;
                let table =
                    Box::leak(Box::new(Table::parse(exchange.facts(), scopes, lines.leak())));
                let allowed = classify(&Amended { exchange, table }, algorithm, &request);
                assert!(
                    allowed.is_ok(),
                    "{name} {}: {}",
                    refusal.message,
                    allowed.expect_err("refused").message
                );
            }
        }
    }
    assert_eq!(tried, 4 * FILES.len());
}

#[test]
fn every_exchange_with_such_rows_is_tried() {
    for exchange in countersign_core::exchange::ALL {
        let open = algorithms(*exchange).flat_map(|algorithm| {
            exchange.table().endpoints().iter().map(move |row| (algorithm, row))
        });
        let mut bindings =
            open.map(|(algorithm, row)| exchange.facts().scheme(algorithm, row.path).binding);
        let is_open = bindings.any(|binding| !(binding.path && binding.method));
        assert_eq!(
            FILES.iter().any(|(name, ..)| *name == exchange.facts().name),
            is_open,
            "{}",
            exchange.facts().name
        );
    }
}
