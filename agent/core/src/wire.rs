//! Payloads of the extension messages. The agent parses them strictly, and each carries its
//! version.

pub mod admin;
mod reply_writer;
pub mod ssh_agent;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::attestation::Root;
use crate::draft::{Finished, FinishedSession};
use crate::json::{self, Value};
use crate::key::{KeyName, Tier};
use crate::refusal::{Code, Refusal};
use crate::request::{Method, Params, ParamsIn, Path, Request};
use crate::scope::{Scope, Scopes};

/// The version of every payload; it counts breaking changes.
pub const VERSION: u32 = 1;

/// Longest JSON payload taken, in bytes.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// Extensions of the agent socket.
pub const SIGN: &str = "sign@countersign";
pub const KEYS: &str = "keys@countersign";
pub const SESSION: &str = "session@countersign";
pub const STATUS: &str = "status@countersign";
pub const RESULT: &str = "result@countersign";
pub const CANCEL: &str = "cancel@countersign";

/// The extensions that `query` lists on the agent socket.
pub const AGENT_EXTENSIONS: &[&str] = &[CANCEL, KEYS, RESULT, SESSION, SIGN, STATUS];

/// A `sign@countersign` request, parsed.
#[derive(Clone, Debug)]
pub struct SignRequest {
    pub key: KeyName,
    pub request: Request,
    /// Free text of the client for the journal.
    pub reason: Option<String>,
}

/// Longest free text, in bytes.
const MAX_REASON: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawSign<'a> {
    v: u32,
    #[serde(borrow)]
    key: Cow<'a, str>,
    #[serde(borrow)]
    method: Cow<'a, str>,
    #[serde(borrow)]
    path: Cow<'a, str>,
    #[serde(borrow, default)]
    params: Option<&'a RawValue>,
    #[serde(default)]
    params_in: Option<String>,
    #[serde(default)]
    host: Option<String>,
    #[serde(default)]
    reason: Option<String>,
}

impl SignRequest {
    /// Parses a payload; anything but the exact form is refused.
    pub fn parse(payload: &[u8]) -> Result<Self, Refusal> {
        let raw: RawSign<'_> = parse(payload)?;
        check_version(raw.v)?;
        let reason = raw.reason;
        if reason
            .as_ref()
            .is_some_and(|text| text.len() > MAX_REASON || text.chars().any(char::is_control))
        {
            return Err(Refusal::malformed(format!(
                "reason is longer than {MAX_REASON} bytes or has control characters"
            )));
        }
        let params = match raw.params {
            Some(raw) => Params::new(Value::from_raw(raw)?)?,
            None => Params::empty(),
        };
        Ok(Self {
            key: key_name(&raw.key)?,
            request: Request {
                method: Method::parse(&raw.method)?,
                path: Path::parse(&raw.path)?,
                params,
                params_in: raw.params_in.as_deref().map(ParamsIn::parse).transpose()?,
                host: raw.host,
            },
            reason,
        })
    }
}

/// A `session@countersign` request.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SessionRequest {
    #[serde(default = "current")]
    pub v: u32,
    pub key: String,
    /// `ws`: the exchange's private WebSocket.
    pub purpose: String,
    /// The channel to subscribe to, if the exchange wants a signature for each channel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<String>,
    /// The challenge that the exchange sent to be signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub challenge: Option<String>,
    /// The instruments of the channel.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub symbols: Vec<String>,
}

impl SessionRequest {
    /// A login without arguments.
    pub fn new(key: &str, purpose: &str) -> Self {
        let (key, purpose) = (key.to_owned(), purpose.to_owned());
        Self { v: VERSION, key, purpose, channel: None, challenge: None, symbols: Vec::new() }
    }
}

/// A request that says nothing but its version: `keys`, `status`, `pending`, `lock`, `unlock`.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PlainRequest {
    #[serde(default = "current")]
    pub v: u32,
}

impl PlainRequest {
    pub const NOW: Self = Self { v: VERSION };
}

/// Parses the payload of a request. A name that is there twice is refused with `request.ambiguous`,
/// any other fault with `request.malformed`.
pub fn parse<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, Refusal> {
    if payload.len() > MAX_PAYLOAD {
        return Err(Refusal::malformed(format!("the payload is longer than {MAX_PAYLOAD} bytes")));
    }
    let text =
        std::str::from_utf8(payload).map_err(|_| Refusal::malformed("the payload is not UTF-8"))?;
    // serde would take the fields of an object as an array too, without their names.
    if !text.trim_start().starts_with('{') {
        return Err(Refusal::malformed("the payload is not a JSON object"));
    }
    // Two levels more: the payload itself, and the parameters in it.
    if json::is_long_and_deeper(text, json::MAX_DEPTH + 2) {
        return Err(Refusal::malformed(format!(
            "JSON is nested deeper than {} levels",
            json::MAX_DEPTH
        )));
    }
    serde_json::from_str(text).map_err(|error| {
        let message = format!("JSON: {error}");
        if message.contains("duplicate field") {
            Refusal::ambiguous(message)
        } else {
            Refusal::malformed(message)
        }
    })
}

