//! Writes keys as text for people: custody tier and rung always together.

use countersign::core::attestation::Root;
use countersign::core::key::Tier;
use countersign::core::scope::Scope;
use countersign::core::wire::{KeyEntry, KeyState, VERSION, admin::DoneReply};
use countersign::{AgentRefusal, Error, Sockets};
use serde::Serialize;

use crate::command::either_socket::operator_or_client;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, plain, plain_lines};
use crate::table::{TextTable, facts};

#[derive(Serialize)]
struct KeyReply<'a> {
    v: u32,
    key: &'a KeyEntry,
}

pub(super) fn show(name: &str, sockets: &Sockets, output: &Output) -> Result<Exit, Failure> {
    let reply = operator_or_client(sockets)?.keys()?;
    let Some(key) = reply.keys.iter().find(|key| key.name.as_str() == name) else {
        // The agent only lists keys. It uses these words for an unknown key elsewhere.
        let message = format!("this client has no key named {name:?}");
        return Err(Error::Refused(AgentRefusal {
            code: "key.unknown".to_owned(),
            message,
            request_id: None,
        })
        .into());
    };
    output.show(&KeyReply { v: VERSION, key }, || describe(key, output))
}

pub(super) fn list(keys: &[KeyEntry], output: &Output) -> String {
    if keys.is_empty() && output.is_terminal() {
        return "no keys; countersign key add enrols one".to_owned();
    }
    let mut table =
        TextTable::new(["NAME", "EXCHANGE", "SCOPES", "CUSTODY", "STATE", "EXPIRES", "LAST USED"]);
    for key in keys {
        table.row([
            key.name.to_string(),
            format!("{} {}", key.exchange, key.environment),
            key.scopes.to_string(),
            format!("{} (rung {})", key.tier, key.rung),
            state(key.state).to_owned(),
            output.optional_time(key.expires_ms),
            output.optional_time(key.last_used_ms),
        ]);
    }
    table.write(output.is_terminal())
}

pub(super) fn done(reply: &DoneReply, output: &Output) -> String {
    let mut text = format!("{}\n", plain(&reply.done));
    match &reply.key {
        Some(key) => text.push_str(&format!("\n{}", describe(key, output))),
        None => {
            if let Some(public_key) = &reply.public_key {
                text.push_str(&format!("\n{}\n", plain_lines(public_key.trim_end())));
            }
        }
    }
    if let Some(key) = reply.key.as_ref().filter(|key| key.state == KeyState::AwaitingApiKey) {
        text.push_str(&format!(
            "\nGive the public key to {}; then: countersign key activate {} --api-key ID\n",
            plain(&key.exchange),
            key.name
        ));
    }
    text
}

fn describe(key: &KeyEntry, output: &Output) -> String {
    let mut text = facts(&[
        ("name", key.name.to_string()),
        ("exchange", format!("{}, {}", key.exchange, key.environment)),
        ("api key", key.api_key.clone().unwrap_or_else(|| "not known".to_owned())),
        ("algorithm", key.algorithm.to_string()),
        ("scopes", key.scopes.to_string()),
        ("token", key.token.clone()),
        ("custody", custody(key.tier, key.rung)),
        ("state", state(key.state).to_owned()),
        ("created", output.time(key.created_ms)),
        ("expires", output.optional_time(key.expires_ms)),
        ("last used", output.optional_time(key.last_used_ms)),
    ]);
    if let Some(root) = key.touch_attested_by {
        let slot =
            key.slot.as_deref().map(|slot| format!(" (slot {})", plain(slot))).unwrap_or_default();
        text.push_str(&format!("touch proven by attestation{slot}: {}\n", vouched(root)));
    }
    if let Some(public_key) = &key.public_key {
        text.push_str(&format!("\n{}\n", plain_lines(public_key.trim_end())));
    }
    text
}

/// The root that vouches for an attestation, in words.
const fn vouched(root: Root) -> &'static str {
    match root {
        Root::Other => "by a root that the configuration names, not by Yubico's",
        Root::Yubico => "by Yubico's root",
    }
}

/// Tier and rung in words. Rung 3 is never called hardware.
pub(crate) fn custody(tier: Tier, rung: u8) -> String {
    let rung_words = match rung {
        1 => "rung 1: the token signs only after a touch",
        2 => "rung 2: a touch unseals the token",
        _ => "rung 3: policy, not hardware",
    };
    format!("{tier} ({rung_words})")
}

const fn state(state: KeyState) -> &'static str {
    match state {
        KeyState::Active => "active",
        KeyState::AwaitingApiKey => "awaiting api key",
        KeyState::Unavailable => "unavailable",
    }
}

/// Every scope and the requests that it allows, one scope a line.
pub(super) fn all_scopes() -> String {
    let meaning = |scope| match scope {
        Scope::Read => "look at balances, orders, history",
        Scope::Trade => "place, change and cancel orders; leverage and margin mode",
        Scope::Account => "earn, loans, conversions, settings",
        Scope::Transfer => "move money between own wallets and sub-accounts",
        Scope::Withdraw => "move money out",
        Scope::Admin => "API keys, sub-accounts, address books, security settings",
        Scope::Session => "log in to a WebSocket in which nothing more is signed",
    };
    Scope::ALL.map(|scope| format!("  {:<9} {}", scope.name(), meaning(scope))).join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn custody_is_said_in_words() {
        assert_eq!(custody(Tier::Software, 3), "software (rung 3: policy, not hardware)");
        assert_eq!(custody(Tier::Device, 1), "device (rung 1: the token signs only after a touch)");
    }
}
