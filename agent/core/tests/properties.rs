//! Tests rules for every exchange, endpoint and set of parameters. More parameters never open less.
//! A request that is refused in one spelling is refused in every other.

mod asked;

use asked::{draft, filled, places, request};
use countersign_core::algorithm::Algorithm;
use countersign_core::exchange::classify::{check_managed, classify};
use countersign_core::exchange::table::{Endpoint, Opening, Role, WHOLE_BODY};
use countersign_core::exchange::{ALL, Exchange};
use countersign_core::json::Value;
use countersign_core::policy::RECEIVE_WINDOW_CAP_MS;
use countersign_core::request::Request;
use countersign_core::scope::{Scope, Scopes};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{Index, select, subsequence};

const CASES: u32 = 4096;

/// The scopes that a request opens. `None` if it is refused.
fn opens(
    exchange: &'static dyn Exchange,
    algorithm: Algorithm,
    request: &Request,
) -> Option<Scopes> {
    check_managed(exchange, &request.params, RECEIVE_WINDOW_CAP_MS).ok()?;
    Some(classify(exchange, algorithm, request).ok()?.effective)
}

/// Every name that an opening requires or reads.
fn names(opening: &Opening) -> impl Iterator<Item = &'static str> {
    let roles = opening.roles.iter().filter_map(|(_, source)| source.parameter());
    opening.required.iter().copied().chain(roles).filter(|name| *name != WHOLE_BODY)
}

/// Parameters that fit some openings of the exchange, whichever row is asked for. They hold lists
/// of orders if the openings take lists.
fn members(exchange: &dyn Exchange, chosen: &[Index]) -> Vec<(String, Value)> {
    let openings: Vec<_> = exchange
        .table()
        .openings()
        .iter()
        .filter(|opening| names(opening).next().is_some())
        .collect();
    let mut members: Vec<(String, Value)> = Vec::new();
    for opening in chosen.iter().map(|index| openings[index.index(openings.len())]) {
        for name in names(opening) {
            let list = opening.name_of(Role::List) == Some(name);
            let value = if list { Value::Array(vec![order(opening)]) } else { "1".into() };
            if !members.iter().any(|(known, _)| known == name) {
                members.push((name.to_owned(), value));
            }
        }
    }
    members
}

/// One order of a list, with the names that the opening's roles read.
fn order(opening: &Opening) -> Value {
    let list = opening.name_of(Role::List);
    let roles = opening.roles.iter().filter_map(|(_, source)| source.parameter());
    Value::object(roles.filter(|name| Some(*name) != list).map(|name| (name, "1".into())))
}

fn algorithm(exchange: &dyn Exchange, chosen: &Index) -> Algorithm {
    *chosen.get(exchange.facts().algorithms)
}

fn row<'a>(exchange: &'a dyn Exchange, chosen: &Index) -> &'a Endpoint {
    chosen.get(exchange.table().endpoints())
}

