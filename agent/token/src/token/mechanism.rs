//! Maps each algorithm to calls of a token: the mechanism, the bytes to sign, and the length of the
//! answer.

use std::borrow::Cow;

use countersign_core::algorithm::Algorithm;
use cryptoki::mechanism::MechanismType;
use pkcs11_profiles::Profile;
use sha2::{Digest, Sha256};

/// DER of DigestInfo for SHA-256, before the digest (RFC 8017 section 9.2, note 1).
const SHA256_DIGEST_INFO: [u8; 19] =
    *b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20";

/// Longest signature of any algorithm here: RSA with 4096 bits.
pub const LONGEST_SIGNATURE: usize = 512;

/// One way in which a token computes an algorithm.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SigningMechanism {
    /// CKM_ECDSA over a digest made here: few tokens have the hashing variant, and hashing needs no
    /// secret.
    EcdsaOverDigest,
    Eddsa,
    Hmac(Algorithm),
    /// CKM_RSA_PKCS over a DigestInfo made here, for tokens without the hashing variant.
    RsaOverDigestInfo,
    RsaSha256,
}

impl SigningMechanism {
    /// The best way that this token offers. `None` if it offers none, or if the profile does not
    /// list the algorithm.
    pub fn choose(
        algorithm: Algorithm,
        profile: &Profile,
        offered: &[MechanismType],
    ) -> Option<Self> {
        let candidates: &[Self] = match algorithm {
            Algorithm::EcdsaP256Sha256 => &[Self::EcdsaOverDigest],
            Algorithm::Ed25519 => &[Self::Eddsa],
            Algorithm::HmacSha256 => &[Self::Hmac(Algorithm::HmacSha256)],
            Algorithm::HmacSha384 => &[Self::Hmac(Algorithm::HmacSha384)],
            Algorithm::HmacSha512 => &[Self::Hmac(Algorithm::HmacSha512)],
            Algorithm::RsaPkcs1v15Sha256 => &[Self::RsaSha256, Self::RsaOverDigestInfo],
        };
        let offered = |candidate: &&Self| offered.contains(&candidate.kind());
        profile.offers(algorithm.name()).then(|| candidates.iter().find(offered).copied()).flatten()
    }

    /// The PKCS#11 mechanism, to which a key is bound.
    pub fn kind(self) -> MechanismType {
        match self {
            Self::EcdsaOverDigest => MechanismType::ECDSA,
            Self::Eddsa => MechanismType::EDDSA,
            Self::Hmac(Algorithm::HmacSha384) => MechanismType::SHA384_HMAC,
            Self::Hmac(Algorithm::HmacSha512) => MechanismType::SHA512_HMAC,
            // `choose` makes this with HMAC algorithms only.
            Self::Hmac(_) => MechanismType::SHA256_HMAC,
            Self::RsaOverDigestInfo => MechanismType::RSA_PKCS,
            Self::RsaSha256 => MechanismType::SHA256_RSA_PKCS,
        }
    }

    /// The bytes that C_Sign gets for `message`.
    pub fn input(self, message: &[u8]) -> Cow<'_, [u8]> {
        match self {
            Self::Eddsa | Self::Hmac(_) | Self::RsaSha256 => Cow::Borrowed(message),
            Self::EcdsaOverDigest => Cow::Owned(Sha256::digest(message).to_vec()),
            Self::RsaOverDigestInfo => Cow::Owned(digest_info(message)),
        }
    }

    /// False if an answer of this length cannot be a signature of this kind.
    pub const fn fits(self, signature_length: usize) -> bool {
        match self {
            Self::EcdsaOverDigest | Self::Eddsa => signature_length == 64,
            Self::Hmac(Algorithm::HmacSha384) => signature_length == 48,
            Self::Hmac(Algorithm::HmacSha512) => signature_length == 64,
            Self::Hmac(_) => signature_length == 32,
            Self::RsaOverDigestInfo | Self::RsaSha256 => {
                signature_length >= 256
                    && signature_length <= LONGEST_SIGNATURE
                    && signature_length.is_multiple_of(64)
            }
        }
    }
}

/// DigestInfo in DER over SHA-256.
pub(crate) fn digest_info(message: &[u8]) -> Vec<u8> {
    [&SHA256_DIGEST_INFO[..], &Sha256::digest(message)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn softhsm() -> &'static Profile {
        Profile::named("softhsm").expect("embedded")
    }

    #[test]
    fn the_hashing_rsa_mechanism_is_preferred_and_nothing_is_offered_that_the_token_lacks() {
        let rsa = Algorithm::RsaPkcs1v15Sha256;
        let both = [MechanismType::RSA_PKCS, MechanismType::SHA256_RSA_PKCS];
        assert_eq!(
            SigningMechanism::choose(rsa, softhsm(), &both),
            Some(SigningMechanism::RsaSha256)
        );
        assert_eq!(
            SigningMechanism::choose(rsa, softhsm(), &both[..1]),
            Some(SigningMechanism::RsaOverDigestInfo)
        );
        for algorithm in Algorithm::ALL {
            assert_eq!(SigningMechanism::choose(algorithm, softhsm(), &[]), None);
        }
    }

    #[test]
    fn a_profile_that_lacks_an_algorithm_is_believed() {
        let ykcs11 = Profile::named("ykcs11").expect("embedded");
        let offered = [MechanismType::SHA256_HMAC, MechanismType::ECDSA];
        assert_eq!(SigningMechanism::choose(Algorithm::HmacSha256, ykcs11, &offered), None);
        assert!(SigningMechanism::choose(Algorithm::EcdsaP256Sha256, ykcs11, &offered).is_some());
    }

    #[test]
    fn answers_of_another_length_are_no_signatures() {
        for (mechanism, right) in [
            (SigningMechanism::Hmac(Algorithm::HmacSha256), 32),
            (SigningMechanism::Hmac(Algorithm::HmacSha384), 48),
            (SigningMechanism::Hmac(Algorithm::HmacSha512), 64),
            (SigningMechanism::Eddsa, 64),
            (SigningMechanism::EcdsaOverDigest, 64),
            (SigningMechanism::RsaSha256, 256),
            (SigningMechanism::RsaSha256, 512),
        ] {
            assert!(mechanism.fits(right));
            for wrong in [0, right - 1, right + 1] {
                assert!(!mechanism.fits(wrong), "{mechanism:?} {wrong}");
            }
        }
    }
}
