//! The messages between the front and an enrol child. None of them holds a secret: secrets go
//! directly from the operator's terminal or pipe to the child.
//!
//! The front sends two frames, the [`super::settings::TokenSettings`] and one [`EnrolRequest`]; the
//! child answers with one [`EnrolReply`] and exits.

use countersign_core::algorithm::Algorithm;
use countersign_core::attestation::Root;
use countersign_core::exchange::PassphraseKind;
use countersign_core::key::Tier;
use countersign_core::vault::EnrolledFor;
use serde::{Deserialize, Serialize};

use super::token_host::HostError;
use super::yubikey::Slot;

/// The one operation for which a child is started.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum EnrolRequest {
    /// Store the id that the exchange gave for a generated key. Only then is the key used.
    Activate { name: String, api_key: String },
    /// Ask the operator for API key, secret and passphrase, and put them on the token.
    Add {
        name: String,
        exchange: String,
        /// The secret must be a key for one of these algorithms.
        algorithms: Vec<Algorithm>,
        secret_encoding: SecretEncoding,
        passphrase: PassphraseKind,
        /// For a key in a vault: the exchange and the scopes that the key signs for, which the
        /// token itself stores.
        enrolled_for: Option<EnrolledFor>,
    },
    /// Make a key pair on the token; `modulus_bits` is for RSA only (2048, 3072 or 4096), the slot
    /// for a YubiKey only.
    Generate { name: String, algorithm: Algorithm, modulus_bits: Option<u32>, slot: SlotChoice },
    /// Destroy everything the token holds under this name.
    Remove { name: String },
}

impl EnrolRequest {
    pub fn name(&self) -> &str {
        match self {
            Self::Activate { name, .. }
            | Self::Add { name, .. }
            | Self::Generate { name, .. }
            | Self::Remove { name } => name,
        }
    }
}

/// The slot of a YubiKey in which a key is made.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct SlotChoice {
    /// `None` means the first free slot.
    pub slot: Option<Slot>,
    /// True if a key that is in the slot may be destroyed.
    pub overwrite: bool,
}

/// The form in which the exchange writes its HMAC secrets.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretEncoding {
    /// The characters are the secret.
    Ascii,
    /// Standard base64 with padding.
    Base64,
}

/// Facts about a key, as read back from the token.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct KeyFacts {
    pub name: String,
    pub algorithm: Algorithm,
    /// CKA_ID in hex.
    pub cka_id: String,
    pub tier: Tier,
    /// SubjectPublicKeyInfo in DER, for asymmetric keys.
    pub public_key_der: Option<Vec<u8>>,
    /// True if the token itself refuses every other mechanism for this key.
    pub allowed_mechanism_bound: bool,
    pub has_passphrase: bool,
    /// False until the exchange's id for the key is stored.
    pub active: bool,
    /// For a key that needs a touch for each signature: the root that vouches for it.
    pub touch_attested_by: Option<Root>,
    /// The slot, if the token is a YubiKey.
    pub slot: Option<String>,
}

/// The outcome of the operation.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum EnrolReply {
    Done { facts: KeyFacts },
    Refused { reason: EnrolError },
    Removed { objects: u32 },
}

/// Why an operation was not carried out. It leaves nothing on the token, unless the text says so.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
pub enum EnrolError {
    #[error("key {0} has an API key id already: remove it first")]
    AlreadyActive(String),
    #[error("cancelled")]
    Cancelled,
    #[error("{0}")]
    Host(#[from] HostError),
    #[error("this token takes no {algorithm} key from outside: {reason}")]
    ImportUnsupported { algorithm: Algorithm, reason: String },
    #[error("the input cannot be used: {0}")]
    Input(String),
    #[error("{0} is not a name for a key: use letters, digits, '-', '_' and '.'")]
    Name(String),
    #[error("the token has a key named {0} already")]
    NameTaken(String),
    #[error("the token has no key named {0}")]
    NameUnknown(String),
    #[error(
        "the token signed something else than software did with the same {0} key; the key was \
         destroyed again"
    )]
    ProofFailed(Algorithm),
    #[error(
        "the key in slot {slot} is not proven to need a touch for each signature, so it was not \
         enrolled: {reason}"
    )]
    TouchUnproven { slot: String, reason: String },
    #[error("an enrolment of {0} was never finished; `countersign key remove {0}` clears it")]
    Unfinished(String),
    #[error("the token would give the key away; it was destroyed again")]
    Unprotected,
}
