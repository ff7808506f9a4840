//! The sealed file of a vault, with its PIN. Each of the PIV keys to which it was sealed can open
//! it, and nothing else can.
//!
//! A random key seals the contents. For each recipient that key is sealed with the secret on which
//! an ephemeral P-256 key and the recipient's key agree. The terms, which name the recipients, are
//! in the clear. They are bound to every part, and are repeated inside. So a person who can write
//! the file cannot add a recipient, and no byte changes unseen. Each key is used once, so nonces
//! are zero.

use chacha20poly1305::aead::AeadInPlace;
use chacha20poly1305::{ChaCha20Poly1305, KeyInit, Nonce};
use countersign_base::system::random;
use countersign_base::system::sys::LockedMemory;
use countersign_core::approval::{Approver, AttestedKey, Touch};
use data_encoding::BASE64;
use hkdf::Hkdf;
use p256::pkcs8::DecodePublicKey;
use p256::{PublicKey, SecretKey, ecdh};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

const PURPOSE: &[u8] = b"countersign-vault/1";
const KEY: usize = 32;
const TAG: usize = 16;
/// Length of an uncompressed point, in bytes.
pub const POINT: usize = 65;
/// Longest PIN, in bytes. Real PINs are far shorter.
const LONGEST_SEALED_PIN: usize = u8::MAX as usize;

/// The terms for which a vault was sealed. Anybody may read them.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Terms {
    pub v: u8,
    /// The agent's id.
    pub agent: String,
    /// The token's name in `agent.toml`, and its serial.
    pub token: String,
    pub token_serial: String,
    /// Hash of the `agent.toml` by whose rules the vault signs.
    pub policy_sha256: String,
    pub recipients: Vec<Recipient>,
    /// The approvers of a change of these terms.
    pub approvers: Vec<SealedApprover>,
}

/// A YubiKey that opens a vault.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Recipient {
    /// The YubiKey's name in `agent.toml`.
    pub name: String,
    pub serial: u32,
    /// SubjectPublicKeyInfo of the key in slot 9d, DER as base64.
    pub public_key: String,
    /// The proof that each use of the key takes PIN and touch, PEM.
    pub attestation: String,
}

/// An approver, as the terms name one.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SealedApprover {
    pub name: String,
    pub public_key: String,
    /// The attestation of a PIV key. A FIDO key needs none: it proves the touch in each signature.
    pub attestation: Option<String>,
    pub attestation_root: Option<String>,
}

/// The contents of a sealed vault. A PIN never leaves locked memory.
#[derive(Debug)]
pub struct SealedContents {
    pub terms: Terms,
    pub pin: LockedMemory,
    /// The previous PIN, while it is not known which of the two the token has.
    pub previous: Option<LockedMemory>,
    pub spent: SpentMark,
}

/// Length and hash of the record of spent approvals. With it, an entry that was removed is noticed.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SpentMark {
    pub bytes: u64,
    pub sha256: String,
}

/// A sealed vault, as its file holds it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Sealed {
    pub terms: Terms,
    /// One share for each recipient, in their order.
    shares: Vec<SealedShare>,
    body: String,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
struct SealedShare {
    ephemeral: String,
    key: String,
}

/// The contents besides the PINs.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Inside {
    terms: Terms,
    spent: SpentMark,
}

/// Why a vault was not sealed.
#[derive(Debug, thiserror::Error)]
pub enum NotSealed {
    #[error("the key of {0} in slot 9d is no P-256 key")]
    Key(String),
    #[error("a PIN has 1 to {LONGEST_SEALED_PIN} bytes")]
    Pin,
    #[error("no randomness, or no memory that can be locked")]
    System(#[from] std::io::Error),
}

/// Why a vault did not open.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotOpened {
    #[error("it was changed, or sealed to another key")]
    Changed,
    #[error("it is no sealed vault")]
    Malformed,
    #[error("no memory could be locked for it")]
    Memory,
    #[error("that YubiKey is not one of its recipients")]
    NoRecipient,
}

impl SealedContents {
    /// Seals the contents to every recipient of the terms.
    pub fn seal(&self) -> Result<Sealed, NotSealed> {
        let terms = self.terms.bytes();
        let mut key = Zeroizing::new([0; KEY]);
        random::fill(&mut *key)?;
        let shares: Result<Vec<SealedShare>, NotSealed> =
            self.terms.recipients.iter().map(|recipient| share(recipient, &key, &terms)).collect();
        let shares = shares?;
        let mut body = self.plaintext()?;
        let length = body.as_bytes().len();
        let mut sealed = Zeroizing::new(vec![0; length]);
        sealed.copy_from_slice(body.as_bytes());
        body.truncate(0);
        let bound = bound_to(&terms, &shares);
        let tag = cipher(&key).encrypt_in_place_detached(&Nonce::default(), &bound, &mut sealed);
        let tag = tag.map_err(|_| NotSealed::Pin)?;
        sealed.extend_from_slice(&tag);
        Ok(Sealed { terms: self.terms.clone(), shares, body: BASE64.encode(&sealed) })
    }

