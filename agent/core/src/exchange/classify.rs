//! What a request's signature would open: declared scope, effective scopes, money moved, orders placed.

use std::borrow::Cow;

use crate::decimal::Amount;
use crate::exchange::Exchange;
use crate::exchange::table::{Endpoint, Opening, Role, Table, WHOLE_BODY};
use crate::json::Value;
use crate::refusal::{Code, Refusal};
use crate::request::{Params, Request};
use crate::scope::{Scope, Scopes};
use crate::transfer::Transfer;

/// A request together with everything its signature would open.
#[derive(Debug)]
pub struct Classified {
    /// The scope of the endpoint that was asked for.
    pub scope: Scope,
    /// The scopes a client must hold, all of them.
    pub effective: Scopes,
    /// Other endpoints that would accept the same signature, beyond mere reads.
    pub neighbours: Vec<&'static Endpoint>,
    /// Every way money would move under this signature.
    pub transfers: Vec<Transfer>,
    /// The orders this request places; `Err` where the request places some and they cannot be read.
    pub orders: Result<Vec<Order>, String>,
}

/// One order, as its request says it; texts are unjudged.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Order {
    pub symbol: Option<String>,
    pub side: Option<String>,
    /// The order type: limit, market, …
    pub kind: Option<String>,
    pub quantity: Option<String>,
    pub price: Option<String>,
    /// Size in the quote asset.
    pub quote: Option<String>,
    /// The endpoint takes a size, so that limits apply; false for cancels and settings of a symbol.
    pub sized: bool,
    /// It carries a list or an object of its own: further orders, as far as limits know.
    pub attached: bool,
    /// All scalar parameters of the order, for what only one exchange has.
    pub extra: Vec<(String, String)>,
}

impl Order {
    /// The same order, as far as limits go; an amendment does not repeat the order's type.
    fn same_size(&self, other: &Self) -> bool {
        self.sized
            && (self.kind == other.kind || other.kind.is_none())
            && (&self.symbol, &self.quantity, &self.price) == (&other.symbol, &other.quantity, &other.price)
            && (self.quote == other.quote || other.quote.is_none())
    }

    pub fn extra(&self, name: &str) -> Option<&str> {
        self.extra.iter().find_map(|(candidate, value)| (candidate == name).then_some(value.as_str()))
    }
}

/// Refuses what only the agent may set: timestamps, nonces, signatures, a receive window above `cap_ms`.
pub fn check_managed(exchange: &dyn Exchange, params: &Params, cap_ms: u64) -> Result<(), Refusal> {
    let facts = exchange.facts();
    let window = facts.receive_window.map(|window| window.name);
    for (name, value) in params.members() {
        if window == Some(name.as_str()) {
            let plain =
                |text: &&str| !text.is_empty() && text.len() <= 6 && text.bytes().all(|byte| byte.is_ascii_digit());
            let asked = value.scalar().filter(plain).and_then(|text| text.parse::<u64>().ok());
            if asked.is_none_or(|asked| asked == 0 || asked > cap_ms) {
                let message = format!("{name} is not a whole number of milliseconds from 1 to {cap_ms}");
                return Err(Refusal::forbidden_parameter(message));
            }
        } else if facts.managed.contains(&name.as_str()) {
            return Err(Refusal::forbidden_parameter(format!(
                "{name} is set by the agent and never taken from a client"
            )));
        }
    }
    Ok(())
}

/// Judges a request by everything its signature would open. Unknown endpoints are refused.
pub fn classify(exchange: &dyn Exchange, request: &Request) -> Result<Classified, Refusal> {
    let table = exchange.table();
    check_spelling(exchange, &request.params)?;
    check_nesting(exchange, &request.params)?;
    let Some((index, endpoint)) = table.find(request.method, request.path.as_str()) else {
        let message =
            format!("{} {} is not in the endpoint table of {}", request.method, request.path, exchange.facts().name);
        return Err(Refusal::new(Code::RequestUnknownEndpoint, message));
    };
    let opened = opened(exchange, request, index);
    let own: Vec<_> = table.openings_of(index).collect();
    let mut classified = Classified {
        scope: endpoint.scope,
        effective: Scopes::only(endpoint.scope),
        neighbours: Vec::new(),
        transfers: Vec::new(),
        orders: if endpoint.scope == Scope::Trade { orders(table, &own, &request.params) } else { Ok(Vec::new()) },
    };
    if endpoint.scope == Scope::Session {
        classified.effective = classified.effective.union(exchange.session_scopes(exchange.facts().session_grants));
    }
    if moves_money(endpoint) {
        classified.transfers.push(transfer(endpoint, own.first().copied(), request));
    }
    let mut read = Vec::new();
    for opening in opened {
        classified.add(table, opening, request, &mut read);
    }
    Ok(classified)
}

