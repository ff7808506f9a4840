//! Payloads of the admin socket: enrolment, lock, explanations, events.

use serde::{Deserialize, Serialize};

use crate::algorithm::Algorithm;
use crate::approval::Statement;
use crate::decimal::Amount;
use crate::json::Value;
use crate::key::{Environment, NonceUnit, Tier};
use crate::refusal::Code;
use crate::scope::{Scope, Scopes};
use crate::transfer::Transfer;

pub const PENDING: &str = "pending@countersign";
pub const APPROVE: &str = "approve@countersign";
pub const DENY: &str = "deny@countersign";
pub const REGISTER: &str = "register@countersign";
pub const LOCK: &str = "lock@countersign";
pub const UNLOCK: &str = "unlock@countersign";
pub const EVENTS: &str = "events@countersign";
pub const EXPLAIN: &str = "explain@countersign";
pub const RELOAD: &str = "reload@countersign";

/// `register@countersign`: one change to the keys.
///
/// For `add`, the message carries the operator's terminal or pipe by SCM_RIGHTS: the secret never
/// passes this protocol.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "operation", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Register {
    Activate {
        v: u32,
        name: String,
        api_key: String,
    },
    Add(NewKey),
    /// A key pair made on the token.
    Generate(NewKey),
    Remove {
        v: u32,
        name: String,
    },
}

impl Register {
    /// The operator's name for the key.
    pub fn name(&self) -> &str {
        match self {
            Self::Add(new) | Self::Generate(new) => &new.name,
            Self::Activate { name, .. } | Self::Remove { name, .. } => name,
        }
    }
}

/// A key to be enrolled.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct NewKey {
    pub v: u32,
    pub name: String,
    pub exchange: String,
    /// As in `agent.toml`.
    pub token: String,
    pub scopes: Scopes,
    /// The exchange's usual algorithm if none is named.
    #[serde(default)]
    pub algorithm: Option<Algorithm>,
    #[serde(default)]
    pub environment: Environment,
    #[serde(default)]
    pub expires_ms: Option<u64>,
    #[serde(default)]
    pub nonce_unit: Option<NonceUnit>,
    /// The size of an RSA key that is generated: 2048, 3072 or 4096.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rsa_bits: Option<u32>,
    /// The slot of a YubiKey, such as `9a`; the first free slot if none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<String>,
    /// True if a key that is in the slot may be destroyed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub overwrite: bool,
}

impl NewKey {
    /// A key of the exchange's usual algorithm, for its production, that does not expire.
    pub fn plain(name: &str, exchange: &str, token: &str, scopes: Scopes) -> Self {
        Self {
            v: super::VERSION,
            name: name.to_owned(),
            exchange: exchange.to_owned(),
            token: token.to_owned(),
            scopes,
            algorithm: None,
            environment: Environment::default(),
            expires_ms: None,
            nonce_unit: None,
            rsa_bits: None,
            slot: None,
            overwrite: false,
        }
    }
}

/// `events@countersign`: records after `after`, waiting up to `wait_ms` for the first.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct EventsRequest {
    #[serde(default = "super::current")]
    pub v: u32,
    pub after: u64,
    #[serde(default)]
    pub wait_ms: u64,
}

/// Journal records, each as it stands in the journal.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct EventsReply {
    pub v: u32,
    pub records: Vec<Value>,
    /// Pass this as the next `after`.
    pub last: u64,
}

/// `explain@countersign`: asks what policy would decide about a request. The agent signs nothing
/// and counts nothing.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainRequest {
    pub v: u32,
    pub client: String,
    pub key: String,
    pub method: String,
    pub path: String,
    #[serde(default)]
    pub params: Option<Value>,
    /// Only `ws-api` changes the decision: a frame of a WebSocket API may also open a session.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub params_in: Option<String>,
    #[serde(default)]
    pub host: Option<String>,
}

/// The decision, the rule that decided, and everything that the signature would open.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ExplainReply {
    pub v: u32,
    /// `allow`, `ask` or `deny`.
    pub decision: String,
    /// The rule that decided.
    pub rule: String,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub code: Option<Code>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub message: Option<String>,
    /// Absent if the request was refused before it could be classified.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub scope: Option<Scope>,
    pub effective_scopes: Scopes,
    /// The parts of this request that the exchange does not sign: `method`, `path`, `parameters`.
    #[serde(skip_serializing_if = "Vec::is_empty", default)]
    pub unsigned: Vec<String>,
    /// Other endpoints the exchange would accept the same signature for.
    pub neighbours: Vec<Neighbour>,
    pub transfers: Vec<Transfer>,
    /// Endpoints no signer can tell apart from ordinary requests of this exchange.
    pub residual: Vec<Neighbour>,
    /// Amounts that would count against a day's window.
    pub spends: Vec<crate::policy::Spend>,
}

