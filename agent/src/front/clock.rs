//! The system's clock and randomness, for the core.

use std::time::{SystemTime, UNIX_EPOCH};

use countersign_core::ports::Clock;
use rustix::rand::GetRandomFlags;
use uuid::Uuid;

/// Wall-clock time and random numbers of the kernel.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        // A clock before 1970 is no clock: requests stamped 0 are refused by every exchange.
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
    }

    fn request_id(&self) -> String {
        Uuid::now_v7().to_string()
    }

    fn random(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        // The kernel gives up to 256 bytes at once and never fails once its pool is ready; Uuid::now_v7 waited for that.
        let given = rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty());
        assert_eq!(given, Ok(bytes.len()), "the kernel gave no random bytes");
        bytes
    }
}
