//! Reads private keys in PEM, as tools, portals and files of variables write them. Errors quote no
//! part of a key.

use countersign_base::messages::enrol_child::EnrolError;
use data_encoding::BASE64;
use ed25519_dalek::pkcs8::DecodePrivateKey;
use rsa::pkcs1::DecodeRsaPrivateKey;
use zeroize::{Zeroize, Zeroizing};

use super::import::P256_PARAMETERS;
use super::material::KeyMaterial;

const PEM_BEGIN: &str = "-----BEGIN ";
/// Label of the block that OpenSSL writes before an EC key. The block names the curve, which the
/// key names as well.
const PEM_CURVE_NAME: &str = "EC PARAMETERS";

/// True if `secret` is meant to be PEM, whole or not.
pub(crate) fn is_meant(secret: &[u8]) -> bool {
    contains(secret, b"-----BEGIN")
}

/// True if a key in PEM says that it is encrypted.
pub(crate) fn is_encrypted(secret: &[u8]) -> bool {
    is_meant(secret) && contains(secret, b"ENCRYPTED")
}

/// True if the key in PEM is complete, or can never be.
pub(crate) fn is_whole(secret: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(secret) else { return true };
    let Some((_, last)) = text.rsplit_once(PEM_BEGIN) else { return !is_meant(secret) };
    let Some((label, _)) = last.split_once("-----") else { return false };
    // An empty line is no part of a key: the person gives up.
    let given_up = text.ends_with("\n\n");
    given_up || label != PEM_CURVE_NAME && last.contains(&end_of(label))
}

/// The one private key in this text.
pub(crate) fn private_key(secret: &[u8]) -> Result<KeyMaterial, EnrolError> {
    let text = with_plain_lines(secret)?;
    let (mut rest, mut key, mut other) = (text.as_str(), None, None);
    while let Some((block, after)) = Block::first_in(rest)? {
        rest = after;
        match block.label {
            PEM_CURVE_NAME => block.check_curve()?,
            "CERTIFICATE" | "EC PUBLIC KEY" | "PUBLIC KEY" | "RSA PUBLIC KEY" => {
                other = Some(block.label)
            }
            _ if key.is_some() => {
                return Err(input("there are several private keys in it; enter one"));
            }
            _ => key = Some(block.key()?),
        }
    }
    key.ok_or_else(|| match other {
        Some(label) => input(&format!("it is a {label}; the private key is wanted")),
        None => input("there is no private key in it"),
    })
}

/// True if `der` is the structure of a private key, as PEM has it between its first and last line.
pub(crate) fn is_bare_body(der: &[u8]) -> bool {
    pkcs8(der).or_else(|| sec1(der)).or_else(|| pkcs1(der)).is_some()
}

struct Block<'text> {
    label: &'text str,
    body: &'text str,
}

impl<'text> Block<'text> {
    fn first_in(text: &'text str) -> Result<Option<(Self, &'text str)>, EnrolError> {
        let Some((_, rest)) = text.split_once(PEM_BEGIN) else { return Ok(None) };
        let cut = |end: &str| match rest.contains("ENCRYPTED") {
            true => encrypted(),
            false => input(&format!("the private key is not complete: it has no {end}")),
        };
        let (label, rest) = rest.split_once("-----").ok_or_else(|| cut("end"))?;
        let end = end_of(label);
        let (body, rest) = rest.split_once(&end).ok_or_else(|| cut(&end))?;
        Ok(Some((Self { label, body }, rest)))
    }

    fn der(&self) -> Result<Zeroizing<Vec<u8>>, EnrolError> {
        let damaged = || {
            input("the private key is damaged: there is no base64 between its first and last line")
        };
        let mut body: Zeroizing<Vec<u8>> = Zeroizing::new(Vec::with_capacity(self.body.len()));
        body.extend(self.body.bytes().filter(|byte| !byte.is_ascii_whitespace()));
        let mut der =
            Zeroizing::new(vec![0; BASE64.decode_len(body.len()).map_err(|_| damaged())?]);
        let length = BASE64.decode_mut(&body, &mut der).map_err(|_| damaged())?;
        der[length..].zeroize();
        der.truncate(length);
        Ok(der)
    }

    fn check_curve(&self) -> Result<(), EnrolError> {
        if **self.der()? == P256_PARAMETERS {
            Ok(())
        } else {
            Err(input("it is an EC key of another curve than P-256"))
        }
    }

    fn key(&self) -> Result<KeyMaterial, EnrolError> {
        if self.label.starts_with("ENCRYPTED") || self.body.contains("ENCRYPTED") {
            return Err(encrypted());
        }
        match self.label {
            "PRIVATE KEY" => pkcs8(&self.der()?).ok_or_else(|| input(NOT_PKCS8)),
            "EC PRIVATE KEY" => sec1(&self.der()?)
                .ok_or_else(|| input("it is an EC key of another curve than P-256, or is damaged")),
            "RSA PRIVATE KEY" => pkcs1(&self.der()?)
                .ok_or_else(|| input("it is an RSA key that is damaged or not complete")),
            "OPENSSH PRIVATE KEY" => Err(input(
                "it is in OpenSSH's own form: `ssh-keygen -p -m PKCS8 -f COPY` turns a copy of it \
                 into one that can be \
                 entered",
            )),
            _ => Err(input("it is not a private key of Ed25519, P-256 or RSA in PEM")),
        }
    }
}

const NOT_PKCS8: &str = "it is a private key of another kind than Ed25519, P-256 and RSA, or is \
                         damaged or not complete";

fn pkcs8(der: &[u8]) -> Option<KeyMaterial> {
    if let Ok(key) = ed25519_dalek::SigningKey::from_pkcs8_der(der) {
        return Some(KeyMaterial::Ed25519(Box::new(key)));
    }
    if let Ok(key) = p256::SecretKey::from_pkcs8_der(der) {
        return Some(KeyMaterial::EcdsaP256(key));
    }
    rsa::RsaPrivateKey::from_pkcs8_der(der).ok().map(|key| KeyMaterial::Rsa(Box::new(key)))
}

fn sec1(der: &[u8]) -> Option<KeyMaterial> {
    p256::SecretKey::from_sec1_der(der).ok().map(KeyMaterial::EcdsaP256)
}

fn pkcs1(der: &[u8]) -> Option<KeyMaterial> {
    rsa::RsaPrivateKey::from_pkcs1_der(der).ok().map(|key| KeyMaterial::Rsa(Box::new(key)))
}

fn end_of(label: &str) -> String {
    format!("-----END {label}-----")
}

/// Turns each written `\n` into a line break, and removes quotes around the whole. Files of
/// variables and copied JSON have these.
fn with_plain_lines(secret: &[u8]) -> Result<Zeroizing<String>, EnrolError> {
    let text = std::str::from_utf8(secret).map_err(|_| input("it is not text"))?;
    let mut plain = Zeroizing::new(String::with_capacity(text.len()));
    let mut characters =
        text.trim_matches(|edge: char| edge.is_whitespace() || "\"',".contains(edge)).chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next() {
                Some('n' | 'r') => plain.push('\n'),
                _ => return Err(input("there is a backslash in it that stands for no line break")),
            },
            other => plain.push(other),
        }
    }
    Ok(plain)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

fn encrypted() -> EnrolError {
    input(
        "the private key is encrypted: decrypt it with `openssl pkey -in FILE`, which asks for its \
         passphrase, and enter \
         what that prints",
    )
}

fn input(reason: &str) -> EnrolError {
    EnrolError::Input(reason.to_owned())
}
