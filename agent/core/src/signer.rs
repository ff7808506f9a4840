//! The whole life of a request: admit, parse, classify, decide, stamp, draft, count, record, sign,
//! record, answer.
//!
//! Each step is one call; what could not be done is a [`Refusal`] and is recorded too.

mod waiting;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::algorithm::Algorithm;
use crate::draft::{Draft, SessionDraft};
use crate::exchange;
use crate::exchange::classify::{Classified, check_managed, classify};
use crate::exchange::facts::Nonce;
use crate::exchange::login::Login;
use crate::exchange::recipe::Exchange;
use crate::key::Key;
use crate::policy::rate::Rates;
use crate::policy::{self, Client, Decision, Grant, Policy, RECEIVE_WINDOW_CAP_MS, Spend};
use crate::ports::{
    Approvals, Asked, Caller, Clock, Durability, Intent, Ledger, Place, Refused, Signature, Signed,
    Token,
};
use crate::refusal::{Code, Refusal};
use crate::request::Params;
use crate::scope::{Scope, Scopes};
use crate::stamp::Stamp;
use waiting::{Held, What, known};
pub use waiting::{Progress, Waiting};

use crate::wire::{self, RecordId, SessionReply, SessionRequest, SignReply, SignRequest};

/// The longest parameters of a request that persons approve, in bytes of JSON.
const MOST_TO_APPROVE: usize = 4 * 1024;

/// The ports a request passes through.
#[derive(Clone, Copy, Debug)]
pub struct Signer<'a, C, L, T, A> {
    pub clock: &'a C,
    pub ledger: &'a L,
    pub token: &'a T,
    pub approvals: &'a A,
    pub policy: &'a Policy,
    pub rates: &'a RefCell<Rates>,
    /// `lock` was called: nothing is signed.
    pub locked: &'a Cell<bool>,
    pub client: &'a Client,
    pub caller: &'a Caller,
    /// Stands in everything approvers sign: an approval for one agent is none for another.
    pub agent_id: &'a str,
}

/// The enrolled keys. A key that cannot sign now says why: its token is down, its id is not known
/// yet.
pub trait Keyring {
    fn key(&self, name: &str) -> Result<Rc<Key>, Refusal>;
}

/// A refusal with the id it is recorded under.
#[derive(Debug)]
pub struct Answered<T> {
    pub request_id: String,
    pub outcome: Result<T, Refusal>,
}

