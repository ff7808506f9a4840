//! What holds for every exchange, endpoint and set of parameters: more of them opens no less, and no other spelling opens
//! what one is refused for.

use countersign_core::exchange::classify::classify;
use countersign_core::exchange::table::{Endpoint, Opening, Spelling};
use countersign_core::exchange::{ALL, Exchange};
use countersign_core::json::Value;
use countersign_core::request::{Method, Params, Path, Request};
use countersign_core::scope::{Scope, Scopes};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

const CASES: u32 = 4096;

/// A row's path with something in its places.
fn filled(path: &str) -> String {
    path.replace(['{', '}'], "")
}

fn request(method: Method, path: &str, members: Vec<(String, Value)>) -> Option<Request> {
    let params = Params::new(Value::Object(members)).ok()?;
    Some(Request { method, path: Path::parse(path).ok()?, params, params_in: None, host: None })
}

/// What it opens; `None` where it is refused.
fn opens(exchange: &'static dyn Exchange, request: &Request) -> Option<Scopes> {
    Some(classify(exchange, exchange.facts().algorithms[0], request).ok()?.effective)
}

/// Every name an opening gives a meaning.
fn names(opening: &Opening) -> impl Iterator<Item = &'static str> {
    let roles = opening.roles.iter().filter_map(|(_, source)| source.parameter());
    opening.required.iter().copied().chain(roles)
}

/// Parameters that fit some openings of the exchange, whichever row is asked for.
fn members(exchange: &dyn Exchange, chosen: &[Index]) -> Vec<(String, Value)> {
    let openings: Vec<_> =
        exchange.table().openings().iter().filter(|opening| names(opening).next().is_some()).collect();
    let mut members: Vec<(String, Value)> = Vec::new();
    for name in chosen.iter().flat_map(|index| names(openings[index.index(openings.len())])) {
        if !members.iter().any(|(known, _)| known == name) {
            members.push((name.to_owned(), "1".into()));
        }
    }
    members
}

fn row<'a>(exchange: &'a dyn Exchange, chosen: &Index) -> &'a Endpoint {
    chosen.get(exchange.table().endpoints())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, failure_persistence: None, ..ProptestConfig::default() })]

    /// What takes a request without any telling name and no other is out of reach as soon as one tells which row is meant.
    #[test]
    fn a_parameter_more_never_opens_less(
        of in 0..ALL.len(), asked in any::<Index>(), chosen in vec(any::<Index>(), 1..4), left_out in any::<Index>(),
    ) {
        let exchange = ALL[of];
        let row = row(exchange, &asked);
        let more = members(exchange, &chosen);
        let mut fewer = more.clone();
        let (name, _) = fewer.remove(left_out.index(more.len()));
        let tells = |(name, _): &(String, Value)| matches!(exchange.table().spelling(name), Spelling::Known(_));
        let nameless = exchange.table().nameless().next().is_some();
        let path = filled(row.path);
        let both = request(row.method, &path, more).zip(request(row.method, &path, fewer.clone()));
        let (Some(more), Some(fewer_request)) = both.unzip() else { return Ok(()) };
        // Refused is the least that can be opened.
        if let (Some(opened), Some(before)) = (opens(exchange, &more), opens(exchange, &fewer_request)) {
            let told = !nameless || fewer.iter().any(tells);
            prop_assert!(!told || before.without(opened).is_empty(), "{name} took {} away", before.without(opened));
        }
    }

    #[test]
    fn a_path_has_one_spelling(of in 0..ALL.len(), asked in any::<Index>(), at in any::<Index>(), how in 0_usize..10) {
        let exchange = ALL[of];
        let row = row(exchange, &asked);
        let path = filled(row.path);
        let other = respelled(&path, at, how);
        if other == path {
            return Ok(());
        }
        let Some(request) = request(row.method, &other, Vec::new()) else { return Ok(()) };
        // Another row, or another name in a place of the same one.
        let found = exchange.table().find(row.method, &other);
        let fits = |pattern: &str| {
            let (pattern, path) = (pattern.split('/'), other.split('/'));
            pattern.clone().count() == path.clone().count()
                && pattern.zip(path).all(|(part, given)| part == given || part.contains('{') && !given.is_empty())
        };
        match found {
            Some((_, found)) => prop_assert!(fits(found.path), "{other} is taken for {}", found.path),
            None => prop_assert_eq!(opens(exchange, &request), None),
        }
    }

    /// A client that may only read is refused whichever way it spells what does more.
    #[test]
    fn what_is_refused_by_one_spelling_is_accepted_by_no_other(
        of in 0..ALL.len(), asked in any::<Index>(), meant in any::<Index>(), at in any::<Index>(), how in 0_usize..9,
    ) {
        let exchange = ALL[of];
        let row = row(exchange, &asked);
        let members = members(exchange, &[meant]);
        let path = filled(row.path);
        let Some(plain) = request(row.method, &path, members.clone()) else { return Ok(()) };
        let read: Scopes = [Scope::Read].into_iter().collect();
        let allowed = |request: &Request| opens(exchange, request).is_some_and(|opened| opened.without(read).is_empty());
        if allowed(&plain) {
            return Ok(());
        }
        let (changed, index) = (at.index(members.len()), how);
        let Some(other) = request(row.method, &path, spelled(members, changed, index)) else { return Ok(()) };
        prop_assert!(!allowed(&other), "{other:?}");
    }
}

/// Other texts that a server could take for the same path.
fn respelled(path: &str, at: Index, how: usize) -> String {
    let letters: Vec<usize> =
        path.char_indices().filter(|(_, one)| one.is_ascii_alphabetic()).map(|(at, _)| at).collect();
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

/// The same parameters in another spelling: of a name, of a value, or twice.
fn spelled(mut members: Vec<(String, Value)>, at: usize, how: usize) -> Vec<(String, Value)> {
    let (name, value) = members[at].clone();
    match how {
        0 => members[at].0 = name.to_uppercase(),
        1 => members[at].0 = name.to_lowercase(),
        2 => members[at].0 = format!(" {name}"),
        3 => members[at].0 = format!("{name}[]"),
        4 => members.push((name, value)),
        5 => members[at].1 = Value::Number("1".to_owned()),
        6 => members[at].1 = Value::Number("1.0".to_owned()),
        7 => members[at].1 = Value::Bool(true),
        _ => members[at].1 = Value::Array(vec![value]),
    }
    members
}
