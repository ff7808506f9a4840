//! Tests that the rule by sets of numbered names agrees with the plain rule, which looks at every
//! row and compares every name.

use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::exchange::facts::Facts;
use crate::exchange::table::{Spelling, WHOLE_BODY};
use crate::exchange::{ALL, named};
use crate::request::Path;

/// Everything that a signature opens, by the plain rule: every row of the table whose names are all
/// there counts for itself.
fn plainly<'a>(exchange: &dyn Exchange, request: &'a Request) -> Classified<'a> {
    let table = exchange.table();
    let (own, endpoint) =
        table.find(request.method, request.path.as_str()).expect("a row of the table");
    let openings: Vec<_> = table.openings_of(own).collect();
    let mut classified = Classified {
        scope: endpoint.scope,
        effective: Scopes::only(endpoint.scope),
        transfers: Vec::new(),
        orders: Ok(Vec::new()),
        binding: binding_of(exchange, request),
        empty_text: Scopes::NONE,
    };
    if endpoint.scope == Scope::Trade {
        classified.orders = own_orders(table, own, request);
    }
    if endpoint.scope == Scope::Session {
        classified.effective =
            classified.effective.union(exchange.session_scopes(exchange.facts().session_grants));
    }
    if matches!(endpoint.scope, Scope::Transfer | Scope::Withdraw) {
        classified.transfers.push(transfer(
            table,
            endpoint,
            fitting(openings.iter().copied(), request),
            request,
        ));
    }
    if classified.binding.path && !classified.binding.method {
        for (other, row) in table.rows().iter().enumerate() {
            let found = table
                .find_any(row.method, request.path.as_str())
                .is_some_and(|(found, _)| found == other);
            if found && other != own && row.scope != Scope::Read {
                classified.add_row(table, other, row, request);
            }
        }
        for (other, row) in
            table.rows().iter().enumerate().filter(|_| scheme_of(exchange, request).runs_on)
        {
            let rest = request.path.as_str().strip_prefix(row.path).unwrap_or_default();
            let has = |name: &&str| request.params.get(name).is_some();
            let takes = |opening: &Opening| opening.required.iter().all(has);
            if !rest.is_empty() && row.scope != Scope::Read && table.openings_of(other).any(takes) {
                classified.add_row(table, other, row, request);
            }
        }
    }
    for (_, opening) in opened_plainly(exchange, request, own) {
        let row = table.endpoint(opening);
        let gains_nothing = match endpoint.scope {
            Scope::Transfer => row.scope == Scope::Account,
            Scope::Withdraw => {
                row.scope == Scope::Account
                    || row.scope == Scope::Transfer && opening.roles.is_empty()
            }
            _ => false,
        };
        if gains_nothing {
            continue;
        }
        classified.effective = classified.effective.with(row.scope);
        if matches!(row.scope, Scope::Transfer | Scope::Withdraw) {
            let transfer = transfer(table, row, Some(opening), request);
            if !classified.transfers.iter().any(|known| known.same_movement(&transfer)) {
                classified.transfers.push(transfer);
            }
        }
        if row.scope == Scope::Trade && !opening.places_no_order {
            classified.add_orders(orders(table, std::iter::once(opening), request));
        }
    }
    if !classified.binding.covers_parameters(request.method) {
        classified.forget_parameters();
    }
    classified
}

/// The rule by sets of names, for a request that may carry names of other rows.
fn by_sets<'a>(exchange: &dyn Exchange, request: &'a Request) -> Classified<'a> {
    let (index, _) =
        exchange.table().find(request.method, request.path.as_str()).expect("a row of the table");
    let names = known_names(exchange, scheme_of(exchange, request), &request.params)
        .expect("names of the table");
    judge(exchange, algorithm(exchange), request, index, &names).expect("no object hides a name")
}

fn algorithm(exchange: &dyn Exchange) -> Algorithm {
    exchange.facts().algorithms[0]
}

