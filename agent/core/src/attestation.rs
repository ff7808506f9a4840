//! Verifies a PIV attestation: certificates in which a YubiKey says that it made a key, and whether
//! each use of the key takes a PIN and a touch.
//!
//! The card's own attestation key (F9) signs the slot's certificate. The certificate of F9 leads to
//! one of Yubico's roots, or to a root that the operator named. Format:
//! <https://developers.yubico.com/PIV/Introduction/PIV_attestation.html>

mod certificate;
mod roots;
mod signature;

use std::fmt;

use serde::{Deserialize, Serialize};
use ssh_key::public::KeyData;

pub use certificate::{CertificateChain, NotCertificates};
pub use roots::Roots;

use certificate::Certificate;

/// The verified facts about one key, as its card attests them. Only [`verify`] makes it.
#[derive(Clone, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Attestation {
    pub serial: u32,
    pub firmware: Firmware,
    /// As PIV numbers them: 0x9a, 0x9c, 0x9d, 0x9e, 0x82 to 0x95.
    pub slot: u8,
    pub pin_policy: PinPolicy,
    pub touch_policy: TouchPolicy,
    /// DER, a SubjectPublicKeyInfo.
    pub public_key: Vec<u8>,
    pub root: Root,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct Firmware(pub u8, pub u8, pub u8);

/// The kind of root that an attestation ends at.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Root {
    /// A root that the operator named, for example that of a card in software.
    Other,
    Yubico,
}

/// When the card asks for the PIN.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PinPolicy {
    Always,
    /// Each time, a PIN or, on a YubiKey Bio, a fingerprint.
    MatchAlways,
    MatchOnce,
    Never,
    Once,
}

/// When the card asks for a touch.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum TouchPolicy {
    Always,
    /// One touch opens the key for 15 seconds.
    Cached,
    Never,
}

/// Why a chain proves nothing.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotAttested {
    #[error("the certificate of {0} may not sign others")]
    NotAnAuthority(String),
    #[error(
        "the certificate of {0} does not lead to a root of Yubico's, nor to one that is configured"
    )]
    UnknownRoot(String),
    #[error("the certificate of {0} is not signed by the next one")]
    Signature(String),
    #[error("the certificate of {0} says {1:?} in a way that is not understood")]
    Extension(String, &'static str),
    #[error("the certificate of {0} does not say {1:?}: it attests no key of a PIV slot")]
    Missing(String, &'static str),
    #[error(
        "the chain is of {0} certificates; it takes the slot's, then the card's own (F9), then \
         those up to the root"
    )]
    Length(usize),
}

/// Most certificates in a chain: the slot's, the card's, up to three of Yubico's, and the root.
const LONGEST_CERTIFICATE_CHAIN: usize = 6;

/// Follows the chain from the slot's certificate to a root. It does not look at the certificates'
/// dates: a card has no clock, and a key does not leave its card when a date passes.
pub fn verify(chain: &CertificateChain, roots: &Roots) -> Result<Attestation, NotAttested> {
    let certificates = chain.certificates();
    let [slot, authorities @ ..] = certificates else { return Err(NotAttested::Length(0)) };
    if authorities.is_empty() || certificates.len() > LONGEST_CERTIFICATE_CHAIN {
        return Err(NotAttested::Length(certificates.len()));
    }
    let mut below = slot;
    for (depth, authority) in authorities.iter().enumerate() {
        // A chain may end with the root itself. Only a root of `roots` counts, which is looked up
        // below.
        if authority.is_self_issued() && depth > 0 {
            break;
        }
        signed_by(below, authority, depth)?;
        below = authority;
    }
    let depth = authorities.len();
    let root = roots.above(below).find(|(_, root)| signed_by(below, root, depth).is_ok());
    let (root, _) = root.ok_or_else(|| NotAttested::UnknownRoot(below.name()))?;
    read(slot, root)
}

/// `depth` is the number of authorities between this one and the slot's certificate.
fn signed_by(
    below: &Certificate,
    authority: &Certificate,
    depth: usize,
) -> Result<(), NotAttested> {
    if !authority.may_sign(depth) {
        return Err(NotAttested::NotAnAuthority(authority.name()));
    }
    if !below.is_issued_by(authority) || !signature::is_right(below, authority) {
        return Err(NotAttested::Signature(below.name()));
    }
    Ok(())
}

/// Reads Yubico's extensions. Each has to be there exactly once.
fn read(slot: &Certificate, root: Root) -> Result<Attestation, NotAttested> {
    const FIRMWARE: &str = "firmware";
    const SERIAL: &str = "serial number";
    const POLICIES: &str = "PIN and touch policy";
    let value = |number: u32, what| {
        slot.yubico_extension(number).ok_or_else(|| NotAttested::Missing(slot.name(), what))
    };
    let wrong = |what| NotAttested::Extension(slot.name(), what);
    let &[major, minor, patch] = value(3, FIRMWARE)? else { return Err(wrong(FIRMWARE)) };
    let serial = certificate::integer(value(7, SERIAL)?).ok_or_else(|| wrong(SERIAL))?;
    let &[pin, touch] = value(8, POLICIES)? else { return Err(wrong(POLICIES)) };
    Ok(Attestation {
        serial,
        firmware: Firmware(major, minor, patch),
        slot: slot.piv_slot().ok_or_else(|| NotAttested::Missing(slot.name(), "slot"))?,
        pin_policy: PinPolicy::of(pin).ok_or_else(|| wrong(POLICIES))?,
        touch_policy: TouchPolicy::of(touch).ok_or_else(|| wrong(POLICIES))?,
        public_key: slot.public_key().to_vec(),
        root,
    })
}

impl Attestation {
    /// The attested key in SSH's form; `None` if SSH has no form for its kind.
    pub fn ssh_key(&self) -> Option<KeyData> {
        signature::ssh_key(&self.public_key)
    }
}

impl PinPolicy {
    fn of(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Never,
            2 => Self::Once,
            3 => Self::Always,
            4 => Self::MatchOnce,
            5 => Self::MatchAlways,
            _ => return None,
        })
    }
}

impl TouchPolicy {
    fn of(code: u8) -> Option<Self> {
        Some(match code {
            1 => Self::Never,
            2 => Self::Always,
            3 => Self::Cached,
            _ => return None,
        })
    }
}

impl fmt::Display for TouchPolicy {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::Always => "ALWAYS",
            Self::Cached => "CACHED",
            Self::Never => "NEVER",
        })
    }
}

impl fmt::Display for Firmware {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(major, minor, patch) = self;
        write!(out, "{major}.{minor}.{patch}")
    }
}

#[cfg(test)]
pub(crate) mod attestation_tests;
