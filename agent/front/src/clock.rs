//! Gives the core the system's clock and randomness, and gives the ledger a time that nobody can
//! set while the agent runs.
//!
//! Limits must not free up because somebody set a clock. So the ledger's time starts as the wall
//! clock's and then goes on with the time since boot. That time counts on while the machine sleeps,
//! and setting the clock does not move it. If the wall clock differs from the ledger's time,
//! somebody set the wall clock: the agent does not trust it until the two agree again.

use std::cell::Cell;

use countersign_base::system::clock::{since_boot_ms, wall_ms};
use countersign_base::system::random;
use countersign_core::ports::Clock;

/// Wall-clock time and random numbers of the kernel, and the ledger's time beside them.
#[derive(Debug)]
pub struct SystemClock {
    anchor: Cell<Anchor>,
}

impl SystemClock {
    /// Trusts the wall clock as it is now, unless it is behind the latest time on record.
    pub fn start(latest_on_record_ms: u64) -> Self {
        Self { anchor: Cell::new(Anchor::start(wall_ms(), since_boot_ms(), latest_on_record_ms)) }
    }

    /// The ledger's time, in Unix milliseconds.
    pub fn ledger_ms(&self) -> u64 {
        self.anchor.get().time_at(since_boot_ms())
    }
}

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        wall_ms()
    }

    fn since_boot_ms(&self) -> u64 {
        since_boot_ms()
    }

    fn doubt(&self) -> Option<String> {
        let (anchor, doubt) = self.anchor.get().compared(wall_ms(), since_boot_ms());
        self.anchor.set(anchor);
        doubt.map(|doubt| doubt.to_string())
    }

    fn request_id(&self) -> String {
        uuid::Builder::from_unix_timestamp_millis(self.now_ms(), &random::bytes())
            .into_uuid()
            .to_string()
    }

    fn random(&self) -> [u8; 16] {
        random::bytes()
    }
}

/// Why the wall clock is not trusted; the numbers are seconds.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
enum Doubt {
    #[error(
        "the clock is {0} s behind the latest time on record: it is not to be trusted until it is \
         set right"
    )]
    BehindRecord(u64),
    #[error(
        "the clock was set ahead by {0} s while the agent ran: it is not to be trusted until it is \
         set right; \
             if it is right now and was wrong before, restart the agent"
    )]
    SetAhead(u64),
    #[error(
        "the clock was set back by {0} s while the agent ran: it is not to be trusted until it is \
         set right; \
             if it is right now and was wrong before, restart the agent"
    )]
    SetBack(u64),
}

/// Largest step of the wall clock that is still trusted. Programs that keep the time right make
/// smaller steps, except when the machine starts.
const STEP_MS: i64 = 5_000;
/// The ledger's time follows small steps slowly, as the kernel slews a clock: by at most a
/// two-thousandth of the time that passed. So small steps do not add up over months, and a thousand
/// of them free no limit.
const SLEW: u64 = 2_000;
/// Shortest time between two corrections: a correction is a whole number of milliseconds.
const SLEW_EVERY_MS: u64 = 10_000;

/// A time that was trusted, and the time since boot at that moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Anchor {
    time_ms: u64,
    since_boot_ms: u64,
    /// The wall clock was behind the record at the start. Once it has passed the record it is
    /// trusted, as it would be at a start.
    behind_record: bool,
}

impl Anchor {
    fn start(wall_ms: u64, since_boot_ms: u64, latest_on_record_ms: u64) -> Self {
        let behind_record = ahead_ms(wall_ms, latest_on_record_ms) < -STEP_MS;
        Self { time_ms: wall_ms.max(latest_on_record_ms), since_boot_ms, behind_record }
    }

    fn time_at(self, since_boot_ms: u64) -> u64 {
        self.time_ms + since_boot_ms.saturating_sub(self.since_boot_ms)
    }

    /// Compares the wall clock with the ledger's time. Returns the anchor from which the ledger's
    /// time goes on, and the doubt about the wall clock, if there is one.
    fn compared(self, wall_ms: u64, since_boot_ms: u64) -> (Self, Option<Doubt>) {
        let time_ms = self.time_at(since_boot_ms);
        let ahead_ms = ahead_ms(wall_ms, time_ms);
        let seconds = ahead_ms.unsigned_abs() / 1_000;
        if self.behind_record && ahead_ms >= -STEP_MS {
            return (
                Self { time_ms: wall_ms.max(time_ms), since_boot_ms, behind_record: false },
                None,
            );
        }
        let doubt = match ahead_ms {
            _ if self.behind_record => Doubt::BehindRecord(seconds),
            ahead_ms if ahead_ms > STEP_MS => Doubt::SetAhead(seconds),
            ahead_ms if ahead_ms < -STEP_MS => Doubt::SetBack(seconds),
            _ => return (self.slewed(ahead_ms, since_boot_ms), None),
        };
        (self, Some(doubt))
    }

    fn slewed(self, ahead_ms: i64, since_boot_ms: u64) -> Self {
        let passed = since_boot_ms.saturating_sub(self.since_boot_ms);
        if passed < SLEW_EVERY_MS {
            return self;
        }
        let most = (passed / SLEW).cast_signed();
        let time_ms =
            self.time_at(since_boot_ms).saturating_add_signed(ahead_ms.clamp(-most, most));
        Self { time_ms, since_boot_ms, ..self }
    }
}