/// The version of a request that may leave it out.
const fn current() -> u32 {
    VERSION
}

pub fn check_version(version: u32) -> Result<(), Refusal> {
    if version == VERSION { Ok(()) } else { Err(Refusal::malformed(format!("v is not {VERSION}"))) }
}

pub fn key_name(text: &str) -> Result<KeyName, Refusal> {
    KeyName::parse(text).map_err(|error| Refusal::malformed(format!("key: {error}")))
}

/// The place of a record in the journal.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RecordId {
    pub seq: u64,
    pub hash: String,
}

/// A finished request, ready to send as it is.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SignReply {
    pub v: u32,
    pub request_id: String,
    pub scope: Scope,
    pub effective_scopes: Scopes,
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<String>,
    pub signature: String,
    pub timestamp_ms: u64,
    pub record: RecordId,
}

impl SignReply {
    pub fn new(
        request_id: String,
        scope: Scope,
        effective_scopes: Scopes,
        finished: Finished,
        record: RecordId,
    ) -> Self {
        Self {
            v: VERSION,
            request_id,
            scope,
            effective_scopes,
            method: finished.method.name().to_owned(),
            url: finished.url,
            headers: finished.headers,
            body: finished.body,
            signature: finished.signature,
            timestamp_ms: finished.timestamp_ms,
            record,
        }
    }
}

/// A finished session login: the first frame to send, or headers for the connect request.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct SessionReply {
    pub v: u32,
    pub request_id: String,
    pub scope: Scope,
    pub effective_scopes: Scopes,
    /// The scopes that the session gives without further signatures.
    pub grants: Scopes,
    pub url: String,
    pub frame: Option<String>,
    pub headers: Vec<(String, String)>,
    /// The body to POST to the URL, if the URL is that of a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    pub signature: String,
    pub timestamp_ms: u64,
    pub record: RecordId,
}

impl SessionReply {
    pub fn new(
        request_id: String,
        effective_scopes: Scopes,
        grants: Scopes,
        finished: FinishedSession,
        record: RecordId,
    ) -> Self {
        Self {
            v: VERSION,
            request_id,
            scope: Scope::Session,
            effective_scopes,
            grants,
            url: finished.url,
            frame: finished.frame,
            headers: finished.headers,
            body: finished.body,
            signature: finished.signature,
            timestamp_ms: finished.timestamp_ms,
            record,
        }
    }
}

/// The reply to a request that was approved.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub enum FinishedReply {
    Request(SignReply),
    Session(SessionReply),
}

/// The reply for a request that waits for its approvers. `result@countersign` gets its end later.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PendingReply {
    pub v: u32,
    /// `waiting`, `touch 1 of 2`.
    pub progress: String,
    pub pending: PendingRequest,
    /// Set while a token blinks for the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub touch: Option<TouchWanted>,
}

/// The token to touch, and the reason.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TouchWanted {
    /// As in `agent.toml`.
    pub token: String,
    /// The request that the touch is for.
    pub why: String,
    /// Unix time in milliseconds at which the token gives up, or the exchange would.
    pub until_ms: u64,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PendingRequest {
    /// The request's id.
    pub id: String,
    /// Unix time in milliseconds.
    pub expires_ms: u64,
    pub approvals_needed: u32,
    pub approvals: u32,
}

/// `result@countersign`: waits up to `wait_ms` for the end of a request that waits for approval.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ResultRequest {
    #[serde(default = "current")]
    pub v: u32,
    pub id: String,
    #[serde(default)]
    pub wait_ms: u64,
}

/// Names one request that waits for approval, to `cancel` or `deny` it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct IdRequest {
    #[serde(default = "current")]
    pub v: u32,
    pub id: String,
}

/// A refusal as it goes to a client.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ErrorReply {
    pub v: u32,
    pub error: ErrorBody,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ErrorBody {
    pub code: Code,
    pub message: String,
    /// Absent if the request was not understood well enough to get an id.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub request_id: Option<String>,
}

impl ErrorReply {
    pub fn new(refusal: &Refusal, request_id: Option<String>) -> Self {
        let error = ErrorBody { code: refusal.code, message: refusal.message.clone(), request_id };
        Self { v: VERSION, error }
    }
}

/// The keys a client may use.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct KeysReply {
    pub v: u32,
    pub keys: Vec<KeyEntry>,
}

