//! Finds everything that a new configuration allows and the one in force does not. Tells it in
//! sentences with the values.
//!
//! The code knows the differences that tighten, not those that loosen. A difference that is not
//! known to tighten counts as looser.

mod approvers;
mod clients;
mod destinations;
mod sentences;
mod tokens;
mod transfers;

use std::collections::BTreeSet;

use countersign_core::policy::Policy;

use super::{AgentSettings, Config};
use crate::messages::confinement::Demand;
use sentences::{Sentences, maybe_path, path};

/// Everything that `after` loosens, one sentence each, with the old and the new value. Empty if
/// `after` allows nothing that `before` does not. `in_use` are the tokens that hold keys.
///
/// Here and in the modules below every field is named, so that a new field does not compile before
/// somebody decides when it loosens.
pub fn loosened(before: &Config, after: &Config, in_use: &BTreeSet<String>) -> Vec<String> {
    let Config {
        agent: _,
        tokens: _,
        policy,
        client_sockets: _,
        approvers: _,
        warnings: _,
        text: _,
    } = after;
    let Policy {
        clients: _,
        destinations,
        transfers,
        approvers: _,
        approval_timeout_ms: _,
        sha256: _,
    } = policy;
    let mut found = Sentences::default();
    agent(&before.agent, &after.agent, &mut found);
    tokens::compare(before, after, in_use, &mut found);
    approvers::compare(before, after, &mut found);
    clients::compare(before, after, &mut found);
    destinations::compare(&before.policy.destinations, destinations, &mut found);
    transfers::compare(&before.policy.transfers, transfers, &mut found);
    found.into_list()
}

fn agent(before: &AgentSettings, after: &AgentSettings, found: &mut Sentences) {
    let strength = |demand| match demand {
        Demand::Off => 0,
        Demand::Available => 1,
        Demand::Required => 2,
    };
    let AgentSettings {
        state_dir,
        socket,
        admin_socket,
        approval_timeout,
        allow_software_tokens,
        allow_same_user,
        synced,
        confinement,
        vault_dir,
        vault_socket,
    } = after;
    type Written = fn(&AgentSettings) -> String;
    let fields: [(&str, bool, Written); 10] = [
        (
            "allow_software_tokens",
            *allow_software_tokens && !before.allow_software_tokens,
            |settings| settings.allow_software_tokens.to_string(),
        ),
        ("allow_same_user", *allow_same_user && !before.allow_same_user, |settings| {
            settings.allow_same_user.to_string()
        }),
        ("approval_timeout_s", *approval_timeout > before.approval_timeout, |settings| {
            settings.approval_timeout.as_secs().to_string()
        }),
        ("durability", before.synced && !synced, |settings| durability(settings.synced).to_owned()),
        ("confinement", strength(*confinement) < strength(before.confinement), |settings| {
            settings.confinement.name().to_owned()
        }),
        ("admin_socket", *admin_socket != before.admin_socket, |settings| {
            path(&settings.admin_socket)
        }),
        ("socket", *socket != before.socket, |settings| path(&settings.socket)),
        ("state_dir", *state_dir != before.state_dir, |settings| path(&settings.state_dir)),
        ("vault_dir", *vault_dir != before.vault_dir, |settings| {
            maybe_path(settings.vault_dir.as_deref())
        }),
        ("vault_socket", *vault_socket != before.vault_socket, |settings| {
            maybe_path(settings.vault_socket.as_deref())
        }),
    ];
    for (field, _, written) in fields.into_iter().filter(|(_, looser, _)| *looser) {
        found.change("[agent]", field, &written(before), &written(after));
    }
}

fn durability(synced: bool) -> &'static str {
    if synced { "synced" } else { "written" }
}

#[cfg(test)]
mod loosening_tests;
