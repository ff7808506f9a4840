//! What is new in each signature.

use super::text;

/// Time, nonce and randomness of one signature.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    pub now_ms: u64,
    /// Only for exchanges with an increasing nonce.
    pub nonce: u64,
    pub random: [u8; 16],
    /// Used where the request asks for none.
    pub receive_window_ms: Option<u64>,
}

impl Stamp {
    /// Seconds since the epoch.
    pub const fn seconds(&self) -> u64 {
        self.now_ms / 1000
    }

    /// A random UUID.
    pub fn uuid(&self) -> String {
        text::uuid(self.random)
    }
}
