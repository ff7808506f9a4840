//! The ports to the outside world, on one screen. The rules need them, and adapters implement them.

use std::cell::Cell;

use secrecy::SecretString;

use crate::algorithm::Algorithm;
use crate::draft::Finished;
use crate::exchange::classify::Classified;
use crate::key::Key;
use crate::policy::{Grant, Spend, SpentGrant};
use crate::refusal::{Code, Refusal};
use crate::scope::Scopes;
use crate::wire::{RecordId, SignRequest};

/// The caller: a client of `agent.toml`, as the kernel identified it.
#[derive(Clone, Debug)]
pub struct Caller {
    pub client: String,
    pub uid: u32,
    pub pid: Option<u32>,
}

/// Time and randomness.
pub trait Clock {
    /// Unix time in milliseconds, as the exchange gets it.
    fn now_ms(&self) -> u64;
    /// Milliseconds since the machine started. Setting the clock does not change them.
    fn since_boot_ms(&self) -> u64;
    /// The reason not to trust the clock; `None` if it can be trusted.
    fn doubt(&self) -> Option<String>;
    /// A new request id that sorts by time.
    fn request_id(&self) -> String;
    fn random(&self) -> [u8; 16];
}

/// The thing that computes signatures. For one grant, at most one signature leaves the agent.
#[expect(async_fn_in_trait, reason = "one IO thread; no future crosses threads")]
pub trait Token {
    /// Fails if the token cannot be asked now for a signature with this key. The signer calls it
    /// right before it counts a request against limits, with nothing in between. So a request that
    /// the token was never asked for costs nothing.
    fn ready(&self, key: &Key) -> Result<(), TokenError>;

    async fn sign(
        &self,
        grant: Grant,
        key: &Key,
        algorithm: Algorithm,
        message: &[u8],
    ) -> Result<Signed, TokenError>;

    /// True if each signature of this key takes a person's touch.
    fn takes_touch(&self, key: &Key) -> bool;
}

/// A signature, and the grant that it was made with.
#[derive(Debug)]
pub struct Signed {
    pub signature: Signature,
    pub spent: SpentGrant,
}

impl Signed {
    /// Throws the signature away, which nobody has seen, so that another may be made in its place.
    pub(crate) fn throw_away(self) -> Grant {
        self.spent.unspent()
    }
}

/// A token's answer.
#[derive(Debug)]
pub struct Signature {
    pub bytes: Vec<u8>,
    /// Goes to the exchange beside the signature, if the exchange wants a passphrase.
    pub passphrase: Option<SecretString>,
    /// The whole request, if the token is a vault: a vault drafts it itself and stamps it after the
    /// touch.
    pub drafted: Option<Box<Drafted>>,
}

/// A request as a vault drafted it.
#[derive(Debug)]
pub struct Drafted {
    /// The bytes that were signed.
    pub message: Vec<u8>,
    pub finished: Finished,
    /// The time of its stamp, in milliseconds since the machine started.
    pub stamped_since_boot_ms: u64,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum TokenError {
    #[error("the token did not answer in time: {0}")]
    Timeout(String),
    #[error("the token cannot sign now: {0}")]
    Unavailable(String),
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        let code = match error {
            TokenError::Timeout(_) => Code::TokenTimeout,
            TokenError::Unavailable(_) => Code::TokenUnavailable,
        };
        Self::new(code, error.to_string())
    }
}

/// The requests that wait for persons.
pub trait Approvals {
    /// Takes a place for one more request with this key, before anything is counted for it. Refuses
    /// with `policy.rate` if no place is free.
    fn place(&self, key: &Key) -> Result<WaitingPlace, Refusal>;
}

/// A place among the requests that wait; free again when dropped.
#[derive(Debug)]
pub struct WaitingPlace(pub Box<dyn std::fmt::Debug>);

/// A request that is about to be signed.
#[derive(Clone, Copy, Debug)]
pub struct SigningIntent<'a> {
    pub request_id: &'a str,
    pub caller: &'a Caller,
    pub key: &'a Key,
    pub asked: Asked<'a>,
    pub effective: Scopes,
    pub spends: &'a [Spend],
    /// Length of the client's payload, in bytes.
    pub payload: usize,
}

/// The request or the login that a client asked for.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    Request { request: &'a SignRequest, classified: &'a Classified<'a> },
    Session { purpose: &'a str },
}

