//! The orders that a request places, as its row reads them.

use std::borrow::Cow;

use super::said;
use crate::exchange::Flags;
use crate::exchange::table::{Opening, Role, Source, Spelling, Table, WHOLE_BODY};
use crate::json::Value;
use crate::request::{Params, Request};

/// One order, as its request says it; texts are unjudged.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Order<'a> {
    pub symbol: Option<Cow<'a, str>>,
    pub side: Option<Cow<'a, str>>,
    /// The order type: limit, market, …
    pub kind: Option<Cow<'a, str>>,
    pub quantity: Option<Cow<'a, str>>,
    pub price: Option<Cow<'a, str>>,
    /// Size in the quote asset.
    pub quote: Option<Cow<'a, str>>,
    /// The kind of market, where a path or a parameter of its row says it.
    pub market: Option<Cow<'a, str>>,
    /// The row names a type; an amendment does not.
    pub typed: bool,
    /// Why nobody knows what the order says: a parameter that its row does not list, or one that cannot be read.
    pub flaw: Option<String>,
    /// The endpoint takes a size, so that limits apply; false for cancels and settings of a symbol.
    pub sized: bool,
    /// All parameters of the order, for what only one exchange has.
    pub members: Cow<'a, [(String, Value)]>,
}

impl Order<'_> {
    /// The same order, as far as limits go; an amendment does not repeat the order's type.
    pub(super) fn same_size(&self, other: &Self) -> bool {
        self.sized
            && (self.kind == other.kind || other.kind.is_none())
            && (&self.symbol, &self.quantity, &self.price) == (&other.symbol, &other.quantity, &other.price)
            && (self.quote == other.quote || other.quote.is_none())
    }

    /// Whether it carries a list or an object of its own, also as a text, beyond these lists of words: further orders, as far as
    /// limits know.
    pub(in crate::exchange) fn attached(&self, flags: &[Flags]) -> bool {
        let is_known = |name: &str, value: &Value| flags.iter().any(|flags| flags.are(name, value));
        self.members.iter().any(|(name, value)| nested(value) && !is_known(name, value))
    }

    /// The instruments that orders inside this one name; `None` where they cannot be read.
    pub(crate) fn attached_symbols(&self, table: &Table) -> Option<Vec<String>> {
        let mut symbols = Vec::new();
        let mut nested = self.members.iter().filter(|(_, value)| nested(value));
        let read = nested.all(|(_, value)| named_inside(table, value, &mut symbols));
        read.then_some(symbols)
    }

    /// A parameter of the order, of whatever kind.
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.members.iter().find_map(|(candidate, value)| (candidate == name).then_some(value))
    }

    fn borrowed(&self) -> Order<'_> {
        Order {
            symbol: self.symbol.as_deref().map(Cow::Borrowed),
            side: self.side.as_deref().map(Cow::Borrowed),
            kind: self.kind.as_deref().map(Cow::Borrowed),
            quantity: self.quantity.as_deref().map(Cow::Borrowed),
            price: self.price.as_deref().map(Cow::Borrowed),
            quote: self.quote.as_deref().map(Cow::Borrowed),
            market: self.market.as_deref().map(Cow::Borrowed),
            typed: self.typed,
            flaw: self.flaw.clone(),
            sized: self.sized,
            members: Cow::Borrowed(&self.members),
        }
    }

    /// The same where an empty text says nothing.
    pub(in crate::exchange) fn without_empty_texts(&self) -> Order<'_> {
        let said = |value: &Value| value.scalar() != Some("");
        let mut order = self.borrowed();
        for part in [&mut order.symbol, &mut order.side, &mut order.kind, &mut order.quantity, &mut order.price] {
            part.take_if(|text| text.is_empty());
        }
        order.quote.take_if(|text| text.is_empty());
        order.market.take_if(|text| text.is_empty());
        order.members = self.members.iter().filter(|(_, value)| said(value)).cloned().collect();
        order
    }

    /// A parameter of the order where it is a string, number or boolean.
    pub fn extra(&self, name: &str) -> Option<&str> {
        self.member(name)?.scalar()
    }

    fn into_owned(self) -> Order<'static> {
        let owned = |text: Option<Cow<'_, str>>| text.map(|text| Cow::Owned(text.into_owned()));
        Order {
            symbol: owned(self.symbol),
            side: owned(self.side),
            kind: owned(self.kind),
            quantity: owned(self.quantity),
            price: owned(self.price),
            quote: owned(self.quote),
            market: owned(self.market),
            typed: self.typed,
            flaw: self.flaw,
            sized: self.sized,
            members: Cow::Owned(self.members.into_owned()),
        }
    }
}

