//! Limits on orders and transfers: the largest worth of a request, and the amounts it adds to the
//! day's windows.

use std::collections::BTreeSet;

use smallvec::SmallVec;

use super::{Client, Denied, Policy, Spend, SpendLimit};
use crate::decimal::Amount;
use crate::exchange::classify::Classified;
use crate::exchange::order::Order;
use crate::exchange::recipe::Exchange;
use crate::exchange::worth;
use crate::refusal::Code;
use crate::scope::{Scope, Scopes};
use crate::transfer::Transfer;

/// The beginning of a transfer window's name. Such a window counts the transfers and withdrawals of
/// one asset, for all clients together.
pub const TRANSFERS: &str = "transfer/";

/// The worth of a request's orders by asset. Nearly all are worth one asset.
type Totals<'a> = SmallVec<[(&'a str, Amount); 1]>;

/// Checks symbols, quantities and notional of every order that a request places; returns the
/// amounts to count.
pub(super) fn orders(
    client: &Client,
    exchange: &dyn Exchange,
    classified: &Classified<'_>,
) -> Result<Vec<Spend>, Denied> {
    if !is_limited(client) {
        return Ok(Vec::new());
    }
    let denied =
        |field| move |message: String| Denied::new(client.rule(field), Code::PolicyLimit, message);
    let unreadable =
        |reason| denied("symbols")(format!("this client has limits on orders, and {reason}"));
    let orders = classified.orders.as_ref().map_err(unreadable)?;
    let mut totals = Totals::new();
    for order in orders {
        check_symbol(client, exchange, order).map_err(denied("symbols"))?;
        if !order.sized {
            continue;
        }
        check_quantity(client, exchange, order).map_err(denied("max_quantity"))?;
        if !client.limits.is_empty() {
            let notional = notional(client, exchange, order).map_err(denied("limit"))?;
            add(&mut totals, notional).map_err(denied("limit"))?;
        }
    }
    let mut spends = Vec::new();
    for (asset, total) in totals {
        let window = || ["client/", &client.name, "/", asset].concat();
        let spend = against(&client.limits[asset], window, asset, total).map_err(|message| {
            Denied::new(
                format!("[client.{}.limit.{asset}]", client.name),
                Code::PolicyLimit,
                message,
            )
        })?;
        spends.extend(spend);
    }
    Ok(spends)
}

/// Denies a session that trades to a client with limits: orders in it carry no signature, and
/// nothing would be counted.
pub(super) fn session(client: &Client, effective: Scopes) -> Result<(), Denied> {
    if !is_limited(client) || !effective.contains(Scope::Trade) {
        return Ok(());
    }
    let message =
        "orders of this session would need no signature, and this client has limits on orders";
    Err(Denied::new(client.rule("limit"), Code::PolicyLimit, message))
}

fn is_limited(client: &Client) -> bool {
    client.symbols.is_some() || !client.max_quantity.is_empty() || !client.limits.is_empty()
}

/// Checks one transfer against `[transfer.ASSET]`; returns the amount to count and the number of
/// approvers it needs.
pub(super) fn transfer(
    policy: &Policy,
    transfer: &Transfer,
) -> Result<(Option<Spend>, u32), Denied> {
    let deny = |rule: String, message: String| Err(Denied::new(rule, Code::PolicyLimit, message));
    let Some(asset) = &transfer.asset else {
        return deny(
            "[transfer]".to_owned(),
            "the request does not say which asset moves, so nothing limits it".to_owned(),
        );
    };
    let Some(amount) = transfer.amount else {
        return deny(
            format!("[transfer.{asset}]"),
            "the amount that moves is not a plain decimal".to_owned(),
        );
    };
    let Some(limits) = policy.transfers.get(asset) else {
        return deny("[transfer]".to_owned(), format!("no [transfer.{asset}] allows it"));
    };
    let limit = SpendLimit { per_request: limits.per_request, per_day: limits.per_day };
    let spend =
        against(&limit, || format!("{TRANSFERS}{asset}"), asset, amount).map_err(|message| {
            Denied::new(format!("[transfer.{asset}]"), Code::PolicyLimit, message)
        })?;
    let steps = limits.approvers.iter().filter(|step| amount > step.above);
    Ok((spend, steps.map(|step| step.count).max().unwrap_or(0)))
}

