//! Handles a change that loosens something, from its proposal to an approver's signature.

use std::rc::Rc;
use std::time::Duration;

use countersign_base::config::{Config, TooMuch, diff, fits};
use countersign_core::approval::{Statement, Subject};
use countersign_core::ports::Clock;
use countersign_core::refusal::{Code, Refusal};
use countersign_core::wire::PendingRequest;
use countersign_core::wire::admin::DoneReply;

use super::answer::done;
use crate::front::Front;
use crate::waiting::pending::{Effect, Pending};
use crate::waiting::reload::Reload;

/// Time for persons to read and approve a change.
const CHANGE_DEADLINE: Duration = Duration::from_secs(600);

impl Front {
    /// True if an approver has to agree before anything is loosened.
    fn asks_approvers(&self) -> bool {
        !self.config().policy.approvers.is_empty()
    }

    /// `unlock@countersign`: unlocks at once, or proposes it to the approvers if there are any.
    pub(crate) fn unlock(&self, uid: u32) -> Result<DoneReply, Refusal> {
        if !(self.is_locked() && self.asks_approvers()) {
            return self.unlock_now(uid);
        }
        let pending = self.propose(self.statement(Subject::Unlock), Effect::Unlock(uid));
        let sentence =
            format!("an approver has to agree to unlocking: countersign approve {}", pending.id);
        Ok(DoneReply { pending: Some(pending), ..done(sentence) })
    }

    /// Withdraws every unlocking that waits for an approver.
    pub(crate) fn forget_unlocking(&self) {
        self.approvals.withdraw(&Effect::Unlock(0));
    }

    /// Proposes a looser configuration to the approvers, if an approver can be shown all of it. The
    /// configuration in force stays.
    pub fn propose_config(
        &self,
        uid: Option<u32>,
        config: Rc<Config>,
        loosens: Vec<String>,
    ) -> Result<PendingRequest, TooMuch> {
        let before = self.config();
        let sentences = loosens.len();
        let statement = self.statement(Subject::Configuration {
            from_sha256: before.policy.sha256.clone(),
            to_sha256: config.policy.sha256.clone(),
            loosens,
            diff: diff(&before.text, &config.text),
        });
        let (checked, effect) = (fits(sentences, &statement), Effect::Load(uid, config));
        if checked.is_err() {
            // An older proposal is withdrawn all the same.
            self.approvals.withdraw(&effect);
        }
        self.approvals.unshown.replace(checked.clone().err());
        checked.map(|()| self.propose(statement, effect))
    }

    /// Withdraws the proposed configuration: a newer one was read.
    pub fn forget_proposed_config(&self) {
        self.approvals.unshown.take();
        self.approvals.withdraw(&Effect::Load(None, self.config()));
    }

    /// Why a looser `agent.toml` does not wait for an approver.
    pub(crate) fn unshown_config(&self) -> Option<TooMuch> {
        self.approvals.unshown.borrow().clone()
    }

    fn statement(&self, subject: Subject) -> Statement {
        Statement {
            purpose: subject.purpose(),
            agent: self.about.agent_id.clone(),
            request_id: self.clock.request_id(),
            expires_ms: self.clock.now_ms() + CHANGE_DEADLINE.as_millis() as u64,
            policy_sha256: self.config().policy.sha256.clone(),
            subject,
        }
    }

    fn propose(&self, statement: Statement, effect: Effect) -> PendingRequest {
        let expires_ms = statement.expires_ms;
        let change = Rc::new(Pending::change(statement, CHANGE_DEADLINE, effect));
        tracing::warn!(id = change.id, "a change that loosens something waits for approval");
        self.approvals.insert_change(&change);
        PendingRequest { id: change.id.clone(), expires_ms, approvals_needed: 1, approvals: 0 }
    }

    /// Makes an approved change for this uid. Returns a sentence about it for the operator.
    pub(crate) async fn make_change(&self, effect: &Effect, uid: u32) -> Result<String, Refusal> {
        match effect {
            Effect::Load(_, config) => self.ask_load(Rc::clone(config)).await,
            Effect::Sign(_) => Err(Refusal::new(Code::Internal, "a request is no change")),
            Effect::Unlock(_) => self.unlock_now(uid).map(|reply| reply.done),
        }
    }

    async fn ask_load(&self, config: Rc<Config>) -> Result<String, Refusal> {
        let over = self.config().policy.sha256.clone();
        let (answer, outcome) = tokio::sync::oneshot::channel();
        let stopping = || Refusal::new(Code::Internal, "the agent is stopping");
        self.reload.send(Reload::Approved(config, over, answer)).await.map_err(|_| stopping())?;
        let loaded = outcome.await.map_err(|_| stopping())?;
        loaded.map_err(|reason| {
            Refusal::malformed(format!("the configuration was not loaded: {reason}"))
        })
    }
}
