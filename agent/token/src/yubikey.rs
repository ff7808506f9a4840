//! One YubiKey by PC/SC: signs, agrees on keys, says what its PIV slots hold. For any process that
//! may reach pcscd.
//!
//! Nothing is held between two calls: each connects, looks for the serial, and does its work in one
//! transaction that is opened before the PIN is verified and ends after the PIN is forgotten again.
//! So a YubiKey that was unplugged, or a pcscd that was started anew, needs no repair, and no other
//! program can use the PIN or take over the touch. `docs/decisions/0012-yubikey-by-pcsc.md` says
//! why this is not the `yubikey` crate's connection.

mod apdu;
mod connection;
pub mod error;
pub mod login;
pub mod new_key;
pub mod pin;
pub mod records;
pub mod slot;

use std::ffi::CString;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use countersign_base::messages::yubikey::Slot;
use countersign_core::algorithm::Algorithm;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

pub use error::CardError;
pub use pin::CardPin;
pub use slot::{KeyKind, PinPolicy, SlotKey, TouchPolicy};

use apdu::{Answered, Command};
use connection::Open;

/// Who is refused sooner was not refused for want of a finger.
const NO_TOUCH_WAS_AWAITED: Duration = Duration::from_millis(100);

/// Longest message an Ed25519 key signs, in bytes: it goes to the YubiKey whole, whose buffer takes
/// 3,072.
pub const LONGEST_ED25519_MESSAGE: usize = 3_000;

const VERIFIED: u16 = 0x9000;
const SECURITY_STATUS: u16 = 0x6982;

/// A YubiKey that may be plugged in, or not.
#[derive(Clone, Debug)]
pub struct YubiKey(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    serial: u32,
    /// Where it was last.
    place: Mutex<Option<Place>>,
}

/// A reader that held the YubiKey, and how many cards came and went in it by then.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Place {
    reader: CString,
    events: u32,
}

/// What a YubiKey is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Facts {
    pub serial: u32,
    /// Major, minor, patch.
    pub firmware: [u8; 3],
}

/// The key that administers a YubiKey, as far as the YubiKey gives it out.
#[derive(Debug)]
pub struct ManagementKey {
    /// Of the cipher, as the applet numbers them.
    pub algorithm: u8,
    /// Everybody knows it.
    pub is_default: bool,
    /// Kept by the YubiKey itself, behind its PIN (ykman's `--protect`).
    pub protected: Option<Zeroizing<Vec<u8>>>,
}

/// What a YubiKey says of the key in a slot, signed by its attestation key. DER.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attestation {
    pub certificate: Vec<u8>,
    /// The certificate of the attestation key (slot f9), which its maker signed.
    pub intermediate: Vec<u8>,
}

/// What is called right before the YubiKey begins to blink.
pub type OnBlink = Box<dyn FnOnce() + Send>;

impl YubiKey {
    pub fn new(serial: u32) -> Self {
        Self(Arc::new(Shared { serial, place: Mutex::default() }))
    }

    pub fn serial(&self) -> u32 {
        self.0.serial
    }

    /// Whether it is there; takes neither PIN nor touch.
    pub fn facts(&self) -> Result<Facts, CardError> {
        self.open(|open| Ok(open.facts()))
    }

    /// The same, as far as possible without sending it anything, which would end what other
    /// programs have selected in it.
    pub fn check_presence(&self) -> Result<(), CardError> {
        if connection::is_where_it_was(&self.0) { Ok(()) } else { self.facts().map(drop) }
    }

    /// What these slots hold, of those that hold a key; takes neither PIN nor touch.
    pub fn keys(&self, slots: Vec<Slot>) -> Result<Vec<SlotKey>, CardError> {
        self.open(move |open| {
            slots.into_iter().filter_map(|slot| open.slot_key(slot).transpose()).collect()
        })
    }

    /// Takes neither PIN nor touch; fails for a key that was not made in the YubiKey.
    pub fn attest(&self, slot: Slot) -> Result<Attestation, CardError> {
        self.open(move |open| {
            let certificate = open.attest(slot)?;
            Ok(Attestation { certificate, intermediate: open.attestation_certificate()? })
        })
    }