fn check_symbol(client: &Client, exchange: &dyn Exchange, order: &Order<'_>) -> Result<(), String> {
    if let Some(mark) = exchange.facts().other_symbols.iter().find(|mark| order.carries(mark)) {
        return Err(format!(
            "{} may name another instrument than the one that is judged",
            mark.name
        ));
    }
    let Some(allowed) = &client.symbols else { return Ok(()) };
    if let Some(flaw) = order.flaw.as_ref().filter(|_| order.sized) {
        return Err(format!("it cannot be known which instrument the order is for: {flaw}"));
    }
    if order.sized {
        check_attached_symbols(exchange, order, allowed)?;
    }
    match &order.symbol {
        Some(symbol) if allowed.contains(symbol.as_ref()) => Ok(()),
        Some(symbol) => Err(format!("the symbol {symbol:?} is not among the client's symbols")),
        None => {
            Err("the request names no symbol, and the client may use some symbols only".to_owned())
        }
    }
}

/// Orders inside an order may name an instrument of their own.
fn check_attached_symbols(
    exchange: &dyn Exchange,
    order: &Order<'_>,
    allowed: &BTreeSet<String>,
) -> Result<(), String> {
    let refused = |symbol: &str| !allowed.contains(symbol);
    match order.attached_symbols(exchange.table()) {
        Some(symbols) if !symbols.iter().any(|symbol| refused(symbol)) => Ok(()),
        Some(_) => {
            Err("an order inside the order is for a symbol that is not among the client's symbols"
                .to_owned())
        }
        None => Err("the order carries further orders that cannot be read".to_owned()),
    }
}

fn check_quantity(
    client: &Client,
    exchange: &dyn Exchange,
    order: &Order<'_>,
) -> Result<(), String> {
    if client.max_quantity.is_empty() {
        return Ok(());
    }
    let Some(symbol) = &order.symbol else {
        return Err("the request names no symbol, and the client has quantity limits".to_owned());
    };
    let Some(limit) = client.max_quantity.get(symbol.as_ref()) else {
        // An exchange may know an instrument by several names, so this symbol may be another name
        // of one that has a limit. Only a symbol on the client's list is certainly another
        // instrument.
        let listed =
            client.symbols.as_ref().is_some_and(|symbols| symbols.contains(symbol.as_ref()));
        let unlisted = || {
            format!("max_quantity does not name {symbol:?}, and the client has no list of symbols")
        };
        return if listed { Ok(()) } else { Err(unlisted()) };
    };
    let quantity = worth::size(exchange, order).map_err(|reason| {
        format!("the size of the order of {symbol} cannot be known from the request: {reason}")
    })?;
    if quantity > *limit {
        return Err(format!("the quantity {quantity} of {symbol} is above max_quantity {limit}"));
    }
    Ok(())
}

fn notional<'a>(
    client: &Client,
    exchange: &dyn Exchange,
    order: &'a Order<'_>,
) -> Result<(&'a str, Amount), String> {
    let (asset, amount) = worth::notional(exchange, order).map_err(|reason| {
        format!("the worth of the order cannot be known from the request: {reason}")
    })?;
    if client.limits.contains_key(asset) {
        Ok((asset, amount))
    } else {
        Err(format!("the client has no limit for {asset}"))
    }
}

fn add<'a>(totals: &mut Totals<'a>, (asset, amount): (&'a str, Amount)) -> Result<(), String> {
    let too_long = || "the sum of the orders has too many digits".to_owned();
    match totals.iter_mut().find(|(known, _)| *known == asset) {
        Some((_, total)) => *total = total.checked_add(amount).ok_or_else(too_long)?,
        None => totals.push((asset, amount)),
    }
    Ok(())
}

fn against(
    limit: &SpendLimit,
    window: impl Fn() -> String,
    asset: &str,
    amount: Amount,
) -> Result<Option<Spend>, String> {
    if let Some(cap) = limit.per_request.filter(|cap| amount > *cap) {
        return Err(format!("{amount} {asset} is above per_request {cap}"));
    }
    if let Some(cap) = limit.per_day.filter(|cap| amount > *cap) {
        return Err(format!("{amount} {asset} is above per_day {cap}"));
    }
    Ok(limit.per_day.map(|cap| Spend { window: window(), amount, cap }))
}
