//! A change that loosens something, from its proposal to an approver's signature.

use std::rc::Rc;

use countersign_base::config::{Config, TooMuch, diff, fits};
use countersign_core::approval::{Collected, Statement, Subject};
use countersign_core::ports::Clock;
use countersign_core::record::{Approval, Record};
use countersign_core::refusal::{Code, Refusal};
use countersign_core::wire::PendingRequest;
use countersign_core::wire::admin::{ChangeEntry, DoneReply};
use tokio::time::Instant;

use super::answer::done;
use crate::front::Front;
use crate::waiting::changes::{CHANGE_DEADLINE, Change, Effect};
use crate::waiting::reload::Reload;

impl Front {
    /// Whether somebody has to be asked before anything is loosened.
    fn asks_approvers(&self) -> bool {
        !self.config().policy.approvers.is_empty()
    }

    /// `unlock@countersign`.
    pub(crate) fn unlock(&self, uid: u32) -> Result<DoneReply, Refusal> {
        if !(self.is_locked() && self.asks_approvers()) {
            return self.unlock_now(uid);
        }
        let pending = self.propose(Some(uid), self.statement(Subject::Unlock), Effect::Unlock);
        let sentence = format!("an approver has to agree to unlocking: countersign approve {}", pending.id);
        Ok(DoneReply { pending: Some(pending), ..done(sentence) })
    }

    /// No unlocking that was asked for before counts after this.
    pub(crate) fn forget_unlocking(&self) {
        self.changes.withdraw(&Effect::Unlock);
    }

    /// A looser configuration waits, if an approver can be shown all of it; the one in force stays.
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
        let checked = fits(sentences, &statement);
        if checked.is_err() {
            // It takes the place of an older one all the same.
            self.changes.withdraw(&Effect::Load(Rc::clone(&config)));
        }
        self.changes.unshown.replace(checked.clone().err());
        checked.map(|()| self.propose(uid, statement, Effect::Load(config)))
    }

    /// What was read since has taken its place.
    pub fn forget_proposed_config(&self) {
        self.changes.unshown.take();
        self.changes.withdraw(&Effect::Load(self.config()));
    }

    /// Why a looser `agent.toml` does not wait for an approver.
    pub(crate) fn unshown_config(&self) -> Option<TooMuch> {
        self.changes.unshown.borrow().clone()
    }

    fn statement(&self, subject: Subject) -> Statement {
        Statement {
            purpose: subject.purpose(),
            agent: self.agent_id.clone(),
            request_id: self.clock.request_id(),
            expires_ms: self.clock.now_ms() + CHANGE_DEADLINE.as_millis() as u64,
            policy_sha256: self.config().policy.sha256.clone(),
            subject,
        }
    }

    fn propose(&self, uid: Option<u32>, statement: Statement, effect: Effect) -> PendingRequest {
        let pending = PendingRequest {
            id: statement.request_id.clone(),
            expires_ms: statement.expires_ms,
            approvals_needed: 1,
            approvals: 0,
        };
        tracing::warn!(id = pending.id, "a change that loosens something waits for approval");
        self.changes.put(Change { uid, opened: Instant::now(), collected: Collected::new(statement, 1), effect });
        pending
    }

    /// Those that wait, oldest first.
    pub(crate) fn waiting_changes(&self) -> Vec<ChangeEntry> {
        self.changes.forget_expired();
        let entry = |change: &Change| ChangeEntry {
            id: change.id().to_owned(),
            statement: change.collected.statement().clone(),
            approvals_needed: change.collected.needed(),
            uid: change.uid,
        };
        self.changes.waiting.borrow().iter().map(entry).collect()
    }

    /// Takes an approver's signature over a change, puts it on record, and makes the change. `None`: no change has this id.
    pub(crate) async fn approve_change(&self, id: &str, sshsig: &str, uid: u32) -> Option<Result<DoneReply, Refusal>> {
        let over = self.config().policy.sha256.clone();
        let (effect, approver) = match self.take_approved(id, sshsig)? {
            Ok(approved) => approved,
            Err(refusal) => return Some(Err(refusal)),
        };
        let made = match effect {
            Effect::Unlock => self.unlock_now(uid).map(|reply| reply.done),
            Effect::Load(config) => self.ask_load(config, over).await,
        };
        Some(made.map(|sentence| done(format!("approved by {approver}: {sentence}"))))
    }

    /// One signature makes one change, once.
    fn take_approved(&self, id: &str, sshsig: &str) -> Option<Result<(Effect, String), Refusal>> {
        self.changes.forget_expired();
        let mut changes = self.changes.waiting.borrow_mut();
        let index = changes.iter().position(|change| change.id() == id)?;
        let judged = self.judge(&changes[index], sshsig);
        Some(judged.map(|approver| (changes.remove(index).effect, approver)))
    }

    fn judge(&self, change: &Change, sshsig: &str) -> Result<String, Refusal> {
        let (config, statement) = (self.config(), change.collected.statement());
        let refused = |reason: &dyn std::fmt::Display| {
            let message = format!("this signature does not approve {}: {reason}", change.id());
            Refusal::new(Code::ApprovalRequired, message)
        };
        if statement.policy_sha256 != config.policy.sha256 {
            return Err(refused(&"another configuration is in force since; ask for the change again"));
        }
        let approval = change.collected.judge(&config.policy.approvers, sshsig).map_err(|reason| refused(&reason))?;
        self.recorder.synced(&Record::Approval(Box::new(Approval::of(&approval, change.id(), statement))))?;
        Ok(approval.approver)
    }

    async fn ask_load(&self, config: Rc<Config>, over: String) -> Result<String, Refusal> {
        let (answer, outcome) = tokio::sync::oneshot::channel();
        let stopping = || Refusal::new(Code::Internal, "the agent is stopping");
        self.reload.send(Reload::Approved(config, over, answer)).await.map_err(|_| stopping())?;
        let loaded = outcome.await.map_err(|_| stopping())?;
        loaded.map_err(|reason| Refusal::malformed(format!("the configuration was not loaded: {reason}")))
    }
}
