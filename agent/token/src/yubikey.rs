//! Uses one YubiKey by PC/SC: it signs, agrees on secrets, and describes its PIV slots. Any process
//! that can reach pcscd may use it.
//!
//! Nothing is held between two calls. Each call connects, looks for the serial, and does its work
//! in one transaction. The transaction begins before the PIN is verified and ends after the YubiKey
//! has forgotten the PIN. So nothing must be repaired after a YubiKey was unplugged or pcscd was
//! started again, and no other program can use the PIN or take over the touch.
//! `docs/decisions/0012-yubikey-by-pcsc.md` says why this is not the `yubikey` crate's connection.

mod apdu;
pub mod card_login;
pub mod card_pin;
mod connection;
pub mod error;
pub mod new_key;
pub mod records;
pub mod slot;

use std::ffi::CString;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use countersign_base::messages::yubikey::Slot;
use countersign_core::algorithm::Algorithm;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

pub use card_pin::CardPin;
pub use error::CardError;
pub use slot::{KeyKind, SlotKey, SlotPinPolicy, SlotTouchPolicy};

use apdu::{CommandApdu, ResponseApdu};
use connection::OpenCard;

/// A refusal that is faster than this does not mean that nobody touched the YubiKey.
const NO_TOUCH_WAS_AWAITED: Duration = Duration::from_millis(100);

/// Longest message that an Ed25519 key signs, in bytes. It goes to the YubiKey whole, whose buffer
/// takes 3,072.
pub const LONGEST_ED25519_MESSAGE: usize = 3_000;

const VERIFIED: u16 = 0x9000;
const SECURITY_STATUS: u16 = 0x6982;

/// A YubiKey, which may be plugged in or not.
#[derive(Clone, Debug)]
pub struct YubiKey(Arc<YubiKeyShared>);

#[derive(Debug)]
struct YubiKeyShared {
    serial: u32,
    /// The reader in which the YubiKey was last seen.
    last_reader: Mutex<Option<LastReader>>,
}

/// A reader that held the YubiKey, and the number of cards that had come and gone in it by then.
#[derive(Clone, Debug, Eq, PartialEq)]
struct LastReader {
    reader: CString,
    events: u32,
}

/// The serial and the firmware of a YubiKey.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct YubiKeyFacts {
    pub serial: u32,
    /// Major, minor, patch.
    pub firmware: [u8; 3],
}

/// The key that administers a YubiKey, as far as the YubiKey gives it out.
#[derive(Debug)]
pub struct ManagementKey {
    /// The cipher, by the applet's number for it.
    pub algorithm: u8,
    /// True for the factory's key, which everybody knows.
    pub is_default: bool,
    /// The key, if the YubiKey itself keeps it behind its PIN (ykman's `--protect`).
    pub protected: Option<Zeroizing<Vec<u8>>>,
}

/// A YubiKey's statement about the key in a slot, signed by its attestation key. DER.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AttestationCertificates {
    pub certificate: Vec<u8>,
    /// The certificate of the attestation key (slot f9), which the YubiKey's maker signed.
    pub intermediate: Vec<u8>,
}

/// A function that is called right before the YubiKey begins to blink.
pub type OnBlink = Box<dyn FnOnce() + Send>;

impl YubiKey {
    pub fn new(serial: u32) -> Self {
        Self(Arc::new(YubiKeyShared { serial, last_reader: Mutex::default() }))
    }

    pub fn serial(&self) -> u32 {
        self.0.serial
    }

    /// The serial and firmware, if the YubiKey is plugged in. Takes neither PIN nor touch.
    pub fn facts(&self) -> Result<YubiKeyFacts, CardError> {
        self.open(|open| Ok(open.facts()))
    }

    /// Checks that the YubiKey is plugged in. If possible it sends nothing to it, because that
    /// would end other programs' selection in it.
    pub fn check_presence(&self) -> Result<(), CardError> {
        if connection::is_where_it_was(&self.0) { Ok(()) } else { self.facts().map(drop) }
    }

    /// The keys in these slots; empty slots are left out. Takes neither PIN nor touch.
    pub fn keys(&self, slots: Vec<Slot>) -> Result<Vec<SlotKey>, CardError> {
        self.open(move |open| {
            slots.into_iter().filter_map(|slot| open.slot_key(slot).transpose()).collect()
        })
    }

