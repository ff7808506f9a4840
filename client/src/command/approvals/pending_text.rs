//! Shows a waiting request with everything a person needs to decide. Nothing is shortened, and a
//! terminal obeys nothing in it.

use countersign::core::approval::{Subject, Unlike, review};
use countersign::core::exchange::table::Endpoint;
use countersign::core::legible::{address, quoted, spelled, word};
use countersign::core::transfer::Transfer;
use countersign::core::wire::admin::{ChangeEntry, PendingEntry};

use crate::command::key::custody;
use crate::output::Output;
use crate::table::facts_within;

pub(super) fn describe(entry: &PendingEntry, output: &Output, columns: Option<usize>) -> String {
    let statement = &entry.statement;
    let mut lines = vec![
        ("request", entry.id.clone()),
        ("expires", output.time(statement.expires_ms)),
        ("asks", asker(entry)),
    ];
    if let Some(reason) = &entry.reason {
        lines.push(("reason it gives", quoted(reason)));
    }
    lines.extend(subject(entry));
    for limit in &entry.limits {
        let used =
            format!("{}: {} of {} in 24 hours, with this", limit.window, limit.used, limit.cap);
        lines.push(("limit", used));
    }
    lines.extend(opens(entry));
    lines.push(("approvals", approvals(entry)));
    lines.push(("touches", touches(entry)));
    lines.push(("agent", statement.agent.clone()));
    lines.push(("policy", statement.policy_sha256.clone()));
    facts_within(columns, &lines)
}

/// A change of the agent itself, with every line that differs. The list of what it loosens comes
/// last, near the line that asks for a touch.
pub(super) fn describe_change(
    change: &ChangeEntry,
    output: &Output,
    columns: Option<usize>,
) -> String {
    let statement = &change.statement;
    let asks = match change.uid {
        Some(uid) => format!("uid {uid}"),
        None => "the agent itself: at its start, or for a signal".to_owned(),
    };
    let mut lines = vec![
        ("change", change.id.clone()),
        ("expires", output.time(statement.expires_ms)),
        ("asks", asks),
    ];
    lines.extend(changes(&statement.subject));
    lines.push(("approvals", format!("0 of {}", change.approvals_needed)));
    lines.push(("touches", "1, of your own security key".to_owned()));
    lines.push(("agent", statement.agent.clone()));
    lines.push(("policy", statement.policy_sha256.clone()));
    facts_within(columns, &lines)
}

fn changes(subject: &Subject) -> Vec<(&'static str, String)> {
    match subject {
        Subject::Unlock => vec![("does", "the agent, which is locked, signs again".to_owned())],
        Subject::Configuration { to_sha256, loosens, diff, .. } => {
            let does = ("does", format!("another agent.toml comes into force: {to_sha256}"));
            std::iter::once(does).chain(differences(loosens, diff)).collect()
        }
        Subject::Request { .. } | Subject::Session { .. } | Subject::Vault { .. } => {
            vec![("WRONG", Unlike::Listed.to_string())]
        }
    }
}

/// The lines that differ, then a sentence for each loosening, then the number of sentences.
pub(in crate::command) fn differences(
    loosens: &[String],
    diff: &str,
) -> Vec<(&'static str, String)> {
    let lines = diff.split_terminator('\n').map(|line| ("", line.to_owned()));
    let each = loosens.iter().map(|sentence| ("loosens", sentence.clone()));
    let all = ("loosens", format!("{} in all, each shown above", counted(loosens.len())));
    lines.chain(each).chain([all]).collect()
}

fn counted(sentences: usize) -> String {
    if sentences == 1 { "1 sentence".to_owned() } else { format!("{sentences} sentences") }
}

fn asker(entry: &PendingEntry) -> String {
    let caller = &entry.caller;
    let pid = caller.pid.map(|pid| format!(", pid {pid}")).unwrap_or_default();
    let processes = match caller.processes.as_slice() {
        [] => String::new(),
        processes => {
            format!(": {}", processes.iter().map(|name| word(name)).collect::<Vec<_>>().join(" < "))
        }
    };
    format!("{}, uid {}{pid}{processes}", word(&caller.client), caller.uid)
}

