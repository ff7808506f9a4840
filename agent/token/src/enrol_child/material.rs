//! Decodes a secret from the form in which its exchange writes it, and computes with it in software
//! to check the token's answers.

use countersign_base::messages::enrol_child::{EnrolError, SecretEncoding};
use countersign_core::algorithm::Algorithm;
use data_encoding::BASE64;
use hmac::{Hmac, Mac};
use rsa::RsaPrivateKey;
use rsa::traits::PublicKeyParts;
use sha2::{Digest, Sha256, Sha384, Sha512};
use zeroize::{Zeroize, Zeroizing};

use crate::token::public_key::PublicKey;

/// A key on its way to the token.
pub enum KeyMaterial {
    EcdsaP256(p256::SecretKey),
    Ed25519(Box<ed25519_dalek::SigningKey>),
    /// Exactly one block of the hash. By the definition of HMAC this block signs as the secret
    /// does.
    Hmac(Algorithm, Zeroizing<Vec<u8>>),
    Rsa(Box<RsaPrivateKey>),
}

impl KeyMaterial {
    /// Decodes an HMAC `secret`, which the exchange wrote in `encoding`. Errors quote no part of
    /// it.
    pub(crate) fn decode(
        algorithm: Algorithm,
        encoding: SecretEncoding,
        secret: &[u8],
    ) -> Result<Self, EnrolError> {
        match (algorithm, encoding) {
            (
                Algorithm::HmacSha256 | Algorithm::HmacSha384 | Algorithm::HmacSha512,
                SecretEncoding::Ascii,
            ) => hmac(algorithm, ascii(secret)?),
            (
                Algorithm::HmacSha256 | Algorithm::HmacSha384 | Algorithm::HmacSha512,
                SecretEncoding::Base64,
            ) => hmac(algorithm, &base64(secret)?),
            (algorithm, encoding) => {
                Err(not(&format!("a {algorithm} key: those are not written as {encoding:?}")))
            }
        }
    }

    /// Checks that tokens and exchanges take a key of this size.
    pub(crate) fn checked(self) -> Result<Self, EnrolError> {
        match &self {
            Self::Rsa(key) if ![2048, 3072, 4096].contains(&(key.size() * 8)) => {
                Err(not("an RSA key of 2048, 3072 or 4096 bits"))
            }
            _ => Ok(self),
        }
    }

    pub const fn algorithm(&self) -> Algorithm {
        match self {
            Self::EcdsaP256(_) => Algorithm::EcdsaP256Sha256,
            Self::Ed25519(_) => Algorithm::Ed25519,
            Self::Hmac(algorithm, _) => *algorithm,
            Self::Rsa(_) => Algorithm::RsaPkcs1v15Sha256,
        }
    }

    /// The public key, which verifies signatures; `None` for a MAC key.
    pub fn public_key(&self) -> Option<PublicKey> {
        match self {
            Self::EcdsaP256(key) => Some(PublicKey::EcdsaP256(key.public_key().into())),
            Self::Ed25519(key) => Some(PublicKey::Ed25519(key.verifying_key())),
            Self::Hmac(..) => None,
            Self::Rsa(key) => Some(PublicKey::Rsa(key.to_public_key())),
        }
    }

    /// True if `signature` is the signature of this key over `message`, as computed in software.
    pub fn agrees(&self, message: &[u8], signature: &[u8]) -> bool {
        match self {
            Self::Hmac(algorithm, block) => mac(*algorithm, block, message).as_slice() == signature,
            _ => self.public_key().is_some_and(|key| key.verifies(message, signature)),
        }
    }

    /// The MAC of `text` in base64, as an exchange wants it for a passphrase.
    pub fn mac_of(&self, text: &str) -> Result<Zeroizing<String>, EnrolError> {
        match self {
            Self::Hmac(algorithm, block) => {
                Ok(Zeroizing::new(BASE64.encode(&mac(*algorithm, block, text.as_bytes()))))
            }
            _ => Err(not("an HMAC secret, which the passphrase needs")),
        }
    }
}

