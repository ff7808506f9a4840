//! Finds rights that clients have now and did not have before.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use countersign_core::key::KeyName;
use countersign_core::legible::{LegibleName, word};
use countersign_core::policy::{Client, Rate, Release};
use countersign_core::scope::{Scope, Scopes};

use super::sentences::{Sentences, list, path, rate, section};
use super::transfers::Bound;
use crate::config::configuration::Config;

pub(super) fn compare(before: &Config, after: &Config, found: &mut Sentences) {
    let all = || [before, after].into_iter().flat_map(|config| &config.policy.clients);
    let looks: Vec<LegibleName<'_>> = all().map(|client| LegibleName::of(&client.name)).collect();
    let keys: BTreeSet<&KeyName> = all().flat_map(|client| &client.keys).collect();
    let looks_of_keys: Vec<LegibleName<'_>> =
        keys.into_iter().map(|key| LegibleName::of(key.as_str())).collect();
    for client in &after.policy.clients {
        let title = section("client", &client.name);
        let socket = |config: &Config| {
            socket(config.client_sockets.get(&client.name).map(|socket| &**socket))
        };
        let known = before.policy.client(&client.name);
        match known {
            None => {
                found.new_section(&title, fields(client, socket(after)));
                found.warn_of_looks(&title, &client.name, looks.iter());
            }
            Some(known) => {
                if socket(before) != socket(after) {
                    found.change(&title, "socket", &socket(before), &socket(after));
                }
                changed(&title, known, client, found);
            }
        }
        let is_new = |key: &&KeyName| known.is_none_or(|known| !known.keys.contains(*key));
        for key in client.keys.iter().filter(is_new) {
            found.warn_of_looks(&format!("{title} keys"), key.as_str(), looks_of_keys.iter());
        }
    }
}

/// All rights of a client.
fn fields(client: &Client, socket: String) -> [(&'static str, String); 9] {
    let Client { name: _, uid, keys, scopes, symbols, max_quantity, limits, rate, unbound } =
        client;
    [
        ("user", user(*uid)),
        ("socket", socket),
        ("keys", list(keys.iter().map(|key| key.as_str()), "none")),
        ("scopes", names(*scopes)),
        ("symbols", listed(symbols.as_ref())),
        ("max_quantity", bounds(max_quantity)),
        ("limit", bounds(limits)),
        ("rate", self::rate(*rate)),
        ("unbound", release(*unbound).to_owned()),
    ]
}

fn changed(title: &str, before: &Client, after: &Client, found: &mut Sentences) {
    let Client { name: _, uid, keys, scopes, symbols, max_quantity, limits, rate, unbound } = after;
    if before.uid != *uid {
        found.change(title, "user", &user(before.uid), &user(*uid));
    }
    if !keys.is_subset(&before.keys) {
        let more = list(keys.difference(&before.keys).map(|key| key.as_str()), "none");
        found.add(format!("{title} keys: also {more}"));
    }
    let more = scopes.without(before.scopes);
    if !more.is_empty() {
        found.add(format!("{title} scopes: also {}", names(more)));
    }
    if let Some(looser) = looser_symbols(before, symbols.as_ref(), max_quantity) {
        found.add(format!("{title} symbols: {looser}"));
    }
    caps(&format!("{title} max_quantity"), &before.max_quantity, max_quantity, found);
    caps(&format!("{title} limit"), &before.limits, limits, found);
    if !is_slower(before.rate, *rate) {
        found.change(title, "rate", &self::rate(before.rate), &self::rate(*rate));
    }
    if before.unbound == Release::Forward && *unbound != Release::Forward {
        found.change(title, "unbound", release(before.unbound), release(*unbound));
    }
}

fn looser_symbols<T>(
    before: &Client,
    symbols: Option<&BTreeSet<String>>,
    max_quantity: &BTreeMap<String, T>,
) -> Option<String> {
    match (&before.symbols, symbols) {
        // Without a list, a client with `max_quantity` may only trade the symbols named there. In a
        // list, a symbol without a quantity may be traded too.
        (None, Some(listed)) if !before.max_quantity.is_empty() => {
            let free: Vec<_> =
                listed.iter().filter(|symbol| !max_quantity.contains_key(*symbol)).collect();
            (!free.is_empty()).then(|| {
                format!("now a list, and without a max_quantity in it: {}", list(free, "none"))
            })
        }
        (None, _) => None,
        (Some(before), None) => Some(format!("from {} to any", listed(Some(before)))),
        (Some(before), Some(after)) => {
            let more: Vec<_> = after.difference(before).collect();
            (!more.is_empty()).then(|| format!("also {}", list(more, "none")))
        }
    }
}

/// Reports every bound that became wider. No bounds before means that there was no limit, so
/// nothing can be wider. A name that was added or removed is reported as well, because it changes
/// the meaning of the others.
fn caps<T: Bound>(
    rule: &str,
    before: &BTreeMap<String, T>,
    after: &BTreeMap<String, T>,
    found: &mut Sentences,
) {
    if before.is_empty() {
        return;
    }
    if after.is_empty() {
        found.add(format!("{rule}: from {} to no limit", bounds(before)));
        return;
    }
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names {
        let (known, bound) = (before.get(name), after.get(name));
        if !known.zip(bound).is_some_and(|(known, bound)| known.holds(bound)) {
            let show =
                |bound: Option<&T>| bound.map_or_else(|| "not in the list".to_owned(), T::show);
            found.change(rule, &word(name), &show(known), &show(bound));
        }
    }
}

fn bounds<T: Bound>(bounds: &BTreeMap<String, T>) -> String {
    let each: Vec<String> =
        bounds.iter().map(|(name, bound)| format!("{} {}", word(name), bound.show())).collect();
    if each.is_empty() { "no limit".to_owned() } else { each.join("; ") }
}

fn is_slower(before: Option<Rate>, after: Option<Rate>) -> bool {
    match (before, after) {
        (None, _) => true,
        (Some(_), None) => false,
        (Some(before), Some(after)) => after.count <= before.count && after.per_ms >= before.per_ms,
    }
}

fn user(uid: u32) -> String {
    format!("uid {uid}")
}

fn socket(own: Option<&Path>) -> String {
    own.map_or_else(|| "the agent's".to_owned(), path)
}

fn names(scopes: Scopes) -> String {
    list(scopes.iter().map(Scope::name), "none")
}

fn listed(symbols: Option<&BTreeSet<String>>) -> String {
    symbols.map_or_else(|| "any".to_owned(), |symbols| list(symbols, "none"))
}

/// The word that `agent.toml` uses.
fn release(release: Release) -> &'static str {
    match release {
        Release::Forward => "forward",
        Release::Signature => "signature",
    }
}
