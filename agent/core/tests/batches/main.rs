//! Tests that honest batches fit: every order of the largest documented batch may carry all names
//! that its row lists.

#[path = "../asked/mod.rs"]
mod asked;
mod documented;

use std::collections::BTreeSet;

use asked::{algorithms, filled};
use countersign_core::exchange::classify::{check_managed, classify};
use countersign_core::exchange::table::{Opening, Role, WHOLE_BODY};
use countersign_core::exchange::{ALL, Exchange, named};
use countersign_core::json::{MAX_DEPTH, MAX_VALUES, Value};
use countersign_core::policy::RECEIVE_WINDOW_CAP_MS;
use countersign_core::request::Method;
use countersign_core::scope::Scope;
use countersign_core::wire::{MAX_PAYLOAD, SignRequest};
use documented::{BATCHES, Batch, INSIDE, Items};

use Items::{Listed, Objects, Operations, Texts, Words};

/// A value of a parameter. An identifier is as long as a UUID, any other value as long as an amount
/// of eighteen digits.
fn value(exchange: &str, name: &str) -> String {
    if let Some((_, _, inside)) =
        INSIDE.iter().find(|(of, known, _)| (*of, *known) == (exchange, name))
    {
        return (*inside).to_owned();
    }
    let lower = name.to_ascii_lowercase();
    match ["id", "text", "remark"].iter().any(|word| lower.contains(word)) {
        true => format!("\"{IDENTIFIER}\""),
        false => format!("\"{AMOUNT}\""),
    }
}

const IDENTIFIER: &str = "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d";
const AMOUNT: &str = "1234567890.12345678";

fn object<'a>(exchange: &str, names: impl IntoIterator<Item = &'a str>) -> String {
    let mut seen = BTreeSet::new();
    let names = names.into_iter().filter(|name| seen.insert(name.to_ascii_lowercase()));
    let members: Vec<_> =
        names.map(|name| format!("\"{name}\":{}", value(exchange, name))).collect();
    format!("{{{}}}", members.join(","))
}

fn openings(exchange: &dyn Exchange, method: Method, path: &str) -> Vec<&'static Opening> {
    let table = exchange.table();
    let (index, _) =
        table.find(method, &filled(path)).unwrap_or_else(|| panic!("no row: {method} {path}"));
    table.openings_of(index).collect()
}

fn list_of(openings: &[&Opening]) -> Option<&'static str> {
    openings.iter().find_map(|opening| opening.name_of(Role::List))
}

/// The members beside a list: the names that the row needs, but for the list and the names that
/// each order has itself.
fn beside(exchange: &str, openings: &[&Opening], list: &str) -> Vec<String> {
    let Some(opening) = openings.first() else { return Vec::new() };
    let of_each = |name: &str| {
        let shared = [Role::Common, Role::Market];
        opening
            .roles
            .iter()
            .any(|(role, source)| source.parameter() == Some(name) && !shared.contains(role))
    };
    let needed = opening.required.iter().filter(|name| **name != list && !of_each(name));
    needed.map(|name| format!("\"{name}\":{}", value(exchange, name))).collect()
}

/// The parameters of a full batch, also with the list as JSON text if a form carries it.
fn params(batch: &Batch) -> Vec<String> {
    let (name, method, path, most, _, items) = *batch;
    let exchange = named(name).expect("in the registry");
    let openings = openings(exchange, method, path);
    let full = |item: String| vec![item; most].join(",");
    let (list, content) = match items {
        Listed => {
            let list =
                list_of(&openings).unwrap_or_else(|| panic!("{name} {method} {path} has no list"));
            let names =
                openings.iter().flat_map(|opening| opening.names()).filter(|one| *one != list);
            let beside: Vec<_> =
                openings.iter().filter_map(|opening| opening.name_of(Role::Common)).collect();
            (list, format!("[{}]", full(object(name, names.filter(|one| !beside.contains(one))))))
        }
        Objects(list, names) => (list, format!("[{}]", full(object(name, names.iter().copied())))),
        Operations => {
            let single = self::openings(exchange, Method::Post, "/v2/auth/w/order/submit");
            let order = object(name, single.iter().flat_map(|opening| opening.names()));
            ("ops", format!("[{}]", full(format!("[\"on\",{order}]"))))
        }
        Texts(list) => (list, format!("[{}]", full(format!("\"{IDENTIFIER}\"")))),
        Words(list) => (list, format!("\"{}\"", full(IDENTIFIER.to_owned()))),
    };
    if list == WHOLE_BODY {
        return vec![content];
    }
    let beside = beside(name, &openings, list);
    let with = |content: String| {
        let members: Vec<_> =
            beside.iter().cloned().chain([format!("\"{list}\":{content}")]).collect();
        format!("{{{}}}", members.join(","))
    };
    vec![with(content.clone()), with(Value::from(content).to_json())]
}

/// The number of values that a document holds, and their greatest depth.
fn measure(value: &Value) -> (usize, usize) {
    let inside = |values: Vec<&Value>| {
        let measured = values.iter().map(|value| measure(value));
        measured.fold((values.len(), 0), |(count, depth), (more, deeper)| {
            (count + more, depth.max(deeper + 1))
        })
    };
    match value {
        Value::Array(items) => inside(items.iter().collect()),
        Value::Object(members) => inside(members.iter().map(|(_, value)| value).collect()),
        _ => (0, 0),
    }
}

#[test]
fn the_largest_batches_fit_with_all_that_their_rows_list() {
    for batch in BATCHES {
        let (name, method, path, most, source, items) = *batch;
        let exchange = named(name).expect("in the registry");
        for params in params(batch) {
            let said = format!("{name} {method} {path}, {most} ({source}) {params:.200}");
            let path = filled(path);
            let payload = format!(
                r#"{{"v":1,"key":"k","method":"{method}","path":"{path}","params":{params}}}"#
            );
            let (values, depth) = measure(&Value::parse_own(&params).expect("JSON"));
            assert!(payload.len() <= MAX_PAYLOAD, "{} B: {said}", payload.len());
            let asked = SignRequest::parse(payload.as_bytes())
                .unwrap_or_else(|refusal| panic!("{refusal:?}: {said}"));
            check_managed(exchange, &asked.request.params, RECEIVE_WINDOW_CAP_MS).expect(&said);
            for algorithm in algorithms(exchange) {
                let classified = classify(exchange, algorithm, &asked.request)
                    .unwrap_or_else(|refusal| panic!("{refusal:?}: {said}"));
                assert_eq!(classified.scope, Scope::Trade, "{said}");
                assert!(
                    values <= MAX_VALUES && depth <= MAX_DEPTH,
                    "{values} values, {depth} deep: {said}"
                );
                // If the signature is for other rows as well, those read the same orders too.
                if let (Listed, Ok(orders)) = (items, &classified.orders) {
                    assert!(orders.len() >= most, "{} orders read: {said}", orders.len());
                }
            }
        }
    }
}

#[test]
fn every_row_with_a_list_of_orders_is_tried_full() {
    for exchange in ALL {
        let (name, table) = (exchange.facts().name, exchange.table());
        for row in table.openings().iter().filter(|opening| opening.name_of(Role::List).is_some()) {
            let row = table.endpoint(row);
            let known = BATCHES.iter().any(|(of, method, path, ..)| {
                (*of, *method, *path) == (name, row.method, row.path)
            });
            assert!(
                known || row.withheld,
                "{name} {} {}: how many orders does it take?",
                row.method,
                row.path
            );
        }
    }
}