impl<C: Clock, L: Ledger, T: Token, A: Approvals> Signer<'_, C, L, T, A> {
    /// Answers one `sign@countersign` payload.
    pub async fn sign(&self, keys: &impl Keyring, payload: &[u8]) -> Answered<Progress<SignReply>> {
        let request_id = self.clock.request_id();
        let asked = match self.counted().and_then(|()| SignRequest::parse(payload)) {
            Ok(asked) => asked,
            Err(refusal) => return self.refuse(request_id, "", "", refusal).await,
        };
        let Prepared { key, classified, permit, stamped, host } =
            match self.prepare(keys, &asked, &request_id) {
                Ok(prepared) => prepared,
                Err(refusal) => {
                    let endpoint = format!("{} {}", asked.request.method, asked.request.path);
                    return self.refuse(request_id, asked.key.as_str(), &endpoint, refusal).await;
                }
            };
        let Permit { grant, spends, ask } = permit;
        if let Some(ask) = ask {
            let subject = self.request_subject(&key, host, &asked, &classified);
            let (scope, effective) = (classified.scope, classified.effective);
            let what = What::Request { asked, scope, effective };
            return self.wait(request_id, subject, Held { key, grant, spends, what }, ask).await;
        }
        let scopes = (classified.scope, classified.effective);
        let outcome = self.finish_request(&request_id, &key, grant, &asked, stamped, scopes).await;
        Answered { request_id, outcome: outcome.map(Progress::Finished) }
    }

    /// Answers one `session@countersign` payload.
    pub async fn session(
        &self,
        keys: &impl Keyring,
        payload: &[u8],
    ) -> Answered<Progress<SessionReply>> {
        let request_id = self.clock.request_id();
        let asked = match self.counted().and_then(|()| parse_session(payload)) {
            Ok(asked) => asked,
            Err(refusal) => return self.refuse(request_id, "", "", refusal).await,
        };
        let PreparedSession { key, exchange, permit, draft, login } =
            match self.prepare_session(keys, &asked, &request_id) {
                Ok(prepared) => prepared,
                Err(refusal) => {
                    return self.refuse(request_id, &asked.key, "session", refusal).await;
                }
            };
        let Permit { grant, spends, ask } = permit;
        if let Some(ask) = ask {
            let subject = self.session_subject(&key, exchange, &login);
            let what = What::Session { login };
            return self.wait(request_id, subject, Held { key, grant, spends, what }, ask).await;
        }
        let outcome =
            self.finish_session(&request_id, &key, grant, draft, (exchange, &login)).await;
        Answered { request_id, outcome: outcome.map(Progress::Finished) }
    }

    /// Steps 2 to 7: find the key, classify, decide, draft, count, record the intent.
    ///
    /// The draft comes before the count: what a recipe refuses adds nothing to a limit.
    fn prepare<'a>(
        &self,
        keys: &impl Keyring,
        asked: &'a SignRequest,
        request_id: &str,
    ) -> Result<Prepared<'a>, Refusal> {
        self.unlocked()?;
        let (key, exchange) = self.find(keys, asked.key.as_str())?;
        check_managed(exchange, &asked.request.params, RECEIVE_WINDOW_CAP_MS)?;
        let host = exchange.host(&asked.request, key.environment)?;
        let classified = classify(exchange, key.algorithm, &asked.request)?;
        let decision = self.policy.decide(self.client, &key, exchange, &classified);
        let permit = self.permitted(&key, decision, classified.effective)?;
        if permit.ask.is_some() {
            can_be_read(&asked.request.params)?;
        }
        let stamped = self.stamped(&key, exchange, host, asked)?;
        let what = Asked::Request { request: asked, classified: &classified };
        self.record_intent(request_id, &key, what, classified.effective, &permit.spends)?;
        Ok(Prepared { key, classified, permit, stamped, host })
    }

    fn prepare_session(
        &self,
        keys: &impl Keyring,
        asked: &SessionRequest,
        request_id: &str,
    ) -> Result<PreparedSession, Refusal> {
        self.unlocked()?;
        let (key, exchange) = self.find(keys, &asked.key)?;
        let login = Login::parse(
            &asked.purpose,
            asked.channel.as_deref(),
            asked.challenge.as_deref(),
            &asked.symbols,
        )?;
        let effective = exchange.session_scopes(exchange.session_grants(key.algorithm, &login));
        let decision = self.policy.decide_session(self.client, &key, exchange, &login);
        let permit = self.permitted(&key, decision, effective)?;
        let draft = exchange.session(&key, &login, &self.stamp(&key, exchange)?)?;
        let what = Asked::Session { purpose: &login.to_string() };
        self.record_intent(request_id, &key, what, effective, &permit.spends)?;
        Ok(PreparedSession { key, exchange, permit, draft, login })
    }

    /// Step 1: the client's rate counts what is to be judged, before anything of it is read.
    fn counted(&self) -> Result<(), Refusal> {
        self.rates.borrow_mut().take(self.client, self.clock.since_boot_ms())
    }

    /// Nothing is signed while locked.
    fn unlocked(&self) -> Result<(), Refusal> {
        match self.locked.get() {
            true => Err(Refusal::new(
                Code::AgentLocked,
                "the agent is locked; the operator has to unlock it",
            )),
            false => Ok(()),
        }
    }

    fn find(
        &self,
        keys: &impl Keyring,
        name: &str,
    ) -> Result<(Rc<Key>, &'static dyn Exchange), Refusal> {
        if !self.client.keys.contains(name) {
            return Err(Refusal::new(Code::KeyUnknown, policy::unknown_key(name)));
        }
        let key = keys.key(name)?;
        let exchange = exchange::named(key.exchange).ok_or_else(|| {
            Refusal::new(Code::Internal, format!("the exchange {} is not known", key.exchange))
        })?;
        Ok((key, exchange))
    }

    /// What policy allows, unless it moves money or keys and the clock is in doubt: limits per day,
    /// the expiry of an approval and the times on record are only worth as much as the clock. What
    /// persons have to approve needs a place among the requests that wait.
    fn permitted(
        &self,
        key: &Key,
        decision: Decision,
        effective: Scopes,
    ) -> Result<Permit, Refusal> {
        let (grant, spends, approvals) = match decision {
            Decision::Allow { grant, spends } => (grant, spends, 0),
            Decision::Ask { grant, spends, approvals } => (grant, spends, approvals),
            Decision::Deny(denied) => return Err(denied.refusal),
        };
        self.trusted_clock(effective)?;
        let ask = match approvals {
            0 => None,
            approvals => Some(self.ask(key, approvals)?),
        };
        Ok(Permit { grant, spends, ask })
    }

    /// What needs more approvals than there are approvers is refused, not left waiting in vain.
    fn ask(&self, key: &Key, approvals: u32) -> Result<Ask, Refusal> {
        if let Some(denied) = self.policy.too_few_persons(approvals) {
            return Err(denied.refusal);
        }
        Ok(Ask { approvals, place: self.approvals.place(key)? })
    }

    fn trusted_clock(&self, effective: Scopes) -> Result<(), Refusal> {
        match self.clock.doubt() {
            Some(doubt) if durability(effective) == Durability::Synced => {
                Err(Refusal::new(Code::ClockUntrusted, doubt))
            }
            _ => Ok(()),
        }
    }

    fn stamp(&self, key: &Key, exchange: &dyn Exchange) -> Result<Stamp, Refusal> {
        let facts = exchange.facts();
        let nonce =
            if matches!(facts.nonce, Nonce::Increasing(_)) { self.ledger.nonce(key)? } else { 0 };
        let receive_window_ms = facts.receive_window.map(|window| window.default_ms);
        Ok(Stamp {
            now_ms: self.clock.now_ms(),
            nonce,
            random: self.clock.random(),
            receive_window_ms,
        })
    }

    /// Step 5: the limits are counted and the intent is recorded, before any token is asked. A
    /// token that cannot be asked leaves neither.
    fn record_intent(
        &self,
        request_id: &str,
        key: &Key,
        asked: Asked<'_>,
        effective: Scopes,
        spends: &[Spend],
    ) -> Result<(), Refusal> {
        self.token.ready(key)?;
        let intent = Intent { request_id, caller: self.caller, key, asked, effective, spends };
        self.ledger.intend(&intent, durability(effective))
    }

    /// The request as it stands at this moment.
    fn stamped(
        &self,
        key: &Key,
        exchange: &dyn Exchange,
        host: &'static str,
        asked: &SignRequest,
    ) -> Result<Stamped, Refusal> {
        let stamp = self.stamp(key, exchange)?;
        let draft = exchange.draft(&asked.request, key, host, &stamp)?;
        Ok(Stamped { draft, window: self.window(exchange, asked), nonce: stamp.nonce })
    }

    /// Until when the exchange takes what is stamped now: what the request asks for itself, or the
    /// recipe's own.
    fn window(&self, exchange: &dyn Exchange, asked: &SignRequest) -> Window {
        let Some(window) = exchange.facts().receive_window else { return Window::default() };
        let own = asked.request.params.get(window.name).and_then(|own| own.scalar()?.parse().ok());
        let length_ms = own.unwrap_or(window.default_ms);
        Window { length_ms, ends_ms: Some(self.clock.since_boot_ms() + length_ms) }
    }

    /// Step 8: the token consumes the grant.
    async fn ask_token(
        &self,
        grant: Grant,
        key: &Key,
        algorithm: Algorithm,
        message: &[u8],
    ) -> Result<Signed, Refusal> {
        self.ledger.may_ask().await?;
        self.token.sign(grant, key, algorithm, message).await.map_err(Refusal::from)
    }

    /// A token may take long, above all one that waits for a touch. What it signs after `lock` is
    /// thrown away.
    fn not_locked_meanwhile(
        &self,
        request_id: &str,
        key: &Key,
        message: &[u8],
    ) -> Result<(), Refusal> {
        if !self.locked.get() {
            return Ok(());
        }
        self.ledger.thrown_away(request_id, key, message)?;
        Err(Refusal::new(
            Code::AgentLocked,
            "the agent was locked while the token signed: the signature was thrown away",
        ))
    }

    /// A signature that the exchange would refuse is not handed out: it would only look like one.
    /// It is thrown away and, where persons approved the request and the key takes no touch,
    /// stamped and signed once more under their approval. Nobody is asked for a second touch: it
    /// would be one they were not told of. What nobody approved is asked for again by its client,
    /// who is promised an answer sooner than two signatures may take.
    async fn sign_in_time(
        &self,
        request_id: &str,
        key: &Key,
        mut grant: Grant,
        asked: &SignRequest,
        mut stamped: Stamped,
    ) -> Result<(Draft, Signature), Refusal> {
        let takes_touch = self.token.takes_touch(key);
        let tries = if grant.evidence().is_some() && !takes_touch { 2 } else { 1 };
        for attempt in 1..=tries {
            let Stamped { draft, window, .. } = stamped;
            let signed = self.ask_token(grant, key, draft.algorithm, &draft.message).await?;
            let drafted = signed.signature.drafted.as_deref();
            let message = drafted.map_or(&draft.message, |drafted| &drafted.message);
            let window =
                drafted.map_or(window, |drafted| window.stamped_at(drafted.stamped_since_boot_ms));
            // A vault stamps after the touch.
            let touched_late = takes_touch && drafted.is_none();
            self.not_locked_meanwhile(request_id, key, message)?;
            if window.holds(self.clock.since_boot_ms()) {
                return Ok((draft, signed.signature));
            }
            self.ledger.thrown_away(request_id, key, message)?;
            grant = signed.throw_away();
            if attempt == tries {
                return Err(window.missed(touched_late));
            }
            let exchange = known(key)?;
            stamped = self.stamped(
                key,
                exchange,
                exchange.host(&asked.request, key.environment)?,
                asked,
            )?;
        }
        Err(Refusal::new(Code::Internal, "no signature was asked for"))
    }

    /// Step 9: the reply may leave once intent and result stand. `message` is the agent's, unless
    /// the token drafted one itself.
    async fn record_result(
        &self,
        request_id: &str,
        key: &Key,
        signed: Result<(&[u8], &Signature), Refusal>,
    ) -> Result<RecordId, Refusal> {
        let outcome = match signed {
            Ok((message, signature)) => {
                let message =
                    signature.drafted.as_ref().map_or(message, |drafted| &drafted.message);
                Ok(self.ledger.signed(request_id, key, message)?)
            }
            Err(refusal) => {
                self.ledger.failed(request_id, key, &refusal, &[])?;
                Err(refusal)
            }
        };
        self.ledger.written().await?;
        outcome
    }

    async fn finish_request(
        &self,
        request_id: &str,
        key: &Key,
        grant: Grant,
        asked: &SignRequest,
        stamped: Stamped,
        (scope, effective): (Scope, Scopes),
    ) -> Result<SignReply, Refusal> {
        let signed = self.sign_in_time(request_id, key, grant, asked, stamped).await;
        let result = signed
            .as_ref()
            .map(|(draft, signature)| (&draft.message[..], signature))
            .map_err(Clone::clone);
        let record = self.record_result(request_id, key, result).await?;
        let (draft, signature) = signed?;
        let finished = match signature.drafted {
            Some(drafted) => drafted.finished,
            None => draft.finish(&signature.bytes, signature.passphrase.as_ref())?,
        };
        Ok(SignReply::new(request_id.to_owned(), scope, effective, finished, record))
    }

    async fn finish_session(
        &self,
        request_id: &str,
        key: &Key,
        grant: Grant,
        draft: SessionDraft,
        (exchange, login): (&dyn Exchange, &Login),
    ) -> Result<SessionReply, Refusal> {
        // A login's time is the exchange's to judge, and another costs nothing but a touch.
        let signed = self.ask_token(grant, key, draft.algorithm, &draft.message).await;
        let signed = signed.and_then(|signed| {
            self.not_locked_meanwhile(request_id, key, &draft.message)?;
            Ok(signed)
        });
        let result = signed
            .as_ref()
            .map(|signed| (&draft.message[..], &signed.signature))
            .map_err(Clone::clone);
        let record = self.record_result(request_id, key, result).await?;
        let signature = signed?.signature;
        let finished = draft.finish(&signature.bytes, signature.passphrase.as_ref())?;
        let grants = exchange.session_grants(key.algorithm, login);
        let (effective, grants) =
            (exchange.session_scopes(grants), grants.iter().copied().collect::<Scopes>());
        Ok(SessionReply::new(request_id.to_owned(), effective, grants, finished, record))
    }

    async fn refuse<R>(
        &self,
        request_id: String,
        key: &str,
        endpoint: &str,
        refusal: Refusal,
    ) -> Answered<R> {
        let refused = Refused {
            request_id: &request_id,
            caller: self.caller,
            key,
            endpoint,
            refusal: &refusal,
        };
        // A refusal that cannot be recorded is a fault of the ledger, and that is what the client
        // has to hear.
        let recorded = match self.ledger.refused(&refused) {
            Ok(()) => self.ledger.written().await,
            Err(fault) => Err(fault),
        };
        Answered { request_id, outcome: Err(recorded.err().unwrap_or(refusal)) }
    }
}

