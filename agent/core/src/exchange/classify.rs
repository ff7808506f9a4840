//! Finds everything that a request's signature would open: the declared scope, the effective
//! scopes, the money moved and the orders placed.

mod orders;
mod own_names;

use orders::{orders, own_orders};
use own_names::{check_names, cut_apart, known_names};

use smallvec::SmallVec;

use crate::algorithm::Algorithm;
use crate::decimal::Amount;
use crate::exchange::login::SessionLogin;
use crate::exchange::order::Order;
use crate::exchange::recipe::Exchange;
use crate::exchange::scheme::{Binding, Scheme};
use crate::exchange::table::{Endpoint, NameId, NameSet, Opening, Role, Table, ValueSource};
use crate::json::Value;
use crate::refusal::{Code, Refusal};
use crate::request::{Method, Params, ParamsIn, Request};
use crate::scope::{Scope, Scopes};
use crate::transfer::Transfer;

/// A request together with everything its signature would open.
#[derive(Debug)]
pub struct Classified<'a> {
    /// The scope of the endpoint that was asked for.
    pub scope: Scope,
    /// The scopes that a client must hold, all of them.
    pub effective: Scopes,
    /// Every movement of money that this signature would allow.
    pub transfers: Vec<Transfer>,
    /// The orders that this request places. `Err` if it places some and they cannot be read.
    pub orders: Result<Vec<Order<'a>>, String>,
    /// The parts of the request that the signature covers.
    pub binding: Binding,
    /// The scopes of endpoints that would take this signature only because every request without
    /// parameters signs an empty text. They are not in `effective`.
    pub empty_text: Scopes,
}

/// The known names of a request. An order has fewer.
type NameIds = SmallVec<[NameId; 24]>;

/// The numbers of the readings that are counted already.
type Readings = SmallVec<[usize; 8]>;

/// Refuses parameters that only the agent may set: timestamps, nonces, signatures, and a receive
/// window above `cap_ms`.
pub fn check_managed(exchange: &dyn Exchange, params: &Params, cap_ms: u64) -> Result<(), Refusal> {
    let facts = exchange.facts();
    let window = facts.receive_window.map(|window| window.name);
    for (name, value) in params.members() {
        if window == Some(name.as_str()) {
            let plain = |text: &&str| {
                !text.is_empty()
                    && text.len() <= 6
                    && text.bytes().all(|byte| byte.is_ascii_digit())
            };
            let asked = value.scalar().filter(plain).and_then(|text| text.parse::<u64>().ok());
            if asked.is_none_or(|asked| asked == 0 || asked > cap_ms) {
                let message =
                    format!("{name} is not a whole number of milliseconds from 1 to {cap_ms}");
                return Err(Refusal::forbidden_parameter(message));
            }
        } else if facts.set_by_agent().any(|set| set == name) {
            return Err(Refusal::forbidden_parameter(format!(
                "{name} is set by the agent and never taken from a client"
            )));
        }
    }
    Ok(())
}

/// Judges a request by everything its signature would open. Unknown endpoints are refused.
///
/// `algorithm` is that of the key: some exchanges cover more with one kind of key than with
/// another.
pub fn classify<'a>(
    exchange: &dyn Exchange,
    algorithm: Algorithm,
    request: &'a Request,
) -> Result<Classified<'a>, Refusal> {
    let table = exchange.table();
    let scheme = exchange.facts().scheme(algorithm, request.path.as_str());
    let names = known_names(exchange, scheme, &request.params)?;
    let Some((index, _)) = table.find(request.method, request.path.as_str()) else {
        return Err(unknown_endpoint(exchange, request));
    };
    check_names(exchange, scheme, index, &request.params, &names)?;
    judge(
        exchange,
        algorithm,
        request,
        index,
        &if scheme.joined { cut_apart(table, names) } else { names },
    )
}

fn unknown_endpoint(exchange: &dyn Exchange, request: &Request) -> Refusal {
    let withheld = exchange.table().find_any(request.method, request.path.as_str());
    let why = match withheld.and_then(|(_, row)| row.reason) {
        Some(reason) => format!("is signed for no client: {reason}"),
        None => format!(
            "is not in the endpoint table of {0}: {0}.scopes has no such row",
            exchange.facts().name
        ),
    };
    Refusal::new(Code::RequestUnknownEndpoint, format!("{} {} {why}", request.method, request.path))
}