    /// The attestation of the key in a slot. Takes neither PIN nor touch. Fails for a key that was
    /// not made in the YubiKey.
    pub fn attest(&self, slot: Slot) -> Result<AttestationCertificates, CardError> {
        self.open(move |open| {
            let certificate = open.attest(slot)?;
            Ok(AttestationCertificates {
                certificate,
                intermediate: open.attestation_certificate()?,
            })
        })
    }

    /// Checks that the PIN is right, if the rule of one attempt allows the question.
    pub fn check_pin(&self, pin: &Arc<CardPin>) -> Result<(), CardError> {
        let pin = Arc::clone(pin);
        self.open(move |open| open.with_pin(&pin, |_| Ok(())))
    }

    /// True if a slot holds no key at all.
    pub fn is_empty(&self, slot: Slot) -> Result<bool, CardError> {
        self.open(move |open| open.is_empty(slot))
    }

    /// The key that administers the YubiKey. The PIN opens a key that the YubiKey keeps itself.
    pub fn management_key(&self, pin: &Arc<CardPin>) -> Result<ManagementKey, CardError> {
        let pin = Arc::clone(pin);
        self.open(move |open| open.with_pin(&pin, OpenCard::management_key))
    }

    /// Makes one signature over `message` with a key that needs a touch for each. The caller must
    /// verify it.
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
            let command = CommandApdu::sign(kind.code(), slot, &input);
            let signature = open.with_pin(&pin, |open| open.touched(slot, &command, on_blink))?;
            kind.signature(&signature).ok_or(CardError::Nonsense("a signature"))
        })
    }

    /// The secret that a P-256 key shares with `peer`, an uncompressed point. The key must need a
    /// touch each time.
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
            let command = CommandApdu::agree(kind.code(), slot, &peer);
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
        work: impl FnOnce(&OpenCard<'_>) -> Result<R, CardError> + Send + 'static,
    ) -> Result<R, CardError> {
        connection::with(&self.0, work)
    }
}

impl YubiKeyShared {
    fn last_reader(&self) -> MutexGuard<'_, Option<LastReader>> {
        self.last_reader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenCard<'_> {
    /// The key in a slot, if it needs a touch for each signature. The touch policy CACHED is
    /// refused, because one touch then allows any number of signatures for 15 s.
    fn touch_key(&self, slot: Slot) -> Result<SlotKey, CardError> {
        let key = self.slot_key(slot)?.ok_or(CardError::NoKey(slot))?;
        match key.touch {
            SlotTouchPolicy::Always => Ok(key),
            touch @ (SlotTouchPolicy::Cached | SlotTouchPolicy::Never) => {
                Err(CardError::TouchUnproven { slot, touch })
            }
        }
    }

    /// Does `work` with the PIN verified, and makes the YubiKey forget the PIN before another
    /// program can reach it.
    fn with_pin<R>(
        &self,
        pin: &CardPin,
        work: impl FnOnce(&Self) -> Result<R, CardError>,
    ) -> Result<R, CardError> {
        pin.verify(self)?;
        let result = work(self);
        // Selecting the applet makes the YubiKey forget the PIN. If that fails, the YubiKey is gone
        // or was reset, and has forgotten the PIN as well.
        let _ = self.select();
        result
    }

    /// The answer to a command to a private key, which waits for a touch.
    ///
    /// One status has two meanings: nobody touched the YubiKey, or no PIN was verified. The PIN was
    /// verified a moment ago in this transaction, and a missing PIN is refused at once.
    fn touched(
        &self,
        slot: Slot,
        command: &CommandApdu,
        on_blink: OnBlink,
    ) -> Result<Zeroizing<Vec<u8>>, CardError> {
        on_blink();
        let begun = Instant::now();
        let ResponseApdu { status, data } = self.command(command)?;
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
    /// The bytes that the YubiKey signs for `message`; `None` if the key is for another algorithm.
    fn input(self, algorithm: Algorithm, message: &[u8]) -> Option<Vec<u8>> {
        match (self, algorithm) {
            (Self::P256, Algorithm::EcdsaP256Sha256) => Some(Sha256::digest(message).to_vec()),
            (Self::Ed25519, Algorithm::Ed25519) => Some(message.to_vec()),
            (Self::Rsa { bits }, Algorithm::RsaPkcs1v15Sha256) => Some(padded(bits, message)),
            _ => None,
        }
    }

    /// The signature in the form that the rest of the agent uses.
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