/// A request as it stands at one moment.
#[derive(Debug)]
struct Stamped {
    draft: Draft,
    window: Window,
    /// Reserved for it, where the exchange wants one.
    nonce: u64,
}

/// The time within which an exchange takes a signature, where it has one that is known.
#[derive(Clone, Copy, Debug, Default)]
struct Window {
    length_ms: u64,
    /// By the clock that only passes.
    ends_ms: Option<u64>,
}

impl Window {
    /// The same for what was stamped at another moment.
    fn stamped_at(self, since_boot_ms: u64) -> Self {
        Self { ends_ms: self.ends_ms.map(|_| since_boot_ms + self.length_ms), ..self }
    }

    fn holds(self, now_ms: u64) -> bool {
        self.ends_ms.is_none_or(|ends_ms| now_ms < ends_ms)
    }

    /// What a person is told, and what they can do.
    fn missed(self, touched_late: bool) -> Refusal {
        let seconds = Duration::from_millis(self.length_ms).as_secs_f64();
        let message = if touched_late {
            format!(
                "the touch took longer than the {seconds} s the exchange allows: the signature was \
                 thrown away; ask again, \
                 touch sooner"
            )
        } else {
            format!(
                "the token took longer than the {seconds} s the exchange allows: what it signed \
                 was thrown away; ask again, or \
                 for a longer receive window, and see why the token is slow"
            )
        };
        Refusal::new(Code::TokenTooLate, message)
    }
}

