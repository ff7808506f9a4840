//! The slots of a YubiKey, and the longest waits for it, which all processes of the agent share.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Longest wait for a YubiKey that another program or another process of ours uses. A process of
/// ours uses it no longer than this, except while it waits for a touch.
pub const BUSY_DEADLINE: Duration = Duration::from_secs(3);
/// Time that a YubiKey waits for a touch.
pub const TOUCH_TIMEOUT: Duration = Duration::from_secs(15);

/// A slot for keys, by the number of its key reference.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Slot(u8);

#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is no slot for keys: 9a, 9c, 9d, 9e, or 82 to 95")]
pub struct NotASlot(String);

impl Slot {
    /// Authentication: the first choice for an exchange's key.
    pub const AUTHENTICATION: Self = Self(0x9a);
    pub const CARD_AUTHENTICATION: Self = Self(0x9e);
    /// The slot of an approver's key.
    pub const SIGNATURE: Self = Self(0x9c);
    /// The key that unseals a vault.
    pub const KEY_MANAGEMENT: Self = Self(0x9d);

    /// All slots, in the order in which a free one is looked for. The three slots of PIV that have
    /// other uses come last.
    pub fn all() -> impl Iterator<Item = Self> {
        [Self::AUTHENTICATION].into_iter().chain((0x82..=0x95).map(Self)).chain([
            Self::CARD_AUTHENTICATION,
            Self::SIGNATURE,
            Self::KEY_MANAGEMENT,
        ])
    }

    /// Reads two hexadecimal digits.
    pub fn parse(text: &str) -> Result<Self, NotASlot> {
        let number = u8::from_str_radix(text, 16).ok().filter(|_| text.len() == 2);
        number
            .map(Self)
            .filter(|slot| Self::all().any(|known| known == *slot))
            .ok_or_else(|| NotASlot(text.chars().take(8).collect()))
    }

    pub const fn number(self) -> u8 {
        self.0
    }
}

impl std::fmt::Display for Slot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:02x}", self.0)
    }
}

impl TryFrom<String> for Slot {
    type Error = NotASlot;

    fn try_from(text: String) -> Result<Self, NotASlot> {
        Self::parse(&text)
    }
}

impl From<Slot> for String {
    fn from(slot: Slot) -> Self {
        slot.to_string()
    }
}
