//! What limits overlook: the parameters of orders that say neither size nor price, as a golden file
//! that a reviewer reads. A parameter that a row learns, and each of a new exchange, fails until
//! somebody has read it there.

#![allow(clippy::disallowed_methods)] // a test reads the file that it compares

use std::collections::BTreeSet;

use countersign_core::exchange::table::{Opening, Role};
use countersign_core::exchange::{ALL, Exchange};
use countersign_core::scope::Scope;

const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/orders/inert.golden");

/// Of one row, what is read of it neither as a part of its orders nor as a mark on them.
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
            // Without a size nothing is counted.
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
