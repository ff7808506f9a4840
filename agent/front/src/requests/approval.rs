//! Answers the questions of clients and operators about requests that wait for approval.

use std::rc::Rc;
use std::time::Duration;

use countersign_core::policy::Client;
use countersign_core::record::{Approval, Record};
use countersign_core::refusal::{Code, Refusal};
use countersign_core::wire::admin::{ApproveRequest, DoneReply};
use countersign_core::wire::{
    self, ErrorReply, FinishedReply, IdRequest, PendingRequest, ResultRequest, VERSION,
};
use serde::Serialize;
use tokio::time::Instant;

use super::answer::done;
use crate::front::Front;
use crate::waiting::pending::{ClientRequest, Pending, RequestState, Signing};

/// Longest wait of one `result` call.
const LONGEST_RESULT_WAIT: Duration = Duration::from_secs(60);

/// Pause between two looks at whether a token blinks.
const BLINK_CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// The answer to `result@countersign`.
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
    /// `result@countersign`: answers with the outcome as soon as there is one, else with the
    /// progress.
    pub(crate) async fn result(
        &self,
        client: &Client,
        payload: &[u8],
    ) -> Result<ResultReply, Refusal> {
        let asked: ResultRequest = wire::parse(payload)?;
        wire::check_version(asked.v)?;
        let pending = self.request_of(client, &asked.id)?;
        let request = pending.as_request().ok_or_else(no_such_request)?;
        let wait = Duration::from_millis(asked.wait_ms).min(LONGEST_RESULT_WAIT);
        let _watch = Watch::start(request);
        let before = self.how_far(&pending);
        let deadline = Instant::now() + wait;
        loop {
            let changed = request.changed.notified();
            if let Some(outcome) = request.outcome() {
                return Ok(match outcome {
                    Ok(finished) => ResultReply::Signed { progress: "signed", finished },
                    Err(refusal) => ResultReply::Refused(ErrorReply::new(&refusal, Some(asked.id))),
                });
            }
            // A token that begins to blink does not wake this task. So the task looks from time to
            // time.
            let look = deadline.min(Instant::now() + BLINK_CHECK_INTERVAL);
            let _ = tokio::time::timeout_at(look, changed).await;
            let progress = self.how_far(&pending);
            if (Instant::now() >= deadline || progress != before)
                && let Some(progress) = progress
            {
                return Ok(ResultReply::Pending(progress));
            }
        }
    }

    /// The progress of a request; `None` once it has ended.
    pub(crate) fn how_far(&self, pending: &Pending) -> Option<wire::PendingReply> {
        let reply = |pending, progress, touch| {
            Some(wire::PendingReply { v: VERSION, progress, pending, touch })
        };
        match &*pending.as_request()?.state.borrow() {
            RequestState::Ended(_) => None,
            RequestState::Signing(signing) => {
                let Signing { pending, token, why } = &**signing;
                let Some(until_ms) =
                    self.tokens.status(token).and_then(|status| status.blinks_until_ms)
                else {
                    return reply(pending.clone(), "waiting".to_owned(), None);
                };
                // The touches of the approvers came before this one.
                let touches = pending.approvals_needed + 1;
                let touch = wire::TouchWanted { token: token.clone(), why: why.clone(), until_ms };
                reply(pending.clone(), format!("touch {touches} of {touches}"), Some(touch))
            }
            RequestState::Waiting(_) => reply(pending.told()?, "waiting".to_owned(), None),
        }
    }

    /// `cancel@countersign`: the client does not want the request any more.
    pub(crate) fn cancel(&self, client: &Client, payload: &[u8]) -> Result<DoneReply, Refusal> {
        let asked: IdRequest = wire::parse(payload)?;
        wire::check_version(asked.v)?;
        let pending = self.request_of(client, &asked.id)?;
        let refusal = Refusal::new(Code::ApprovalCancelled, "its client cancelled it");
        self.end(&pending, refusal).map(|()| done("cancelled"))
    }

    /// `deny@countersign`: the operator denies a request or a change.
    pub(crate) fn deny(&self, payload: &[u8]) -> Result<DoneReply, Refusal> {
        let asked: IdRequest = wire::parse(payload)?;
        wire::check_version(asked.v)?;
        let refusal = Refusal::new(Code::ApprovalDenied, "the operator denied it");
        self.end(&*self.waiting(&asked.id)?, refusal)
            .map(|()| done(format!("denied: {}", asked.id)))
    }

    /// `approve@countersign`: takes one approver's signature. It is on record before it counts.
    pub(crate) async fn approve(&self, payload: &[u8], uid: u32) -> Result<DoneReply, Refusal> {
        let asked: ApproveRequest = wire::parse(payload)?;
        wire::check_version(asked.v)?;
        let pending = self.waiting(&asked.id)?;
        let approver = self.take_signature(&pending, &asked.sshsig)?;
        if let Some(request) = pending.as_request() {
            let PendingRequest { approvals, approvals_needed, .. } =
                pending.told().ok_or_else(no_such_request)?;
            request.changed.notify_waiters();
            return Ok(done(format!(
                "approved by {approver}, {approvals} of {approvals_needed}: {}",
                asked.id
            )));
        }
        // One approval is enough for a change. It is removed, because it counts only once.
        self.approvals.remove(&pending.id);
        let made = self.make_change(&pending.effect, uid).await;
        made.map(|sentence| done(format!("approved by {approver}: {sentence}")))
    }

    /// Judges one person's signature and puts it on record. Returns the approver's name.
    fn take_signature(&self, pending: &Pending, sshsig: &str) -> Result<String, Refusal> {
        let mut collected = pending.collected.borrow_mut();
        let Some(collected) = &mut *collected else { return Err(no_such_request()) };
        let refused = |reason: &dyn std::fmt::Display| {
            let message = format!("this signature does not approve {}: {reason}", pending.id);
            Refusal::new(Code::ApprovalRequired, message)
        };
        let (config, statement) = (self.config(), collected.statement());
        if statement.policy_sha256 != config.policy.sha256 {
            return Err(refused(&"another configuration is in force since; ask for it again"));
        }
        let approval =
            collected.judge(&config.policy.approvers, sshsig).map_err(|reason| refused(&reason))?;
        self.recorder.synced(&Record::Approval(Box::new(Approval::of(
            &approval,
            &pending.id,
            statement,
        ))))?;
        let approver = approval.approver.clone();
        collected.take(approval);
        Ok(approver)
    }

    /// Ends a waiting request or change. The end of a request is recorded, and its client is told.
    fn end(&self, pending: &Pending, refusal: Refusal) -> Result<(), Refusal> {
        match pending.as_request() {
            _ if !pending.is_waiting() => return Err(no_such_request()),
            Some(request) => request.end(refusal),
            None => self.approvals.remove(&pending.id),
        }
        Ok(())
    }

    /// Finds a request of this client. A client learns nothing of other clients' requests.
    fn request_of(&self, client: &Client, id: &str) -> Result<Rc<Pending>, Refusal> {
        let is_its_own = |pending: &Rc<Pending>| {
            pending.as_request().is_some_and(|own| own.client == client.name)
        };
        self.approvals.get(id).filter(is_its_own).ok_or_else(no_such_request)
    }

    fn waiting(&self, id: &str) -> Result<Rc<Pending>, Refusal> {
        self.approvals
            .waiting()
            .into_iter()
            .find(|pending| pending.id == id)
            .ok_or_else(no_such_request)
    }
}

fn no_such_request() -> Refusal {
    Refusal::malformed("no request with that id waits for approval")
}

/// Says that the client waits for the result, so it has not lost interest.
struct Watch<'a>(&'a ClientRequest);

impl<'a> Watch<'a> {
    fn start(request: &'a ClientRequest) -> Self {
        request.watching.set(request.watching.get() + 1);
        Self(request)
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.0.watching.set(self.0.watching.get() - 1);
        self.0.asked.set(Instant::now());
    }
}
