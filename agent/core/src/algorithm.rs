//! The signature algorithms an exchange may ask for and a token may offer.

use serde::{Deserialize, Serialize};

/// One signature algorithm. Configuration, protocol and vectors use the same text form of it.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Algorithm {
    /// ECDSA over P-256 with SHA-256; the signature is `r ‖ s`, 64 bytes.
    EcdsaP256Sha256,
    /// Ed25519 over the message itself, 64 bytes.
    Ed25519,
    HmacSha256,
    HmacSha384,
    HmacSha512,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    RsaPkcs1v15Sha256,
}

impl Algorithm {
    pub const ALL: [Self; 6] = [
        Self::EcdsaP256Sha256,
        Self::Ed25519,
        Self::HmacSha256,
        Self::HmacSha384,
        Self::HmacSha512,
        Self::RsaPkcs1v15Sha256,
    ];

    /// The name in configuration, command line and protocol.
    pub const fn name(self) -> &'static str {
        match self {
            Self::EcdsaP256Sha256 => "ecdsa-p256-sha256",
            Self::Ed25519 => "ed25519",
            Self::HmacSha256 => "hmac-sha256",
            Self::HmacSha384 => "hmac-sha384",
            Self::HmacSha512 => "hmac-sha512",
            Self::RsaPkcs1v15Sha256 => "rsa-pkcs1v15-sha256",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// True if the exchange knows the secret too. Such a secret was once outside the token.
    pub const fn is_hmac(self) -> bool {
        matches!(self, Self::HmacSha256 | Self::HmacSha384 | Self::HmacSha512)
    }
}

impl std::fmt::Display for Algorithm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_is_the_serialised_form() {
        for algorithm in Algorithm::ALL {
            let json = serde_json::to_string(&algorithm).expect("a unit variant serialises");
            assert_eq!(json, format!("\"{algorithm}\""));
            assert_eq!(Algorithm::from_name(algorithm.name()), Some(algorithm));
        }
    }
}
