//! Reads the orders that a request places, by the roles of its row.

use std::borrow::Cow;

use super::said;
use crate::exchange::order::Order;
use crate::exchange::table::{Opening, Role, Spelling, Table, ValueSource, WHOLE_BODY};
use crate::json::Value;
use crate::request::{Params, Request};

/// The orders that a request places at the endpoint it is for. A parameter that the row does not
/// list may be another size, a further leg or another instrument. So may a part of an order that
/// stands beside the list of orders. In both cases the orders get a flaw, and no limit can judge
/// them.
pub(super) fn own_orders<'a>(
    table: &'static Table,
    index: usize,
    request: &'a Request,
) -> Result<Vec<Order<'a>>, String> {
    let mut read = orders(table, table.openings_of(index), request)?;
    let listed = |name: &str| {
        matches!(
            table.spelling(name),
            Spelling::Known(known) if table.lists(index, known)
        )
    };
    let unlisted = |(name, _): &&(String, Value)| !listed(name);
    let beside = request.params.members();
    let beside_unlisted = beside.iter().find(unlisted);
    let opening = table.openings_of(index).find(|opening| opening.says_orders());
    let part_beside = opening.and_then(|opening| part_beside_list(opening, request));
    for order in read.iter_mut().filter(|order| order.sized) {
        if let Some(name) = part_beside {
            order.flaw = Some(format!("{name} stands beside the list of orders"));
        }
        let in_list = !std::ptr::eq(order.members.as_ref(), beside);
        let unlisted = if in_list { order.members.iter().find(unlisted) } else { None };
        if let Some((name, _)) = unlisted.or(beside_unlisted) {
            order.flaw = Some(format!("the endpoint is not known to take the parameter {name:?}"));
        }
    }
    Ok(read)
}

/// A parameter that belongs into each order of a list, but stands beside the list.
fn part_beside_list(opening: &Opening, request: &Request) -> Option<&'static str> {
    let list = opening.name_of(Role::List).filter(|name| *name != WHOLE_BODY)?;
    let of_each = |(role, source): &(Role, ValueSource)| {
        let shared = matches!(role, Role::Common | Role::List | Role::Market);
        source
            .parameter()
            .filter(|name| !shared && *name != list && request.params.get(name).is_some())
    };
    opening.roles.iter().find_map(of_each)
}

/// Reads the orders that a trade request places. It fails if the row says neither where its orders
/// stand nor that it places none.
pub(super) fn orders<'a>(
    table: &Table,
    mut openings: impl Iterator<Item = &'static Opening> + Clone,
    request: &'a Request,
) -> Result<Vec<Order<'a>>, String> {
    let Some(opening) = openings.clone().find(|opening| opening.says_orders()) else {
        let places_none =
            openings.clone().next().is_some() && openings.all(|opening| opening.places_no_order);
        return if places_none {
            Ok(Vec::new())
        } else {
            Err("the orders of this endpoint cannot be read".to_owned())
        };
    };
    match opening.name_of(Role::List) {
        None => Ok(vec![order(table, opening, request.params.value(), request)]),
        Some(WHOLE_BODY) => listed(table, opening, request.params.value(), request),
        Some(name) => match request.params.get(name) {
            // Some exchanges take a list as JSON text inside a form.
            Some(Value::String(text)) => {
                let list = Value::parse(text).and_then(Params::new).map_err(|_| UNREADABLE)?;
                let orders = listed(table, opening, list.value(), request)?;
                Ok(orders.into_iter().map(Order::into_owned).collect())
            }
            Some(list) => listed(table, opening, list, request),
            None => Err(UNREADABLE.to_owned()),
        },
    }
}

const UNREADABLE: &str = "the list of orders cannot be read";

/// The orders of a list, or a single order if the API takes one instead of a list.
fn listed<'a>(
    table: &Table,
    opening: &Opening,
    list: &'a Value,
    request: &'a Request,
) -> Result<Vec<Order<'a>>, String> {
    match list {
        Value::Array(items) => {
            // Skips order numbers. A list of orders to cancel is signed like a list of orders to
            // place.
            let orders = items.iter().filter(|item| !is_number(item));
            orders.map(|item| item_of_list(table, opening, item, request)).collect()
        }
        Value::Object(_) => item_of_list(table, opening, list, request).map(|order| vec![order]),
        _ => Err(UNREADABLE.to_owned()),
    }
}

fn is_number(item: &Value) -> bool {
    item.scalar()
        .is_some_and(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// One order of a list. If a value stands beside the list, it holds for all orders, and no order
/// may repeat it.
fn item_of_list<'a>(
    table: &Table,
    opening: &Opening,
    item: &'a Value,
    request: &'a Request,
) -> Result<Order<'a>, String> {
    let members = item.members().ok_or("the list of orders holds a value that is not an order")?;
    let misspelled =
        |(name, _): &&(String, Value)| matches!(table.spelling(name), Spelling::Other(_));
    if let Some((name, _)) = members.iter().find(misspelled) {
        return Err(format!("an order of the list spells {name:?} in another way"));
    }
    let mut order = order(table, opening, item, request);
    if let Some(common) = opening.name_of(Role::Common) {
        if item.member(common).is_some() {
            return Err(format!("an order of the list names its own {common:?}"));
        }
        order.symbol = request.params.get(common).and_then(Value::scalar).map(Cow::Borrowed);
    }
    if let Some(market) = opening.name_of(Role::Market)
        && let Some(beside) = request.params.get(market)
    {
        if item.member(market).is_some() {
            return Err(format!("an order of the list names its own {market:?}"));
        }
        order.market = beside.scalar().map(Cow::Borrowed);
    }
    Ok(order)
}

fn order<'a>(table: &Table, opening: &Opening, item: &'a Value, request: &'a Request) -> Order<'a> {
    let text = |role| said(table, opening, role, item, request).map(Cow::Borrowed);
    let unread = |(_, source): &(Role, ValueSource)| {
        let name = source.parameter()?;
        let unread = |value: &&Value| value.scalar().is_none() && **value != Value::Null;
        item.member(name).filter(unread).map(|_| format!("{name} is neither text nor number"))
    };
    Order {
        symbol: text(Role::Symbol),
        side: text(Role::Side),
        kind: text(Role::Type).or(opening.default_type.map(Cow::Borrowed)),
        quantity: text(Role::Quantity),
        price: text(Role::Price),
        quote: text(Role::Quote),
        market: text(Role::Market),
        typed: opening.source_of(Role::Type).is_some(),
        flaw: opening.roles.iter().filter(|(role, _)| *role != Role::List).find_map(unread),
        sized: !opening.places_no_order,
        members: Cow::Borrowed(item.members().unwrap_or_default()),
    }
}
