//! Signs in software, with the test keys of the cases.

use countersign_core::algorithm::Algorithm;
use countersign_core::refusal::Refusal;
use ed25519_dalek::Signer as _;
use ed25519_dalek::pkcs8::DecodePrivateKey as _;
use hmac::{Hmac, Mac};
use rsa::signature::SignatureEncoding as _;
use sha2::{Sha256, Sha384, Sha512};

/// A secret as its case writes it.
pub(crate) enum Secret<'a> {
    Bytes(Vec<u8>),
    Pem(&'a str),
    /// 32 bytes. The public key may follow.
    Seed(Vec<u8>),
}

pub(crate) fn sign(
    algorithm: Algorithm,
    secret: Secret<'_>,
    message: &[u8],
) -> Result<Vec<u8>, Refusal> {
    let malformed = |_| Refusal::malformed("the secret is not a PKCS#8 key of this algorithm");
    Ok(match (algorithm, secret) {
        (Algorithm::HmacSha256, Secret::Bytes(secret)) => {
            let mac =
                Hmac::<Sha256>::new_from_slice(&secret).expect("HMAC takes keys of any length");
            mac.chain_update(message).finalize().into_bytes().to_vec()
        }
        (Algorithm::HmacSha384, Secret::Bytes(secret)) => {
            let mac =
                Hmac::<Sha384>::new_from_slice(&secret).expect("HMAC takes keys of any length");
            mac.chain_update(message).finalize().into_bytes().to_vec()
        }
        (Algorithm::HmacSha512, Secret::Bytes(secret)) => {
            let mac =
                Hmac::<Sha512>::new_from_slice(&secret).expect("HMAC takes keys of any length");
            mac.chain_update(message).finalize().into_bytes().to_vec()
        }
        (Algorithm::Ed25519, Secret::Pem(pem)) => {
            let key = ed25519_dalek::SigningKey::from_pkcs8_pem(pem).map_err(malformed)?;
            key.sign(message).to_bytes().to_vec()
        }
        (Algorithm::Ed25519, Secret::Seed(bytes)) => {
            let seed = bytes
                .first_chunk()
                .ok_or_else(|| Refusal::malformed("the seed is shorter than 32 bytes"))?;
            ed25519_dalek::SigningKey::from_bytes(seed).sign(message).to_bytes().to_vec()
        }
        (Algorithm::EcdsaP256Sha256, Secret::Pem(pem)) => {
            let key = p256::SecretKey::from_sec1_pem(pem)
                .ok()
                .or_else(|| p256::SecretKey::from_pkcs8_pem(pem).ok());
            let key = key.ok_or_else(|| {
                Refusal::malformed("the secret is not a P-256 key in SEC1 or PKCS#8 PEM")
            })?;
            let signature: p256::ecdsa::Signature =
                p256::ecdsa::SigningKey::from(key).sign(message);
            // Two signatures verify. This is the one that ccxt gives, with the lower s.
            signature.normalize_s().unwrap_or(signature).to_bytes().to_vec()
        }
        (Algorithm::RsaPkcs1v15Sha256, Secret::Pem(pem)) => {
            let key = rsa::RsaPrivateKey::from_pkcs8_pem(pem).map_err(malformed)?;
            let key = rsa::pkcs1v15::SigningKey::<rsa::sha2::Sha256>::new(key);
            rsa::signature::Signer::sign(&key, message).to_vec()
        }
        _ => return Err(Refusal::malformed("the secret is not of this algorithm's form")),
    })
}
