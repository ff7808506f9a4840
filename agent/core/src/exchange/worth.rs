//! Computes the size and the worth of an order from its own numbers, by rules that hold on every
//! exchange.
//!
//! A number counts only if the exchange is known to use it. Every other number is neither a size
//! nor a price.

use std::borrow::Cow;

use crate::decimal::Amount;
use crate::exchange::order::Order;
use crate::exchange::order_facts::Unit;
use crate::exchange::recipe::Exchange;

/// The order's size in the base asset (for a contract: in contracts). `Err` says why it cannot be
/// known.
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

/// The highest possible worth of one order with all its legs, as asset and amount. `Err` says why
/// it cannot be known.
pub fn notional<'a>(
    exchange: &dyn Exchange,
    order: &'a Order<'_>,
) -> Result<(&'a str, Amount), String> {
    let asset = exchange.quote_asset(order)?;
    let order = &readable(exchange, order)?;
    check_size(exchange, order)?;
    let facts = &exchange.facts().orders;
    if let Some(mark) = facts.repricing.iter().find(|mark| order.carries(mark)) {
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
            return Err(format!(
                "an order of the type {kind:?} is not known to be sized in the quote asset"
            ));
        }
        // The order does not say how much of the base asset its leg is for.
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
    let (quantity, price) =
        (quantity(exchange, order)?, order.price.as_deref().ok_or("it has no price")?);
    // On some exchanges a price of zero means the market price.
    let price = above_zero("the price", price)?;
    let mut total = quantity.checked_mul_up(price).ok_or("it has too many digits")?;
    for (name, price) in
        facts.legs.iter().filter_map(|name| Some((name, order.member(name)?.scalar())))
    {
        let price = number(name, price.ok_or_else(|| format!("{name} is no number"))?)?;
        let worth = quantity.checked_mul_up(price);
        total = worth.and_then(|worth| total.checked_add(worth)).ok_or("it has too many digits")?;
    }
    Ok((asset, total))
}

/// The order as the exchange reads it. `Err` if it has a part that the agent cannot read.
fn readable<'a>(
    exchange: &dyn Exchange,
    order: &'a Order<'_>,
) -> Result<Cow<'a, Order<'a>>, String> {
    if let Some(flaw) = &order.flaw {
        return Err(flaw.clone());
    }
    let reads_less = exchange.facts().orders.empty_is_absent;
    let order =
        if reads_less { Cow::Owned(order.without_empty_texts()) } else { Cow::Borrowed(order) };
    if order.attached(exchange.facts().orders.flags) {
        return Err("it carries further orders, which are not judged".to_owned());
    }
    Ok(order)
}

/// Refuses an order if the exchange could use another size than the one the order names.
fn check_size(exchange: &dyn Exchange, order: &Order<'_>) -> Result<(), String> {
    let facts = &exchange.facts().orders;
    if let Some(mark) = facts.whole.marks().iter().find(|mark| order.carries(mark)) {
        return Err(format!("{} makes it an order for a whole position", mark.name));
    }
    if let Some(mark) = facts.resizing.iter().find(|mark| order.carries(mark)) {
        return Err(format!("{} gives it another size", mark.name));
    }
    if order.quantity.is_some() && exchange.cost(order).is_some() {
        return Err("it has two sizes".to_owned());
    }
    let kind = order.kind.as_deref().unwrap_or_default();
    let known =
        [facts.priced, facts.unpriced, facts.quoted].iter().any(|types| types.contains(&kind));
    // If its row names types, an order must have one of them. Otherwise it must have none.
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
    // Some exchanges take a zero to mean everything that there is.
    if amount.is_zero() { Err(format!("{what} is zero")) } else { Ok(amount) }
}

fn number(what: &str, text: &str) -> Result<Amount, String> {
    Amount::parse(text).map_err(|error| format!("{what} is {error}"))
}

/// The quote asset of a symbol `BASE-QUOTE`: the part after the separator. A symbol with more parts
/// is not a pair.
pub fn quote_of(symbol: Option<&str>, separator: char) -> Result<&str, &'static str> {
    match symbol.ok_or("it names no symbol")?.split_once(separator) {
        Some((base, quote))
            if !base.is_empty() && !quote.is_empty() && !quote.contains(separator) =>
        {
            Ok(quote)
        }
        _ => Err("its symbol is no pair of assets"),
    }
}

/// The quote asset of a symbol without a separator: the longest of `quotes` that the symbol ends
/// in, in the same letter case.
pub fn ending_in(
    symbol: Option<&str>,
    quotes: &[&'static str],
) -> Result<&'static str, &'static str> {
    let symbol = symbol.ok_or("it names no symbol")?;
    let endings =
        quotes.iter().filter(|quote| symbol.len() > quote.len() && symbol.ends_with(**quote));
    endings
        .max_by_key(|quote| quote.len())
        .copied()
        .ok_or("the quote asset of its symbol is not known")
}