/// The orders that a request places at the endpoint it is for. A parameter that the row does not list may be another size, a
/// further leg or another instrument, and so may a part of an order that stands beside a list of them: such an order is not read.
pub(super) fn own_orders<'a>(
    table: &'static Table,
    index: usize,
    request: &'a Request,
) -> Result<Vec<Order<'a>>, String> {
    let mut read = orders(table, table.openings_of(index), request)?;
    let listed = |name: &str| matches!(table.spelling(name), Spelling::Known(known) if table.lists(index, known));
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

/// What each order of a list says itself, where it stands beside the list.
fn part_beside_list(opening: &Opening, request: &Request) -> Option<&'static str> {
    let list = opening.name_of(Role::List).filter(|name| *name != WHOLE_BODY)?;
    let of_each = |(role, source): &(Role, Source)| {
        let shared = matches!(role, Role::Common | Role::List | Role::Market);
        source.parameter().filter(|name| !shared && *name != list && request.params.get(name).is_some())
    };
    opening.roles.iter().find_map(of_each)
}

/// Reads the orders a trade request places. A row that does not say where its orders stand, nor that it places none,
/// cannot be read.
pub(super) fn orders<'a>(
    table: &Table,
    mut openings: impl Iterator<Item = &'static Opening> + Clone,
    request: &'a Request,
) -> Result<Vec<Order<'a>>, String> {
    let Some(opening) = openings.clone().find(|opening| opening.says_orders()) else {
        let places_none = openings.clone().next().is_some() && openings.all(|opening| opening.places_no_order);
        return if places_none { Ok(Vec::new()) } else { Err("what this endpoint trades cannot be read".to_owned()) };
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

/// The orders of a list, or a single order where the API takes one or a list of them.
fn listed<'a>(
    table: &Table,
    opening: &Opening,
    list: &'a Value,
    request: &'a Request,
) -> Result<Vec<Order<'a>>, String> {
    match list {
        Value::Array(items) => {
            // The number of an order, where a list of orders to cancel is signed like one of orders to place.
            let orders = items.iter().filter(|item| !is_number(item));
            orders.map(|item| item_of_list(table, opening, item, request)).collect()
        }
        Value::Object(_) => item_of_list(table, opening, list, request).map(|order| vec![order]),
        _ => Err(UNREADABLE.to_owned()),
    }
}

fn is_number(item: &Value) -> bool {
    item.scalar().is_some_and(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
}

/// One order of a list. What applies to all of them stands beside the list, and then nowhere else.
fn item_of_list<'a>(
    table: &Table,
    opening: &Opening,
    item: &'a Value,
    request: &'a Request,
) -> Result<Order<'a>, String> {
    let members = item.members().ok_or("the list of orders holds what is no order")?;
    let misspelled = |(name, _): &&(String, Value)| matches!(table.spelling(name), Spelling::Other(_));
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
    let unread = |(_, source): &(Role, Source)| {
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

/// Adds the instruments that a value names, at any depth; false where it cannot be read.
fn named_inside(table: &Table, value: &Value, symbols: &mut Vec<String>) -> bool {
    match value {
        Value::Array(items) => items.iter().all(|item| named_inside(table, item, symbols)),
        Value::Object(members) => members.iter().all(|(name, value)| {
            if !table.names_instrument(name) {
                return named_inside(table, value, symbols);
            }
            symbols.extend(value.scalar().map(str::to_owned));
            value.scalar().is_some()
        }),
        Value::String(text) if nested(value) => {
            Value::parse(text.trim()).is_ok_and(|inner| named_inside(table, &inner, symbols))
        }
        _ => true,
    }
}

/// Whether a value holds values of its own; a text that begins as JSON does is read so by some exchanges.
fn nested(value: &Value) -> bool {
    match value {
        Value::String(text) if text.starts_with(|first: char| first.is_ascii_alphanumeric()) => false,
        Value::Array(items) => !items.is_empty(),
        Value::String(text) => begins_as_json(text),
        value => value.members().is_some_and(|members| !members.is_empty()),
    }
}

/// Whether a text begins as JSON does, after what parsers pass over.
pub(super) fn begins_as_json(text: &str) -> bool {
    // Nearly every value tells by its first byte.
    if let Some(first) = text.bytes().next().filter(u8::is_ascii_graphic) {
        return matches!(first, b'[' | b'{');
    }
    let blank = |character: char| character.is_whitespace() || character.is_control() || character == '\u{feff}';
    text.trim_start_matches(blank).starts_with(['[', '{'])
}