impl Classified {
    /// Counts what one more endpoint would do with the same signature; `read` are the readings counted already.
    fn add(&mut self, table: &'static Table, opening: &Opening, request: &Request, read: &mut Vec<usize>) {
        let neighbour = table.endpoint(opening);
        // Asset and amount are all that staking or a loan asks for. Who may send that amount away gains nothing by them.
        let sends_anyway = matches!(self.scope, Scope::Transfer | Scope::Withdraw);
        if neighbour.scope != Scope::Account || !sends_anyway {
            self.effective = self.effective.with(neighbour.scope);
        }
        if !self.neighbours.iter().any(|known| std::ptr::eq(*known, neighbour)) {
            self.neighbours.push(neighbour);
        }
        if moves_money(neighbour) {
            let transfer = transfer(neighbour, Some(opening), request);
            if !self.transfers.iter().any(|known| known.same_movement(&transfer)) {
                self.transfers.push(transfer);
            }
        }
        if neighbour.scope == Scope::Trade && !opening.places_no_order && !read.contains(&opening.reading) {
            read.push(opening.reading);
            self.add_orders(orders(table, &[opening], &request.params));
        }
    }

    /// Orders that another endpoint would read out of the same payload: each order known so far is the same as at most one
    /// of them, since a list may hold the same order many times.
    fn add_orders(&mut self, more: Result<Vec<Order>, String>) {
        let (orders, more) = match (&mut self.orders, more) {
            (Ok(orders), Ok(more)) => (orders, more),
            (Ok(_), Err(reason)) => {
                self.orders = Err(reason);
                return;
            }
            (Err(_), _) => return,
        };
        let mut unmatched: Vec<usize> = (0..orders.len()).collect();
        for order in more {
            let same = |index: &usize| orders[*index].same_size(&order) || order.same_size(&orders[*index]);
            match unmatched.iter().position(same) {
                Some(place) => {
                    let known = &mut orders[unmatched.swap_remove(place)];
                    if !known.same_size(&order) {
                        *known = order;
                    }
                }
                None => orders.push(order),
            }
        }
    }
}

fn moves_money(endpoint: &Endpoint) -> bool {
    matches!(endpoint.scope, Scope::Transfer | Scope::Withdraw)
}

/// The endpoints that share a signature with ordinary requests of this exchange, for `policy explain`.
pub fn residual(exchange: &dyn Exchange) -> impl Iterator<Item = &'static Endpoint> {
    let table = exchange.table();
    table.openings().iter().filter(|opening| opening.residual).map(|opening| table.endpoint(opening))
}

fn check_spelling(exchange: &dyn Exchange, params: &Params) -> Result<(), Refusal> {
    for (name, _) in params.members() {
        if let Some(known) = exchange.table().other_spelling(name) {
            return Err(Refusal::ambiguous(format!("the parameter {name:?} is a different spelling of {known:?}")));
        }
        let hidden = if exchange.facts().binding.path { None } else { exchange.table().hidden_name(name) };
        if let Some(known) = hidden {
            let message =
                format!("the parameter {name:?} ends in {known:?}: cut apart, its signature would be for that one");
            return Err(Refusal::ambiguous(message));
        }
    }
    Ok(())
}

/// Where the path is not bound, the parameters alone say what a request is: an object among them could hide any of them.
fn check_nesting(exchange: &dyn Exchange, params: &Params) -> Result<(), Refusal> {
    let nested = params.members().iter().find(|(_, value)| value.members().is_some());
    match nested {
        Some((name, _)) if !exchange.facts().binding.path => {
            Err(Refusal::malformed(format!("the parameter {name:?} is an object; this exchange takes none")))
        }
        _ => Ok(()),
    }
}