    fn plaintext(&self) -> Result<LockedMemory, NotSealed> {
        let inside = Inside { terms: self.terms.clone(), spent: self.spent.clone() };
        let inside = serde_json::to_vec(&inside).expect("texts and numbers are always JSON");
        let none: &[u8] = &[];
        let previous = self.previous.as_ref().map_or(none, LockedMemory::as_bytes);
        let mut out = LockedMemory::with_capacity(2 + 2 * LONGEST_SEALED_PIN + inside.len())?;
        for pin in [self.pin.as_bytes(), previous] {
            let length = u8::try_from(pin.len()).map_err(|_| NotSealed::Pin)?;
            if !out.append(&[length]) || !out.append(pin) {
                return Err(NotSealed::Pin);
            }
        }
        if self.pin.as_bytes().is_empty() || !out.append(&inside) {
            return Err(NotSealed::Pin);
        }
        Ok(out)
    }
}

impl Sealed {
    pub fn parse(text: &[u8]) -> Result<Self, NotOpened> {
        let sealed: Self = serde_json::from_slice(text).map_err(|_| NotOpened::Malformed)?;
        let whole = sealed.shares.len() == sealed.terms.recipients.len() && sealed.terms.v == 1;
        // Only one spelling is accepted, so that no byte of the file can be changed unseen.
        if whole && sealed.to_bytes() == text { Ok(sealed) } else { Err(NotOpened::Malformed) }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers are always JSON")
    }

    /// The point with which the key of this YubiKey must agree on a secret.
    pub fn point_for(&self, serial: u32) -> Result<[u8; POINT], NotOpened> {
        let point = decoded(&self.shares[self.position_of(serial)?].ephemeral)?;
        point.try_into().map_err(|_| NotOpened::Malformed)
    }

    /// Opens the vault with the secret on which the key of this YubiKey and [`Self::point_for`]
    /// agreed.
    pub fn open(&self, serial: u32, agreed: &[u8; KEY]) -> Result<SealedContents, NotOpened> {
        let position = self.position_of(serial)?;
        let (share, recipient) = (&self.shares[position], &self.terms.recipients[position]);
        let terms = self.terms.bytes();
        let wrapped = decoded(&share.key)?;
        let mut key = Zeroizing::new([0; KEY]);
        let wrapping =
            wrapping_key(agreed, &decoded(&share.ephemeral)?, &decoded(&recipient.public_key)?);
        open_into(&wrapping, &terms, &wrapped, &mut *key)?;
        let body = decoded(&self.body)?;
        let length = body.len().checked_sub(TAG).ok_or(NotOpened::Malformed)?;
        let mut plaintext =
            LockedMemory::with_capacity(length.max(1)).map_err(|_| NotOpened::Memory)?;
        open_into(&key, &bound_to(&terms, &self.shares), &body, &mut plaintext.spare()[..length])?;
        plaintext.advance(length);
        self.read(plaintext.as_bytes())
    }

    fn read(&self, plaintext: &[u8]) -> Result<SealedContents, NotOpened> {
        let (pin, rest) = pin_of(plaintext)?;
        let (previous, rest) = pin_of(rest)?;
        let inside: Inside = serde_json::from_slice(rest).map_err(|_| NotOpened::Malformed)?;
        if inside.terms != self.terms {
            return Err(NotOpened::Changed);
        }
        let previous = (!previous.as_bytes().is_empty()).then_some(previous);
        Ok(SealedContents { terms: inside.terms, pin, previous, spent: inside.spent })
    }

    fn position_of(&self, serial: u32) -> Result<usize, NotOpened> {
        self.terms
            .recipients
            .iter()
            .position(|one| one.serial == serial)
            .ok_or(NotOpened::NoRecipient)
    }
}

impl Terms {
    /// The bytes to which every sealed part is bound.
    fn bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("texts and numbers are always JSON")
    }

    /// Hex SHA-256, which names these terms in the text that approvers sign.
    pub fn sha256(&self) -> String {
        data_encoding::HEXLOWER.encode(&Sha256::digest(self.bytes()))
    }

    /// The approvers of a change. An approver whose proof no longer holds is left out.
    pub fn approvers(&self) -> Vec<Approver> {
        self.approvers.iter().filter_map(SealedApprover::as_approver).collect()
    }
}

impl SealedApprover {
    pub fn of(approver: &Approver) -> Option<Self> {
        let attested = match &approver.touch {
            Touch::Attested(attested) => Some(attested),
            Touch::InSignature => None,
        };
        Some(Self {
            name: approver.name.clone(),
            public_key: approver.key.to_openssh().ok()?,
            attestation: attested.map(|attested| attested.certificates().to_owned()),
            attestation_root: attested
                .and_then(|attested| attested.other_root())
                .map(str::to_owned),
        })
    }

