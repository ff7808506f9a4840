//! The whole life of a request: admit, parse, classify, decide, stamp, draft, count, record, sign,
//! record, answer.
//!
//! Each step is one call. A step that cannot be done gives a [`Refusal`], which is recorded too.

mod waiting;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use crate::algorithm::Algorithm;
use crate::draft::{Draft, SessionDraft};
use crate::exchange;
use crate::exchange::classify::{Classified, check_managed, classify};
use crate::exchange::facts::Nonce;
use crate::exchange::login::SessionLogin;
use crate::exchange::recipe::Exchange;
use crate::key::Key;
use crate::policy::rate::Rates;
use crate::policy::{self, Client, Decision, Grant, Policy, RECEIVE_WINDOW_CAP_MS, Spend};
use crate::ports::{
    Approvals, Asked, Begun, Caller, Clock, Durability, Ledger, RefusedRequest, Signature, Signed,
    SigningIntent, Token, WaitingPlace,
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
    /// True after `lock`: nothing is signed.
    pub locked: &'a Cell<bool>,
    pub client: &'a Client,
    pub caller: &'a Caller,
    /// Part of everything that approvers sign, so that an approval for one agent is not valid for
    /// another.
    pub agent_id: &'a str,
}

/// The enrolled keys. The refusal for a key that cannot sign now says why: its token is down, or
/// its id is not known yet.
pub trait KeyLookup {
    fn key(&self, name: &str) -> Result<Rc<Key>, Refusal>;
}

/// A reply or a refusal, with the id it is recorded under.
#[derive(Debug)]
pub struct Answered<T> {
    pub request_id: String,
    pub outcome: Result<T, Refusal>,
}

