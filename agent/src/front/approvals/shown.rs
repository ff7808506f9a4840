//! What an approver is shown of a request beside its statement.

use countersign_core::approval::{Approver, Subject, Touch};
use countersign_core::wire::VERSION;
use countersign_core::wire::admin::{ApproverEntry, CallerEntry, LimitEntry, PendingEntry, PendingReply};

use super::{Pending, State};
use crate::config::Config;
use crate::front::Front;

impl Front {
    /// `pending@countersign`: all that waits, oldest first.
    pub(in crate::front) fn pending(&self) -> PendingReply {
        let config = self.config();
        let requests = self.approvals.requests.borrow();
        let pending = requests.values().filter_map(|pending| self.shown(&config, pending)).collect();
        let changes = self.waiting_changes();
        PendingReply {
            v: VERSION,
            pending,
            changes,
            approvers: config.policy.approvers.iter().filter_map(approver).collect(),
        }
    }

    fn shown(&self, config: &Config, pending: &Pending) -> Option<PendingEntry> {
        let state = pending.state.borrow();
        let State::Waiting { collected, waiting } = &*state else { return None };
        let (statement, key) = (collected.statement(), waiting.key());
        let now_ms = self.clock.ledger_ms();
        let limit = |spend: &countersign_core::policy::Spend| LimitEntry {
            window: spend.window.clone(),
            used: self.recorder.spent(now_ms, &spend.window),
            cap: spend.cap,
        };
        Some(PendingEntry {
            id: pending.id.clone(),
            approvals_needed: collected.needed(),
            approved_by: collected.given().iter().map(|approval| approval.approver.clone()).collect(),
            caller: CallerEntry {
                client: waiting.caller.client.clone(),
                uid: waiting.caller.uid,
                pid: waiting.caller.pid,
                processes: pending.processes.clone(),
            },
            token: key.token.clone(),
            tier: key.tier,
            rung: self.keyring.file(key.name.as_str())?.rung.into(),
            destinations: destinations(config, &statement.subject),
            limits: waiting.spends().iter().map(limit).collect(),
            reason: waiting.reason().map(str::to_owned),
            statement: statement.clone(),
        })
    }
}

fn approver(approver: &Approver) -> Option<ApproverEntry> {
    let hardware = match &approver.touch {
        Touch::Attested(attested) => attested.describe(),
        Touch::InSignature => "FIDO key, a touch in each signature".to_owned(),
    };
    let public_key = approver.key.to_openssh().ok()?;
    let person = (approver.person != approver.name).then(|| approver.person.clone());
    Some(ApproverEntry { name: approver.name.clone(), person, public_key, hardware: Some(hardware) })
}

fn destinations(config: &Config, subject: &Subject) -> Vec<Option<String>> {
    let Subject::Request { transfers, .. } = subject else { return Vec::new() };
    let label = |transfer| config.policy.destination_of(transfer).map(|destination| destination.label.clone());
    transfers.iter().map(label).collect()
}

/// Names of a process and of those that started it, as far as they can be read; it may be gone, and another in its place.
pub(super) fn process_chain(pid: Option<u32>) -> Vec<String> {
    const MOST: usize = 8;
    let parent = |process: &Option<(String, u32)>| process.as_ref().and_then(|(_, parent)| process_of(*parent));
    std::iter::successors(Some(pid.and_then(process_of)), |process| process.is_some().then(|| parent(process)))
        .flatten()
        .take(MOST)
        .map(|(name, _)| name)
        .collect()
}

/// Name and parent of a process, from proc_pid_stat(5): the name stands in parentheses and may hold any of them.
fn process_of(pid: u32) -> Option<(String, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (before, after) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1;
    let parent = after.split_whitespace().nth(1)?.parse().ok().filter(|parent| *parent > 0)?;
    let printable = name.chars().map(|letter| if letter.is_ascii_graphic() { letter } else { '?' });
    Some((printable.collect(), parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_chain_begins_with_the_process_itself() {
        let chain = process_chain(Some(std::process::id()));
        assert!(chain.len() > 1, "{chain:?}");
        assert_eq!(process_chain(None), Vec::<String>::new());
        assert_eq!(process_chain(Some(u32::MAX)), Vec::<String>::new());
    }
}
