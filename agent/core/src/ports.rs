//! The outside world on one screen: what the rules need, and adapters give.

use secrecy::SecretString;

use crate::algorithm::Algorithm;
use crate::draft::Finished;
use crate::exchange::classify::Classified;
use crate::key::Key;
use crate::policy::{Grant, Spend, Spent};
use crate::refusal::{Code, Refusal};
use crate::scope::Scopes;
use crate::wire::{RecordId, SignRequest};

/// Who is asking: a client of `agent.toml`, as the kernel identified it.
#[derive(Clone, Debug)]
pub struct Caller {
    pub client: String,
    pub uid: u32,
    pub pid: Option<u32>,
}

/// Time and randomness.
pub trait Clock {
    /// Unix time in milliseconds, as the exchange is told it.
    fn now_ms(&self) -> u64;
    /// Milliseconds that only pass: no setting of the clock moves them.
    fn since_boot_ms(&self) -> u64;
    /// Why the clock is not to be trusted, where it is not.
    fn doubt(&self) -> Option<String>;
    /// A new request id that sorts by time.
    fn request_id(&self) -> String;
    fn random(&self) -> [u8; 16];
}

/// The thing that computes signatures. One grant, one signature that leaves the agent.
#[expect(async_fn_in_trait, reason = "one IO thread; no future crosses threads")]
pub trait Token {
    /// Whether a signature with this key can be asked for now. Called right before a request is
    /// counted against limits, with nothing in between: what the token was never asked for costs
    /// nothing.
    fn ready(&self, key: &Key) -> Result<(), TokenError>;

    async fn sign(
        &self,
        grant: Grant,
        key: &Key,
        algorithm: Algorithm,
        message: &[u8],
    ) -> Result<Signed, TokenError>;

    /// Whether each signature of this key takes a person's touch.
    fn takes_touch(&self, key: &Key) -> bool;
}

/// A signature, and the grant it was made by.
#[derive(Debug)]
pub struct Signed {
    pub signature: Signature,
    pub spent: Spent,
}

impl Signed {
    /// Nobody sees the signature, so that another may be made in its place.
    pub(crate) fn throw_away(self) -> Grant {
        self.spent.unspent()
    }
}

/// What came back from a token.
#[derive(Debug)]
pub struct Signature {
    pub bytes: Vec<u8>,
    /// Travels beside the signature on exchanges that want one.
    pub passphrase: Option<SecretString>,
    /// A vault drafts the request itself, stamps it after the touch, and gives it back whole.
    pub drafted: Option<Box<Drafted>>,
}

/// A request as a vault drafted it.
#[derive(Debug)]
pub struct Drafted {
    /// What was signed.
    pub message: Vec<u8>,
    pub finished: Finished,
    /// When it was stamped, by the machine's clock that only passes.
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
    /// A place for one more request with this key, before anything is counted for it; `policy.rate`
    /// where there is none.
    fn place(&self, key: &Key) -> Result<Place, Refusal>;
}

/// A place among the requests that wait; free again when dropped.
#[derive(Debug)]
pub struct Place(pub Box<dyn std::fmt::Debug>);

/// A request that is about to be signed.
#[derive(Clone, Copy, Debug)]
pub struct Intent<'a> {
    pub request_id: &'a str,
    pub caller: &'a Caller,
    pub key: &'a Key,
    pub asked: Asked<'a>,
    pub effective: Scopes,
    pub spends: &'a [Spend],
}

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    Request { request: &'a SignRequest, classified: &'a Classified<'a> },
    Session { purpose: &'a str },
}

/// A request that gets no signature.
#[derive(Clone, Copy, Debug)]
pub struct Refused<'a> {
    pub request_id: &'a str,
    pub caller: &'a Caller,
    pub key: &'a str,
    /// `METHOD PATH`, or empty where the request was not understood.
    pub endpoint: &'a str,
    pub refusal: &'a Refusal,
}

/// How far a record must be before the token is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Durability {
    /// On the disk before the token is asked: a power cut does not lose it.
    Synced,
    /// Handed to the kernel with its result, before the answer leaves; on the disk within 50 ms.
    Written,
}

/// The durable record. After a failure it takes no intent: until there is room again and it was
/// verified, where the disk was full; else until a restart has verified it.
///
/// No token is asked before [`Ledger::may_ask`] and no answer leaves before [`Ledger::written`] has
/// returned: then the records stand as far as their durability says.
#[expect(async_fn_in_trait, reason = "one IO thread; no future crosses threads")]
pub trait Ledger {
    /// Counts the spends of an intent and records it: all or nothing. A cap that would be passed is
    /// `policy.limit`; a client that writes too much for a disk that is nearly full gets
    /// `policy.rate`.
    fn intend(&self, intent: &Intent<'_>, durability: Durability) -> Result<(), Refusal>;
    /// The next nonce of a key: only grows, also over crashes.
    fn nonce(&self, key: &Key) -> Result<u64, Refusal>;
    /// `message` is what was signed.
    fn signed(&self, request_id: &str, key: &Key, message: &[u8]) -> Result<RecordId, Refusal>;
    /// A signature over `message` came too late for its exchange, and is thrown away.
    fn thrown_away(&self, request_id: &str, key: &Key, message: &[u8]) -> Result<(), Refusal>;
    /// `returned` is what counted for the intent and is free again; empty once the token was asked.
    fn failed(
        &self,
        request_id: &str,
        key: &Key,
        refusal: &Refusal,
        returned: &[Spend],
    ) -> Result<(), Refusal>;
    fn refused(&self, refused: &Refused<'_>) -> Result<(), Refusal>;
    /// Waits for what the operator wants to stand before any token is asked, beyond an intent's own
    /// durability.
    async fn may_ask(&self) -> Result<(), Refusal>;
    /// Hands all that was recorded to the kernel. What requests record that arrived together is one
    /// write.
    async fn written(&self) -> Result<(), Refusal>;
}
