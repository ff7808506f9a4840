//! Public keys: they are read from a token or a private key, written as SubjectPublicKeyInfo, and
//! verify the token's signatures.

use countersign_base::messages::token_host::HostError;
use countersign_core::algorithm::Algorithm;
use cryptoki::object::{Attribute, AttributeType, ObjectHandle};
use cryptoki::session::Session;
use rsa::pkcs8::{DecodePublicKey, EncodePublicKey};
use rsa::traits::PublicKeyParts;
use rsa::{BigUint, Pkcs1v15Sign, RsaPublicKey};
use sha2::{Digest, Sha256};

use super::fault::Fault;

/// DER tag of an OCTET STRING.
const OCTET_STRING: u8 = 0x04;

/// The public half of a key that signs.
#[derive(Clone, Debug)]
pub enum PublicKey {
    EcdsaP256(p256::ecdsa::VerifyingKey),
    Ed25519(ed25519_dalek::VerifyingKey),
    Rsa(RsaPublicKey),
}

impl PublicKey {
    /// Reads an RSA public key object.
    pub fn rsa_on_token(session: &Session, object: ObjectHandle) -> Result<Self, Fault> {
        let (mut modulus, mut exponent) = (None, None);
        for attribute in session
            .get_attributes(object, &[AttributeType::Modulus, AttributeType::PublicExponent])?
        {
            match attribute {
                Attribute::Modulus(bytes) => modulus = Some(BigUint::from_bytes_be(&bytes)),
                Attribute::PublicExponent(bytes) => exponent = Some(BigUint::from_bytes_be(&bytes)),
                _ => {}
            }
        }
        let key = modulus
            .zip(exponent)
            .and_then(|(modulus, exponent)| RsaPublicKey::new(modulus, exponent).ok());
        key.map(Self::Rsa).ok_or_else(unreadable)
    }

    /// Reads a P-256 public key object.
    pub fn p256_on_token(session: &Session, object: ObjectHandle) -> Result<Self, Fault> {
        let point = point(session, object)?;
        let point = unwrapped(&point, 65);
        let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(point);
        key.map(Self::EcdsaP256).map_err(|_| unreadable())
    }

    /// Reads an Ed25519 public key object.
    pub fn ed25519_on_token(session: &Session, object: ObjectHandle) -> Result<Self, Fault> {
        let point = point(session, object)?;
        let key = <[u8; 32]>::try_from(unwrapped(&point, 32)).ok();
        let key = key.and_then(|bytes| ed25519_dalek::VerifyingKey::from_bytes(&bytes).ok());
        key.map(Self::Ed25519).ok_or_else(unreadable)
    }

    /// Reads SubjectPublicKeyInfo in DER; `None` if it is not a key for this algorithm.
    pub fn from_der(algorithm: Algorithm, der: &[u8]) -> Option<Self> {
        match algorithm {
            Algorithm::EcdsaP256Sha256 => {
                p256::ecdsa::VerifyingKey::from_public_key_der(der).ok().map(Self::EcdsaP256)
            }
            Algorithm::Ed25519 => {
                ed25519_dalek::VerifyingKey::from_public_key_der(der).ok().map(Self::Ed25519)
            }
            Algorithm::RsaPkcs1v15Sha256 => {
                RsaPublicKey::from_public_key_der(der).ok().map(Self::Rsa)
            }
            _ => None,
        }
    }

    /// SubjectPublicKeyInfo in DER.
    pub fn to_der(&self) -> Option<Vec<u8>> {
        match self {
            Self::EcdsaP256(key) => key.to_public_key_der(),
            Self::Ed25519(key) => key.to_public_key_der(),
            Self::Rsa(key) => key.to_public_key_der(),
        }
        .ok()
        .map(|document| document.into_vec())
    }

    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::EcdsaP256(key) => {
                use p256::ecdsa::signature::Verifier;
                let parsed = p256::ecdsa::Signature::from_slice(signature);
                parsed.is_ok_and(|signature| key.verify(message, &signature).is_ok())
            }
            Self::Ed25519(key) => {
                let parsed = ed25519_dalek::Signature::from_slice(signature);
                parsed.is_ok_and(|signature| key.verify_strict(message, &signature).is_ok())
            }
            Self::Rsa(key) => {
                let digest = Sha256::digest(message);
                key.verify(Pkcs1v15Sign::new::<Sha256>(), &digest, signature).is_ok()
            }
        }
    }

    /// Number of bits of an RSA modulus; `None` for a key on a curve.
    pub fn modulus_bits(&self) -> Option<usize> {
        if let Self::Rsa(key) = self { Some(key.n().bits()) } else { None }
    }
}

fn point(session: &Session, object: ObjectHandle) -> Result<Vec<u8>, Fault> {
    match session.get_attributes(object, &[AttributeType::EcPoint])?.pop() {
        Some(Attribute::EcPoint(bytes)) => Ok(bytes),
        _ => Err(unreadable()),
    }
}

/// The point itself. Some tokens wrap it in an OCTET STRING, as the standard says; others do not.
fn unwrapped(point: &[u8], length: usize) -> &[u8] {
    match point {
        [OCTET_STRING, announced, rest @ ..]
            if *announced as usize == length && rest.len() == length =>
        {
            rest
        }
        bare => bare,
    }
}

fn unreadable() -> Fault {
    Fault::passing(HostError::Token("a public key that cannot be read".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read_wrapped_and_bare() {
        let bare = [4; 32];
        let wrapped = [&[OCTET_STRING, 32][..], &bare].concat();
        assert_eq!(unwrapped(&bare, 32), bare);
        assert_eq!(unwrapped(&wrapped, 32), bare);
        let uncompressed = [&[4][..], &[0x41; 64]].concat();
        assert_eq!(
            unwrapped(&uncompressed, 65),
            uncompressed,
            "a bare point whose bytes look like a header"
        );
    }
}
