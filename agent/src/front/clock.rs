//! The system's clock and randomness, for the core; and whether the clock was set while the agent ran.

use std::time::{SystemTime, UNIX_EPOCH};

use countersign_core::ports::Clock;
use rustix::rand::GetRandomFlags;
use rustix::time::ClockId;
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

/// The wall clock beside the time since boot, which nobody can set: where they part, the wall clock was set.
#[derive(Clone, Copy, Debug)]
pub struct ClockWatch {
    wall_ms: u64,
    since_boot_ms: u64,
}

impl ClockWatch {
    /// Takes the wall clock for good as it is now.
    pub fn start() -> Self {
        Self { wall_ms: SystemClock.now_ms(), since_boot_ms: since_boot_ms() }
    }

    /// How far ahead of where it would be by itself the wall clock was set; negative where it was set back.
    pub fn set_ahead_ms(self) -> i64 {
        self.set_ahead_at(SystemClock.now_ms(), since_boot_ms())
    }

    fn set_ahead_at(self, wall_ms: u64, since_boot_ms: u64) -> i64 {
        let passed = since_boot_ms.saturating_sub(self.since_boot_ms);
        wall_ms.wrapping_sub(self.wall_ms.wrapping_add(passed)).cast_signed()
    }
}

/// Counts on while the machine sleeps.
fn since_boot_ms() -> u64 {
    let since = rustix::time::clock_gettime(ClockId::Boottime);
    since.tv_sec as u64 * 1_000 + since.tv_nsec as u64 / 1_000_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_was_set_parts_from_the_time_since_boot() {
        let watch = ClockWatch { wall_ms: 1_700_000_000_000, since_boot_ms: 5_000 };
        for (wall_ms, since_boot_ms, expected) in [
            (1_700_000_010_000, 15_000, 0),
            (1_700_003_610_000, 15_000, 3_600_000),
            (1_699_996_410_000, 15_000, -3_600_000),
            (0, 15_000, -1_700_000_010_000),
        ] {
            assert_eq!(watch.set_ahead_at(wall_ms, since_boot_ms), expected);
        }
        assert!(ClockWatch::start().set_ahead_ms().abs() < 1_000);
    }
}