    /// Whether the PIN is right, as far as the rule of one attempt allows to ask.
    pub fn check_pin(&self, pin: &Arc<CardPin>) -> Result<(), CardError> {
        let pin = Arc::clone(pin);
        self.open(move |open| open.with_pin(&pin, |_| Ok(())))
    }

    /// Whether a slot holds no key at all.
    pub fn is_empty(&self, slot: Slot) -> Result<bool, CardError> {
        self.open(move |open| open.is_empty(slot))
    }

    /// What it takes to administer the YubiKey; the PIN opens what it keeps itself.
    pub fn management_key(&self, pin: &Arc<CardPin>) -> Result<ManagementKey, CardError> {
        let pin = Arc::clone(pin);
        self.open(move |open| open.with_pin(&pin, Open::management_key))
    }

    /// One signature over `message`, by a key that gives none without a touch; it is for the caller
    /// to verify.
    ///
    /// P-256 signatures are r and s, 32 bytes each.
    pub fn sign(
        &self,
        slot: Slot,
        algorithm: Algorithm,
        message: &[u8],
        pin: &Arc<CardPin>,
        on_blink: OnBlink,
    ) -> Result<Vec<u8>, CardError> {
        if algorithm == Algorithm::Ed25519 && message.len() > LONGEST_ED25519_MESSAGE {
            return Err(CardError::MessageTooLong {
                bytes: message.len(),
                longest: LONGEST_ED25519_MESSAGE,
            });
        }
        let (pin, message) = (Arc::clone(pin), message.to_vec());
        self.open(move |open| {
            let kind = open.touch_key(slot)?.kind;
            let input =
                kind.input(algorithm, &message).ok_or(CardError::OtherKey { slot, algorithm })?;
            let command = Command::sign(kind.code(), slot, &input);
            let signature = open.with_pin(&pin, |open| open.touched(slot, &command, on_blink))?;
            kind.signature(&signature).ok_or(CardError::Nonsense("a signature"))
        })
    }

    /// The secret that a P-256 key that gives none without a touch shares with `peer`, an
    /// uncompressed point.
    pub fn agree(
        &self,
        slot: Slot,
        peer: [u8; 65],
        pin: &Arc<CardPin>,
        on_blink: OnBlink,
    ) -> Result<Zeroizing<[u8; 32]>, CardError> {
        let pin = Arc::clone(pin);
        self.open(move |open| {
            let kind = open.touch_key(slot)?.kind;
            if kind != KeyKind::P256 {
                return Err(CardError::OtherKey { slot, algorithm: Algorithm::EcdsaP256Sha256 });
            }
            let command = Command::agree(kind.code(), slot, &peer);
            let secret = open.with_pin(&pin, |open| open.touched(slot, &command, on_blink))?;
            let mut shared = Zeroizing::new([0; 32]);
            if secret.len() != shared.len() {
                return Err(CardError::Nonsense("a shared secret"));
            }
            shared.copy_from_slice(&secret);
            Ok(shared)
        })
    }

    fn open<R: Send + 'static>(
        &self,
        work: impl FnOnce(&Open<'_>) -> Result<R, CardError> + Send + 'static,
    ) -> Result<R, CardError> {
        connection::with(&self.0, work)
    }
}

