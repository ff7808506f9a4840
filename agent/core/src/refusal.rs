//! Why a request got no signature: one stable code for programs, one sentence for people.

use serde::{Deserialize, Serialize};

/// The stable, dotted codes of the protocol.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub enum Code {
    #[serde(rename = "agent.locked")]
    AgentLocked,
    #[serde(rename = "approval.cancelled")]
    ApprovalCancelled,
    #[serde(rename = "approval.denied")]
    ApprovalDenied,
    #[serde(rename = "approval.expired")]
    ApprovalExpired,
    #[serde(rename = "approval.required")]
    ApprovalRequired,
    #[serde(rename = "client.unknown")]
    ClientUnknown,
    #[serde(rename = "clock.untrusted")]
    ClockUntrusted,
    #[serde(rename = "internal")]
    Internal,
    #[serde(rename = "key.unknown")]
    KeyUnknown,
    #[serde(rename = "ledger.unavailable")]
    LedgerUnavailable,
    #[serde(rename = "policy.destination")]
    PolicyDestination,
    #[serde(rename = "policy.effective_scope")]
    PolicyEffectiveScope,
    #[serde(rename = "policy.limit")]
    PolicyLimit,
    #[serde(rename = "policy.rate")]
    PolicyRate,
    #[serde(rename = "policy.scope")]
    PolicyScope,
    #[serde(rename = "request.ambiguous")]
    RequestAmbiguous,
    #[serde(rename = "request.forbidden_parameter")]
    RequestForbiddenParameter,
    #[serde(rename = "request.malformed")]
    RequestMalformed,
    #[serde(rename = "request.unknown_endpoint")]
    RequestUnknownEndpoint,
    #[serde(rename = "token.timeout")]
    TokenTimeout,
    #[serde(rename = "token.too_late")]
    TokenTooLate,
    #[serde(rename = "token.unavailable")]
    TokenUnavailable,
}

impl Code {
    /// The code as it stands in answers and records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AgentLocked => "agent.locked",
            Self::ApprovalCancelled => "approval.cancelled",
            Self::ApprovalDenied => "approval.denied",
            Self::ApprovalExpired => "approval.expired",
            Self::ApprovalRequired => "approval.required",
            Self::ClientUnknown => "client.unknown",
            Self::ClockUntrusted => "clock.untrusted",
            Self::Internal => "internal",
            Self::KeyUnknown => "key.unknown",
            Self::LedgerUnavailable => "ledger.unavailable",
            Self::PolicyDestination => "policy.destination",
            Self::PolicyEffectiveScope => "policy.effective_scope",
            Self::PolicyLimit => "policy.limit",
            Self::PolicyRate => "policy.rate",
            Self::PolicyScope => "policy.scope",
            Self::RequestAmbiguous => "request.ambiguous",
            Self::RequestForbiddenParameter => "request.forbidden_parameter",
            Self::RequestMalformed => "request.malformed",
            Self::RequestUnknownEndpoint => "request.unknown_endpoint",
            Self::TokenTimeout => "token.timeout",
            Self::TokenTooLate => "token.too_late",
            Self::TokenUnavailable => "token.unavailable",
        }
    }
}

impl std::fmt::Display for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A request that got no signature, and why. The message holds no secret, PIN or another client's
/// data.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Refusal {
    pub code: Code,
    pub message: String,
}

impl Refusal {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub fn malformed(message: impl Into<String>) -> Self {
        Self::new(Code::RequestMalformed, message)
    }

    pub fn ambiguous(message: impl Into<String>) -> Self {
        Self::new(Code::RequestAmbiguous, message)
    }

    pub fn forbidden_parameter(message: impl Into<String>) -> Self {
        Self::new(Code::RequestForbiddenParameter, message)
    }
}
