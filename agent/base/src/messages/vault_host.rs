//! The messages between the front and a vault host, which lives for one signature.
//!
//! The front sends one [`VaultRequest`]; the host answers with any number of [`VaultReply::Touch`]
//! and one end. Which token, module, YubiKey and policy that means, the host reads from
//! `agent.toml` itself.

use serde::{Deserialize, Serialize};

/// What the front asks for.
#[derive(Debug, Deserialize, Serialize)]
pub struct VaultRequest {
    /// The vault's name in `agent.toml`.
    pub token: String,
    /// The canonical bytes that the approvers signed.
    pub statement: String,
    /// Their signatures, PEM.
    pub sshsigs: Vec<String>,
    /// Reserved for this signature, where the exchange wants one.
    pub nonce: u64,
}

/// What a vault host answers.
#[derive(Debug, Deserialize, Serialize)]
pub enum VaultReply {
    /// A YubiKey blinks.
    Touch {
        yubikey: String,
    },
    Refused(String),
    /// The finished request; the host rotates the PIN after this, and exits.
    Signed(Box<SignedRequest>),
    /// There was no touch in time.
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
    /// When it was stamped, by the clock of the machine that only passes.
    pub stamped_since_boot_ms: u64,
    /// From the request to this answer without the wait for the card and the finger.
    pub own_share_us: u64,
}

impl std::fmt::Debug for SignedRequest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SignedRequest([redacted])")
    }
}
