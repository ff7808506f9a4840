//! Lists the requests and changes that wait, with all that an approver is shown beside the
//! statement.

use std::rc::Rc;

use countersign_base::config::Config;
use countersign_core::approval::{Approver, Subject, Touch};
use countersign_core::refusal::Refusal;
use countersign_core::wire::admin::{
    ApproverEntry, CallerEntry, ChangeEntry, LimitEntry, PendingEntry, PendingListReply,
    PendingQuery,
};
use countersign_core::wire::ssh_agent::MAX_FRAME;
use countersign_core::wire::{self, VERSION};
use serde::Serialize;

use crate::clock::SystemClock;
use crate::front::Front;
use crate::keyring::Keyring;
use crate::ledger::recorder::Recorder;
use crate::waiting::approvals::PendingApprovals;
use crate::waiting::pending::{Effect, Pending, RequestState};

/// Most bytes of the entries in one answer. The rest of the frame is for names and ids.
const LONGEST_LIST: usize = MAX_FRAME - 32 * 1024;

fn length_of(part: &impl Serialize) -> usize {
    serde_json::to_vec(part).map_or(usize::MAX, |json| json.len())
}

/// The parts of the front that the list needs.
pub(crate) struct PendingList<'a> {
    config: Rc<Config>,
    clock: &'a SystemClock,
    keyring: &'a Keyring,
    recorder: &'a Recorder,
    approvals: &'a PendingApprovals,
}

impl<'a> PendingList<'a> {
    pub(crate) fn of(front: &'a Front) -> Self {
        Self {
            config: front.config(),
            clock: &front.clock,
            keyring: &front.keyring,
            recorder: &front.recorder,
            approvals: &front.approvals,
        }
    }

    pub(crate) fn answer(&self, payload: &[u8]) -> Result<PendingListReply, Refusal> {
        let query: PendingQuery = wire::parse(payload)?;
        wire::check_version(query.v)?;
        Ok(self.pending(query.id.as_deref()))
    }

    /// `pending@countersign`: everything that waits, oldest first, or one request.
    ///
    /// A frame has room for the agent's own changes and for ordinary requests. If the requests do
    /// not all fit, only the ids of the largest are given. So a client with large requests cannot
    /// hide those of another client.
    fn pending(&self, id: Option<&str>) -> PendingListReply {
        let waiting = self.approvals.waiting();
        let asked = waiting.iter().filter(|pending| id.is_none_or(|id| pending.id == id));
        let changes = waiting.iter().filter_map(|pending| change(pending));
        let mut reply = PendingListReply {
            v: VERSION,
            pending: asked.filter_map(|pending| self.shown(pending)).collect(),
            changes: if id.is_none() { changes.collect() } else { Vec::new() },
            approvers: self.config.policy.approvers.iter().filter_map(approver).collect(),
            unlisted: Vec::new(),
        };
        let mut room =
            LONGEST_LIST.saturating_sub(length_of(&reply.changes) + length_of(&reply.approvers));
        let mut lengths: Vec<_> =
            reply.pending.iter().map(|entry| (length_of(entry), entry.id.clone())).collect();
        lengths.sort();
        for (length, id) in lengths {
            match room.checked_sub(length) {
                Some(left) => room = left,
                None => reply.unlisted.push(id),
            }
        }
        reply.pending.retain(|entry| !reply.unlisted.contains(&entry.id));
        reply
    }

    fn shown(&self, pending: &Pending) -> Option<PendingEntry> {
        let (collected, request) = (pending.collected.borrow(), pending.as_request()?);
        let state = request.state.borrow();
        let (Some(collected), RequestState::Waiting(waiting)) = (&*collected, &*state) else {
            return None;
        };
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
            approved_by: collected
                .given()
                .iter()
                .map(|approval| approval.approver.clone())
                .collect(),
            caller: CallerEntry {
                client: waiting.caller.client.clone(),
                uid: waiting.caller.uid,
                pid: waiting.caller.pid,
                processes: request.processes.clone(),
            },
            token: key.token.clone(),
            tier: key.tier,
            rung: self.keyring.file(key.name.as_str())?.rung.into(),
            destinations: destinations(&self.config, &statement.subject),
            limits: waiting.spends().iter().map(limit).collect(),
            reason: waiting.reason().map(str::to_owned),
            statement: statement.clone(),
        })
    }
}

/// A change of the agent; `None` for a client's request.
fn change(pending: &Pending) -> Option<ChangeEntry> {
    let uid = match &pending.effect {
        Effect::Load(uid, _) => *uid,
        Effect::Sign(_) => return None,
        Effect::Unlock(uid) => Some(*uid),
    };
    let collected = pending.collected.borrow();
    let collected = collected.as_ref()?;
    let (statement, approvals_needed) = (collected.statement().clone(), collected.needed());
    Some(ChangeEntry { id: pending.id.clone(), statement, approvals_needed, uid })
}

fn approver(approver: &Approver) -> Option<ApproverEntry> {
    let hardware = match &approver.touch {
        Touch::Attested(attested) => attested.describe(),
        Touch::InSignature => "FIDO key, a touch in each signature".to_owned(),
    };
    let public_key = approver.key.to_openssh().ok()?;
    let person = (approver.person != approver.name).then(|| approver.person.clone());
    Some(ApproverEntry {
        name: approver.name.clone(),
        person,
        public_key,
        hardware: Some(hardware),
    })
}

fn destinations(config: &Config, subject: &Subject) -> Vec<Option<String>> {
    let Subject::Request { transfers, .. } = subject else { return Vec::new() };
    let label = |transfer| {
        config.policy.destination_of(transfer).map(|destination| destination.label.clone())
    };
    transfers.iter().map(label).collect()
}