/// A request that was counted, and whose end has to be recorded.
#[derive(Debug)]
#[must_use]
pub struct Begun<'a> {
    pub request_id: &'a str,
    pub key: &'a Key,
    intent: Cell<BegunIntent<'a>>,
}

/// The intent of a request that was counted.
#[derive(Clone, Copy, Debug)]
enum BegunIntent<'a> {
    /// Given out, and not known to be on record.
    Given,
    Recorded,
    Unrecorded(SigningIntent<'a>),
}

impl<'a> Begun<'a> {
    /// A request whose intent is on record.
    pub fn recorded(request_id: &'a str, key: &'a Key) -> Self {
        Self { request_id, key, intent: Cell::new(BegunIntent::Recorded) }
    }

    /// A request whose intent is recorded together with its end.
    pub fn unrecorded(intent: SigningIntent<'a>) -> Self {
        let SigningIntent { request_id, key, .. } = intent;
        Self { request_id, key, intent: Cell::new(BegunIntent::Unrecorded(intent)) }
    }

    /// The intent that still has to be recorded. It is given out once.
    pub fn take_unrecorded(&self) -> Option<SigningIntent<'a>> {
        let BegunIntent::Unrecorded(intent) = self.intent.get() else { return None };
        self.intent.set(BegunIntent::Given);
        Some(intent)
    }

    /// Takes note that the intent that was given out is on record.
    pub fn now_recorded(&self) {
        self.intent.set(BegunIntent::Recorded);
    }

    /// True if the intent is on record. Nothing else is recorded of a request without its intent.
    pub fn is_recorded(&self) -> bool {
        matches!(self.intent.get(), BegunIntent::Recorded)
    }
}

/// A request that gets no signature.
#[derive(Clone, Copy, Debug)]
pub struct RefusedRequest<'a> {
    pub request_id: &'a str,
    pub caller: &'a Caller,
    pub key: &'a str,
    /// `METHOD PATH`, or `session`; empty if the request was not understood.
    pub endpoint: &'a str,
    pub refusal: &'a Refusal,
}

/// The place that an intent must have reached, before the token is asked or before the answer
/// leaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Durability {
    /// On the disk before the token is asked: a power cut does not lose it.
    Synced,
    /// Kept in memory until there is a signature. One record of both is handed to the kernel before
    /// the answer leaves; it is on the disk within 50 ms.
    WithSignature,
    /// Recorded by itself, and handed to the kernel before the answer leaves; on the disk within 50
    /// ms.
    Written,
}

/// The durable record. After a failure it takes no intent. If the disk was full, that ends when
/// there is room again and the journal was verified. After any other failure it ends when a restart
/// has verified the journal.
///
/// No token is asked before [`Ledger::may_ask`] has returned, and no answer leaves before
/// [`Ledger::written`] has returned. The records are then as durable as their [`Durability`] says.
#[expect(async_fn_in_trait, reason = "one IO thread; no future crosses threads")]
pub trait Ledger {
    /// Counts the spends of an intent, and records it as far as its durability wants that now: all
    /// or nothing. Refuses with `policy.limit` if a cap would be passed. Refuses with `policy.rate`
    /// if the disk is nearly full and the client writes too much.
    fn intend<'a>(
        &self,
        intent: SigningIntent<'a>,
        durability: Durability,
    ) -> Result<Begun<'a>, Refusal>;
    /// The next nonce of a key. It only grows, even after a crash.
    fn nonce(&self, key: &Key) -> Result<u64, Refusal>;
    /// Records that `message` was signed.
    fn signed(&self, begun: &Begun<'_>, message: &[u8]) -> Result<RecordId, Refusal>;
    /// Records that a signature over `message` is thrown away: it came too late for its exchange,
    /// or the agent was locked meanwhile.
    fn thrown_away(&self, begun: &Begun<'_>, message: &[u8]) -> Result<(), Refusal>;
    /// Records that a request got no signature. `returned` are the amounts counted for it that are
    /// free again; there are none once the token was asked.
    fn failed(
        &self,
        begun: &Begun<'_>,
        refusal: &Refusal,
        returned: &[Spend],
    ) -> Result<(), Refusal>;
    fn refused(&self, refused: &RefusedRequest<'_>) -> Result<(), Refusal>;
    /// Waits until all records are on the disk, if the operator wants that before any token is
    /// asked. An intent's own durability may be less.
    async fn may_ask(&self) -> Result<(), Refusal>;
    /// Hands all records to the kernel. The records of requests that arrived together are one
    /// write.
    async fn written(&self) -> Result<(), Refusal>;
}
