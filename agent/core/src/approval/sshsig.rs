//! The form of an approval's signature: the bytes that an ssh-agent signs, and the text of its
//! answer.

use data_encoding::BASE64;
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, HashAlg, Signature, SshSig};

use super::NAMESPACE;

/// The bytes an ssh-agent signs for an approval of `message` (OpenSSH's PROTOCOL.sshsig).
pub fn signed_data(message: &[u8]) -> Vec<u8> {
    SshSig::signed_data(NAMESPACE, HashAlg::Sha512, message).expect("the namespace is not empty")
}

/// Writes the ssh-agent's answer as an SSHSIG in PEM.
///
/// This code does it by hand, because ssh-key 0.6 writes the flags and counter of an ECDSA key on a
/// FIDO token into the wrong field.
pub fn armoured(public_key: &KeyData, signature: &Signature) -> Result<String, ssh_key::Error> {
    let mut key = Vec::new();
    ssh_key::public::PublicKey::from(public_key.clone()).to_bytes()?.clone_into(&mut key);
    let mut blob = b"SSHSIG".to_vec();
    blob.extend(1u32.to_be_bytes());
    for part in [&key[..], NAMESPACE.as_bytes(), b"", b"sha512", &encoded(signature)] {
        string(&mut blob, part);
    }
    const COLUMNS: usize = 70;
    let mut text = "-----BEGIN SSH SIGNATURE-----\n".to_owned();
    let base64 = BASE64.encode(&blob);
    for start in (0..base64.len()).step_by(COLUMNS) {
        text.push_str(&base64[start..base64.len().min(start + COLUMNS)]);
        text.push('\n');
    }
    text.push_str("-----END SSH SIGNATURE-----\n");
    Ok(text)
}

/// The flags and the counter of a FIDO signature follow its string and are not inside it (OpenSSH's
/// PROTOCOL.u2f).
fn encoded(signature: &Signature) -> Vec<u8> {
    const TRAILER: usize = 5;
    let bytes = signature.as_bytes();
    let fido =
        matches!(signature.algorithm(), Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256);
    let (inner, trailer) =
        bytes.split_at(bytes.len() - if fido { TRAILER.min(bytes.len()) } else { 0 });
    let mut blob = Vec::new();
    string(&mut blob, signature.algorithm().as_str().as_bytes());
    string(&mut blob, inner);
    blob.extend_from_slice(trailer);
    blob
}

fn string(out: &mut Vec<u8>, part: &[u8]) {
    out.extend((part.len() as u32).to_be_bytes());
    out.extend_from_slice(part);
}