/// A request that may be signed now, or once persons approved it: counted, and recorded as an
/// intent.
struct Prepared<'a> {
    key: Rc<Key>,
    classified: Classified<'a>,
    permit: Permit,
    stamped: Stamped,
    host: &'static str,
}

/// What moves money or keys has to be on the disk before the token is asked.
fn durability(effective: Scopes) -> Durability {
    let moves = [Scope::Transfer, Scope::Withdraw, Scope::Admin]
        .into_iter()
        .any(|scope| effective.contains(scope));
    if moves { Durability::Synced } else { Durability::Written }
}

struct PreparedSession {
    key: Rc<Key>,
    exchange: &'static dyn Exchange,
    permit: Permit,
    draft: SessionDraft,
    login: Login,
}

/// What policy gave.
struct Permit {
    grant: Grant,
    spends: Vec<Spend>,
    /// Persons have to approve before the grant may be used.
    ask: Option<Ask>,
}

struct Ask {
    approvals: u32,
    place: Place,
}

/// A person reads all of what is approved, and `pending` shows all that waits at once.
fn can_be_read(params: &Params) -> Result<(), Refusal> {
    let length = params.value().to_json().len();
    if length <= MOST_TO_APPROVE {
        return Ok(());
    }
    let message = format!(
        "{length} bytes of parameters are more than a person can approve, which is \
         {MOST_TO_APPROVE}"
    );
    Err(Refusal::malformed(message))
}

fn parse_session(payload: &[u8]) -> Result<SessionRequest, Refusal> {
    let asked: SessionRequest = wire::parse(payload)?;
    wire::check_version(asked.v)?;
    wire::key_name(&asked.key)?;
    Ok(asked)
}

#[cfg(test)]
mod signer_tests;