/// Every opening beyond `own` that accepts the payload, given what the exchange leaves unbound.
fn opened(exchange: &dyn Exchange, request: &Request, own: usize) -> Vec<&'static Opening> {
    let (table, binding) = (exchange.table(), exchange.facts().binding);
    if binding.is_full() {
        return Vec::new();
    }
    let has = |name: &&'static str| request.params.get(name).is_some();
    let counts = |opening: &&Opening| {
        let endpoint = table.endpoint(opening);
        let reachable = (!binding.path || endpoint.path == request.path.as_str())
            && (!binding.method || endpoint.method == request.method);
        opening.endpoint != own && !opening.residual && endpoint.scope != Scope::Read && reachable
    };
    let names = request.params.members().iter().map(|(name, _)| name.as_str());
    let matching = names.flat_map(|name| table.openings_by_name(name));
    matching.filter(counts).filter(|opening| opening.required.iter().all(&has)).collect()
}

fn transfer(endpoint: &Endpoint, opening: Option<&Opening>, request: &Request) -> Transfer {
    let text = |role| {
        let name = opening?.name_of(role)?;
        request.scalar(name).map(str::to_owned)
    };
    Transfer {
        endpoint: format!("{} {}", endpoint.method, endpoint.path),
        asset: text(Role::Asset),
        amount: text(Role::Amount).and_then(|text| Amount::parse(&text).ok()),
        network: text(Role::Network),
        address: text(Role::Address),
        memo: text(Role::Memo),
        from: text(Role::From),
        to: text(Role::To),
    }
}

/// Reads the orders a trade request places. A row that does not say where its orders stand, nor that it places none,
/// cannot be read.
fn orders(table: &Table, openings: &[&Opening], params: &Params) -> Result<Vec<Order>, String> {
    let says = |opening: &&&Opening| opening.name_of(Role::Symbol).is_some() || opening.name_of(Role::List).is_some();
    let Some(opening) = openings.iter().find(says) else {
        let places_none = !openings.is_empty() && openings.iter().all(|opening| opening.places_no_order);
        return if places_none { Ok(Vec::new()) } else { Err("what this endpoint trades cannot be read".to_owned()) };
    };
    let Some(list) = opening.name_of(Role::List) else {
        return Ok(vec![order(opening, params.value())]);
    };
    let list = match list {
        WHOLE_BODY => Some(Cow::Borrowed(params.value())),
        name => params.get(name).and_then(parsed_list),
    };
    match list.as_deref() {
        Some(Value::Array(items)) => items.iter().map(|item| listed(table, opening, item, params)).collect(),
        // A single order where the API takes one or a list of them.
        Some(item @ Value::Object(_)) => listed(table, opening, item, params).map(|order| vec![order]),
        _ => Err("the list of orders cannot be read".to_owned()),
    }
}

/// Some exchanges take a list as JSON text inside a form.
fn parsed_list(value: &Value) -> Option<Cow<'_, Value>> {
    match value {
        Value::String(text) => {
            Params::new(Value::parse(text).ok()?).ok().map(|params| Cow::Owned(params.value().clone()))
        }
        other => Some(Cow::Borrowed(other)),
    }
}

/// One order of a list. What applies to all of them stands beside the list, and then nowhere else.
fn listed(table: &Table, opening: &Opening, item: &Value, around: &Params) -> Result<Order, String> {
    let members = item.members().ok_or("the list of orders holds what is no order")?;
    if let Some((name, _)) = members.iter().find(|(name, _)| table.other_spelling(name).is_some()) {
        return Err(format!("an order of the list spells {name:?} in another way"));
    }
    let mut order = order(opening, item);
    if let Some(common) = opening.name_of(Role::Common) {
        if item.member(common).is_some() {
            return Err(format!("an order of the list names its own {common:?}"));
        }
        order.symbol = around.get(common).and_then(Value::scalar).map(str::to_owned);
    }
    Ok(order)
}

fn order(opening: &Opening, item: &Value) -> Order {
    let text = |role| item.member(opening.name_of(role)?)?.scalar().map(str::to_owned);
    let members = item.members().unwrap_or_default();
    let list = opening.name_of(Role::List);
    Order {
        symbol: text(Role::Symbol),
        side: text(Role::Side),
        kind: text(Role::Type),
        quantity: text(Role::Quantity),
        price: text(Role::Price),
        quote: text(Role::Quote),
        sized: !opening.places_no_order,
        attached: members.iter().any(|(name, value)| nested(value) && list != Some(name.as_str())),
        extra: members.iter().filter_map(|(name, value)| Some((name.clone(), value.scalar()?.to_owned()))).collect(),
    }
}

fn nested(value: &Value) -> bool {
    matches!(value, Value::Array(items) if !items.is_empty())
        || value.members().is_some_and(|members| !members.is_empty())
}
