//! One order, as its request says it.

use std::borrow::Cow;

use super::order_facts::{Flags, Mark};
use super::table::Table;
use crate::json::Value;

/// One order; its texts are unjudged.
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
    /// Why nobody knows what the order says: a parameter that its row does not list, or one that
    /// cannot be read.
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
            && (&self.symbol, &self.quantity, &self.price)
                == (&other.symbol, &other.quantity, &other.price)
            && (self.quote == other.quote || other.quote.is_none())
    }

    /// Whether it carries a list or an object of its own, also as a text, beyond these lists of
    /// words: further orders, as far as limits know.
    pub(super) fn attached(&self, flags: &[Flags]) -> bool {
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

    /// True where it has this parameter with a value that means something.
    pub(crate) fn carries(&self, mark: &Mark) -> bool {
        let means_nothing =
            |value: &Value| value.scalar().is_some_and(|text| mark.unless.contains(&text));
        self.member(mark.name).is_some_and(|value| !means_nothing(value))
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
    pub(super) fn without_empty_texts(&self) -> Order<'_> {
        let said = |value: &Value| value.scalar() != Some("");
        let mut order = self.borrowed();
        for part in [
            &mut order.symbol,
            &mut order.side,
            &mut order.kind,
            &mut order.quantity,
            &mut order.price,
        ] {
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

    pub(super) fn into_owned(self) -> Order<'static> {
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

/// Whether a value holds values of its own; a text that begins as JSON does is read so by some
/// exchanges.
fn nested(value: &Value) -> bool {
    match value {
        Value::String(text) if text.starts_with(|first: char| first.is_ascii_alphanumeric()) => {
            false
        }
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
    let blank = |character: char| {
        character.is_whitespace() || character.is_control() || character == '\u{feff}'
    };
    text.trim_start_matches(blank).starts_with(['[', '{'])
}
