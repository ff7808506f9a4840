//! One exchange API key as the rules see it: everything but the secret.

use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{algorithm::Algorithm, scope::Scopes};

/// The operator's name for a key: `[a-z0-9][a-z0-9._-]{0,63}`. It is shared, because every grant
/// holds one.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct KeyName(Arc<str>);

#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a name is 1 to 64 of a-z, 0-9, '.', '_', '-', and starts with a letter or digit")]
pub struct NotAName;

impl KeyName {
    pub fn parse(text: &str) -> Result<Self, NotAName> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let first = text.bytes().next().is_some_and(plain);
        let rest = text.bytes().all(|byte| plain(byte) || matches!(byte, b'.' | b'_' | b'-'));
        if first && rest && text.len() <= 64 { Ok(Self(text.into())) } else { Err(NotAName) }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for KeyName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::borrow::Borrow<str> for KeyName {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl Serialize for KeyName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for KeyName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// The protection of the secret, best first.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// Made in hardware and never outside it.
    Device,
    /// The secret was outside once, and cannot leave the hardware now.
    Imported,
    /// In a software token: for tests and trials.
    Software,
}

impl std::fmt::Display for Tier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Device => "device",
            Self::Imported => "imported",
            Self::Software => "software",
        })
    }
}

/// The exchange's environment a key belongs to.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Environment {
    #[default]
    Production,
    Testnet,
}

impl std::fmt::Display for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Production => "production",
            Self::Testnet => "testnet",
        })
    }
}

/// The unit of an increasing nonce. It is chosen once, at enrolment: with a coarser unit later, the
/// nonce would go backwards.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum NonceUnit {
    Microseconds,
    Milliseconds,
    Nanoseconds,
}

/// One API key of an exchange, and the rights it was enrolled with.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    pub name: KeyName,
    /// Name of the exchange in [`crate::exchange::ALL`].
    pub exchange: &'static str,
    pub environment: Environment,
    pub algorithm: Algorithm,
    /// The id that the exchange gave. It goes to the exchange in the clear, beside the signature.
    pub api_key: String,
    pub scopes: Scopes,
    pub tier: Tier,
    /// Name of the token in `agent.toml`.
    pub token: String,
    pub nonce_unit: NonceUnit,
    /// True for a key in a vault. It signs only requests that a person approved, whatever policy
    /// would allow.
    pub in_vault: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_plain() {
        for name in ["a", "binance-mm", "0.x_y"] {
            assert!(KeyName::parse(name).is_ok(), "{name}");
        }
        for name in ["", "-a", "A", "a/b", "../a", "a b", "é", &"a".repeat(65)] {
            assert!(KeyName::parse(name).is_err(), "{name}");
        }
    }
}