fn scheme_of(exchange: &dyn Exchange, request: &Request) -> &'static Scheme {
    exchange.facts().scheme(algorithm(exchange), request.path.as_str())
}

fn binding_of(exchange: &dyn Exchange, request: &Request) -> Binding {
    scheme_of(exchange, request).binding
}

/// The openings that fit, in the order of the request's names, each under its rarest name.
fn opened_plainly(
    exchange: &dyn Exchange,
    request: &Request,
    own: usize,
) -> Vec<(usize, &'static Opening)> {
    let (table, binding) = (exchange.table(), binding_of(exchange, request));
    if binding.path {
        return Vec::new();
    }
    let group = table.endpoints()[own].group;
    let names: Vec<_> = request.params.members().iter().map(|(name, _)| name.as_str()).collect();
    let uses = |name: &str| {
        table
            .openings()
            .iter()
            .flat_map(|opening| &opening.required)
            .filter(|used| **used == name)
            .count()
    };
    let matching = table.openings().iter().filter(|opening| {
        let row = table.endpoint(opening);
        opening.endpoint != own
            && !opening.residual
            && row.scope != Scope::Read
            && opening.required.iter().all(|name| names.contains(name))
            && (!opening.required.is_empty() || opening.takes_nameless(&request.params, table))
            && row.group == group
            && binding.takes_for(request.method, row.method)
    });
    let place = |opening: &Opening| {
        let Some(rarest) = opening.required.iter().min_by_key(|name| uses(name)) else {
            return Some(usize::MAX);
        };
        names.iter().position(|name| name == rarest)
    };
    let mut opened: Vec<_> =
        matching.filter_map(|opening| Some((place(opening)?, opening))).collect();
    opened.sort_by_key(|(place, _)| *place);
    opened
}

/// True if the agent refuses the request for its objects, before anything is counted.
fn hides_objects(exchange: &dyn Exchange, request: &Request) -> bool {
    let table = exchange.table();
    let (own, _) = table.find(request.method, request.path.as_str()).expect("a row of the table");
    let is_taken = |name: &str| table.openings_of(own).any(|opening| opening.takes(name));
    !binding_of(exchange, request).path
        && check_nesting(is_taken, table, scheme_of(exchange, request), &request.params).is_err()
}

const VALUES: &[&str] = &[
    r#""BTCUSDT""#,
    r#""LIMIT""#,
    r#""1""#,
    r#""2.50""#,
    "3",
    "true",
    "null",
    r#""""#,
    r#"[{"symbol":"BTCUSDT","side":"BUY","type":"LIMIT","quantity":"1","price":"2"}]"#,
    concat!(
        r#""[{\"symbol\":\"BTCUSDT\",\"quantity\":\"1\",\"price\":\"2.50\"},"#,
        r#"{\"symbol\":\"BTCUSDT\",\"quantity\":\"1\",\"price\":\"2.50\"}]""#,
    ),
    r#"[{"instId":"BTC-USDT","sz":"1"},{"instId":"ETH-USDT","sz":"2"}]"#,
    r#""[{\"Symbol\":\"X\"}]""#,
    "[]",
];

