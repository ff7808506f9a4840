//! An approval: an approver's signature over one exact request, kept as evidence.
//!
//! The approver's program and the verifier each build the bytes anew from the fields of a
//! [`Statement`]. The approver's program never signs bytes that the agent hands it. The signature
//! is an SSHSIG (OpenSSH's PROTOCOL.sshsig) in the namespace [`NAMESPACE`].

mod attested;
mod collected;
mod review;
pub mod sshsig;
mod statement;

pub use attested::{AttestedKey, Unproven};
pub use collected::{Approved, Collected};
pub use review::{Meant, Reviewed, Unlike, meant, review};
pub use statement::{Purpose, Statement, Subject};

use serde::{Deserialize, Serialize};
use ssh_key::{Algorithm, HashAlg, PublicKey, SshSig};

/// The namespace of the signatures. A signature made in another namespace never counts.
pub const NAMESPACE: &str = "countersign-approval";

/// A key with which a person may approve, and the proof that their hardware was touched.
#[derive(Clone, Debug, PartialEq)]
pub struct Approver {
    /// As in `[approver.NAME]`.
    pub name: String,
    /// The owner of the key, often the name itself. All keys of one person together give one
    /// approval.
    pub person: String,
    pub key: PublicKey,
    pub touch: Touch,
}

/// The proof that each signature of an approver's key took a touch.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Touch {
    /// The key lives in a PIV slot whose touch policy is ALWAYS.
    Attested(Box<AttestedKey>),
    /// The user-presence flag inside each signature of a FIDO key.
    InSignature,
}

impl Touch {
    /// Its kind, as the journal names it.
    pub fn proof(&self) -> TouchProof {
        match self {
            Self::Attested(_) => TouchProof::Attested,
            Self::InSignature => TouchProof::InSignature,
        }
    }
}

/// The kind of a [`Touch`], as the journal names it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TouchProof {
    /// The key's attestation: it lives in a PIV slot whose touch policy is ALWAYS.
    Attested,
    /// The user-presence flag inside each signature of a FIDO key.
    InSignature,
}

/// One approver's verified signature. Only [`verify`] makes it.
#[derive(Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct VerifiedApproval {
    pub approver: String,
    pub person: String,
    pub touch: Touch,
    /// The key in OpenSSH's form.
    pub public_key: String,
    /// PEM, as it was given.
    pub sshsig: String,
}

/// Why a signature is no approval.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotAnApproval {
    #[error("it is not an SSH signature")]
    Malformed,
    #[error("it was made in the namespace {0:?}, not {NAMESPACE:?}")]
    Namespace(String),
    #[error("it was made without a touch")]
    NoTouch,
    #[error("its hash is neither SHA-256 nor SHA-512")]
    Hash,
    #[error("{0} has approved already; another person has to")]
    Twice(String),
    #[error("it was not made with the key of an approver")]
    UnknownApprover,
    #[error("it does not fit this request")]
    Wrong,
}

/// Verifies one signature over `message` by any of `approvers`.
///
/// The counter of a FIDO signature proves nothing, because many tokens always send zero. Only the
/// user-presence flag counts.
pub fn verify(
    approvers: &[Approver],
    message: &[u8],
    sshsig: &str,
) -> Result<VerifiedApproval, NotAnApproval> {
    let signature = SshSig::from_pem(sshsig).map_err(|_| NotAnApproval::Malformed)?;
    if signature.namespace() != NAMESPACE {
        return Err(NotAnApproval::Namespace(signature.namespace().to_owned()));
    }
    let approver = approvers
        .iter()
        .find(|approver| approver.key.key_data() == signature.public_key())
        .ok_or(NotAnApproval::UnknownApprover)?;
    verify_with(&approver.key, &approver.touch, message, &signature)?;
    let public_key = approver.key.to_openssh().map_err(|_| NotAnApproval::Malformed)?;
    let touch = approver.touch.clone();
    let (approver, person) = (approver.name.clone(), approver.person.clone());
    Ok(VerifiedApproval { approver, person, touch, public_key, sshsig: sshsig.to_owned() })
}

fn verify_with(
    key: &PublicKey,
    touch: &Touch,
    message: &[u8],
    signature: &SshSig,
) -> Result<(), NotAnApproval> {
    if !matches!(signature.hash_alg(), HashAlg::Sha256 | HashAlg::Sha512) {
        return Err(NotAnApproval::Hash);
    }
    key.verify(NAMESPACE, message, signature).map_err(|_| NotAnApproval::Wrong)?;
    match touch {
        Touch::Attested(attested) if attested.is_of(key) => Ok(()),
        Touch::InSignature if user_was_present(signature) => Ok(()),
        Touch::Attested(_) | Touch::InSignature => Err(NotAnApproval::NoTouch),
    }
}

/// A FIDO signature ends with one byte of flags and the four bytes of the counter (OpenSSH's
/// PROTOCOL.u2f).
fn user_was_present(signature: &SshSig) -> bool {
    const COUNTER: usize = 4;
    const USER_PRESENT: u8 = 0x01;
    let fido =
        matches!(signature.algorithm(), Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256);
    let bytes = signature.signature_bytes();
    let flags = bytes.len().checked_sub(COUNTER + 1).and_then(|at| bytes.get(at));
    fido && flags.is_some_and(|flags| flags & USER_PRESENT != 0)
}

#[cfg(test)]
pub(crate) mod approval_tests;
