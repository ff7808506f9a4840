//! The statement that an approver signs: its fields, and their canonical bytes.

use serde::{Deserialize, Serialize};

use crate::algorithm::Algorithm;
use crate::key::{Environment, KeyName};
use crate::request::ParamsIn;
use crate::scope::Scopes;
use crate::transfer::Transfer;

/// One request, or one change of the agent, that waits for approval. Every field is part of the
/// signed bytes.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    pub purpose: Purpose,
    /// The agent's id. An approval for one agent is not valid for another.
    pub agent: String,
    /// The id of this request only, so that no approval counts for two requests.
    pub request_id: String,
    /// Unix time in milliseconds after which no signature counts.
    pub expires_ms: u64,
    /// Hex SHA-256 of the configuration the request was judged by.
    pub policy_sha256: String,
    pub subject: Subject,
}

/// The purpose stands in the first bytes of every statement, so that bytes signed for one purpose
/// cannot be read as bytes for another.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub enum Purpose {
    #[default]
    #[serde(rename = "countersign-approval/1")]
    Approval,
    #[serde(rename = "countersign-change/1")]
    Change,
}

/// The act that the approval would allow.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Subject {
    /// A request would be signed.
    Request {
        client: String,
        key: KeyName,
        exchange: String,
        environment: Environment,
        /// The key's algorithm; absent if it is the exchange's first one. It may decide which parts
        /// of the request the signature covers.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        algorithm: Option<Algorithm>,
        host: String,
        method: String,
        path: String,
        /// Compact JSON of the parameters, as the client gave them.
        params: String,
        /// The place of the parameters; absent for the recipe's usual place.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        params_in: Option<ParamsIn>,
        effective_scopes: Scopes,
        /// The money that would move, and where it would go. All else, such as the fee mode, is in
        /// `params`.
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
    /// The locked agent would sign again.
    Unlock,
    /// Another configuration would come into force, which allows something that is not allowed now.
    Configuration {
        /// Hash of the configuration that is in force, as in the statement's own `policy_sha256`.
        from_sha256: String,
        to_sha256: String,
        /// One sentence for each thing that the new configuration allows and the old one does not.
        loosens: Vec<String>,
        /// The lines that differ, as `diff -u` writes them.
        diff: String,
    },
    /// A vault would be sealed to other YubiKeys, or for another configuration.
    Vault {
        token: String,
        /// Names and serial numbers of the YubiKeys.
        recipients: Vec<(String, u32)>,
        /// Hash of the configuration whose rules the vault would follow.
        policy_sha256: String,
        /// Hash of everything that the vault would be sealed for.
        terms_sha256: String,
        /// One sentence for each thing that the vault would newly be sealed for, or would newly
        /// sign by that configuration.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        loosens: Vec<String>,
        /// The lines in which the two configurations differ.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        diff: String,
    },
}

impl Subject {
    /// The purpose of every statement about this subject.
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

    /// Reads a statement back. `None` if `text` is not exactly the statement's canonical bytes, or
    /// if its purpose does not fit its subject.
    pub fn parse(text: &str) -> Option<Self> {
        let statement: Self = serde_json::from_str(text).ok()?;
        (statement.bytes() == text.as_bytes() && statement.purpose == statement.subject.purpose())
            .then_some(statement)
    }
}