    fn as_approver(&self) -> Option<Approver> {
        let touch = match &self.attestation {
            None => Touch::InSignature,
            Some(certificates) => Touch::Attested(Box::new(
                AttestedKey::prove(certificates, self.attestation_root.as_deref()).ok()?,
            )),
        };
        let key = ssh_key::PublicKey::from_openssh(&self.public_key).ok()?;
        // One approval is enough here, so it does not matter if a person has several keys.
        Some(Approver { name: self.name.clone(), person: self.name.clone(), key, touch })
    }
}

fn share(recipient: &Recipient, key: &[u8; KEY], terms: &[u8]) -> Result<SealedShare, NotSealed> {
    let no_key = || NotSealed::Key(recipient.name.clone());
    let der = BASE64.decode(recipient.public_key.as_bytes()).map_err(|_| no_key())?;
    let theirs = PublicKey::from_public_key_der(&der).map_err(|_| no_key())?;
    let ours = ephemeral()?;
    let point = p256::EncodedPoint::from(ours.public_key());
    let agreed = ecdh::diffie_hellman(ours.to_nonzero_scalar(), theirs.as_affine());
    let wrapping = wrapping_key(agreed.raw_secret_bytes(), point.as_bytes(), &der);
    let mut wrapped = Zeroizing::new(key.to_vec());
    let tag = cipher(&wrapping).encrypt_in_place_detached(&Nonce::default(), terms, &mut wrapped);
    wrapped.extend_from_slice(&tag.map_err(|_| no_key())?);
    Ok(SealedShare { ephemeral: BASE64.encode(point.as_bytes()), key: BASE64.encode(&wrapped) })
}

/// A random scalar. One in 2^32 random values is not a scalar, and then the next one is taken.
fn ephemeral() -> Result<SecretKey, std::io::Error> {
    let mut bytes = Zeroizing::new([0; KEY]);
    loop {
        random::fill(&mut *bytes)?;
        if let Ok(secret) = SecretKey::from_slice(&*bytes) {
            return Ok(secret);
        }
    }
}

fn wrapping_key(agreed: &[u8], ephemeral: &[u8], recipient: &[u8]) -> Zeroizing<[u8; KEY]> {
    let mut key = Zeroizing::new([0; KEY]);
    let salt = [ephemeral, recipient].concat();
    let expanded = Hkdf::<Sha256>::new(Some(&salt), agreed).expand(PURPOSE, &mut *key);
    expanded.expect("32 bytes are no more than HKDF gives");
    key
}

/// The body is bound to the terms and to every share.
fn bound_to(terms: &[u8], shares: &[SealedShare]) -> Vec<u8> {
    let shares = serde_json::to_vec(shares).expect("texts are always JSON");
    [&(terms.len() as u64).to_be_bytes(), terms, &shares].concat()
}

fn cipher(key: &[u8; KEY]) -> ChaCha20Poly1305 {
    ChaCha20Poly1305::new(key.into())
}

/// Opens `sealed` into `out`, which must be as long as the contents.
fn open_into(
    key: &[u8; KEY],
    bound: &[u8],
    sealed: &[u8],
    out: &mut [u8],
) -> Result<(), NotOpened> {
    let length = sealed
        .len()
        .checked_sub(TAG)
        .filter(|length| *length == out.len())
        .ok_or(NotOpened::Malformed)?;
    let (text, tag) = sealed.split_at(length);
    let tag: [u8; TAG] = tag.try_into().map_err(|_| NotOpened::Malformed)?;
    out.copy_from_slice(text);
    let opened = cipher(key).decrypt_in_place_detached(&Nonce::default(), bound, out, &tag.into());
    opened.map_err(|_| NotOpened::Changed)
}

fn pin_of(bytes: &[u8]) -> Result<(LockedMemory, &[u8]), NotOpened> {
    let (length, rest) = bytes.split_first().ok_or(NotOpened::Malformed)?;
    let (pin, rest) = rest.split_at_checked((*length).into()).ok_or(NotOpened::Malformed)?;
    let mut memory =
        LockedMemory::with_capacity(pin.len().max(1)).map_err(|_| NotOpened::Memory)?;
    if memory.append(pin) { Ok((memory, rest)) } else { Err(NotOpened::Memory) }
}

fn decoded(text: &str) -> Result<Vec<u8>, NotOpened> {
    BASE64.decode(text.as_bytes()).map_err(|_| NotOpened::Malformed)
}

/// A random PIN from the kernel, in hex: 192 bits, or 128 bits if the token takes no longer PIN.
pub fn random_pin(longest: usize) -> Result<LockedMemory, std::io::Error> {
    let mut bytes = Zeroizing::new([0; 24]);
    let bytes = if longest >= 48 { &mut bytes[..] } else { &mut bytes[..16] };
    random::fill(bytes)?;
    let mut pin = LockedMemory::with_capacity(48)?;
    let length = bytes.len() * 2;
    data_encoding::HEXLOWER.encode_mut(bytes, &mut pin.spare()[..length]);
    pin.advance(length);
    Ok(pin)
}

#[cfg(test)]
mod sealed_tests;