/// Judges a request for this row. Its names have been checked already; `names` are the known ones.
fn judge<'a>(
    exchange: &dyn Exchange,
    algorithm: Algorithm,
    request: &'a Request,
    index: usize,
    names: &[NameId],
) -> Result<Classified<'a>, Refusal> {
    let table = exchange.table();
    let endpoint = &table.rows()[index];
    let scheme = exchange.facts().scheme(algorithm, request.path.as_str());
    let binding = scheme.binding;
    let own = table.openings_of(index);
    let opened = || opened(table, endpoint, binding, request, names);
    if !binding.path {
        let is_taken = |name: &str| own.clone().any(|opening| opening.takes(name));
        check_nesting(is_taken, table, scheme, &request.params)?;
    }
    let mut classified = Classified {
        scope: endpoint.scope,
        effective: Scopes::only(endpoint.scope),
        transfers: Vec::new(),
        orders: Ok(Vec::new()),
        binding: covered(binding, request),
        empty_text: empty_text(table, endpoint, binding, request),
    };
    let mut read = Readings::new();
    if endpoint.scope == Scope::Trade {
        read.extend(
            own.clone().find(|opening| opening.says_orders()).map(|opening| opening.reading),
        );
        classified.orders = own_orders(table, index, request);
    }
    if endpoint.scope == Scope::Session {
        classified.effective =
            classified.effective.union(exchange.session_scopes(exchange.facts().session_grants));
    }
    if endpoint.moves_money() {
        let opening = fitting(own.clone(), request);
        classified.transfers.push(transfer(table, endpoint, opening, request));
    }
    if !binding.path {
        for opening in opened() {
            classified.add(table, opening, opening.endpoint == index, request, &mut read);
        }
    } else if !binding.method {
        let shorter =
            scheme.runs_on.then(|| of_shorter_paths(table, request)).into_iter().flatten();
        for (other, row) in of_same_path(table, index, request).chain(shorter) {
            classified.add_row(table, other, row, request);
        }
    }
    if !binding.covers_parameters(request.method) {
        classified.forget_parameters();
    }
    if request.params_in == Some(ParamsIn::WsApi) {
        let grants = exchange.session_grants(algorithm, &SessionLogin::ws());
        classified.count_login(exchange.session_scopes(grants));
    }
    Ok(classified)
}