impl<C: Clock, L: Ledger, T: Token, A: Approvals> Signer<'_, C, L, T, A> {
    /// Answers one `sign@countersign` payload.
    pub async fn sign(
        &self,
        keys: &impl KeyLookup,
        payload: &[u8],
    ) -> Answered<Progress<SignReply>> {
        let request_id = self.clock.request_id();
        let asked = match self.counted().and_then(|()| SignRequest::parse(payload)) {
            Ok(asked) => asked,
            Err(refusal) => return self.refuse(request_id, "", "", refusal).await,
        };
        let PreparedRequest { key, classified, permit, stamped, host } =
            match self.prepare(keys, &asked) {
                Ok(prepared) => prepared,
                Err(refusal) => return self.refuse_request(request_id, &asked, refusal).await,
            };
        let Permit { grant, spends, ask } = permit;
        let what = Asked::Request { request: &asked, classified: &classified };
        let effective = classified.effective;
        let intent = self.intent(&request_id, &key, what, effective, &spends, payload.len());
        let durability = durability(effective, ask.is_none());
        let begun = match self.begin(intent, durability) {
            Ok(begun) => begun,
            Err(refusal) => return self.refuse_request(request_id, &asked, refusal).await,
        };
        if let Some(ask) = ask {
            let subject = self.request_subject(&key, host, &asked, &classified);
            let scope = classified.scope;
            let what = What::Request { asked, scope, effective };
            return self.wait(request_id, subject, Held { key, grant, spends, what }, ask).await;
        }
        let scopes = (classified.scope, effective);
        let outcome = self.finish_request(&begun, grant, &asked, stamped, scopes).await;
        Answered { request_id, outcome: outcome.map(Progress::Finished) }
    }

    /// Answers one `session@countersign` payload.
    pub async fn session(
        &self,
        keys: &impl KeyLookup,
        payload: &[u8],
    ) -> Answered<Progress<SessionReply>> {
        let request_id = self.clock.request_id();
        let asked = match self.counted().and_then(|()| parse_session(payload)) {
            Ok(asked) => asked,
            Err(refusal) => return self.refuse(request_id, "", "", refusal).await,
        };
        let PreparedSession { key, exchange, effective, permit, draft, login } =
            match self.prepare_session(keys, &asked) {
                Ok(prepared) => prepared,
                Err(refusal) => {
                    return self.refuse(request_id, &asked.key, "session", refusal).await;
                }
            };
        let Permit { grant, spends, ask } = permit;
        let purpose = login.to_string();
        let what = Asked::Session { purpose: &purpose };
        let intent = self.intent(&request_id, &key, what, effective, &spends, payload.len());
        let begun = match self.begin(intent, durability(effective, false)) {
            Ok(begun) => begun,
            Err(refusal) => return self.refuse(request_id, &asked.key, "session", refusal).await,
        };
        if let Some(ask) = ask {
            let subject = self.session_subject(&key, exchange, &login);
            let what = What::Session { login };
            return self.wait(request_id, subject, Held { key, grant, spends, what }, ask).await;
        }
        let outcome = self.finish_session(&begun, grant, draft, (exchange, &login)).await;
        Answered { request_id, outcome: outcome.map(Progress::Finished) }
    }

    /// Steps 2 to 5: find the key, classify, decide, draft.
    ///
    /// The draft comes before the count, so that a request which the recipe refuses adds nothing to
    /// a limit.
    fn prepare<'a>(
        &self,
        keys: &impl KeyLookup,
        asked: &'a SignRequest,
    ) -> Result<PreparedRequest<'a>, Refusal> {
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
        Ok(PreparedRequest { key, classified, permit, stamped, host })
    }

    fn prepare_session(
        &self,
        keys: &impl KeyLookup,
        asked: &SessionRequest,
    ) -> Result<PreparedSession, Refusal> {
        self.unlocked()?;
        let (key, exchange) = self.find(keys, &asked.key)?;
        let login = SessionLogin::parse(
            &asked.purpose,
            asked.channel.as_deref(),
            asked.challenge.as_deref(),
            &asked.symbols,
        )?;
        let effective = exchange.session_scopes(exchange.session_grants(key.algorithm, &login));
        let decision = self.policy.decide_session(self.client, &key, exchange, &login);
        let permit = self.permitted(&key, decision, effective)?;
        let draft = exchange.session(&key, &login, &self.stamp(&key, exchange)?)?;
        Ok(PreparedSession { key, exchange, effective, permit, draft, login })
    }

    /// Step 1: counts the request against the client's rate, before any of it is read.
    fn counted(&self) -> Result<(), Refusal> {
        self.rates.borrow_mut().take(self.client, self.clock.since_boot_ms())
    }

    /// Refuses while the agent is locked.
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
        keys: &impl KeyLookup,
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

    /// Turns the decision of policy into a permit. While the clock is in doubt it refuses a request
    /// that moves money or keys: limits per day, the expiry of an approval and the times on record
    /// are only as good as the clock. A request that persons have to approve needs a place among
    /// the requests that wait.
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

    /// Takes a place for a request that persons have to approve. A request that needs more
    /// approvals than there are persons is refused, instead of waiting in vain.
    fn ask(&self, key: &Key, approvals: u32) -> Result<Ask, Refusal> {
        if let Some(denied) = self.policy.too_few_persons(approvals) {
            return Err(denied.refusal);
        }
        Ok(Ask { approvals, place: self.approvals.place(key)? })
    }

    fn trusted_clock(&self, effective: Scopes) -> Result<(), Refusal> {
        match self.clock.doubt() {
            Some(doubt) if moves_money_or_keys(effective) => {
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

    fn intent<'a>(
        &'a self,
        request_id: &'a str,
        key: &'a Key,
        asked: Asked<'a>,
        effective: Scopes,
        spends: &'a [Spend],
        payload: usize,
    ) -> SigningIntent<'a> {
        SigningIntent { request_id, caller: self.caller, key, asked, effective, spends, payload }
    }

    /// Steps 6 and 7: counts the limits and has the ledger take the intent, before any token is
    /// asked. It does neither if the token cannot be asked.
    fn begin<'a>(
        &self,
        intent: SigningIntent<'a>,
        durability: Durability,
    ) -> Result<Begun<'a>, Refusal> {
        self.token.ready(intent.key)?;
        self.ledger.intend(intent, durability)
    }

    /// Stamps the request with this moment, and drafts it.
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

    /// The time within which the exchange takes a request that is stamped now. The request may ask
    /// for its length; otherwise it has the recipe's default length.
    fn window(&self, exchange: &dyn Exchange, asked: &SignRequest) -> ReceiveWindow {
        let Some(window) = exchange.facts().receive_window else {
            return ReceiveWindow::default();
        };
        let own = asked.request.params.get(window.name).and_then(|own| own.scalar()?.parse().ok());
        let length_ms = own.unwrap_or(window.default_ms);
        ReceiveWindow { length_ms, ends_ms: Some(self.clock.since_boot_ms() + length_ms) }
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

    /// Throws away a signature that was made after `lock`. A token may take long, above all one
    /// that waits for a touch.
    fn not_locked_meanwhile(&self, begun: &Begun<'_>, message: &[u8]) -> Result<(), Refusal> {
        if !self.locked.get() {
            return Ok(());
        }
        self.ledger.thrown_away(begun, message)?;
        Err(Refusal::new(
            Code::AgentLocked,
            "the agent was locked while the token signed: the signature was thrown away",
        ))
    }

    /// Signs a request. A signature that comes too late for the exchange is thrown away, because
    /// the exchange would refuse it. If persons approved the request and the key takes no touch,
    /// the agent then stamps and signs it once more under their approval. The agent never asks for
    /// a second touch: the person was told of one. If no person approved the request, the agent
    /// does not sign it again: the client was promised an answer sooner than two signatures may
    /// take, and it can ask again.
    async fn sign_in_time(
        &self,
        begun: &Begun<'_>,
        mut grant: Grant,
        asked: &SignRequest,
        mut stamped: Stamped,
    ) -> Result<(Draft, Signature), Refusal> {
        let key = begun.key;
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
            self.not_locked_meanwhile(begun, message)?;
            if window.holds(self.clock.since_boot_ms()) {
                return Ok((draft, signed.signature));
            }
            self.ledger.thrown_away(begun, message)?;
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

    /// Step 9: records the result, and the intent too if that is not on record yet. The reply may
    /// leave once both are written. The message of `signed` is the agent's; if the token drafted
    /// one itself, that one is recorded.
    async fn record_result(
        &self,
        begun: &Begun<'_>,
        signed: Result<(&[u8], &Signature), Refusal>,
    ) -> Result<RecordId, Refusal> {
        let outcome = match signed {
            Ok((message, signature)) => {
                let message =
                    signature.drafted.as_ref().map_or(message, |drafted| &drafted.message);
                Ok(self.ledger.signed(begun, message)?)
            }
            Err(refusal) => {
                self.ledger.failed(begun, &refusal, &[])?;
                Err(refusal)
            }
        };
        self.ledger.written().await?;
        outcome
    }

    async fn finish_request(
        &self,
        begun: &Begun<'_>,
        grant: Grant,
        asked: &SignRequest,
        stamped: Stamped,
        (scope, effective): (Scope, Scopes),
    ) -> Result<SignReply, Refusal> {
        let signed = self.sign_in_time(begun, grant, asked, stamped).await;
        let result = signed
            .as_ref()
            .map(|(draft, signature)| (&draft.message[..], signature))
            .map_err(Clone::clone);
        let record = self.record_result(begun, result).await?;
        let (draft, signature) = signed?;
        let finished = match signature.drafted {
            Some(drafted) => drafted.finished,
            None => draft.finish(&signature.bytes, signature.passphrase.as_ref())?,
        };
        Ok(SignReply::new(begun.request_id.to_owned(), scope, effective, finished, record))
    }

    async fn finish_session(
        &self,
        begun: &Begun<'_>,
        grant: Grant,
        draft: SessionDraft,
        (exchange, login): (&dyn Exchange, &SessionLogin),
    ) -> Result<SessionReply, Refusal> {
        // The exchange judges the time of a login, and another login costs nothing but a touch. So
        // a late signature is not thrown away here.
        let key = begun.key;
        let signed = self.ask_token(grant, key, draft.algorithm, &draft.message).await;
        let signed = signed.and_then(|signed| {
            self.not_locked_meanwhile(begun, &draft.message)?;
            Ok(signed)
        });
        let result = signed
            .as_ref()
            .map(|signed| (&draft.message[..], &signed.signature))
            .map_err(Clone::clone);
        let record = self.record_result(begun, result).await?;
        let signature = signed?.signature;
        let finished = draft.finish(&signature.bytes, signature.passphrase.as_ref())?;
        let grants = exchange.session_grants(key.algorithm, login);
        let (effective, grants) =
            (exchange.session_scopes(grants), grants.iter().copied().collect::<Scopes>());
        Ok(SessionReply::new(begun.request_id.to_owned(), effective, grants, finished, record))
    }

    async fn refuse_request<R>(
        &self,
        request_id: String,
        asked: &SignRequest,
        refusal: Refusal,
    ) -> Answered<R> {
        let endpoint = format!("{} {}", asked.request.method, asked.request.path);
        self.refuse(request_id, asked.key.as_str(), &endpoint, refusal).await
    }

    async fn refuse<R>(
        &self,
        request_id: String,
        key: &str,
        endpoint: &str,
        refusal: Refusal,
    ) -> Answered<R> {
        let refused = RefusedRequest {
            request_id: &request_id,
            caller: self.caller,
            key,
            endpoint,
            refusal: &refusal,
        };
        // If the refusal cannot be recorded, the client has to hear of that fault of the ledger.
        let recorded = match self.ledger.refused(&refused) {
            Ok(()) => self.ledger.written().await,
            Err(fault) => Err(fault),
        };
        Answered { request_id, outcome: Err(recorded.err().unwrap_or(refusal)) }
    }
}

/// A request that was stamped and drafted at one moment.
#[derive(Debug)]
struct Stamped {
    draft: Draft,
    window: ReceiveWindow,
    /// Reserved for this request, if the exchange wants a nonce.
    nonce: u64,
}

/// The time within which an exchange takes a signature. It does not end if no limit of the exchange
/// is known.
#[derive(Clone, Copy, Debug, Default)]
struct ReceiveWindow {
    length_ms: u64,
    /// In milliseconds since the machine started.
    ends_ms: Option<u64>,
}

impl ReceiveWindow {
    /// The same window for a request that was stamped at another moment.
    fn stamped_at(self, since_boot_ms: u64) -> Self {
        Self { ends_ms: self.ends_ms.map(|_| since_boot_ms + self.length_ms), ..self }
    }

    fn holds(self, now_ms: u64) -> bool {
        self.ends_ms.is_none_or(|ends_ms| now_ms < ends_ms)
    }

    /// The refusal of a signature that came too late. It tells a person what they can do.
    fn missed(self, touched_late: bool) -> Refusal {
        let seconds = Duration::from_millis(self.length_ms).as_secs_f64();
        let message = if touched_late {
            format!(
                "the touch took longer than the {seconds} s the exchange allows: the signature was \
                 thrown away; ask again, and touch sooner"
            )
        } else {
            format!(
                "the token took longer than the {seconds} s the exchange allows: its signature \
                 was thrown away; ask again, if need be for a longer receive window, and find out \
                 why the token is slow"
            )
        };
        Refusal::new(Code::TokenTooLate, message)
    }
}

/// A request that policy allows, and its draft. Once it is counted, it may be signed now, or when
/// persons approved it.
struct PreparedRequest<'a> {
    key: Rc<Key>,
    classified: Classified<'a>,
    permit: Permit,
    stamped: Stamped,
    host: &'static str,
}

/// The intent of a request that moves money or keys has to be on the disk before the token is
/// asked. Another request that is signed at once has one record.
fn durability(effective: Scopes, at_once: bool) -> Durability {
    match at_once {
        _ if moves_money_or_keys(effective) => Durability::Synced,
        true => Durability::WithSignature,
        false => Durability::Written,
    }
}

fn moves_money_or_keys(effective: Scopes) -> bool {
    [Scope::Transfer, Scope::Withdraw, Scope::Admin]
        .into_iter()
        .any(|scope| effective.contains(scope))
}

/// A login that policy allows, and its draft. Once it is counted, it may be signed now, or when
/// persons approved it.
struct PreparedSession {
    key: Rc<Key>,
    exchange: &'static dyn Exchange,
    effective: Scopes,
    permit: Permit,
    draft: SessionDraft,
    login: SessionLogin,
}

/// The right that policy gave, and its conditions.
struct Permit {
    grant: Grant,
    spends: Vec<Spend>,
    /// Set if persons have to approve before the grant may be used.
    ask: Option<Ask>,
}

struct Ask {
    approvals: u32,
    place: WaitingPlace,
}

/// Refuses parameters that are too long to approve: a person reads all of them, and `pending` shows
/// all waiting requests at once.
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
