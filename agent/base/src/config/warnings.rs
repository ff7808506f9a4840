//! Warns of weaknesses in a sound configuration, and of settings that are probably mistakes.

use countersign_core::attestation::Root;
use countersign_core::key::Tier;
use countersign_core::policy::{Client, SpendLimit};

use super::{ApproverProof, Config};

/// The kernel shows this uid for every user that it does not know, so it identifies nobody.
const OVERFLOW_UID: u32 = 65534;

/// All warnings, one sentence each. Each names its section.
pub(super) fn of(config: &Config, own_uid: u32) -> Vec<String> {
    let mut warnings = Vec::new();
    for token in config.tokens.iter().filter(|token| token.tier == Tier::Software) {
        let (name, title) = (&token.settings.name, &token.profile.title);
        warnings.push(format!(
            "software token: [token.{name}] is {title}, its keys lie in this machine's files and \
             memory: for tests and \
             trials"
        ));
    }
    for client in &config.policy.clients {
        warnings.extend(of_client(client, own_uid));
    }
    for (asset, rule) in &config.policy.transfers {
        let limit = SpendLimit { per_request: rule.per_request, per_day: rule.per_day };
        warnings.extend(never_reached(&format!("[transfer.{asset}]"), &limit));
        let most = rule.approvers.iter().map(|step| step.count).max().unwrap_or(0);
        let named = config.policy.persons();
        if most as usize > named {
            warnings.push(format!(
                "[transfer.{asset}] needs {most} approvers, and {named} can approve: such \
                 transfers are refused"
            ));
        }
    }
    for approver in &config.approvers {
        let (name, says) = (&approver.name, approver.describe());
        let doubtful = match &approver.proof {
            ApproverProof::Attested(attested) => attested.attestation().root == Root::Other,
            ApproverProof::SshKey(_) => false,
            ApproverProof::Unproven { .. } => true,
        };
        warnings.extend(doubtful.then(|| format!("[approver.{name}]: {says}")));
    }
    if config.tokens.is_empty() {
        warnings.push("there is no [token.NAME]: nothing can be signed".to_owned());
    }
    if config.policy.clients.is_empty() {
        warnings.push("there is no [client.NAME]: nobody may ask for a signature".to_owned());
    }
    warnings
}

fn of_client(client: &Client, own_uid: u32) -> Vec<String> {
    let section = format!("[client.{}]", client.name);
    let mut warnings = Vec::new();
    if client.uid == own_uid {
        warnings.push(format!(
            "no isolation: bots share the agent's user: {section} has uid {own_uid}"
        ));
    } else if client.uid == 0 {
        warnings.push(format!("{section} is root, which can read all that the agent reads"));
    }
    if client.uid == OVERFLOW_UID {
        warnings.push(format!(
            "{section} is uid {OVERFLOW_UID}, which stands for every unknown user: the agent \
             serves no client with it"
        ));
    }
    if client.keys.is_empty() {
        warnings.push(format!("{section} may use no key yet"));
    }
    if client.rate.is_none() {
        warnings.push(format!(
            "{section} has no rate: it alone can fill the disk of the journal, and it pushes old \
             records out of it; set rate = \"50/s\", or as much as it needs"
        ));
    }
    for (asset, limit) in &client.limits {
        warnings.extend(never_reached(&format!("{section} limit.{asset}"), limit));
    }
    warnings
}

fn never_reached(section: &str, limit: &SpendLimit) -> Option<String> {
    let (per_request, per_day) = (limit.per_request?, limit.per_day?);
    (per_request > per_day).then(|| {
        format!(
            "{section}: per_request {per_request} is above per_day {per_day} and is never reached"
        )
    })
}
