//! The two clocks: the wall clock, and the clock that counts from the machine's start.

use std::time::{SystemTime, UNIX_EPOCH};

use rustix::time::ClockId;

/// Milliseconds since 1970 by the wall clock, which may be set.
pub fn wall_ms() -> u64 {
    // A clock before 1970 is wrong and gives 0: every exchange refuses a request stamped 0.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Milliseconds since the machine started. This clock goes on while the machine sleeps, and nobody
/// can set it.
pub fn since_boot_ms() -> u64 {
    let since = rustix::time::clock_gettime(ClockId::Boottime);
    since.tv_sec as u64 * 1_000 + since.tv_nsec as u64 / 1_000_000
}
