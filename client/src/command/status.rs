//! `status`, `lock`, `unlock`: the agent as a whole.

use std::time::Duration;

use countersign::core::wire::admin::DoneReply;
use countersign::core::wire::{ConfinementEntry, LedgerEntry, StatusReply, TokenEntry};
use countersign::{Admin, Sockets};

use super::either_socket::operator_or_client;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, plain, say};
use crate::table::{TextTable, facts};

pub(crate) fn status(sockets: &Sockets, output: &Output) -> Result<Exit, Failure> {
    let reply = operator_or_client(sockets)?.status()?;
    output.show(&reply, || describe(&reply, output))
}

pub(crate) fn lock(sockets: &Sockets, output: &Output) -> Result<Exit, Failure> {
    let reply = Admin::open(sockets)?.lock()?;
    output.show(&reply, || plain(&reply.done))
}

pub(crate) fn unlock(sockets: &Sockets, output: &Output) -> Result<Exit, Failure> {
    let mut admin = Admin::open(sockets)?;
    let reply = admin.unlock()?;
    let Some(pending) = &reply.pending else { return output.show(&reply, || plain(&reply.done)) };
    say(&format!("{}\n", plain(&reply.done)));
    wait_for_approval(&mut admin, &pending.id)?;
    let reply = DoneReply { pending: None, done: "unlocked".to_owned(), ..reply };
    output.show(&reply, || plain(&reply.done))
}

/// Returns once the agent is unlocked.
fn wait_for_approval(admin: &mut Admin, id: &str) -> Result<(), Failure> {
    const UNLOCK_CHECK_INTERVAL: Duration = Duration::from_millis(300);
    while admin.pending()?.changes.iter().any(|change| change.id == id) {
        std::thread::sleep(UNLOCK_CHECK_INTERVAL);
    }
    if admin.status()?.locked { Err(Failure::NotUnlocked) } else { Ok(()) }
}

fn describe(reply: &StatusReply, output: &Output) -> String {
    let signing = if reply.locked {
        "locked: nothing is signed until countersign unlock"
    } else {
        "unlocked"
    };
    let mut lines = vec![
        ("agent", reply.version.clone()),
        ("started", output.time(reply.started_ms)),
        ("signing", signing.to_owned()),
    ];
    if let Some(ledger) = &reply.ledger {
        lines.push(("journal", describe_ledger(ledger)));
    }
    let mut text = facts(&lines);
    if !reply.tokens.is_empty() {
        text.push('\n');
        text.push_str(&tokens(&reply.tokens, output));
    }
    if !reply.confinement.is_empty() {
        text.push('\n');
        text.push_str(&confinement(&reply.confinement, output));
    }
    for warning in &reply.warnings {
        text.push_str(&format!("\nwarning: {}", plain(warning)));
    }
    text
}

fn describe_ledger(ledger: &LedgerEntry) -> String {
    let last = ledger
        .last
        .as_ref()
        .map_or_else(|| "empty".to_owned(), |last| format!("record {}", last.seq));
    let free =
        ledger.free_bytes.map(|bytes| format!(", {} MiB free", bytes >> 20)).unwrap_or_default();
    format!("{}, {last} in {}{free}", ledger.state, ledger.directory)
}

fn confinement(processes: &[ConfinementEntry], output: &Output) -> String {
    let mut table = TextTable::new(["PROCESS", "LIMITS"]);
    for process in processes {
        table.row([process.process.clone(), process.on.join(", ")]);
    }
    table.write(output.is_terminal())
}

fn tokens(tokens: &[TokenEntry], output: &Output) -> String {
    let mut table =
        TextTable::new(["TOKEN", "PROFILE", "TIER", "STATE", "SINCE", "KEYS", "LAST ERROR"]);
    for token in tokens {
        let next = token
            .next_try_ms
            .map(|at| format!(" (next try {})", output.time(at)))
            .unwrap_or_default();
        table.row([
            token.name.clone(),
            token.profile.clone(),
            token.tier.to_string(),
            token.state.clone(),
            output.time(token.since_ms),
            token.keys.join(", "),
            token.last_error.as_ref().map(|error| format!("{error}{next}")).unwrap_or_default(),
        ]);
    }
    table.write(output.is_terminal())
}