/// A request with the names of a few rows, some other names of the table and perhaps an unknown
/// name, each with any value.
fn request_of(exchange: &'static dyn Exchange) -> impl Strategy<Value = Request> {
    let table = exchange.table();
    let rows = prop::collection::vec(any::<Index>(), 1..4);
    let more = prop::collection::vec(any::<Index>(), 0..4);
    let names = (rows, more, any::<bool>()).prop_map(move |(rows, more, unknown)| {
        let opening = |index: &Index| index.get(table.openings());
        let required = rows.iter().flat_map(|row| opening(row).required.iter().copied());
        let roles = more
            .iter()
            .flat_map(|row| opening(row).roles.iter().filter_map(|(_, source)| source.parameter()));
        let mut names: Vec<&str> =
            required.chain(roles).chain(unknown.then_some("someOtherName")).collect();
        names.retain(|name| *name != WHOLE_BODY);
        names.sort_unstable_by_key(|name| name.to_ascii_lowercase());
        names.dedup_by_key(|name| name.to_ascii_lowercase());
        names
    });
    let members = names.prop_shuffle().prop_flat_map(|names| {
        let values = prop::collection::vec(select(VALUES), names.len());
        values.prop_map(move |values| {
            let members: Vec<_> =
                names.iter().zip(values).map(|(name, value)| format!("{name:?}:{value}")).collect();
            format!("{{{}}}", members.join(","))
        })
    });
    (any::<Index>(), any::<Index>(), any::<bool>(), members).prop_map(
        move |(row, opening, of_opening, params)| {
            // Most rows are reads, so half of the requests are for a row with a line of parameters.
            let with_line = of_opening
                .then(|| table.endpoint(opening.get(table.openings())))
                .filter(|row| !row.withheld);
            let row = with_line.unwrap_or_else(|| row.get(table.endpoints()));
            Request {
                method: row.method,
                path: Path::parse(&row.path.replace(['{', '}'], ""))
                    .expect("a row's path is plain"),
                params: Params::new(Value::parse(&params).expect("JSON")).expect("plain names"),
                params_in: None,
                host: None,
            }
        },
    )
}

/// A request to any of the exchanges, or to the fake one of the tests.
fn any_request() -> impl Strategy<Value = (&'static str, Request)> {
    let names = ALL.iter().map(|exchange| exchange.facts().name).chain(["fake"]);
    select(names.collect::<Vec<_>>()).prop_flat_map(|name| (Just(name), request_of(known(name))))
}

fn known(name: &str) -> &'static dyn Exchange {
    named(name).expect("a known exchange")
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: None,
        ..ProptestConfig::with_cases(2_000)
    })]

    #[test]
    fn sets_of_names_agree_with_the_plain_rule((name, request) in any_request()) {
        let exchange = known(name);
        prop_assume!(!hides_objects(exchange, &request));
        let expected = plainly(exchange, &request);
        let found = by_sets(exchange, &request);
        prop_assert_eq!(found.scope, expected.scope);
        prop_assert_eq!(found.effective, expected.effective);
        prop_assert_eq!(found.transfers, expected.transfers);
        prop_assert_eq!(found.orders, expected.orders);
    }

    /// `policy explain` shows the rows that were counted.
    #[test]
    fn neighbours_explain_the_effective_scopes((name, request) in any_request()) {
        let exchange = known(name);
        let cut = |name: &str| matches!(
            exchange.table().spelling(name),
            Spelling::Known(id) if !exchange.table().endings(id).is_empty()
        );
        let cut = request.params.members().iter().any(|(name, _)| cut(name));
        prop_assume!(!cut || !scheme_of(exchange, &request).joined);
        let shown = neighbours(exchange, algorithm(exchange), &request);
        let own = exchange
            .table()
            .find(request.method, request.path.as_str())
            .expect("a row of the table")
            .0;
        if binding_of(exchange, &request).path {
            return Ok(());
        }
        let counted = opened_plainly(exchange, &request, own);
        let is_shown = |row: &Endpoint| shown.iter().any(|known| std::ptr::eq(*known, row));
        let all = counted.iter().all(|(_, opening)| is_shown(exchange.table().endpoint(opening)));
        prop_assert!(all && shown.len() <= counted.len());
    }
}

fn asked(row: &str, params: &str) -> Request {
    let (method, path) = row.split_once(' ').expect("METHOD PATH");
    Request {
        method: Method::parse(method).expect("a method"),
        path: Path::parse(path).expect("a plain path"),
        params: Params::new(Value::parse(params).expect("JSON")).expect("plain names"),
        params_in: None,
        host: None,
    }
}

