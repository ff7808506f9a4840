//! Follows one request that waits for approval to its end.

use std::rc::Rc;
use std::time::Duration;

use countersign_base::config::Config;
use countersign_core::approval::Approved;
use countersign_core::refusal::{Code, Refusal};
use countersign_core::signer::Waiting;
use countersign_core::wire::{FinishedReply, PendingReply};

use crate::front::Front;
use crate::sockets::peer::Peer;
use crate::waiting::pending::{ClientRequest, Pending, RequestState};

/// Pause between two checks whether the request still makes sense. An approval or a denial is seen
/// at once.
const CHECK: Duration = Duration::from_millis(200);
/// A client that does not ask for the result for this long has lost interest.
const INTEREST: Duration = Duration::from_secs(30);
/// The time for which an outcome can be fetched.
const OUTCOME_KEPT: Duration = Duration::from_secs(60);

impl Front {
    /// Takes a request that persons have to approve. A task of its own follows it to its end.
    pub(crate) fn open(
        self: &Rc<Self>,
        peer: &Peer,
        config: &Rc<Config>,
        waiting: Box<Waiting>,
    ) -> Option<PendingReply> {
        tracing::info!(
            id = waiting.statement.request_id,
            client = waiting.caller.client,
            "a request waits for approval"
        );
        let lasts = Duration::from_millis(config.policy.approval_timeout_ms);
        let pending = Rc::new(Pending::request(peer, waiting, lasts));
        self.approvals.insert(&pending);
        let reply = self.how_far(&pending);
        tokio::task::spawn_local(attend(Rc::clone(self), Rc::clone(config), pending));
        reply
    }

    async fn settle(
        &self,
        config: &Config,
        waiting: Waiting,
        approved: Result<Approved, Refusal>,
    ) -> ApprovalOutcome {
        let in_force = self.config();
        let caller = waiting.caller.clone();
        // The policy that judged the request names the client, even if it is no longer in force.
        // The signer notices if another policy is in force.
        let Some(client) = config.policy.client(&caller.client) else {
            return Err(Refusal::new(
                Code::Internal,
                "the configuration it was judged by has no such client",
            ));
        };
        let signer = self.signer(&in_force.policy, client, &caller);
        match approved {
            Ok(approved) => signer.sign_approved(&self.keyring, waiting, approved).await.outcome,
            Err(refusal) => signer.give_up(waiting, refusal).await.outcome,
        }
    }

    fn blinks(&self, request: &ClientRequest) -> bool {
        let status = request.token().and_then(|token| self.tokens.status(&token));
        status.is_some_and(|status| status.blinks_until_ms.is_some())
    }

    /// Why the request has to end without approval, if it has to.
    fn why_ended(
        &self,
        judged_by: &Config,
        pending: &Pending,
        request: &ClientRequest,
    ) -> Option<Refusal> {
        let cancelled = |message: &str| Some(Refusal::new(Code::ApprovalCancelled, message));
        if self.stopper.1.is_requested() {
            return cancelled("the agent stops");
        }
        if self.is_locked() {
            return cancelled("the agent was locked");
        }
        if self.config().policy.sha256 != judged_by.policy.sha256 {
            return cancelled("the configuration it was judged by is no longer in force");
        }
        if pending.is_too_late() {
            return Some(Refusal::new(Code::ApprovalExpired, "nobody approved it in time"));
        }
        if !self.approvals.is_connected(request) {
            return cancelled("its client closed its last connection");
        }
        let interest = request.watching.get() > 0 || request.asked.get().elapsed() < INTEREST;
        if interest { None } else { cancelled("its client has not asked for the result for 30 s") }
    }
}

type ApprovalOutcome = Result<FinishedReply, Refusal>;

async fn attend(front: Rc<Front>, judged_by: Rc<Config>, pending: Rc<Pending>) {
    let Some(request) = pending.as_request() else { return };
    let ended = wait(&front, &judged_by, &pending, request).await;
    let Some((waiting, approved)) = pending.take() else { return };
    let missing = || Refusal::new(Code::Internal, "an approval is missing");
    let approved = ended.and_then(|()| approved.ok_or_else(missing));
    let outcome = front.settle(&judged_by, *waiting, approved).await;
    if let Err(refusal) = &outcome {
        tracing::info!(
            id = pending.id,
            code = refusal.code.name(),
            "a request that waited was not signed"
        );
    }
    request.state.replace(RequestState::Ended(outcome));
    request.changed.notify_waiters();
    tokio::time::sleep(OUTCOME_KEPT).await;
    front.approvals.remove(&pending.id);
}

/// Returns once enough persons have approved the request, or returns why they never will.
async fn wait(
    front: &Front,
    judged_by: &Config,
    pending: &Pending,
    request: &ClientRequest,
) -> Result<(), Refusal> {
    loop {
        let changed = request.changed.notified();
        let ending = request.ending.borrow().clone();
        if let Some(refusal) = ending.or_else(|| front.why_ended(judged_by, pending, request)) {
            return Err(refusal);
        }
        // One touch at a time: if the token blinks for another request, this one waits. So its
        // timestamp is made when the token can be asked.
        if pending.is_approved() && !front.blinks(request) {
            return Ok(());
        }
        // The next round finds out whether something changed or the time was over.
        let _ = tokio::time::timeout(CHECK, changed).await;
    }
}