/// An endpoint a signature would open.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Neighbour {
    pub method: String,
    pub path: String,
    pub scope: Scope,
}

/// One sentence about an operation that was done.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct DoneReply {
    pub v: u32,
    pub done: String,
    /// PEM, after `generate`.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub public_key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub key: Option<super::KeyEntry>,
    /// Set if the operation is not done yet: this request has to be approved first.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub pending: Option<super::PendingRequest>,
}

/// The requests that wait for a person.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PendingListReply {
    pub v: u32,
    pub pending: Vec<PendingEntry>,
    /// Changes of the agent itself.
    #[serde(default)]
    pub changes: Vec<ChangeEntry>,
    pub approvers: Vec<ApproverEntry>,
    /// The ids of the largest waiting requests, for which the frame had no room. A query with such
    /// an id gets that request.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unlisted: Vec<String>,
}

/// Asks for all requests that wait, or for one of them.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct PendingQuery {
    #[serde(default = "super::current")]
    pub v: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
}

/// A change of the agent that loosens something, and waits for an approver.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ChangeEntry {
    pub id: String,
    pub statement: Statement,
    pub approvals_needed: u32,
    /// Uid of the person who asked. Absent if the agent found the change at its start, or if a
    /// signal asked.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub uid: Option<u32>,
}

/// One request that waits for approval, with all that a person needs to decide.
///
/// An approval is a signature of the statement. The other fields explain it, and only the agent's
/// word stands behind them.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct PendingEntry {
    pub id: String,
    pub statement: Statement,
    pub approvals_needed: u32,
    /// Names of the approvers who have approved.
    pub approved_by: Vec<String>,
    pub caller: CallerEntry,
    pub token: String,
    pub tier: Tier,
    /// The rung of the ladder of touch. Rung 3 is policy, not hardware.
    pub rung: u8,
    /// The `[[destination]]` of each transfer, in the order of the transfers; absent for a transfer
    /// to a place that is not listed.
    pub destinations: Vec<Option<String>>,
    pub limits: Vec<LimitEntry>,
    /// The client's reason, if it gave one.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub reason: Option<String>,
}

/// The caller, as the kernel saw it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct CallerEntry {
    pub client: String,
    pub uid: u32,
    pub pid: Option<u32>,
    /// Names of the process and of the processes that started it, the process first. A process
    /// chooses its own name.
    pub processes: Vec<String>,
}

/// A limit of 24 hours that the request counts against; `used` includes the request.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct LimitEntry {
    pub window: String,
    pub used: Amount,
    pub cap: Amount,
}

/// A key with which a person may approve.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ApproverEntry {
    pub name: String,
    /// The person who owns the key, if that is not the name.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub person: Option<String>,
    /// In OpenSSH's form.
    pub public_key: String,
    /// The token that blinks, and the proof that it does.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub hardware: Option<String>,
}

impl ApproverEntry {
    /// The person who owns the key.
    pub fn person(&self) -> &str {
        self.person.as_deref().unwrap_or(&self.name)
    }
}

/// `approve@countersign`: one approver's signature.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ApproveRequest {
    #[serde(default = "super::current")]
    pub v: u32,
    pub id: String,
    /// PEM.
    pub sshsig: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::parse;

    #[test]
    fn a_change_to_the_keys_is_strict_in_every_form() {
        let add =
            r#"{"operation":"add","v":1,"name":"k","exchange":"okx","token":"t","scopes":["read"]"#;
        assert!(parse::<Register>(format!("{add}}}").as_bytes()).is_ok());
        let unknown = parse::<Register>(format!(r#"{add},"secret":"x"}}"#).as_bytes())
            .expect_err("an unknown field");
        assert_eq!(unknown.code, Code::RequestMalformed);
        let twice = parse::<Register>(format!(r#"{add},"name":"other"}}"#).as_bytes())
            .expect_err("a name twice");
        assert_eq!(twice.code, Code::RequestAmbiguous);
        let remove = br#"{"operation":"remove","v":1,"name":"k","force":true}"#;
        assert!(parse::<Register>(remove).is_err());
    }
}