/// A row that may carry all parameters of these openings, if there is one. Else any row.
fn row_for<'a>(exchange: &'a dyn Exchange, asked: &Index, chosen: &[Index]) -> &'a Endpoint {
    let table = exchange.table();
    let wanted: Vec<_> = members(exchange, chosen).into_iter().map(|(name, _)| name).collect();
    let takes = |row: usize| {
        wanted.iter().all(|name| table.openings_of(row).any(|opening| opening.takes(name)))
    };
    let rows: Vec<_> =
        table.endpoints().iter().enumerate().filter(|(row, _)| takes(*row)).collect();
    if rows.is_empty() { row(exchange, asked) } else { asked.get(&rows).1 }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: CASES,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Exception: some rows take only a request in which no name tells which row is meant. They are
    /// out of reach as soon as a name does.
    #[test]
    fn a_parameter_more_never_opens_less(
        (of, key) in (0..ALL.len(), any::<Index>()),
        asked in any::<Index>(),
        chosen in vec(any::<Index>(), 1..4),
        left_out in any::<Index>(),
        unknown in any::<bool>(),
    ) {
        let exchange = ALL[of];
        let (row, key) = (row_for(exchange, &asked, &chosen), algorithm(exchange, &key));
        let mut more = members(exchange, &chosen);
        if unknown {
            more.push(("unknown".to_owned(), "1".into()));
        }
        let mut fewer = more.clone();
        let (name, _) = fewer.remove(left_out.index(more.len()));
        let tells = |(name, _): &(String, Value)| exchange.table().tells(name);
        let nameless = exchange.table().nameless().next().is_some();
        let path = filled(row.path);
        let asked = |members| request(row.method, &path, Value::Object(members));
        let (Some(more), Some(fewer_request)) = (asked(more), asked(fewer.clone())) else {
            return Ok(());
        };
        // A request that is refused opens nothing. Only two that are signed are compared.
        if let (Some(opened), Some(before)) =
            (opens(exchange, key, &more), opens(exchange, key, &fewer_request))
        {
            let told = !nameless || fewer.iter().any(tells);
            prop_assert!(
                !told || before.without(opened).is_empty(),
                "{name} took {} away",
                before.without(opened)
            );
        }
    }

    /// The same for one more item in a body that is a list.
    #[test]
    fn an_item_more_never_opens_less(
        (of, key) in (0..ALL.len(), any::<Index>()),
        asked in any::<Index>(),
        chosen in vec(any::<Index>(), 2..4),
    ) {
        let exchange = ALL[of];
        let (row, key) = (row(exchange, &asked), algorithm(exchange, &key));
        let items: Vec<_> =
            chosen.iter().map(|one| Value::Object(members(exchange, &[*one]))).collect();
        let asked =
            |items: &[Value]| request(row.method, &filled(row.path), Value::Array(items.to_vec()));
        let (Some(more), Some(fewer)) = (asked(&items), asked(&items[1..])) else { return Ok(()) };
        if let (Some(opened), Some(before)) =
            (opens(exchange, key, &more), opens(exchange, key, &fewer))
        {
            prop_assert!(before.without(opened).is_empty(), "{}", before.without(opened));
        }
    }

    #[test]
    fn a_path_has_one_spelling(
        of in 0..ALL.len(),
        key in any::<Index>(),
        asked in any::<Index>(),
        at in any::<Index>(),
        how in 0_usize..10,
    ) {
        let exchange = ALL[of];
        let row = row(exchange, &asked);
        let path = filled(row.path);
        let other = respelled(&path, at, how);
        if other == path {
            return Ok(());
        }
        let Some(request) = request(row.method, &other, Value::Object(Vec::new())) else {
            return Ok(());
        };
        // The changed path may be another row, or the same row with another word for {name}.
        let found = exchange.table().find(row.method, &other);
        let fits = |pattern: &str| {
            let (pattern, path) = (pattern.split('/'), other.split('/'));
            pattern.clone().count() == path.clone().count()
                && pattern.zip(path).all(|(part, given)| {
                    part == given || part.contains('{') && !given.is_empty()
                })
        };
        match found {
            Some((_, found)) => {
                prop_assert!(fits(found.path), "{other} is taken for {}", found.path);
            }
            None => prop_assert_eq!(opens(exchange, algorithm(exchange, &key), &request), None),
        }
    }

    /// A client that lacks any scopes, or only those that one parameter needs, gets no signature by
    /// another spelling of a name, a value or a list. Nor does it get one by asking for its
    /// parameters in another place.
    #[test]
    fn what_is_refused_by_one_spelling_is_accepted_by_no_other(
        (of, key) in (0..ALL.len(), any::<Index>()),
        asked in any::<Index>(),
        meant in vec(any::<Index>(), 1..3),
        (at, how) in (any::<Index>(), 0_usize..SPELLINGS),
        params_in in select(places()),
        held in option::of(subsequence(Scope::ALL.to_vec(), 0..=Scope::ALL.len())),
    ) {
        let exchange = ALL[of];
        let (row, key) = (row_for(exchange, &asked, &meant), algorithm(exchange, &key));
        let members = members(exchange, &meant);
        let changed = at.index(members.len());
        let asked = |members| request(row.method, &filled(row.path), Value::Object(members));
        let mut without = members.clone();
        without.remove(changed);
        let enough = || {
            asked(without)
                .and_then(|without| opens(exchange, key, &without))
                .unwrap_or(Scopes::NONE)
        };
        let held = held.map_or_else(enough, |held| held.into_iter().collect());
        let allowed = |asked: &Request| {
            opens(exchange, key, asked).is_some_and(|opened| opened.without(held).is_empty())
        };
        if asked(members.clone()).is_none_or(|plain| allowed(&plain)) {
            return Ok(());
        }
        let Some(mut other) = asked(spelled(members, changed, how)) else { return Ok(()) };
        other.params_in = params_in;
        prop_assert!(!allowed(&other) || draft(exchange, key, &other).is_err(), "{other:?}");
    }
}

/// Other texts that a server could take for the same path.
fn respelled(path: &str, at: Index, how: usize) -> String {
    let letters: Vec<usize> = path
        .char_indices()
        .filter(|(_, one)| one.is_ascii_alphabetic())
        .map(|(at, _)| at)
        .collect();
    let letter = letters[at.index(letters.len())];
    let (before, rest) = path.split_at(letter);
    let (one, after) = rest.split_at(1);
    let flipped = if one == one.to_uppercase() { one.to_lowercase() } else { one.to_uppercase() };
    let slash = path[..=letter].rfind('/').expect("a path begins with one");
    match how {
        0 => format!("{before}{flipped}{after}"),
        1 => format!("{before}%{:02x}{after}", one.as_bytes()[0]),
        2 => format!("{path}/"),
        3 => path.trim_end_matches('/').to_owned(),
        4 => format!("{}/{}", &path[..slash], &path[slash..]),
        5 => format!("{}/.{}", &path[..slash], &path[slash..]),
        6 => format!("{}/x/..{}", &path[..slash], &path[slash..]),
        7 => format!("{path};x=1"),
        8 => format!("{path}?x=1"),
        _ => format!("{path}#x"),
    }
}

const SPELLINGS: usize = 16;

/// The same parameters in another spelling: of a name, of a value, or twice.
fn spelled(mut members: Vec<(String, Value)>, at: usize, how: usize) -> Vec<(String, Value)> {
    let (name, value) = members[at].clone();
    let list = || Value::Array(vec![value.clone()]);
    // Without the items of its list it would be another request.
    let how = if value.is_plain() { how } else { how % 5 };
    match how {
        0 => members[at].0 = name.to_uppercase(),
        1 => members[at].0 = name.to_lowercase(),
        2 => members[at].0 = format!(" {name}"),
        3 => members[at].0 = format!("{name}[]"),
        4 => members.push((name, value)),
        5 => members[at].1 = Value::Number("1".to_owned()),
        6 => members[at].1 = Value::Number("1.0".to_owned()),
        7 => members[at].1 = Value::Bool(true),
        8 => members[at].1 = list(),
        9 => members[at].1 = Value::String(value.to_json()),
        10 => members[at].1 = Value::String(list().to_json()),
        11 => members[at].1 = Value::object([("value", value)]),
        12 => members[at].1 = Value::Null,
        13 => members[at].1 = "".into(),
        14 => members.reverse(),
        _ => members.rotate_left(1),
    }
    members
}
