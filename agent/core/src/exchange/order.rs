//! One order, as its request describes it.

use std::borrow::Cow;

use super::order_facts::{Flags, Mark};
use super::table::Table;
use crate::json::Value;

/// One order. Its texts are those of the client, not yet checked.
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
    /// The kind of market, if the order's row reads it from the path or from a parameter.
    pub market: Option<Cow<'a, str>>,
    /// True if the row names an order type. The row of an amendment does not.
    pub typed: bool,
    /// The reason why the order cannot be judged: it has a parameter that its row does not list, or
    /// one that cannot be read.
    pub flaw: Option<String>,
    /// True if the endpoint takes a size, so that limits apply. False for cancels and settings of a
    /// symbol.
    pub sized: bool,
    /// All parameters of the order, for the rules of single exchanges.
    pub members: Cow<'a, [(String, Value)]>,
}

impl Order<'_> {
    /// True if limits count both orders alike. `other` may leave out the type, as an amendment
    /// does.
    pub(super) fn same_size(&self, other: &Self) -> bool {
        self.sized
            && (self.kind == other.kind || other.kind.is_none())
            && (&self.symbol, &self.quantity, &self.price)
                == (&other.symbol, &other.quantity, &other.price)
            && (self.quote == other.quote || other.quote.is_none())
    }

    /// True if the order carries a list or an object, or one as text, that is not one of these
    /// lists of words. For limits, such a value may hold further orders.
    pub(super) fn attached(&self, flags: &[Flags]) -> bool {
        let is_known = |name: &str, value: &Value| flags.iter().any(|flags| flags.are(name, value));
        self.members.iter().any(|(name, value)| nested(value) && !is_known(name, value))
    }

    /// The instruments that orders inside this one name. `None` if they cannot be read.
    pub(crate) fn attached_symbols(&self, table: &Table) -> Option<Vec<String>> {
        let mut symbols = Vec::new();
        let mut nested = self.members.iter().filter(|(_, value)| nested(value));
        let read = nested.all(|(_, value)| named_inside(table, value, &mut symbols));
        read.then_some(symbols)
    }

    /// A parameter of the order, with a value of any kind.
    pub fn member(&self, name: &str) -> Option<&Value> {
        self.members.iter().find_map(|(candidate, value)| (candidate == name).then_some(value))
    }

    /// True if the order has this parameter with a value that means something.
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

    /// The same order without its empty texts, for an exchange where they count as absent.
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

    /// A parameter of the order, if its value is a string, a number or a boolean.
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

/// Adds the instruments that a value names, at any depth. False if one cannot be read.
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

/// True if a value holds further values. A text that begins as JSON counts too, since some
/// exchanges read it as JSON.
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

/// True if a text begins as JSON does, after the characters that parsers skip.
pub(super) fn begins_as_json(text: &str) -> bool {
    // For nearly every value the first byte decides.
    if let Some(first) = text.bytes().next().filter(u8::is_ascii_graphic) {
        return matches!(first, b'[' | b'{');
    }
    let blank = |character: char| {
        character.is_whitespace() || character.is_control() || character == '\u{feff}'
    };
    text.trim_start_matches(blank).starts_with(['[', '{'])
}
