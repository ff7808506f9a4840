//! The typed messages between the front and a token host: sign this message with this key, never a
//! C_* call.
//!
//! The host finds the socket as its standard input and its settings as the body of the first frame.
//! Frames on the socketpair are a `u32` little-endian length and a postcard body. The front may
//! send many requests in one write; answers carry the request's id and come in any order between
//! HMAC and asymmetric keys.

use countersign_core::algorithm::Algorithm;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::confinement::Limits;

/// Longest frame either side accepts, in bytes.
pub const MAX_FRAME: usize = 512 * 1024;

/// What the front asks of a token host; read where it lies in the frame.
#[derive(Debug, Deserialize, Serialize)]
pub enum ToHost<'a> {
    /// Look for keys again: one was enrolled, activated or removed. Answered by [`FromHost::Keys`].
    Rescan,
    /// Sign a fixed message with a key of the host's own, to prove that the token still works.
    SelfTest { id: u64 },
    /// One signature over `message` with the key named `key`.
    Sign {
        id: u64,
        key: &'a str,
        algorithm: Algorithm,
        #[serde(borrow)]
        message: Bytes<'a>,
    },
    /// Finish what is under way, log out, exit.
    Stop,
}

/// What a token host answers.
#[derive(Debug, Deserialize, Serialize)]
pub enum FromHost {
    /// The token waits for a finger for this request. A signature or failure follows.
    Blinking {
        id: u64,
    },
    /// The host cannot go on and exits after this; [`HostError::is_final`] says whether to start it
    /// again.
    Broken(HostError),
    /// One request failed; the host goes on.
    Failed {
        id: u64,
        error: HostError,
    },
    /// The keys found on the token after a [`ToHost::Rescan`].
    Keys(Vec<HostedKey>),
    /// Logged in, keys found. Sent once, before anything else.
    Ready {
        token: TokenFacts,
        keys: Vec<HostedKey>,
        limits: Limits,
    },
    /// A signature, and the passphrase that travels beside it where the key has one.
    Signed {
        id: u64,
        #[serde(with = "as_bytes")]
        signature: Vec<u8>,
        passphrase: Option<Passphrase>,
    },
    SelfTested {
        id: u64,
    },
}

/// Bytes as one run, where serde would take a slice for a sequence of numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Bytes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // serde takes borrowed bytes for a slice where the format offers them, as postcard does.
        <&[u8]>::deserialize(deserializer).map(Self)
    }
}

/// As [`Bytes`], for bytes that are owned.
mod as_bytes {
    use super::{Bytes, Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        Bytes(bytes).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        Ok(Bytes::deserialize(deserializer)?.0.to_vec())
    }
}

/// A key the host can sign with, as found on the token.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HostedKey {
    pub name: String,
    pub algorithm: Algorithm,
    /// The id the exchange gave for the key; absent until `key activate`.
    pub api_key: Option<String>,
    pub has_passphrase: bool,
    /// SubjectPublicKeyInfo in DER, for asymmetric keys.
    pub public_key_der: Option<Vec<u8>>,
    /// The token lets the host sign with a session copy (several times faster).
    pub working_copy: bool,
}

/// The token as it described itself at C_GetTokenInfo.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct TokenFacts {
    pub label: String,
    pub manufacturer: String,
    pub model: String,
    pub serial: String,
}

/// A passphrase on its way into a finished request: wiped on drop, never shown.
#[derive(Deserialize, Serialize)]
pub struct Passphrase(pub Zeroizing<String>);

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase([redacted])")
    }
}

/// Why a token host could not do what was asked. The texts hold no secret, PIN or path of one.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
pub enum HostError {
    /// Another process has the token's record of PIN attempts, or there is no room for it.
    #[error("{0}")]
    Busy(String),
    /// Of a YubiKey, with what a person can do about it.
    #[error("{0}")]
    Card(String),
    #[error("the token has no key named {0}")]
    KeyUnknown(String),
    #[error("the PKCS#11 module could not be loaded: {0}")]
    Module(String),
    #[error("the PIN was refused before and is not tried again: {0}")]
    PinBlocked(String),
    #[error("the token refused the PIN; it is not tried again: {0}")]
    PinRefused(String),
    #[error("the PIN could not be read: {0}")]
    PinUnavailable(String),
    #[error("the token is not used: {0}")]
    Refused(String),
    #[error("the token reported {0}")]
    Token(String),
    #[error("no token matches: {0}")]
    TokenAbsent(String),
    #[error("{0}")]
    TouchTooLate(String),
    #[error("the token cannot do {algorithm} with this key: {reason}")]
    Unsupported { algorithm: Algorithm, reason: String },
}

impl HostError {
    /// `what` could not be done, or is not as it has to be, for this reason.
    pub fn refused(what: &str, reason: &dyn std::fmt::Display) -> Self {
        Self::Refused(format!("{what}: {reason}"))
    }

    /// A process does not go on that cannot hide its memory or leave its terminal.
    pub fn unprotected(error: std::io::Error) -> Self {
        Self::refused("this process cannot be protected", &error)
    }

    /// True where a respawn would only repeat it, or would spend a PIN try.
    pub const fn is_final(&self) -> bool {
        matches!(
            self,
            Self::Module(_)
                | Self::PinBlocked(_)
                | Self::PinRefused(_)
                | Self::PinUnavailable(_)
                | Self::Refused(_)
        )
    }
}