impl std::fmt::Debug for KeyMaterial {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KeyMaterial({}, [redacted])", self.algorithm())
    }
}

/// Bytes in one block of the hash.
const fn block_length(algorithm: Algorithm) -> usize {
    if matches!(algorithm, Algorithm::HmacSha256) { 64 } else { 128 }
}

fn hmac(algorithm: Algorithm, secret: &[u8]) -> Result<KeyMaterial, EnrolError> {
    if secret.is_empty() {
        return Err(not("a secret: it is empty"));
    }
    let mut block = Zeroizing::new(vec![0; block_length(algorithm)]);
    if secret.len() <= block.len() {
        block[..secret.len()].copy_from_slice(secret);
    } else {
        // RFC 2104: a key longer than the block is hashed first.
        let digest = match algorithm {
            Algorithm::HmacSha384 => Zeroizing::new(Sha384::digest(secret).to_vec()),
            Algorithm::HmacSha512 => Zeroizing::new(Sha512::digest(secret).to_vec()),
            _ => Zeroizing::new(Sha256::digest(secret).to_vec()),
        };
        block[..digest.len()].copy_from_slice(&digest);
    }
    Ok(KeyMaterial::Hmac(algorithm, block))
}

fn mac(algorithm: Algorithm, key: &[u8], message: &[u8]) -> Vec<u8> {
    // HMAC takes keys of every length; an empty answer never equals a token's.
    match algorithm {
        Algorithm::HmacSha256 => {
            Hmac::<Sha256>::new_from_slice(key).map(|mac| finish(mac, message))
        }
        Algorithm::HmacSha384 => {
            Hmac::<Sha384>::new_from_slice(key).map(|mac| finish(mac, message))
        }
        _ => Hmac::<Sha512>::new_from_slice(key).map(|mac| finish(mac, message)),
    }
    .unwrap_or_default()
}

fn finish(mac: impl Mac, message: &[u8]) -> Vec<u8> {
    mac.chain_update(message).finalize().into_bytes().to_vec()
}

pub(crate) fn ed25519_seed(bytes: &[u8]) -> Result<KeyMaterial, EnrolError> {
    let form = || not("an Ed25519 seed of 32 bytes, alone or followed by its public key");
    let (seed, public) = bytes.split_first_chunk::<32>().ok_or_else(form)?;
    let key = ed25519_dalek::SigningKey::from_bytes(seed);
    if !public.is_empty() && public != key.verifying_key().as_bytes() {
        return Err(form());
    }
    Ok(KeyMaterial::Ed25519(Box::new(key)))
}

fn ascii(secret: &[u8]) -> Result<&[u8], EnrolError> {
    // A space or newline at the end comes from copying. With it every signature would be wrong.
    if secret.iter().all(u8::is_ascii_graphic) {
        Ok(secret)
    } else {
        Err(not("printable ASCII without spaces"))
    }
}

pub(crate) fn base64(secret: &[u8]) -> Result<Zeroizing<Vec<u8>>, EnrolError> {
    let invalid = || not("base64 with its padding, and without spaces or line ends");
    // The decoder takes several padded texts in a row, but no exchange gives out such a secret.
    if secret.iter().skip_while(|byte| **byte != b'=').any(|byte| *byte != b'=') {
        return Err(invalid());
    }
    let mut decoded =
        Zeroizing::new(vec![0; BASE64.decode_len(secret.len()).map_err(|_| invalid())?]);
    let length = BASE64.decode_mut(secret, &mut decoded).map_err(|_| invalid())?;
    decoded[length..].zeroize();
    decoded.truncate(length);
    Ok(decoded)
}

fn not(what: &str) -> EnrolError {
    EnrolError::Input(format!("the secret is not {what}"))
}

#[cfg(test)]
mod material_tests;