fn subject(entry: &PendingEntry) -> Vec<(&'static str, String)> {
    let custody = format!("on {}, {}", entry.token, custody(entry.tier, entry.rung));
    match &entry.statement.subject {
        Subject::Request {
            key,
            exchange,
            environment,
            host,
            method,
            path,
            params,
            transfers,
            effective_scopes,
            ..
        } => {
            let mut lines = vec![
                ("key", format!("{key}, {exchange} {environment}, {custody}")),
                (
                    "signs",
                    format!(
                        "{method} https://{host}{}",
                        if path.is_ascii() { path.clone() } else { quoted(path) }
                    ),
                ),
                ("opens", effective_scopes.to_string()),
            ];
            for (index, transfer) in transfers.iter().enumerate() {
                let label = entry.destinations.get(index).cloned().flatten();
                lines.extend(moves(transfer, label));
            }
            lines.push(("parameters", params.clone()));
            if !params.is_ascii() {
                lines.push(("spelled", spelled(params)));
            }
            lines
        }
        Subject::Session { key, exchange, environment, session, effective_scopes, .. } => vec![
            ("key", format!("{key}, {exchange} {environment}, {custody}")),
            ("signs", format!("a login: {session}; nothing in that session is signed or limited")),
            ("opens", effective_scopes.to_string()),
        ],
        Subject::Configuration { .. } | Subject::Unlock | Subject::Vault { .. } => {
            vec![("WRONG", Unlike::Listed.to_string())]
        }
    }
}

fn moves(transfer: &Transfer, label: Option<String>) -> Vec<(&'static str, String)> {
    let unstated = || "not stated".to_owned();
    let amount = transfer.amount.map_or_else(unstated, |amount| amount.to_string());
    let asset = transfer.asset.as_deref().map_or_else(unstated, word);
    let mut lines = vec![("moves", format!("{amount} {asset}, by {}", transfer.endpoint))];
    lines.push(("network", transfer.network.as_deref().map_or_else(unstated, word)));
    if let Some(from) = &transfer.from {
        lines.push(("from", word(from)));
    }
    if let Some(to) = &transfer.to {
        lines.push(("to", word(to)));
    }
    lines.push(("address", transfer.address.as_deref().map_or_else(unstated, address)));
    lines.push(("memo", transfer.memo.as_deref().map_or_else(|| "none".to_owned(), quoted)));
    let listed = label.as_deref().map(quoted);
    lines.push((
        "destination",
        listed.unwrap_or_else(|| "not in the list of destinations".to_owned()),
    ));
    lines
}

/// The endpoints that the signature would open beyond the request. This program works them out
/// itself and does not take the agent's word.
fn opens(entry: &PendingEntry) -> Vec<(&'static str, String)> {
    let reviewed = match review(&entry.statement) {
        Ok(Some(reviewed)) => reviewed,
        Ok(None) => return Vec::new(),
        Err(reason) => return vec![("WRONG", reason.to_string())],
    };
    let list = |endpoints: &[&Endpoint]| {
        let words =
            endpoints.iter().map(|endpoint| format!("{} {}", endpoint.method, endpoint.path));
        words.collect::<Vec<_>>().join(", ")
    };
    let mut lines = Vec::new();
    if !reviewed.neighbours.is_empty() {
        lines.push(("also valid for", list(&reviewed.neighbours)));
    }
    if !reviewed.residual.is_empty() {
        lines.push(("does not bind", list(&reviewed.residual)));
    }
    lines
}

/// The hardware that will blink, and the number of touches. On rungs 1 and 2 the key's own hardware
/// blinks as well.
fn touches(entry: &PendingEntry) -> String {
    match entry.rung {
        1 | 2 => format!(
            "2: of your own security key now, then of {}, where the agent runs",
            entry.token
        ),
        _ => "1, of your own security key".to_owned(),
    }
}

fn approvals(entry: &PendingEntry) -> String {
    let given = entry.approved_by.len();
    let by =
        if given == 0 { String::new() } else { format!(", by {}", entry.approved_by.join(", ")) };
    format!("{given} of {}{by}", entry.approvals_needed)
}

#[cfg(test)]
mod pending_text_tests;
