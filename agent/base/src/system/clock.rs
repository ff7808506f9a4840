//! The time: as people have it, and as it passes.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::ClockId;

/// Milliseconds since 1970 by the wall clock, which may be set.
pub fn wall_ms() -> u64 {
    // A clock before 1970 is no clock: requests stamped 0 are refused by every exchange.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Milliseconds since the machine started; counts on while it sleeps, and nobody sets it.
pub fn since_boot_ms() -> u64 {
    let since = rustix::time::clock_gettime(ClockId::Boottime);
    since.tv_sec as u64 * 1_000 + since.tv_nsec as u64 / 1_000_000
}
