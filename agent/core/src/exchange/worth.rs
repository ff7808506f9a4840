//! The size of an order and its worth, where its own numbers say them, by rules that hold on every exchange.
//!
//! A number counts only where the exchange is known to use it: everything else is no size and no price.

use std::borrow::Cow;

use crate::decimal::Amount;
use crate::exchange::Exchange;
use crate::exchange::classify::Order;
use crate::json::Value;

/// What an exchange says of its orders, as data.
#[derive(Debug)]
pub struct OrderFacts {
    /// Types that trade at their price or better; `""` stands for an order whose row names no type, such as an amendment.
    pub priced: &'static [&'static str],
    /// Types that have a size and do not keep to a price.
    pub unpriced: &'static [&'static str],
    /// Types that may be sized in the quote asset.
    pub quoted: &'static [&'static str],
    /// What makes an order one for a whole position, whatever its size.
    pub whole: Whole,
    /// Parameters that change the size: another unit, another size, an order of its own.
    pub resizing: &'static [Mark],
    /// Parameters that give the order another price than its own.
    pub repricing: &'static [Mark],
    /// Lists of words that change neither size nor price.
    pub flags: &'static [Flags],
    /// Prices of further legs, of the same size: each counts.
    pub legs: &'static [&'static str],
    /// An empty text says nothing: clients of this exchange send one for what they leave out.
    pub empty_is_absent: bool,
    /// A sale is a size below zero.
    pub signed_sizes: bool,
}

impl OrderFacts {
    /// Nothing is known, so that nothing can be computed.
    pub const UNKNOWN: Self = Self {
        priced: &[],
        unpriced: &[],
        quoted: &[],
        whole: Whole::Unanswered,
        resizing: &[],
        repricing: &[],
        flags: &[],
        legs: &[],
        empty_is_absent: false,
        signed_sizes: false,
    };
}

/// How an order closes a whole position.
#[derive(Debug)]
pub enum Whole {
    /// By one of these parameters; where this was read.
    By(&'static [Mark], &'static str),
    /// No order does; why, or where this was read.
    No(&'static str),
    Unanswered,
}

impl Whole {
    pub fn marks(&self) -> &'static [Mark] {
        match self {
            Self::By(marks, _) => marks,
            Self::No(_) | Self::Unanswered => &[],
        }
    }
}

/// A parameter that means something, unless it has one of these values.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    pub name: &'static str,
    pub unless: &'static [&'static str],
}

impl Mark {
    pub const fn of(name: &'static str) -> Self {
        Self { name, unless: &[] }
    }

    #[must_use]
    pub const fn unless(self, values: &'static [&'static str]) -> Self {
        Self { unless: values, ..self }
    }

    pub(crate) fn is_set(self, order: &Order<'_>) -> bool {
        order.member(self.name).is_some_and(|value| !value.scalar().is_some_and(|text| self.unless.contains(&text)))
    }
}

/// A parameter that is a list of words, and those of them that change neither the size of an order nor its price.
#[derive(Clone, Copy, Debug)]
pub struct Flags {
    pub name: &'static str,
    pub words: &'static [&'static str],
}

impl Flags {
    pub(super) fn are(&self, name: &str, value: &Value) -> bool {
        let known = |item: &Value| matches!(item, Value::String(word) if self.words.contains(&word.as_str()));
        name == self.name && matches!(value, Value::Array(items) if items.iter().all(known))
    }
}

/// In what the size of an order counts.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Unit {
    /// In the base asset, or in contracts.
    Base,
    Quote,
    /// The request does not say it; why.
    Unknown(&'static str),
}

/// The order's size in the base asset (for a contract: in contracts); `Err` says why it cannot be known.
pub fn size(exchange: &dyn Exchange, order: &Order<'_>) -> Result<Amount, String> {
    let order = &readable(exchange, order)?;
    check_size(exchange, order)?;
    if exchange.cost(order).is_some() {
        return Err("its size is in the quote asset".to_owned());
    }
    match exchange.unit(order) {
        Unit::Base => quantity(exchange, order),
        Unit::Quote => Err("its size is in the quote asset".to_owned()),
        Unit::Unknown(reason) => Err(reason.to_owned()),
    }
}

