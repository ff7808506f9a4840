//! Turns a key's public half into the form of the SSH agent protocol.

use p256::pkcs8::DecodePublicKey;
use rsa::traits::PublicKeyParts;
use ssh_key::public::{EcdsaPublicKey, Ed25519PublicKey, KeyData, RsaPublicKey};

/// Turns SubjectPublicKeyInfo in DER into an SSH public key. `None` for kinds of keys that SSH has
/// no name for.
pub(crate) fn ssh_public_key(spki: &[u8]) -> Option<KeyData> {
    if let Ok(key) = ed25519_dalek::VerifyingKey::from_public_key_der(spki) {
        return Some(KeyData::Ed25519(Ed25519PublicKey(key.to_bytes())));
    }
    if let Ok(key) = p256::PublicKey::from_public_key_der(spki) {
        return Some(KeyData::Ecdsa(EcdsaPublicKey::from_sec1_bytes(&key.to_sec1_bytes()).ok()?));
    }
    let key = rsa::RsaPublicKey::from_public_key_der(spki).ok()?;
    let integer =
        |number: &rsa::BigUint| ssh_key::Mpint::from_positive_bytes(&number.to_bytes_be()).ok();
    Some(KeyData::Rsa(RsaPublicKey { e: integer(key.e())?, n: integer(key.n())? }))
}

#[cfg(test)]
mod tests {
    use p256::pkcs8::EncodePublicKey;

    use super::*;

    #[test]
    fn keys_of_every_kind_get_their_ssh_name() {
        let ed25519 = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key();
        let ed25519 = ed25519.to_public_key_der().expect("encodes");
        let p256 = p256::SecretKey::from_slice(&[7; 32]).expect("in range").public_key();
        let p256 = p256.to_public_key_der().expect("encodes");
        let name = |der: &[u8]| ssh_public_key(der).map(|key| key.algorithm().to_string());
        assert_eq!(name(ed25519.as_bytes()).as_deref(), Some("ssh-ed25519"));
        assert_eq!(name(p256.as_bytes()).as_deref(), Some("ecdsa-sha2-nistp256"));
        assert_eq!(name(b"none"), None);
    }
}
