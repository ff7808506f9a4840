//! The messages between the front and a vault host, which lives for one signature.
//!
//! The front sends one [`VaultRequest`]. The host answers with any number of [`VaultReply::Touch`]
//! and one other reply. The host itself reads `agent.toml` for the token, module, YubiKey and
//! policy.

use serde::{Deserialize, Serialize};

/// The request of the front for one signature.
#[derive(Debug, Deserialize, Serialize)]
pub struct VaultRequest {
    /// The vault's name in `agent.toml`.
    pub token: String,
    /// The canonical text that the approvers signed.
    pub statement: String,
    /// Signatures of the approvers, PEM.
    pub sshsigs: Vec<String>,
    /// Nonce that is reserved for this signature. Only some exchanges need it.
    pub nonce: u64,
}

/// The answers of a vault host.
#[derive(Debug, Deserialize, Serialize)]
pub enum VaultReply {
    /// A YubiKey blinks and waits for a touch.
    Touch {
        yubikey: String,
    },
    Refused(String),
    /// The finished request; the host rotates the PIN after this, and exits.
    Signed(Box<SignedRequest>),
    /// Nobody touched the YubiKey in time.
    TouchTooLate(String),
}

/// A request ready to be sent, and the bytes that were signed.
#[derive(Deserialize, Serialize)]
pub struct SignedRequest {
    pub message: Vec<u8>,
    pub signature_bytes: Vec<u8>,
    pub method: String,
    pub url: String,
    pub headers: Vec<(String, String)>,
    pub body: Option<String>,
    pub signature: String,
    pub timestamp_ms: u64,
    /// Time at which the request was stamped, by the clock that counts from the machine's start.
    pub stamped_since_boot_ms: u64,
    /// Time from the request to this answer, without the waits for the YubiKey and the touch.
    pub own_share_us: u64,
}

impl std::fmt::Debug for SignedRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignedRequest([redacted])")
    }
}
