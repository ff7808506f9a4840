//! What an approver signs: the fields of one request and of its place in the world, and their
//! canonical bytes.

use serde::{Deserialize, Serialize};

use crate::algorithm::Algorithm;
use crate::key::{Environment, KeyName};
use crate::request::ParamsIn;
use crate::scope::Scopes;
use crate::transfer::Transfer;

/// One request that waits for approval, or a change that does. Every field is part of the signed
/// bytes.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    pub purpose: Purpose,
    /// The agent's id: an approval for one agent is none for another.
    pub agent: String,
    /// Names the request once: no approval counts for two.
    pub request_id: String,
    /// Unix time in milliseconds after which no signature counts.
    pub expires_ms: u64,
    /// Hex SHA-256 of the configuration the request was judged by.
    pub policy_sha256: String,
    pub subject: Subject,
}

/// The first bytes of every statement: signed bytes for one purpose cannot be read as another's.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Purpose {
    #[default]
    #[serde(rename = "countersign-approval/1")]
    Approval,
    #[serde(rename = "countersign-change/1")]
    Change,
}

/// What would happen.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Subject {
    /// A request would be signed.
    Request {
        client: String,
        key: KeyName,
        exchange: String,
        environment: Environment,
        /// The key's, where it is not the exchange's first: what a signature covers may depend on
        /// it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        algorithm: Option<Algorithm>,
        host: String,
        method: String,
        path: String,
        /// Compact JSON, as the client gave them.
        params: String,
        /// Where they go; absent for the recipe's usual place.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        params_in: Option<ParamsIn>,
        effective_scopes: Scopes,
        /// What moves where; the fee mode and all else stands in `params`.
        transfers: Vec<Transfer>,
    },
    /// A session would be opened in which nothing more is signed.
    Session {
        client: String,
        key: KeyName,
        exchange: String,
        environment: Environment,
        session: String,
        effective_scopes: Scopes,
    },
    /// The agent, locked, would sign again.
    Unlock,
    /// Another configuration would be in force, by which something is allowed that was not.
    Configuration {
        /// Of the one that is in force; the statement's own `policy_sha256`.
        from_sha256: String,
        to_sha256: String,
        /// What it allows that was not allowed, one sentence each.
        loosens: Vec<String>,
        /// The lines that differ, as `diff -u` writes them.
        diff: String,
    },
    /// A vault would be sealed to other YubiKeys, or for another configuration.
    Vault {
        token: String,
        /// Names and serials.
        recipients: Vec<(String, u32)>,
        /// Of the configuration by whose rules it would sign.
        policy_sha256: String,
        /// Of everything it would be sealed for.
        terms_sha256: String,
        /// What it would be sealed for that it is not now, and what it would sign by that
        /// configuration that it does not now: one sentence each.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        loosens: Vec<String>,
        /// The lines in which the two configurations differ.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        diff: String,
    },
}

impl Subject {
    /// The purpose of every statement about it.
    pub fn purpose(&self) -> Purpose {
        match self {
            Self::Request { .. } | Self::Session { .. } | Self::Vault { .. } => Purpose::Approval,
            Self::Configuration { .. } | Self::Unlock => Purpose::Change,
        }
    }
}

impl Statement {
    /// The canonical bytes: compact JSON with the fields in the order of these types, each exactly
    /// once.
    pub fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts, numbers and lists are always JSON")
    }

    /// Reads a statement back; bytes that this statement would not be written as are refused, and
    /// so is another purpose than its subject's.
    pub fn parse(text: &str) -> Option<Self> {
        let statement: Self = serde_json::from_str(text).ok()?;
        (statement.bytes() == text.as_bytes() && statement.purpose == statement.subject.purpose())
            .then_some(statement)
    }
}
