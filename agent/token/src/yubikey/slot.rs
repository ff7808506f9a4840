//! The keys in the slots of the PIV applet, as the applet describes them.

use countersign_base::messages::yubikey::Slot;

use super::apdu;
use crate::token::public_key::PublicKey;

/// The kinds of keys that the agent uses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum KeyKind {
    Ed25519,
    P256,
    Rsa { bits: u16 },
}

impl KeyKind {
    /// The applet's number for this kind.
    pub const fn code(self) -> u8 {
        match self {
            Self::Ed25519 => 0xe0,
            Self::P256 => 0x11,
            Self::Rsa { bits: 3072 } => 0x05,
            Self::Rsa { bits: 4096 } => 0x16,
            Self::Rsa { .. } => 0x07,
        }
    }

    const fn of_code(code: u8) -> Option<Self> {
        Some(match code {
            0x05 => Self::Rsa { bits: 3072 },
            0x07 => Self::Rsa { bits: 2048 },
            0x11 => Self::P256,
            0x16 => Self::Rsa { bits: 4096 },
            0xe0 => Self::Ed25519,
            _ => return None,
        })
    }

    /// The public key of a template (7f49 without its tag).
    pub(crate) fn public_key(self, template: &[u8]) -> Option<PublicKey> {
        match self {
            Self::Ed25519 => {
                let point = <[u8; 32]>::try_from(apdu::find(template, 0x86)?).ok()?;
                ed25519_dalek::VerifyingKey::from_bytes(&point).ok().map(PublicKey::Ed25519)
            }
            Self::P256 => {
                let point = apdu::find(template, 0x86)?;
                p256::ecdsa::VerifyingKey::from_sec1_bytes(point).ok().map(PublicKey::EcdsaP256)
            }
            Self::Rsa { .. } => {
                let number = |tag| Some(rsa::BigUint::from_bytes_be(apdu::find(template, tag)?));
                rsa::RsaPublicKey::new(number(0x81)?, number(0x82)?).ok().map(PublicKey::Rsa)
            }
        }
    }
}

/// The uses of a key for which the PIN is needed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SlotPinPolicy {
    Always,
    Never,
    Once,
}

/// The uses of a key for which a touch is needed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SlotTouchPolicy {
    Always,
    /// A touch is not needed again for 15 s.
    Cached,
    Never,
}

impl std::fmt::Display for SlotTouchPolicy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Always => "always",
            Self::Cached => "cached",
            Self::Never => "never",
        })
    }
}

/// A key as the YubiKey describes it. Only an attestation proves it.
#[derive(Clone, Debug)]
pub struct SlotKey {
    pub slot: Slot,
    pub kind: KeyKind,
    pub pin: SlotPinPolicy,
    pub touch: SlotTouchPolicy,
    /// True if the key was made in the YubiKey, not imported into it.
    pub generated: bool,
    pub public_key: PublicKey,
}

impl SlotKey {
    /// Reads the answer to GET METADATA; `None` if the key is of a kind that is not used, or if the
    /// answer makes no sense.
    pub(crate) fn parse(slot: Slot, metadata: &[u8]) -> Option<Self> {
        let &[code] = apdu::find(metadata, 0x01)? else { return None };
        let &[pin, touch] = apdu::find(metadata, 0x02)? else { return None };
        let kind = KeyKind::of_code(code)?;
        Some(Self {
            slot,
            kind,
            pin: match pin {
                1 => SlotPinPolicy::Never,
                2 => SlotPinPolicy::Once,
                3 => SlotPinPolicy::Always,
                _ => return None,
            },
            touch: match touch {
                1 => SlotTouchPolicy::Never,
                2 => SlotTouchPolicy::Always,
                3 => SlotTouchPolicy::Cached,
                _ => return None,
            },
            generated: apdu::find(metadata, 0x03) == Some(&[1]),
            public_key: kind.public_key(apdu::find(metadata, 0x04)?)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_that_hold_keys() {
        for text in ["9a", "9c", "9d", "9e", "82", "95"] {
            assert_eq!(Slot::parse(text).expect("a slot").to_string(), text);
        }
        for text in ["f9", "9b", "80", "96", "81", "9A ", "0x9a", "a", "", "+9a", "9ä"] {
            assert!(Slot::parse(text).is_err(), "{text}");
        }
        assert_eq!(Slot::all().count(), 24);
    }

    #[test]
    fn a_description_without_a_policy_or_of_another_kind_is_none() {
        let ed25519 = |policies: &[u8]| {
            let point = ed25519_dalek::SigningKey::from_bytes(&[7; 32]).verifying_key().to_bytes();
            [&[1, 1, 0xe0], policies, &[3, 1, 1, 4, 34, 0x86, 32], &point[..]].concat()
        };
        let key = SlotKey::parse(Slot::AUTHENTICATION, &ed25519(&[2, 2, 3, 2])).expect("whole");
        assert_eq!(
            (key.pin, key.touch, key.generated),
            (SlotPinPolicy::Always, SlotTouchPolicy::Always, true)
        );
        for policies in [&[][..], &[2, 1, 3], &[2, 2, 3, 0], &[2, 2, 0, 2], &[2, 2, 3, 4]] {
            assert!(
                SlotKey::parse(Slot::AUTHENTICATION, &ed25519(policies)).is_none(),
                "{policies:?}"
            );
        }
        let mut other = ed25519(&[2, 2, 3, 2]);
        other[2] = 0xe1;
        assert!(SlotKey::parse(Slot::AUTHENTICATION, &other).is_none());
    }
}
