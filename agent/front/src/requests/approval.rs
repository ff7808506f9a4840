//! What clients and operators ask about requests that wait.

use std::rc::Rc;
use std::time::Duration;

use countersign_core::policy::Client;
use countersign_core::record::{Approval, Record};
use countersign_core::refusal::{Code, Refusal};
use countersign_core::wire::admin::{ApproveRequest, DoneReply};
use countersign_core::wire::{self, ErrorReply, FinishedReply, IdRequest, ResultRequest, VERSION};
use serde::Serialize;
use tokio::time::Instant;

use super::answer::done;
use crate::front::Front;
use crate::waiting::approvals::{Pending, Signing, State};

/// Longest wait of one `result` call.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// How often it is looked whether a token blinks.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What `result@countersign` answers.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum ResultReply {
    Pending(wire::PendingReply),
    Refused(ErrorReply),
    Signed {
        progress: &'static str,
        #[serde(flatten)]
        finished: FinishedReply,
    },
}

impl Front {
    /// `result@countersign`: the outcome as soon as there is one, else the progress.
    pub(crate) async fn result(&self, client: &Client, payload: &[u8]) -> Result<ResultReply, Refusal> {
        let asked: ResultRequest = wire::parse(payload)?;
        wire::check_version(asked.v)?;
        let pending = self.request_of(client, &asked.id)?;
        let wait = Duration::from_millis(asked.wait_ms).min(LONGEST_WAIT);
        let _watch = Watch::start(&pending);
        let before = self.how_far(&pending);
        let deadline = Instant::now() + wait;
        loop {
            let changed = pending.changed.notified();
            if let Some(outcome) = pending.outcome() {
                return Ok(match outcome {
                    Ok(finished) => ResultReply::Signed { progress: "signed", finished },
                    Err(refusal) => ResultReply::Refused(ErrorReply::new(&refusal, Some(asked.id))),
                });
            }
            // A token that begins to blink wakes nobody here.
            let look = deadline.min(Instant::now() + LOOK_AGAIN);
            let _ = tokio::time::timeout_at(look, changed).await;
            let progress = self.how_far(&pending);
            if (Instant::now() >= deadline || progress != before)
                && let Some(progress) = progress
            {
                return Ok(ResultReply::Pending(progress));
            }
        }
    }

    /// How far a request is; `None` once it ended.
    pub(crate) fn how_far(&self, pending: &Pending) -> Option<wire::PendingReply> {
        let state = pending.state.borrow();
        let reply = |pending, progress, touch| Some(wire::PendingReply { v: VERSION, progress, pending, touch });
        match &*state {
            State::Ended(_) => None,
            State::Signing(signing) => {
                let Signing { pending, token, why } = &**signing;
                let Some(until_ms) = self.tokens.status(token).and_then(|status| status.blinks_until_ms) else {
                    return reply(pending.clone(), "waiting".to_owned(), None);
                };
                // The touches of the approvers came before it.
                let touches = pending.approvals_needed + 1;
                let touch = wire::TouchWanted { token: token.clone(), why: why.clone(), until_ms };
                reply(pending.clone(), format!("touch {touches} of {touches}"), Some(touch))
            }
            State::Waiting { collected, waiting } => {
                reply(pending.pending_request(collected, waiting), "waiting".to_owned(), None)
            }
        }
    }

    /// `cancel@countersign`: the client does not want it any more.
    pub(crate) fn cancel(&self, client: &Client, payload: &[u8]) -> Result<DoneReply, Refusal> {
        let asked: IdRequest = wire::parse(payload)?;
        wire::check_version(asked.v)?;
        let refusal = Refusal::new(Code::ApprovalCancelled, "its client cancelled it");
        end(&*self.request_of(client, &asked.id)?, refusal).map(|()| done("cancelled"))
    }

    /// `deny@countersign`: the operator says no.
    pub(crate) fn deny(&self, payload: &[u8]) -> Result<DoneReply, Refusal> {
        let asked: IdRequest = wire::parse(payload)?;
        wire::check_version(asked.v)?;
        if self.changes.deny(&asked.id) {
            return Ok(done(format!("denied: {}", asked.id)));
        }
        let refusal = Refusal::new(Code::ApprovalDenied, "the operator denied it");
        end(&*self.waiting_request(&asked.id)?, refusal).map(|()| done(format!("denied: {}", asked.id)))
    }

    /// `approve@countersign`: one signature, on record before it counts.
    pub(crate) async fn approve(&self, payload: &[u8], uid: u32) -> Result<DoneReply, Refusal> {
        let asked: ApproveRequest = wire::parse(payload)?;
        wire::check_version(asked.v)?;
        match self.approve_change(&asked.id, &asked.sshsig, uid).await {
            Some(outcome) => outcome,
            None => self.approve_request(&asked),
        }
    }

    fn approve_request(&self, asked: &ApproveRequest) -> Result<DoneReply, Refusal> {
        let pending = self.waiting_request(&asked.id)?;
        let mut state = pending.state.borrow_mut();
        let State::Waiting { collected, .. } = &mut *state else { return Err(no_such_request()) };
        let judged = collected.judge(&self.config().policy.approvers, &asked.sshsig);
        let approval = judged.map_err(|reason| {
            Refusal::new(Code::ApprovalRequired, format!("this signature does not approve {}: {reason}", asked.id))
        })?;
        let statement = collected.statement();
        self.recorder.synced(&Record::Approval(Box::new(Approval::of(&approval, &pending.id, statement))))?;
        let approver = approval.approver.clone();
        collected.take(approval);
        let (given, needed) = (collected.given().len(), collected.needed());
        drop(state);
        pending.changed.notify_waiters();
        Ok(done(format!("approved by {approver}, {given} of {needed}: {}", asked.id)))
    }

    /// A client sees its own requests, and learns nothing of others'.
    fn request_of(&self, client: &Client, id: &str) -> Result<Rc<Pending>, Refusal> {
        self.approvals.get(id).filter(|pending| pending.client == client.name).ok_or_else(no_such_request)
    }

    fn waiting_request(&self, id: &str) -> Result<Rc<Pending>, Refusal> {
        self.approvals.get(id).filter(|pending| pending.is_waiting()).ok_or_else(no_such_request)
    }
}

fn no_such_request() -> Refusal {
    Refusal::malformed("no request with that id waits for approval")
}

fn end(pending: &Pending, refusal: Refusal) -> Result<(), Refusal> {
    if pending.end(refusal) { Ok(()) } else { Err(no_such_request()) }
}

/// The client waits for the result: it has not lost interest.
struct Watch<'a>(&'a Pending);

impl<'a> Watch<'a> {
    fn start(pending: &'a Pending) -> Self {
        pending.watching.set(pending.watching.get() + 1);
        Self(pending)
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.0.watching.set(self.0.watching.get() - 1);
        self.0.asked.set(Instant::now());
    }
}

impl Pending {
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(*self.state.borrow(), State::Waiting { .. })
    }

    fn outcome(&self) -> Option<Result<FinishedReply, Refusal>> {
        match &*self.state.borrow() {
            State::Ended(outcome) => Some(outcome.clone()),
            State::Signing(_) | State::Waiting { .. } => None,
        }
    }
}
