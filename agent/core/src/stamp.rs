//! The stamp of a request: the values that are new in each signature.

use data_encoding::HEXLOWER;

/// Time, nonce and randomness of one signature.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    pub now_ms: u64,
    /// Only for exchanges with an increasing nonce.
    pub nonce: u64,
    pub random: [u8; 16],
    /// Used if the request asks for no receive window.
    pub receive_window_ms: Option<u64>,
}

impl Stamp {
    /// Seconds since the epoch.
    pub const fn seconds(&self) -> u64 {
        self.now_ms / 1000
    }

    /// A random UUID, of version 4.
    pub fn uuid(&self) -> String {
        let mut bytes = self.random;
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let text = HEXLOWER.encode(&bytes);
        [&text[..8], &text[8..12], &text[12..16], &text[16..20], &text[20..]].join("-")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uuids_say_that_they_are_random() {
        let uuid = |random| Stamp { now_ms: 0, nonce: 0, random, receive_window_ms: None }.uuid();
        assert_eq!(uuid([0; 16]), "00000000-0000-4000-8000-000000000000");
        assert_eq!(uuid([0xff; 16]), "ffffffff-ffff-4fff-bfff-ffffffffffff");
    }
}