/// The rows of the same path with other methods. Reads are left out: a client gains nothing by
/// them.
fn of_same_path<'a>(
    table: &'static Table,
    own: usize,
    request: &'a Request,
) -> impl Iterator<Item = (usize, &'static Endpoint)> + 'a {
    let rows =
        Method::ALL.into_iter().filter_map(|method| table.find_any(method, request.path.as_str()));
    rows.filter(move |(index, row)| *index != own && row.scope != Scope::Read)
}

/// The rows whose path is the beginning of the request's path, and whose names the request carries.
/// The rest of the path could be sent as the beginning of a query.
fn of_shorter_paths<'a>(
    table: &'static Table,
    request: &'a Request,
) -> impl Iterator<Item = (usize, &'static Endpoint)> + 'a {
    let path = request.path.as_str();
    let has = |name: &&str| request.params.get(name).is_some();
    let rows = table.rows().iter().enumerate();
    rows.filter(move |(index, row)| {
        let shorter =
            row.path.len() < path.len() && path.starts_with(row.path) && row.scope != Scope::Read;
        shorter && table.openings_of(*index).any(|opening| opening.required.iter().all(has))
    })
}

impl<'a> Classified<'a> {
    /// Counts the effects of a row that the signature opens. `own` is true for the row that was
    /// asked for. `read` holds the readings that are counted already.
    fn add(
        &mut self,
        table: &'static Table,
        opening: &'static Opening,
        own: bool,
        request: &'a Request,
        read: &mut Readings,
    ) {
        let neighbour = table.endpoint(opening);
        // Staking or a loan asks only for an asset and an amount. A client that may send that
        // amount away gains nothing by them. Nor does it gain by a setting of transfers that moves
        // nothing itself.
        match (self.scope, neighbour.scope) {
            (Scope::Transfer | Scope::Withdraw, Scope::Account) => return,
            (Scope::Withdraw, Scope::Transfer) if opening.roles.is_empty() => return,
            (_, scope) => self.effective = self.effective.with(scope),
        }
        if neighbour.moves_money() && !own {
            let transfer = transfer(table, neighbour, Some(opening), request);
            if !self.transfers.iter().any(|known| known.same_movement(&transfer)) {
                self.transfers.push(transfer);
            }
        }
        if neighbour.scope == Scope::Trade
            && !opening.places_no_order
            && !read.contains(&opening.reading)
        {
            read.push(opening.reading);
            self.add_orders(orders(table, std::iter::once(opening), request));
        }
    }

    /// Counts the effects of another row that the signature opens, whatever the parameters are.
    fn add_row(
        &mut self,
        table: &'static Table,
        index: usize,
        row: &Endpoint,
        request: &'a Request,
    ) {
        self.effective = self.effective.with(row.scope);
        let openings = table.openings_of(index);
        if row.moves_money() {
            self.transfers.push(transfer(table, row, fitting(openings.clone(), request), request));
        }
        if row.scope == Scope::Trade {
            self.add_orders(orders(table, openings, request));
        }
    }

    /// Counts a login to the socket of a frame. The signed text of every frame names key and time,
    /// so it can also be sent as a login.
    fn count_login(&mut self, scopes: Scopes) {
        self.effective = self.effective.union(scopes);
        if scopes.contains(Scope::Trade) {
            self.orders =
                Err("the same signature is a login, after which orders need no signature"
                    .to_owned());
        }
    }

    /// Forgets the parameters, which are not signed. The sender may send others, so nothing limits
    /// what the request moves or trades.
    fn forget_parameters(&mut self) {
        for transfer in &mut self.transfers {
            *transfer = Transfer::unlimited(std::mem::take(&mut transfer.endpoint));
        }
        if self.effective.contains(Scope::Trade) {
            self.orders = Err("the exchange does not sign what this request trades".to_owned());
        }
    }

    /// Adds the orders that another endpoint would read out of the same payload. Each order known
    /// so far equals at most one of them, since a list may hold the same order many times.
    fn add_orders(&mut self, more: Result<Vec<Order<'a>>, String>) {
        let (orders, more) = match (&mut self.orders, more) {
            (Ok(orders), Ok(more)) => (orders, more),
            (Ok(_), Err(reason)) => {
                self.orders = Err(reason);
                return;
            }
            (Err(_), _) => return,
        };
        let mut unmatched: SmallVec<[usize; 8]> = (0..orders.len()).collect();
        for order in more {
            let same = |index: &usize| {
                orders[*index].same_size(&order) || order.same_size(&orders[*index])
            };
            match unmatched.iter().position(same) {
                Some(place) => {
                    let known = &mut orders[unmatched.swap_remove(place)];
                    let flaw = known.flaw.take().or_else(|| order.flaw.clone());
                    if !known.same_size(&order) {
                        *known = order;
                    }
                    known.flaw = flaw;
                }
                None => orders.push(order),
            }
        }
    }
}

/// The endpoints that share a signature with ordinary requests of this exchange, for `policy
/// explain`.
pub fn residual(exchange: &dyn Exchange) -> impl Iterator<Item = &'static Endpoint> {
    let table = exchange.table();
    let residual = table.openings().iter().filter(|opening| opening.residual || opening.empty);
    residual.map(|opening| table.endpoint(opening))
}

/// Every other endpoint that would accept the same signature, beyond mere reads, for `policy
/// explain`.
pub fn neighbours(
    exchange: &dyn Exchange,
    algorithm: Algorithm,
    request: &Request,
) -> Vec<&'static Endpoint> {
    let table = exchange.table();
    let Some((own, endpoint)) = table.find(request.method, request.path.as_str()) else {
        return Vec::new();
    };
    let scheme = exchange.facts().scheme(algorithm, request.path.as_str());
    let binding = scheme.binding;
    if binding.path {
        let others =
            if binding.method { Vec::new() } else { of_same_path(table, own, request).collect() };
        let shorter =
            scheme.runs_on.then(|| of_shorter_paths(table, request)).into_iter().flatten();
        return others.into_iter().chain(shorter).map(|(_, row)| row).collect();
    }
    let cut = |name: &str| {
        scheme.joined && request.params.members().iter().any(|(given, _)| given.ends_with(name))
    };
    let has = |name: &&str| request.params.get(name).is_some() || cut(name);
    let opened = table.openings().iter().filter(|opening| {
        let needs = &opening.required;
        let fits = if needs.is_empty() {
            opening.takes_nameless(&request.params, table)
        } else {
            needs.iter().all(has)
        };
        table.counts(opening)
            && opening.endpoint != own
            && fits
            && reachable(table.endpoint(opening), endpoint, binding)
    });
    let mut endpoints: Vec<_> = opened.map(|opening| table.endpoint(opening)).collect();
    endpoints.dedup_by(|one, other| std::ptr::eq(*one, *other));
    endpoints
}

