//! Compares the scopes of every endpoint of every exchange with text that people review:
//! `tests/scopes.golden/`.
//!
//! A row that became less strict shows as a changed line. `make golden` writes the files anew.
#![allow(clippy::disallowed_methods)] // a test reads the files that it compares

use std::path::PathBuf;

use countersign_core::algorithm::Algorithm;
use countersign_core::exchange::classify::classify;
use countersign_core::exchange::table::{Endpoint, Opening};
use countersign_core::exchange::{ALL, Binding, Exchange, Scheme};
use countersign_core::json::Value;
use countersign_core::request::{Params, Path, Request};
use countersign_core::scope::Scopes;

const HEAD: &str = "\
# METHOD PATH SCOPE | what decides | what its signature opens, where that is more | no order, no \
size to judge [# reason]
# ! nobody may ask for it; what its parameters would open counts.
# Written by `make golden`, to be read before it is committed.
";

fn directory() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/scopes.golden"))
}

fn matrix(exchange: &dyn Exchange) -> String {
    let rows = exchange.table().endpoints().iter().enumerate();
    let lines = rows.map(|(index, row)| line(exchange, index, row));
    let withheld = exchange.table().withheld().map(|(index, row)| withheld(exchange, index, row));
    std::iter::once(HEAD.to_owned()).chain(lines).chain(withheld).collect()
}

fn withheld(exchange: &dyn Exchange, index: usize, row: &Endpoint) -> String {
    let binding = exchange.facts().scheme(exchange.facts().algorithms[0], row.path).binding;
    let reason = row.reason.unwrap_or_default();
    format!(
        "! {} {} {} | {} # {reason}\n",
        row.method,
        row.path,
        row.scope,
        rule(exchange, index, row, binding)
    )
}

fn line(exchange: &dyn Exchange, index: usize, row: &Endpoint) -> String {
    let reason = row.reason.map(|reason| format!(" # {reason}")).unwrap_or_default();
    let kinds: Vec<_> = by_scheme(exchange, row.path)
        .into_iter()
        .map(|(algorithms, algorithm, scheme)| {
            let rule = rule(exchange, index, row, scheme.binding);
            let opens = opens(exchange, index, row, algorithm);
            let more = if opens == Scopes::only(row.scope) {
                String::new()
            } else {
                format!(" | opens {opens}")
            };
            format!("{algorithms}{rule}{more}")
        })
        .collect();
    let mut openings = exchange.table().openings_of(index).peekable();
    let places_none = openings.peek().is_some() && openings.all(|opening| opening.places_no_order);
    let order = if places_none { " | no order" } else { "" };
    format!("{} {} {} | {}{order}{reason}\n", row.method, row.path, row.scope, kinds.join("; "))
}

/// The ways of signing for a path: the names of the kinds of keys (empty if there is one way), one
/// of the kinds, and the scheme.
fn by_scheme(exchange: &dyn Exchange, path: &str) -> Vec<(String, Algorithm, &'static Scheme)> {
    let facts = exchange.facts();
    let mut kinds: Vec<(Vec<&str>, Algorithm, &Scheme)> = Vec::new();
    for algorithm in facts.algorithms {
        let scheme = facts.scheme(*algorithm, path);
        match kinds.iter_mut().find(|(_, _, known)| std::ptr::eq(*known, scheme)) {
            Some((names, ..)) => names.push(algorithm.name()),
            None => kinds.push((vec![algorithm.name()], *algorithm, scheme)),
        }
    }
    let several = kinds.len() > 1;
    let named =
        |names: Vec<&str>| if several { format!("{}: ", names.join(", ")) } else { String::new() };
    kinds.into_iter().map(|(names, algorithm, scheme)| (named(names), algorithm, scheme)).collect()
}

fn rule(exchange: &dyn Exchange, index: usize, row: &Endpoint, binding: Binding) -> String {
    if binding.path {
        let method = if binding.method { "path" } else { "path, whatever the method" };
        let parameters =
            if binding.covers_parameters(row.method) { "" } else { ", parameters unsigned" };
        return format!("{method}{parameters}");
    }
    let sets: Vec<_> = exchange.table().openings_of(index).map(names).collect();
    if sets.is_empty() {
        "the parameters that come with it".to_owned()
    } else {
        format!("parameters {}", sets.join(" or "))
    }
}

/// The names that make a payload fit. A residual row is shown, but adds no scope.
fn names(opening: &Opening) -> String {
    let names =
        if opening.required.is_empty() { "(none)".to_owned() } else { opening.required.join("+") };
    if opening.residual { format!("{names} (residual)") } else { names }
}

/// The scopes that a client needs to send this endpoint its required parameters, or none if none
/// are known.
fn opens(exchange: &dyn Exchange, index: usize, row: &Endpoint, algorithm: Algorithm) -> Scopes {
    let mut sets: Vec<Vec<&str>> =
        exchange.table().openings_of(index).map(|opening| opening.required.clone()).collect();
    if sets.is_empty() {
        sets.push(Vec::new());
    }
    let effective = sets.into_iter().map(|names| {
        let members: Vec<_> = names.iter().map(|name| format!("{name:?}:\"1\"")).collect();
        let params = Value::parse(&format!("{{{}}}", members.join(",")))
            .and_then(Params::new)
            .expect("plain names");
        let path = Path::parse(&row.path.replace(['{', '}'], "")).expect("a row's path is plain");
        let request = Request { method: row.method, path, params, params_in: None, host: None };
        classify(exchange, algorithm, &request)
            .unwrap_or_else(|refusal| panic!("{}: {refusal}", row.path))
            .effective
    });
    effective.fold(Scopes::NONE, Scopes::union)
}

#[test]
fn the_matrix_is_the_one_that_was_reviewed() {
    for exchange in ALL {
        let name = exchange.facts().name;
        let reviewed = std::fs::read_to_string(directory().join(name)).unwrap_or_default();
        let now = matrix(*exchange);
        let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
        let (before, after) = (lines(&reviewed), lines(&now));
        let gone: Vec<_> = before
            .iter()
            .filter(|line| !after.contains(line))
            .map(|line| format!("- {line}"))
            .collect();
        let new: Vec<_> = after
            .iter()
            .filter(|line| !before.contains(line))
            .map(|line| format!("+ {line}"))
            .collect();
        assert!(
            reviewed == now,
            "tests/scopes.golden/{name} is another one; `make golden` writes it anew, `git diff` \
             shows it\n{}",
            [gone, new].concat().join("\n")
        );
    }
}

#[test]
fn there_is_no_matrix_of_an_exchange_that_is_gone() {
    for entry in std::fs::read_dir(directory()).expect("the directory is there") {
        let name = entry.expect("readable").file_name();
        assert!(
            ALL.iter().any(|exchange| name.to_str() == Some(exchange.facts().name)),
            "{name:?}"
        );
    }
}

/// Not a test: `make golden`.
#[test]
#[ignore = "writes what the others compare"]
fn write() {
    std::fs::create_dir_all(directory()).expect("a directory");
    for exchange in ALL {
        std::fs::write(directory().join(exchange.facts().name), matrix(*exchange)).expect("a file");
    }
}