/// One key as clients and operators see it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct KeyEntry {
    pub name: KeyName,
    pub exchange: String,
    pub environment: crate::key::Environment,
    pub algorithm: crate::algorithm::Algorithm,
    /// Absent until `key activate`, and while the token is down.
    pub api_key: Option<String>,
    pub scopes: Scopes,
    pub tier: Tier,
    /// The rung of the ladder of touch: 1, 2 or 3. Rung 3 is policy, not hardware.
    pub rung: u8,
    pub token: String,
    pub state: KeyState,
    pub created_ms: u64,
    pub expires_ms: Option<u64>,
    pub last_used_ms: Option<u64>,
    /// The same three moments for people: UTC, ISO 8601.
    #[serde(default)]
    pub created: String,
    #[serde(default)]
    pub expires: Option<String>,
    #[serde(default)]
    pub last_used: Option<String>,
    /// PEM, for asymmetric keys.
    pub public_key: Option<String>,
    /// The root of the attestation that proves a touch for each signature. Only a key on rung 1 has
    /// it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub touch_attested_by: Option<Root>,
    /// The slot of the YubiKey that holds the key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
}

/// The state of a key. Only an active key can sign.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyState {
    Active,
    /// It was made on the token, and the agent does not know the exchange's id for it yet: `key
    /// activate`.
    AwaitingApiKey,
    /// Its token is down or does not hold it.
    Unavailable,
}

/// The agent's state, as `status` shows it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct StatusReply {
    pub v: u32,
    pub version: String,
    pub locked: bool,
    pub started_ms: u64,
    pub tokens: Vec<TokenEntry>,
    /// Only on the admin socket.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub ledger: Option<LedgerEntry>,
    /// The limits of each process. Only on the admin socket.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub confinement: Vec<ConfinementEntry>,
    /// Warnings for the operator, such as missing isolation, software tokens or a full disk.
    pub warnings: Vec<String>,
}

/// One token as `status` shows it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct TokenEntry {
    pub name: String,
    pub profile: String,
    /// `starting`, `healthy`, `degraded`, `down`.
    pub state: String,
    pub since_ms: u64,
    pub last_error: Option<String>,
    pub next_try_ms: Option<u64>,
    pub keys: Vec<String>,
    pub tier: Tier,
}

/// The limits of one of the agent's processes.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ConfinementEntry {
    /// `front`, `spawner`, `host NAME`.
    pub process: String,
    pub on: Vec<String>,
    /// The limits that could not be set, and why.
    pub missing: Vec<String>,
}

/// The journal as `status` shows it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LedgerEntry {
    pub state: String,
    pub directory: String,
    pub last: Option<RecordId>,
    pub free_bytes: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"v":1,"key":"k","method":"GET","path":"/api/v3/account"}"#;

    #[test]
    fn the_exact_form_is_taken() {
        assert!(SignRequest::parse(GOOD.as_bytes()).is_ok());
        let full = r#"{"v":1,"key":"k","method":"POST","path":"/a","params":{"a":1.0},
            "params_in":"form","host":"h","reason":"r"}"#;
        let parsed = SignRequest::parse(full.as_bytes()).expect("full form");
        assert_eq!(parsed.request.scalar("a"), Some("1.0"));
    }

    #[test]
    fn a_login_and_what_says_nothing_may_leave_the_version_out() {
        let login: SessionRequest =
            parse(br#"{"key":"k","purpose":"ws"}"#).expect("the contract's form");
        assert_eq!(login.v, VERSION);
        assert_eq!(parse::<PlainRequest>(b"{}").expect("nothing").v, VERSION);
        assert!(parse::<PlainRequest>(b"{\"w\":1}").is_err());
    }

    #[test]
    fn anything_else_is_refused_with_the_right_code() {
        let cases: &[(&str, Code)] = &[
            (r#"{"v":2,"key":"k","method":"GET","path":"/a"}"#, Code::RequestMalformed),
            (r#"{"v":1,"key":"k","key":"l","method":"GET","path":"/a"}"#, Code::RequestAmbiguous),
            (r#"{"v":1,"key":"k","method":"GET","path":"/a","extra":1}"#, Code::RequestMalformed),
            (r#"{"v":1,"key":"../k","method":"GET","path":"/a"}"#, Code::RequestMalformed),
            (r#"{"v":1,"key":"k","method":"get","path":"/a"}"#, Code::RequestMalformed),
            (
                r#"{"v":1,"key":"k","method":"GET","path":"/a","params":"x"}"#,
                Code::RequestMalformed,
            ),
            (
                r#"{"v":1,"key":"k","method":"GET","path":"/a","params":{"a":1,"a":2}}"#,
                Code::RequestAmbiguous,
            ),
            (r#"{"v":1,"key":"k","method":"GET","path":"/a"} {}"#, Code::RequestMalformed),
            (r#"[1,"k","GET","/a"]"#, Code::RequestMalformed),
            ("\u{feff}{}", Code::RequestMalformed),
            ("", Code::RequestMalformed),
        ];
        for (payload, code) in cases {
            assert_eq!(
                SignRequest::parse(payload.as_bytes()).expect_err(payload).code,
                *code,
                "{payload}"
            );
        }
        assert!(SignRequest::parse(b"\xff").is_err());
        let long = format!(
            r#"{{"v":1,"key":"k","method":"GET","path":"/a","reason":"{}"}}"#,
            "x".repeat(MAX_PAYLOAD)
        );
        assert!(SignRequest::parse(long.as_bytes()).is_err());
    }
}
