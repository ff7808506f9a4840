//! Tests which parameters of orders limits overlook, because they say neither size nor price. A
//! golden file lists them for a reviewer. The test fails for each new parameter until somebody has
//! reviewed it there.

#![allow(clippy::disallowed_methods)] // a test reads the file that it compares

use std::collections::BTreeSet;

use countersign_core::exchange::table::{Opening, Role};
use countersign_core::exchange::{ALL, Exchange};
use countersign_core::scope::Scope;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/orders/inert.golden");

/// The names of one row that limits read neither as a part of its orders nor as a mark on them.
fn inert(exchange: &dyn Exchange, opening: &Opening) -> impl Iterator<Item = &'static str> {
    let facts = exchange.facts();
    let orders = &facts.orders;
    let marks = orders
        .whole
        .marks()
        .iter()
        .chain(orders.resizing)
        .chain(orders.repricing)
        .chain(facts.other_symbols);
    let marks = marks.map(|mark| mark.name).chain(orders.flags.iter().map(|flags| flags.name));
    let read = opening.roles.iter().filter_map(|(_, source)| source.parameter());
    let read: BTreeSet<_> = read.chain(marks).chain(orders.legs.iter().copied()).collect();
    opening.names().filter(move |name| !read.contains(name)).collect::<Vec<_>>().into_iter()
}

fn golden() -> String {
    let mut lines = BTreeSet::new();
    for exchange in ALL.iter().copied() {
        let table = exchange.table();
        for opening in table.openings() {
            let row = table.endpoint(opening);
            // Limits count nothing without a size.
            let has_size =
                [Role::Quantity, Role::Quote].iter().any(|role| opening.name_of(*role).is_some());
            if row.scope == Scope::Trade
                && !row.withheld
                && !opening.places_no_order
                && opening.says_orders()
                && has_size
            {
                lines.extend(
                    inert(exchange, opening)
                        .map(|name| format!("{} {name}\n", exchange.facts().name)),
                );
            }
        }
    }
    lines.into_iter().collect()
}

#[test]
fn what_limits_overlook_of_orders_was_reviewed() {
    let reviewed = std::fs::read_to_string(FILE).expect("the golden file");
    let found = golden();
    let new: Vec<_> =
        found.lines().filter(|line| !reviewed.lines().any(|known| known == *line)).collect();
    assert!(
        new.is_empty(),
        "do they change neither size nor price? `make golden` writes them: {new:#?}"
    );
    assert_eq!(found, reviewed, "`make golden` writes what is found");
}

#[test]
#[ignore = "writes the golden file"]
fn write() {
    std::fs::write(FILE, golden()).expect("the golden file is written");
}
