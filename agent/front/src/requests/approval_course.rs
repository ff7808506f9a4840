//! What becomes of one request that waits.

use std::rc::Rc;
use std::time::Duration;

use countersign_base::config::Config;
use countersign_core::approval::Approved;
use countersign_core::refusal::{Code, Refusal};
use countersign_core::signer::Waiting;
use countersign_core::wire::{FinishedReply, PendingReply};

use crate::front::Front;
use crate::sockets::peer::Peer;
use crate::waiting::pending::{Pending, Request, State};

/// How often it is checked whether a request still makes sense; an approval or a denial is seen at
/// once.
const CHECK: Duration = Duration::from_millis(200);
/// A client that does not ask for the result as long as this has lost interest.
const INTEREST: Duration = Duration::from_secs(30);
/// How long an outcome can be fetched.
const KEPT: Duration = Duration::from_secs(60);

impl Front {
    /// Takes up a request that persons have to approve; its life is a task of its own.
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
    ) -> Outcome {
        let in_force = self.config();
        let caller = waiting.caller.clone();
        // Policy that is not in force any more still names the client; the signer sees that it is
        // another.
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

    fn blinks(&self, request: &Request) -> bool {
        let status = request.token().and_then(|token| self.tokens.status(&token));
        status.is_some_and(|status| status.blinks_until_ms.is_some())
    }

    /// Why nobody needs the answer any more.
    fn why_ended(
        &self,
        judged_by: &Config,
        pending: &Pending,
        request: &Request,
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

type Outcome = Result<FinishedReply, Refusal>;

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
    request.state.replace(State::Ended(outcome));
    request.changed.notify_waiters();
    tokio::time::sleep(KEPT).await;
    front.approvals.remove(&pending.id);
}

/// Returns once enough persons approved it, or why they never will.
async fn wait(
    front: &Front,
    judged_by: &Config,
    pending: &Pending,
    request: &Request,
) -> Result<(), Refusal> {
    loop {
        let changed = request.changed.notified();
        let ending = request.ending.borrow().clone();
        if let Some(refusal) = ending.or_else(|| front.why_ended(judged_by, pending, request)) {
            return Err(refusal);
        }
        // One touch at a time: the stamp is made when the token can be asked.
        if pending.is_approved() && !front.blinks(request) {
            return Ok(());
        }
        // Which of the two it was shows in the next round.
        let _ = tokio::time::timeout(CHECK, changed).await;
    }
}
