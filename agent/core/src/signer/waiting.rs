//! A request between its intent and its signature, while persons decide.

use std::rc::Rc;

use super::{Answered, Ask, KeyLookup, Signer, Stamped};
use crate::approval::{Approved, Purpose, Statement, Subject};
use crate::draft::SessionDraft;
use crate::exchange;
use crate::exchange::classify::Classified;
use crate::exchange::login::SessionLogin;
use crate::exchange::recipe::Exchange;
use crate::key::Key;
use crate::policy::{Grant, Spend};
use crate::ports::{Approvals, Begun, Caller, Clock, Ledger, Token, WaitingPlace};
use crate::refusal::{Code, Refusal};
use crate::scope::{Scope, Scopes};
use crate::wire::{FinishedReply, SignRequest};

/// The reply to a request, or the request if persons have to approve it first.
#[derive(Debug)]
pub enum Progress<R> {
    Finished(R),
    Waiting(Box<Waiting>),
}

/// A request that is counted and recorded, and waits for persons. [`Signer::sign_approved`] signs
/// it; [`Signer::give_up`] gives it up.
#[derive(Debug)]
pub struct Waiting {
    pub statement: Statement,
    pub approvals_needed: u32,
    pub caller: Caller,
    held: Held,
    _place: WaitingPlace,
}

/// Everything that the signature needs once the request is approved.
#[derive(Debug)]
pub(super) struct Held {
    pub key: Rc<Key>,
    pub grant: Grant,
    pub spends: Vec<Spend>,
    pub what: What,
}

/// The request or the login that was asked for.
#[derive(Debug)]
pub(super) enum What {
    Request { asked: SignRequest, scope: Scope, effective: Scopes },
    Session { login: SessionLogin },
}

impl Waiting {
    pub fn key(&self) -> &Rc<Key> {
        &self.held.key
    }

    /// The amounts that are counted against limits until this is signed or given up.
    pub fn spends(&self) -> &[Spend] {
        &self.held.spends
    }

    /// The client's reason, if it gave one.
    pub fn reason(&self) -> Option<&str> {
        match &self.held.what {
            What::Request { asked, .. } => asked.reason.as_deref(),
            What::Session { .. } => None,
        }
    }
}