impl Shared {
    fn place(&self) -> MutexGuard<'_, Option<Place>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open<'_> {
    /// The key in a slot, if it is one that needs a touch for each signature: the touch policy
    /// CACHED is none, as one touch then gives whatever is asked for 15 s.
    fn touch_key(&self, slot: Slot) -> Result<SlotKey, CardError> {
        let key = self.slot_key(slot)?.ok_or(CardError::NoKey(slot))?;
        match key.touch {
            TouchPolicy::Always => Ok(key),
            touch @ (TouchPolicy::Cached | TouchPolicy::Never) => {
                Err(CardError::TouchUnproven { slot, touch })
            }
        }
    }

    /// Does `work` with the PIN verified, and has the YubiKey forget the PIN before anybody else
    /// can reach it.
    fn with_pin<R>(
        &self,
        pin: &CardPin,
        work: impl FnOnce(&Self) -> Result<R, CardError>,
    ) -> Result<R, CardError> {
        pin.verify(self)?;
        let result = work(self);
        // Selecting forgets the PIN. Where that fails the card is gone or reset, and has forgotten
        // it as well.
        let _ = self.select();
        result
    }

    /// The answer to a private key's command, for which a finger is awaited.
    ///
    /// The same status means that nobody touched it and that no PIN was verified. The PIN was
    /// verified a moment ago in this transaction, and a missing PIN is refused at once.
    fn touched(
        &self,
        slot: Slot,
        command: &Command,
        on_blink: OnBlink,
    ) -> Result<Zeroizing<Vec<u8>>, CardError> {
        on_blink();
        let begun = Instant::now();
        let Answered { status, data } = self.command(command)?;
        match status {
            VERIFIED => {
                apdu::dynamic_answer(&data).ok_or(CardError::Nonsense("an answer to a touch"))
            }
            SECURITY_STATUS if begun.elapsed() < NO_TOUCH_WAS_AWAITED => {
                Err(CardError::NotAllowed(slot))
            }
            SECURITY_STATUS => Err(CardError::TouchTooLate { waited: begun.elapsed() }),
            status => Err(CardError::Status { doing: "an operation with a private key", status }),
        }
    }
}

impl KeyKind {
    /// What the YubiKey is given to sign for `message`; `None` where the key is for another
    /// algorithm.
    fn input(self, algorithm: Algorithm, message: &[u8]) -> Option<Vec<u8>> {
        match (self, algorithm) {
            (Self::P256, Algorithm::EcdsaP256Sha256) => Some(Sha256::digest(message).to_vec()),
            (Self::Ed25519, Algorithm::Ed25519) => Some(message.to_vec()),
            (Self::Rsa { bits }, Algorithm::RsaPkcs1v15Sha256) => Some(padded(bits, message)),
            _ => None,
        }
    }

    /// The signature as the rest of the agent has it.
    fn signature(self, answer: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::P256 => p256::ecdsa::Signature::from_der(answer)
                .ok()
                .map(|signature| signature.to_bytes().to_vec()),
            Self::Ed25519 => (answer.len() == 64).then(|| answer.to_vec()),
            Self::Rsa { bits } => (answer.len() == usize::from(bits) / 8).then(|| answer.to_vec()),
        }
    }
}

/// EMSA-PKCS1-v1_5 with SHA-256 (RFC 8017 section 9.2): a YubiKey computes RSA over whole blocks.
fn padded(bits: u16, message: &[u8]) -> Vec<u8> {
    let digest_info = crate::token::mechanism::digest_info(message);
    let mut block = vec![0xff; usize::from(bits) / 8];
    let start = block.len() - digest_info.len();
    (block[0], block[1], block[start - 1]) = (0, 1, 0);
    block[start..].copy_from_slice(&digest_info);
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rsa_blocks_are_padded_as_software_pads_them() {
        let block = padded(2048, b"message");
        assert_eq!((block.len(), &block[..2], block[256 - 52]), (256, &[0, 1][..], 0));
        assert!(block[2..256 - 52].iter().all(|byte| *byte == 0xff));
        assert_eq!(block[256 - 32..], Sha256::digest(b"message")[..]);
    }

    #[test]
    fn a_key_signs_for_its_own_algorithm_only() {
        let kinds = [KeyKind::P256, KeyKind::Ed25519, KeyKind::Rsa { bits: 2048 }];
        for (index, kind) in kinds.into_iter().enumerate() {
            let algorithms =
                [Algorithm::EcdsaP256Sha256, Algorithm::Ed25519, Algorithm::RsaPkcs1v15Sha256];
            for (other, algorithm) in algorithms.into_iter().enumerate() {
                assert_eq!(
                    kind.input(algorithm, b"m").is_some(),
                    index == other,
                    "{kind:?} {algorithm}"
                );
            }
            assert!(kind.input(Algorithm::HmacSha256, b"m").is_none());
        }
    }
}