/// What one order is worth at most, with all its legs: asset and amount; `Err` says why it cannot be known.
pub fn notional<'a>(exchange: &dyn Exchange, order: &'a Order<'_>) -> Result<(&'a str, Amount), String> {
    let asset = exchange.quote_asset(order)?;
    let order = &readable(exchange, order)?;
    check_size(exchange, order)?;
    let facts = &exchange.facts().orders;
    if let Some(mark) = facts.repricing.iter().find(|mark| mark.is_set(order)) {
        return Err(format!("{} gives it another price", mark.name));
    }
    let cost = exchange.cost(order);
    let in_quote = match exchange.unit(order) {
        Unit::Base => cost.is_some(),
        Unit::Quote => true,
        Unit::Unknown(reason) => return Err(reason.to_owned()),
    };
    let kind = order.kind.as_deref().unwrap_or_default();
    if in_quote {
        if !facts.quoted.contains(&kind) {
            return Err(format!("an order of the type {kind:?} is not known to be sized in the quote asset"));
        }
        // How much of the base asset a leg is for is not in the order.
        if let Some(leg) = facts.legs.iter().find(|name| order.member(name).is_some()) {
            return Err(format!("{leg} is the price of a further leg, whose size is not known"));
        }
        let amount = match cost {
            Some(text) => above_zero("the size", text)?,
            None => quantity(exchange, order)?,
        };
        return Ok((asset, amount));
    }
    if !facts.priced.contains(&kind) {
        return Err(format!("an order of the type {kind:?} does not keep to a price"));
    }
    let (quantity, price) = (quantity(exchange, order)?, order.price.as_deref().ok_or("it has no price")?);
    // A price of zero is the market's on some exchanges.
    let price = above_zero("the price", price)?;
    let mut total = quantity.checked_mul_up(price).ok_or("it has too many digits")?;
    for (name, price) in facts.legs.iter().filter_map(|name| Some((name, order.member(name)?.scalar()))) {
        let price = number(name, price.ok_or_else(|| format!("{name} is no number"))?)?;
        let worth = quantity.checked_mul_up(price);
        total = worth.and_then(|worth| total.checked_add(worth)).ok_or("it has too many digits")?;
    }
    Ok((asset, total))
}

/// The order as the exchange reads it; `Err` where a part of it is read by nobody here.
fn readable<'a>(exchange: &dyn Exchange, order: &'a Order<'_>) -> Result<Cow<'a, Order<'a>>, String> {
    if let Some(flaw) = &order.flaw {
        return Err(flaw.clone());
    }
    let reads_less = exchange.facts().orders.empty_is_absent;
    let order = if reads_less { Cow::Owned(order.without_empty_texts()) } else { Cow::Borrowed(order) };
    if order.attached(exchange.facts().orders.flags) {
        return Err("it carries further orders, which are not judged".to_owned());
    }
    Ok(order)
}

/// Refuses sizes that are not those the exchange takes.
fn check_size(exchange: &dyn Exchange, order: &Order<'_>) -> Result<(), String> {
    let facts = &exchange.facts().orders;
    if let Some(mark) = facts.whole.marks().iter().find(|mark| mark.is_set(order)) {
        return Err(format!("{} makes it an order for a whole position", mark.name));
    }
    if let Some(mark) = facts.resizing.iter().find(|mark| mark.is_set(order)) {
        return Err(format!("{} gives it another size", mark.name));
    }
    if order.quantity.is_some() && exchange.cost(order).is_some() {
        return Err("it has two sizes".to_owned());
    }
    let kind = order.kind.as_deref().unwrap_or_default();
    let known = [facts.priced, facts.unpriced, facts.quoted].iter().any(|types| types.contains(&kind));
    // A row without types has none, and one with types has one.
    if order.typed == kind.is_empty() || order.typed && !known {
        return Err(format!("{kind:?} is not one of the order types that are known"));
    }
    Ok(())
}

fn quantity(exchange: &dyn Exchange, order: &Order<'_>) -> Result<Amount, String> {
    let text = order.quantity.as_deref().ok_or("it has no size")?;
    let unsigned = text.strip_prefix('-').filter(|_| exchange.facts().orders.signed_sizes);
    above_zero("the size", unsigned.unwrap_or(text))
}

fn above_zero(what: &str, text: &str) -> Result<Amount, String> {
    let amount = number(what, text)?;
    // Some exchanges take it for all that there is.
    if amount.is_zero() { Err(format!("{what} is zero")) } else { Ok(amount) }
}

fn number(what: &str, text: &str) -> Result<Amount, String> {
    Amount::parse(text).map_err(|error| format!("{what} is {error}"))
}

/// What stands behind the separator of `BASE-QUOTE`; a symbol with more parts is no pair.
pub fn quote_of(symbol: Option<&str>, separator: char) -> Result<&str, &'static str> {
    match symbol.ok_or("it names no symbol")?.split_once(separator) {
        Some((base, quote)) if !base.is_empty() && !quote.is_empty() && !quote.contains(separator) => Ok(quote),
        _ => Err("its symbol is no pair of assets"),
    }
}

/// The quote asset of a symbol without a separator: the longest of these that it ends in, as it stands there.
pub fn ending_in(symbol: Option<&str>, quotes: &[&'static str]) -> Result<&'static str, &'static str> {
    let symbol = symbol.ok_or("it names no symbol")?;
    let endings = quotes.iter().filter(|quote| symbol.len() > quote.len() && symbol.ends_with(**quote));
    endings.max_by_key(|quote| quote.len()).copied().ok_or("the quote asset of its symbol is not known")
}