impl<C: Clock, L: Ledger, T: Token, A: Approvals> Signer<'_, C, L, T, A> {
    /// Signs a request that its approvers agreed to. It stamps the request only now, because a
    /// touch takes longer than most exchanges' time windows.
    pub async fn sign_approved(
        &self,
        keys: &impl KeyLookup,
        waiting: Waiting,
        approved: Approved,
    ) -> Answered<FinishedReply> {
        let request_id = waiting.statement.request_id.clone();
        if let Err(refusal) = self.still_stands(keys, &waiting, &approved) {
            return self.give_up(waiting, refusal).await;
        }
        let outcome = self.sign_now(&request_id, waiting.held, approved).await;
        Answered { request_id, outcome }
    }

    /// Gives up a request that nobody will approve any more, and records that. The amounts counted
    /// for it are free again, because nothing was signed.
    pub async fn give_up<R>(&self, waiting: Waiting, refusal: Refusal) -> Answered<R> {
        let request_id = waiting.statement.request_id;
        let outcome = Err(self
            .drop_intent(&request_id, &waiting.held.key, &waiting.held.spends, refusal)
            .await);
        Answered { request_id, outcome }
    }

    /// Records that an intent ended before the token was asked; returns the refusal for the client.
    async fn drop_intent(
        &self,
        request_id: &str,
        key: &Key,
        spends: &[Spend],
        refusal: Refusal,
    ) -> Refusal {
        let recorded = match self.ledger.failed(&Begun::recorded(request_id, key), &refusal, spends)
        {
            Ok(()) => self.ledger.written().await,
            Err(fault) => Err(fault),
        };
        recorded.err().unwrap_or(refusal)
    }

    fn still_stands(
        &self,
        keys: &impl KeyLookup,
        waiting: &Waiting,
        approved: &Approved,
    ) -> Result<(), Refusal> {
        let cancelled = |message: &str| Err(Refusal::new(Code::ApprovalCancelled, message));
        if approved.request_id() != waiting.statement.request_id {
            return Err(Refusal::new(Code::Internal, "the approvals are those of another request"));
        }
        if let Some(doubt) = self.clock.doubt() {
            return Err(Refusal::new(Code::ClockUntrusted, doubt));
        }
        if self.locked.get() {
            return cancelled("the agent was locked");
        }
        if self.clock.now_ms() >= waiting.statement.expires_ms {
            return Err(Refusal::new(Code::ApprovalExpired, "nobody approved it in time"));
        }
        if self.policy.sha256 != waiting.statement.policy_sha256 {
            return cancelled("the configuration it was judged by is no longer in force");
        }
        if *keys.key(waiting.key().name.as_str())? != **waiting.key() {
            return cancelled("its key was changed");
        }
        Ok(())
    }

    /// Sets a counted and recorded request aside until it is approved. Its intent is written before
    /// this returns.
    pub(super) async fn wait<R>(
        &self,
        request_id: String,
        subject: Subject,
        held: Held,
        ask: Ask,
    ) -> Answered<Progress<R>> {
        let Ask { approvals: approvals_needed, place: _place } = ask;
        let (statement, caller) = (self.statement(&request_id, subject), self.caller.clone());
        let waiting = Waiting { statement, approvals_needed, caller, held, _place };
        let outcome = self.ledger.written().await.map(|()| Progress::Waiting(Box::new(waiting)));
        Answered { request_id, outcome }
    }

    async fn sign_now(
        &self,
        request_id: &str,
        held: Held,
        approved: Approved,
    ) -> Result<FinishedReply, Refusal> {
        let Held { key, grant, spends, what } = held;
        let begun = Begun::recorded(request_id, &key);
        match self.redraft(&key, &what) {
            Err(refusal) => Err(self.drop_intent(request_id, &key, &spends, refusal).await),
            Ok(Redrafted::Request(stamped, asked, scopes)) => {
                let grant = grant.with(approved, stamped.nonce);
                let reply = self.finish_request(&begun, grant, asked, stamped, scopes).await;
                reply.map(FinishedReply::Request)
            }
            Ok(Redrafted::Session(draft, exchange, login)) => self
                .finish_session(&begun, grant, draft, (exchange, login))
                .await
                .map(FinishedReply::Session),
        }
    }

    fn redraft<'a>(&self, key: &Key, what: &'a What) -> Result<Redrafted<'a>, Refusal> {
        let exchange = known(key)?;
        Ok(match what {
            What::Request { asked, scope, effective } => {
                let host = exchange.host(&asked.request, key.environment)?;
                Redrafted::Request(
                    self.stamped(key, exchange, host, asked)?,
                    asked,
                    (*scope, *effective),
                )
            }
            What::Session { login } => {
                let stamp = self.stamp(key, exchange)?;
                Redrafted::Session(exchange.session(key, login, &stamp)?, exchange, login)
            }
        })
    }

    /// The statement that the approvers of this request sign.
    fn statement(&self, request_id: &str, subject: Subject) -> Statement {
        Statement {
            purpose: Purpose::Approval,
            agent: self.agent_id.to_owned(),
            request_id: request_id.to_owned(),
            expires_ms: self.clock.now_ms() + self.policy.approval_timeout_ms,
            policy_sha256: self.policy.sha256.clone(),
            subject,
        }
    }

    pub(super) fn request_subject(
        &self,
        key: &Key,
        host: &str,
        asked: &SignRequest,
        classified: &Classified<'_>,
    ) -> Subject {
        Subject::Request {
            client: self.client.name.clone(),
            key: key.name.clone(),
            exchange: key.exchange.to_owned(),
            environment: key.environment,
            algorithm: exchange::named(key.exchange)
                .is_none_or(|exchange| exchange.facts().algorithms[0] != key.algorithm)
                .then_some(key.algorithm),
            host: host.to_owned(),
            method: asked.request.method.name().to_owned(),
            path: asked.request.path.as_str().to_owned(),
            params: asked.request.params.value().to_json(),
            params_in: asked.request.params_in,
            effective_scopes: classified.effective,
            transfers: classified.transfers.clone(),
        }
    }

    pub(super) fn session_subject(
        &self,
        key: &Key,
        exchange: &dyn Exchange,
        login: &SessionLogin,
    ) -> Subject {
        Subject::Session {
            client: self.client.name.clone(),
            key: key.name.clone(),
            exchange: key.exchange.to_owned(),
            environment: key.environment,
            session: login.to_string(),
            effective_scopes: exchange
                .session_scopes(exchange.session_grants(key.algorithm, login)),
        }
    }
}

/// The bytes to sign, stamped after the approval.
enum Redrafted<'a> {
    Request(Stamped, &'a SignRequest, (Scope, Scopes)),
    Session(SessionDraft, &'static dyn Exchange, &'a SessionLogin),
}

pub(super) fn known(key: &Key) -> Result<&'static dyn Exchange, Refusal> {
    exchange::named(key.exchange).ok_or_else(|| {
        Refusal::new(Code::Internal, format!("the exchange {} is not known", key.exchange))
    })
}