/// Every name of a request must stand in its own row, wherever it is: beside others, in a list, in
/// an object, in JSON text.
#[test]
fn a_name_that_the_own_row_does_not_list_is_refused() {
    let fake = known("fake");
    for (row, params, name) in [
        ("GET /order", r#"{"symbol":"X","made_up":"1"}"#, "made_up"),
        ("GET /order", r#"{"symbol":"X","address":"1"}"#, "address"),
        ("POST /order", r#"{"symbol":"X","side":"BUY","type":"LIMIT","coin":"BTC"}"#, "coin"),
        ("POST /batch", r#"{"orders":[{"symbol":"X","made_up":"1"}]}"#, "made_up"),
        ("POST /batch", r#"{"orders":[{"symbol":"X","quantity":{"address":"1"}}]}"#, "address"),
        ("POST /batch", r#"{"orders":"[{\"symbol\":\"X\",\"address\":\"1\"}]"}"#, "address"),
        (
            "POST /batch",
            r#"{"orders":" [{\"symbol\":\"X\",\"price\":\"[{\\\"coin\\\":1}]\"}]"}"#,
            "coin",
        ),
    ] {
        let refusal = classify(fake, Algorithm::HmacSha256, &asked(row, params)).expect_err(params);
        assert_eq!(refusal.code, Code::RequestForbiddenParameter, "{params}: {refusal}");
        assert!(
            refusal.message.contains(row) && refusal.message.contains(&format!("{name:?}")),
            "{refusal}"
        );
    }
    for (row, params) in [
        ("GET /order", r#"{"symbol":"X","page":"2","recvWindow":1}"#),
        ("POST /batch", r#"{"orders":[{"symbol":"X","page":1}]}"#),
        ("POST /batch", r#"{"orders":"[{\"symbol\":\"X\"}]"}"#),
    ] {
        assert!(classify(fake, Algorithm::HmacSha256, &asked(row, params)).is_ok(), "{params}");
    }
    let lenient = asked("POST /batch", r#"{"orders":"[{symbol:'X'}]"}"#);
    assert_eq!(
        classify(fake, Algorithm::HmacSha256, &lenient).expect_err("no JSON").code,
        Code::RequestMalformed
    );
}

/// No client may ask for a withheld row. But a request whose signature that row would take needs
/// the scope of that row too.
#[test]
fn a_row_that_is_withheld_opens() {
    let fake = known("fake");
    let refusal = classify(fake, Algorithm::HmacSha256, &asked("POST /old/move", "{}"))
        .expect_err("withheld");
    assert_eq!(refusal.code, Code::RequestUnknownEndpoint);
    assert!(refusal.message.contains("of an API that is gone"), "{refusal}");
    let request = asked("GET /account", r#"{"pocket":"1"}"#);
    let opened = classify(fake, Algorithm::HmacSha256, &request).expect("a read").effective;
    assert_eq!(opened, [Scope::Read, Scope::Transfer].into_iter().collect());
}

const SCOPES: &str = "DELETE /a trade\nDELETE /b trade\nPOST /a withdraw\n";
const PARAMS: &str = "- DELETE /a id\n- DELETE /b id\nPOST /a id\n";

/// Rows that need the same names are given once, unless a signed part of the request tells them
/// apart.
#[test]
fn rows_are_taken_together_only_where_no_signature_tells_them_apart() {
    let told = |method, path| {
        let schemes = vec![Scheme::of("/", Binding { method, path, query: true, body: true })];
        let facts = Facts { schemes: Box::leak(schemes.into_boxed_slice()), ..Facts::PLAIN };
        let table = Table::parse(&facts, SCOPES, PARAMS);
        let Spelling::Known(id) = table.spelling("id") else { panic!("a name of the table") };
        table.telling(id).count()
    };
    assert_eq!(told(false, false), 2, "any cancel, and the withdrawal");
    assert_eq!(told(true, false), 2);
    assert_eq!(told(false, true), 3);
    assert_eq!(told(true, true), 3);
}