fn ahead_ms(wall_ms: u64, time_ms: u64) -> i64 {
    wall_ms.wrapping_sub(time_ms).cast_signed()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;
    const SECOND: u64 = 1_000;
    const HOUR: u64 = 3_600 * SECOND;
    const DAY: u64 = 24 * HOUR;
    const RIGHT: Anchor = Anchor { time_ms: NOW, since_boot_ms: 5_000, behind_record: false };

    /// Each row: the time that passed, the wall clock after it, the doubt that is expected.
    #[test]
    fn a_clock_that_was_set_is_doubted_and_the_ledgers_time_goes_on() {
        for (passed, wall_ms, expected) in [
            (10 * SECOND, NOW + 10 * SECOND, None),
            (HOUR, NOW + HOUR + 4 * SECOND, None),
            (HOUR, NOW + HOUR - 4 * SECOND, None),
            (10 * SECOND, NOW + 10 * SECOND + HOUR, Some(Doubt::SetAhead(3_600))),
            (10 * SECOND, NOW + 10 * SECOND + 25 * HOUR, Some(Doubt::SetAhead(25 * 3_600))),
            (10 * SECOND, NOW + 10 * SECOND - HOUR, Some(Doubt::SetBack(3_600))),
            (10 * SECOND, 0, Some(Doubt::SetBack(1_700_000_010))),
            // A laptop slept for a day: the time since boot went on.
            (DAY, NOW + DAY, None),
        ] {
            let (anchor, doubt) = RIGHT.compared(wall_ms, RIGHT.since_boot_ms + passed);
            assert_eq!(doubt, expected, "{wall_ms} after {passed}");
            let off =
                ahead_ms(anchor.time_at(RIGHT.since_boot_ms + passed), NOW + passed).unsigned_abs();
            assert!(off <= passed / SLEW, "{wall_ms} after {passed}: {off} ms off");
        }
    }

    #[test]
    fn a_clock_that_is_set_right_again_is_trusted_again() {
        let boot_ms = RIGHT.since_boot_ms + HOUR;
        let (anchor, doubt) = RIGHT.compared(NOW + 26 * HOUR, boot_ms);
        assert!(doubt.is_some());
        assert_eq!(anchor.compared(NOW + HOUR, boot_ms).1, None);
    }

    #[test]
    fn a_clock_behind_the_record_is_doubted_until_it_has_passed_it() {
        let behind = Anchor::start(NOW - HOUR, 5_000, NOW);
        assert_eq!(behind.compared(NOW - HOUR, 5_000), (behind, Some(Doubt::BehindRecord(3_600))));
        assert_eq!(
            behind.time_at(5_000 + SECOND),
            NOW + SECOND,
            "limits free up by the time that passes"
        );
        let (anchor, doubt) = behind.compared(NOW + HOUR, 6_000);
        assert_eq!((anchor.time_at(6_000), doubt), (NOW + HOUR, None), "as a start at that time");
        assert_eq!(anchor.compared(NOW - HOUR, 7_000).1, Some(Doubt::SetBack(7_201)));
        assert_eq!(
            Anchor::start(NOW - SECOND, 5_000, NOW).compared(NOW, 6_000).1,
            None,
            "a second is nothing"
        );
    }

    #[test]
    fn small_steps_are_followed_slowly_and_never_add_up() {
        let (mut anchor, mut boot_ms, mut wall_ms) = (RIGHT, RIGHT.since_boot_ms, NOW);
        // The clock is two seconds wrong each day and is set right each night, for a year.
        for hour in 0..365 * 24_u64 {
            (boot_ms, wall_ms) =
                (boot_ms + HOUR, wall_ms + HOUR + if hour % 24 == 0 { 2 * SECOND } else { 0 });
            let doubt;
            (anchor, doubt) = anchor.compared(wall_ms, boot_ms);
            assert_eq!(doubt, None);
        }
        // An attacker who sets the clock ahead by four seconds each minute gains a two-thousandth
        // of the time, and is noticed.
        let (start, mut noticed) = (anchor.time_at(boot_ms), false);
        for _ in 0..600 {
            (boot_ms, wall_ms) = (boot_ms + 60 * SECOND, wall_ms + 64 * SECOND);
            let (next, doubt) = anchor.compared(wall_ms, boot_ms);
            (anchor, noticed) = (next, noticed || doubt.is_some());
        }
        let gained = anchor.time_at(boot_ms) - start - 600 * 60 * SECOND;
        assert!(noticed && gained <= 600 * 60 * SECOND / SLEW, "{gained}");
    }

    #[test]
    fn the_ledgers_time_starts_as_the_clocks() {
        let clock = SystemClock::start(0);
        assert!(clock.ledger_ms().abs_diff(clock.now_ms()) < 1_000 && clock.doubt().is_none());
        let record_ms = clock.now_ms() + HOUR;
        let behind = SystemClock::start(record_ms);
        assert!(behind.ledger_ms() >= record_ms && behind.doubt().is_some());
    }
}
