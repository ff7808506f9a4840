//! Verifies the signatures between certificates: RSA and P-256, as cards and Yubico's authorities
//! use them.

use p256::ecdsa::signature::Verifier;
use rsa::pkcs1v15;
use rsa::pkcs8::DecodePublicKey;
use sha2::{Sha256, Sha384, Sha512};
use ssh_key::public::{EcdsaPublicKey, Ed25519PublicKey, KeyData, RsaPublicKey};
use x509_cert::der::Decode;
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::certificate::Certificate;

const ECDSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.4.3.2");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const RSA_SHA256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.11");
const RSA_SHA384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.12");
const RSA_SHA512: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.13");

/// True if `authority`'s key signed `below`. False for an algorithm or a key that is not
/// understood.
pub(super) fn is_right(below: &Certificate, authority: &Certificate) -> bool {
    let (signed, key) = (below.signed(), authority.public_key());
    let Some(signature) = below.signature() else { return false };
    match below.signature_algorithm() {
        ECDSA_SHA256 => ecdsa(key, signed, signature),
        RSA_SHA256 => rsa_key(key).is_some_and(|key| {
            is_rsa(&pkcs1v15::VerifyingKey::<Sha256>::new(key), signed, signature)
        }),
        RSA_SHA384 => rsa_key(key).is_some_and(|key| {
            is_rsa(&pkcs1v15::VerifyingKey::<Sha384>::new(key), signed, signature)
        }),
        RSA_SHA512 => rsa_key(key).is_some_and(|key| {
            is_rsa(&pkcs1v15::VerifyingKey::<Sha512>::new(key), signed, signature)
        }),
        _ => false,
    }
}

fn rsa_key(key: &[u8]) -> Option<rsa::RsaPublicKey> {
    rsa::RsaPublicKey::from_public_key_der(key).ok()
}

fn is_rsa(key: &impl Verifier<pkcs1v15::Signature>, signed: &[u8], signature: &[u8]) -> bool {
    pkcs1v15::Signature::try_from(signature)
        .is_ok_and(|signature| key.verify(signed, &signature).is_ok())
}

fn ecdsa(key: &[u8], signed: &[u8], signature: &[u8]) -> bool {
    let key = p256::ecdsa::VerifyingKey::from_public_key_der(key);
    let signature = p256::ecdsa::DerSignature::try_from(signature);
    matches!((key, signature), (Ok(key), Ok(signature)) if key.verify(signed, &signature).is_ok())
}

/// Turns a public key in DER into SSH's form; `None` if SSH has no form for it.
pub(super) fn ssh_key(der: &[u8]) -> Option<KeyData> {
    if let Ok(key) = p256::PublicKey::from_public_key_der(der) {
        return Some(KeyData::Ecdsa(EcdsaPublicKey::NistP256(key.into())));
    }
    if let Some(key) = rsa_key(der) {
        return Some(KeyData::Rsa(RsaPublicKey::try_from(key).ok()?));
    }
    let info = SubjectPublicKeyInfoRef::from_der(der).ok()?;
    let bytes = info.subject_public_key.as_bytes()?;
    (info.algorithm.oid == ED25519).then_some(())?;
    Some(KeyData::Ed25519(Ed25519PublicKey(bytes.try_into().ok()?)))
}
