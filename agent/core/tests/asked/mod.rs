//! Requests, keys and drafts for the tests that try every exchange.

#![allow(dead_code)] // each test is a program of its own, and uses some of it

use std::collections::BTreeMap;

use countersign_core::algorithm::Algorithm;
use countersign_core::draft::Draft;
use countersign_core::exchange::Exchange;
use countersign_core::json::Value;
use countersign_core::key::{Environment, Key, KeyName, NonceUnit, Tier};
use countersign_core::policy::{Client, Release};
use countersign_core::refusal::Refusal;
use countersign_core::request::{Method, Params, ParamsIn, Path, Request};
use countersign_core::scope::Scope;
use countersign_core::stamp::Stamp;

pub(crate) const STAMP: Stamp = Stamp {
    now_ms: 1_700_000_000_123,
    nonce: 1_700_000_000_777,
    random: [0xa5; 16],
    receive_window_ms: Some(4_321),
};

/// `None` if a name is not plain.
pub(crate) fn request(method: Method, path: &str, params: Value) -> Option<Request> {
    let (path, params) = (Path::parse(path).ok()?, Params::new(params).ok()?);
    Some(Request { method, path, params, params_in: None, host: None })
}

/// The places in which a request may ask for its parameters, the usual one first.
pub(crate) fn places() -> Vec<Option<ParamsIn>> {
    std::iter::once(None).chain(ParamsIn::ALL.map(Some)).collect()
}

pub(crate) fn key(exchange: &dyn Exchange, algorithm: Algorithm) -> Key {
    Key {
        name: KeyName::parse("key").expect("a plain name"),
        exchange: exchange.facts().name,
        environment: Environment::Production,
        algorithm,
        api_key: "Id0fTheKey".to_owned(),
        scopes: Scope::ALL.into_iter().collect(),
        tier: Tier::Software,
        token: "none".to_owned(),
        nonce_unit: NonceUnit::Milliseconds,
        in_vault: false,
    }
}

/// A client of this key with all scopes and no limits.
pub(crate) fn client(key: &Key) -> Client {
    Client {
        name: "bot".to_owned(),
        uid: 1,
        keys: [key.name.clone()].into(),
        scopes: Scope::ALL.into_iter().collect(),
        symbols: None,
        max_quantity: BTreeMap::new(),
        limits: BTreeMap::new(),
        rate: None,
        unbound: Release::Signature,
    }
}

pub(crate) fn draft(
    exchange: &dyn Exchange,
    algorithm: Algorithm,
    request: &Request,
) -> Result<Draft, Refusal> {
    draft_at(exchange, algorithm, request, &STAMP)
}

pub(crate) fn draft_at(
    exchange: &dyn Exchange,
    algorithm: Algorithm,
    request: &Request,
    stamp: &Stamp,
) -> Result<Draft, Refusal> {
    let host = exchange.host(request, Environment::Production)?;
    exchange.draft(request, &key(exchange, algorithm), host, stamp)
}

/// A row's path with a word in the place of each `{name}`.
pub(crate) fn filled(path: &str) -> String {
    path.replace(['{', '}'], "")
}

/// All kinds of keys of the exchange.
pub(crate) fn algorithms(exchange: &dyn Exchange) -> impl Iterator<Item = Algorithm> {
    exchange.facts().algorithms.iter().copied()
}

/// A text with `from` replaced, which has to be in it.
pub(crate) fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "{from:?} is not in {text}");
    text.replace(from, to)
}
