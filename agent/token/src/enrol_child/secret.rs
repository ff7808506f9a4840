//! Finds the algorithm of a secret by the form in which an exchange or its portal gave it out.

use countersign_base::messages::enrol_child::{EnrolError, SecretEncoding};
use countersign_core::algorithm::Algorithm;
use data_encoding::{BASE64, BASE64_NOPAD};
use zeroize::Zeroizing;

use super::material::{self, KeyMaterial};
use super::pem;

/// Reads `secret` as a key for one of `algorithms`. `encoding` is that of the exchange's HMAC
/// secrets.
///
/// A secret that could be a key for two of them is refused: with the wrong one every signature
/// would be wrong. Errors quote no part of it.
pub(crate) fn read(
    algorithms: &[Algorithm],
    encoding: SecretEncoding,
    secret: &[u8],
) -> Result<KeyMaterial, EnrolError> {
    let hmac = algorithms.iter().copied().find(|algorithm| algorithm.is_hmac());
    if pem::is_meant(secret) {
        return of_pem(algorithms, secret);
    }
    if algorithms.contains(&Algorithm::Ed25519)
        && let Some(key) = proven_ed25519(secret)
    {
        return Ok(key);
    }
    let asymmetric = algorithms.iter().any(|algorithm| !algorithm.is_hmac());
    let decoded = Decoded::of(secret);
    if asymmetric && decoded.is_key_without_its_lines() {
        return Err(input(
            "it is a private key in PEM without its -----BEGIN and -----END lines: enter them, too",
        ));
    }
    match (algorithms.contains(&Algorithm::Ed25519), hmac) {
        (true, None) => material::ed25519_seed(&material::base64(secret)?),
        (true, Some(hmac)) => match decoded.halves() {
            Halves::None => KeyMaterial::decode(hmac, encoding, secret),
            Halves::One | Halves::Unlike => Err(input(&format!(
                "it may be an Ed25519 key or an HMAC secret: say which with --algorithm ed25519 or \
                 --algorithm {hmac}"
            ))),
        },
        (false, Some(hmac)) => KeyMaterial::decode(hmac, encoding, secret),
        (false, None) => Err(input(&format!(
            "{} wants a private key in PEM, from -----BEGIN to -----END",
            names(algorithms).join(" or ")
        ))),
    }
}

fn of_pem(algorithms: &[Algorithm], secret: &[u8]) -> Result<KeyMaterial, EnrolError> {
    let key = pem::private_key(secret)?;
    if !algorithms.contains(&key.algorithm()) {
        let (is, wanted) = (key.algorithm(), names(algorithms).join(", "));
        return Err(input(&format!(
            "it is a private key for {is}, but one for {wanted} is wanted"
        )));
    }
    key.checked()
}

fn names(algorithms: &[Algorithm]) -> Vec<&'static str> {
    algorithms.iter().map(|algorithm| algorithm.name()).collect()
}

/// The bytes of the secret, if it is base64.
struct Decoded(Option<Zeroizing<Vec<u8>>>);

/// Says if bytes may be an Ed25519 key: 32 bytes of seed, mostly followed by 32 bytes of the public
/// key.
enum Halves {
    None,
    One,
    Unlike,
}

impl Decoded {
    fn of(secret: &[u8]) -> Self {
        let mut text: Zeroizing<Vec<u8>> = Zeroizing::new(Vec::with_capacity(secret.len()));
        text.extend(secret.iter().filter(|byte| !byte.is_ascii_whitespace()));
        Self(BASE64.decode(&text).ok().map(Zeroizing::new))
    }

    fn is_key_without_its_lines(&self) -> bool {
        self.0.as_ref().is_some_and(|der| pem::is_bare_body(der))
    }

    fn halves(&self) -> Halves {
        match self.0.as_ref().map(|bytes| bytes.len()) {
            Some(32) => Halves::One,
            Some(64) => Halves::Unlike,
            _ => Halves::None,
        }
    }
}

/// Reads an Ed25519 key with its public half, which proves that it is one. It may be in either
/// alphabet of base64, with or without padding, and with blanks that came from copying.
fn proven_ed25519(secret: &[u8]) -> Option<KeyMaterial> {
    let mut text = Zeroizing::new(Vec::with_capacity(secret.len()));
    text.extend(secret.iter().filter(|byte| !byte.is_ascii_whitespace()).map(|byte| match byte {
        b'-' => b'+',
        b'_' => b'/',
        byte => *byte,
    }));
    while text.last() == Some(&b'=') {
        text.pop();
    }
    let bytes = Zeroizing::new(BASE64_NOPAD.decode(&text).ok()?);
    if bytes.len() == 64 { material::ed25519_seed(&bytes).ok() } else { None }
}

fn input(reason: &str) -> EnrolError {
    EnrolError::Input(reason.to_owned())
}

#[cfg(test)]
mod secret_tests;
