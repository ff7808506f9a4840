//! The messages between the front and a token host. The front asks for a signature with a key,
//! never for a C_* call.
//!
//! The host's standard input is the socket, and the first frame holds its settings. A frame on the
//! socketpair is a `u32` little-endian length and a postcard body. The front may send many requests
//! in one write. Each answer carries the id of its request: answers for HMAC keys and for
//! asymmetric keys may come in another order than the requests.

use countersign_core::algorithm::Algorithm;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use zeroize::Zeroizing;

use super::confinement::ConfinementReport;

/// Longest frame either side accepts, in bytes.
pub const MAX_MESSAGE: usize = 512 * 1024;

/// The requests of the front to a token host. They borrow from the frame that was read.
#[derive(Debug, Deserialize, Serialize)]
pub enum ToHost<'a> {
    /// Look for keys again, because a key was enrolled, activated or removed. Answered by
    /// [`FromHost::Keys`].
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
    /// Finish the requests under way, log out and exit.
    Stop,
}

/// The answers of a token host.
#[derive(Debug, Deserialize, Serialize)]
pub enum FromHost {
    /// The token waits for a touch for this request. A signature or failure follows.
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
        limits: ConfinementReport,
    },
    /// A signature, and the key's passphrase, if the key has one.
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

/// Bytes that are written as one run. Without this, serde writes a slice as a sequence of numbers.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Bytes<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // serde reads a slice from borrowed bytes if the format offers them, as postcard does.
        <&[u8]>::deserialize(deserializer).map(Self)
    }
}

/// Writes and reads owned bytes as [`Bytes`] does for borrowed ones.
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

/// A key with which the host can sign, as found on the token.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HostedKey {
    pub name: String,
    pub algorithm: Algorithm,
    /// The id that the exchange gave for the key; absent until `key activate`.
    pub api_key: Option<String>,
    pub has_passphrase: bool,
    /// SubjectPublicKeyInfo in DER, for asymmetric keys.
    pub public_key_der: Option<Vec<u8>>,
    /// True if the token lets the host sign with a session copy, which is several times faster.
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

/// Why a token host could not carry out a request. No text holds a secret, a PIN, or the path of
/// one of them.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, thiserror::Error)]
pub enum HostError {
    /// Another process uses the token's record of PIN attempts, or the disk has no room for it.
    #[error("{0}")]
    Busy(String),
    /// An error of a YubiKey, with advice to a person.
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
    /// `what` could not be done, or is not as it must be, for this reason.
    pub fn refused(what: &str, reason: &dyn std::fmt::Display) -> Self {
        Self::Refused(format!("{what}: {reason}"))
    }

    /// An error, and the cause behind it.
    pub fn with_cause(error: &dyn std::error::Error) -> Self {
        let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
        Self::Refused(format!("{error}{cause}"))
    }

    /// A process could not hide its memory or leave its terminal, so it does not go on.
    pub fn unprotected(error: std::io::Error) -> Self {
        Self::refused("this process cannot be protected", &error)
    }

    /// True if a new start of the host would only end in the same error, or would spend an attempt
    /// at the PIN.
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
