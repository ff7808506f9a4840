//! An approver's PIV key: its attestation proves that each of its signatures took a touch.

use ssh_key::PublicKey;

use crate::attestation::{
    self, Attestation, CertificateChain, NotAttested, NotCertificates, Root, Roots, TouchPolicy,
};

/// A key whose card says that it made the key and that each use of the key takes a touch. Only
/// [`AttestedKey::prove`] makes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AttestedKey {
    key: PublicKey,
    attestation: Attestation,
    certificates: String,
    other_root: Option<String>,
}

/// Why a key's signatures prove no touch.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Unproven {
    #[error(transparent)]
    Certificates(#[from] NotCertificates),
    #[error("SSH has no form for the attested key")]
    Kind,
    #[error(transparent)]
    NotAttested(#[from] NotAttested),
    #[error("the touch policy of the attested key is {0}, not ALWAYS")]
    Touch(TouchPolicy),
}

impl AttestedKey {
    /// Verifies the attestation of a key. `certificates` and `other_root` are PEM. Without
    /// `other_root` the certificates have to lead to one of Yubico's roots.
    pub fn prove(certificates: &str, other_root: Option<&str>) -> Result<Self, Unproven> {
        let mut roots = Roots::yubico();
        if let Some(root) = other_root {
            roots = roots.and_others(root)?;
        }
        let attestation = attestation::verify(&CertificateChain::from_pem(certificates)?, &roots)?;
        if attestation.touch_policy != TouchPolicy::Always {
            return Err(Unproven::Touch(attestation.touch_policy));
        }
        let key = attestation.ssh_key().ok_or(Unproven::Kind)?.into();
        // A root that was not needed is not kept.
        let other_root = other_root.filter(|_| attestation.root == Root::Other).map(str::to_owned);
        Ok(Self { key, attestation, certificates: certificates.to_owned(), other_root })
    }

    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    pub fn attestation(&self) -> &Attestation {
        &self.attestation
    }

    /// The certificates that prove it: PEM, the slot's first.
    pub fn certificates(&self) -> &str {
        &self.certificates
    }

    /// The root named for this key, if the certificates lead to that root and not to one of
    /// Yubico's; PEM.
    pub fn other_root(&self) -> Option<&str> {
        self.other_root.as_deref()
    }

    pub(super) fn is_of(&self, key: &PublicKey) -> bool {
        self.key.key_data() == key.key_data()
    }

    /// Describes the token that blinks, and says who attests the touch.
    pub fn describe(&self) -> String {
        let Attestation { serial, firmware, slot, root, .. } = &self.attestation;
        let whose = match root {
            Root::Other => "attested by a root that is NOT Yubico's",
            Root::Yubico => "attested by Yubico",
        };
        format!("YubiKey {serial} (firmware {firmware}), slot {slot:x}, a touch each time: {whose}")
    }
}