/// Refuses objects that could hide a parameter. If the path is not bound, only the parameters say
/// what a request is, and one inside an object could be any of them. An object may stand only under
/// a name that the request's own row takes. Outside a list it is allowed only if the body is signed
/// as the JSON that is sent.
fn check_nesting(
    is_taken: impl Fn(&str) -> bool,
    table: &Table,
    scheme: &Scheme,
    params: &Params,
) -> Result<(), Refusal> {
    if matches!(params.value(), Value::Array(_)) && !table.takes_arrays() {
        return Err(Refusal::malformed("no endpoint of this exchange takes an array"));
    }
    let mut nested = params.members().iter().filter(|(_, value)| match value {
        Value::Array(items) => items.iter().any(|item| !item.is_plain()),
        value => !value.is_plain(),
    });
    let hidden = nested.find(|(name, value)| {
        let alone = matches!(value, Value::Object(_));
        alone && !scheme.objects || !is_taken(name)
    });
    match hidden {
        Some((name, _)) => {
            let message = format!(
                "the parameter {name:?} holds an object, which this endpoint does not take"
            );
            Err(Refusal::malformed(message))
        }
        None => Ok(()),
    }
}

/// The openings that accept a payload with these names, on an exchange that leaves the path
/// unbound. If several tell the same, one is given.
fn opened<'a>(
    table: &'static Table,
    own: &'static Endpoint,
    binding: Binding,
    request: &'a Request,
    names: &'a [NameId],
) -> impl Iterator<Item = &'static Opening> + 'a {
    let given: NameSet = names.iter().copied().collect();
    let named = names.iter().flat_map(|name| table.telling(*name));
    let named = named.filter(move |opening| given.contains_all(&opening.required_set));
    let nameless =
        table.nameless().filter(|opening| opening.takes_nameless(&request.params, table));
    named.chain(nameless).filter(move |opening| reachable(table.endpoint(opening), own, binding))
}

/// True if the exchange would also accept at `endpoint` a request signed for `own`.
fn reachable(endpoint: &Endpoint, own: &Endpoint, binding: Binding) -> bool {
    endpoint.group == own.group && binding.takes_for(own.method, endpoint.method)
}

/// The parts that the signature covers. An empty text can be a query or a body, so it tells no
/// method.
fn covered(binding: Binding, request: &Request) -> Binding {
    Binding { method: binding.method && !signs_empty_text(binding, request), ..binding }
}

fn signs_empty_text(binding: Binding, request: &Request) -> bool {
    !binding.path
        && binding.method
        && request.method == Method::Get
        && request.params.members().is_empty()
}

/// The scopes of the endpoints that take a body without parameters, if the request is a GET whose
/// signature fits them.
fn empty_text(table: &Table, own: &Endpoint, binding: Binding, request: &Request) -> Scopes {
    if !signs_empty_text(binding, request) {
        return Scopes::NONE;
    }
    let rows =
        table.nameless().filter(|opening| opening.empty).map(|opening| table.endpoint(opening));
    rows.filter(|row| row.group == own.group).map(|row| row.scope).collect()
}

fn transfer(
    table: &Table,
    endpoint: &Endpoint,
    opening: Option<&Opening>,
    request: &Request,
) -> Transfer {
    let text =
        |role| said(table, opening?, role, request.params.value(), request).map(str::to_owned);
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

/// The first opening of an endpoint whose names are all in the request, else the first of all.
fn fitting<'a>(
    mut openings: impl Iterator<Item = &'a Opening> + Clone,
    request: &Request,
) -> Option<&'a Opening> {
    let has = |name: &&str| request.params.get(name).is_some();
    let first = openings.clone().next();
    openings.find(|opening| opening.required.iter().all(has)).or(first)
}

/// The value of one role: a fixed text, a parameter of `item`, or a part of the path.
fn said<'a>(
    table: &Table,
    opening: &Opening,
    role: Role,
    item: &'a Value,
    request: &'a Request,
) -> Option<&'a str> {
    match opening.source_of(role)? {
        ValueSource::Fixed(text) => Some(text),
        ValueSource::Parameter(name) => item.member(name)?.scalar(),
        ValueSource::PathPart(index) => {
            let path = request.path.as_str();
            if table.serves(opening, path) { path.split('/').nth(index) } else { None }
        }
    }
}

#[cfg(test)]
mod classify_tests;
