//! When to start a token host again: at once after a single death, ever later while it keeps dying.

use std::time::Duration;

use tokio::time::Instant;

const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// A token that is there again has to sign within 5 s; the rest of them is for the start of its
/// host.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A host that worked for this long was well: its death begins a new count.
const WELL: Duration = Duration::from_secs(1);

/// Counts the failures in a row of one host.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    failures: u32,
    /// Since when the present host has been answering.
    working_since: Option<Instant>,
}

impl Breaker {
    /// The host has signed or passed its self-test.
    pub(crate) fn worked(&mut self, now: Instant) {
        self.working_since.get_or_insert(now);
    }

    /// The host is gone: how long to wait before the next try. One try at a time; its success
    /// closes the breaker.
    pub(crate) fn failed(&mut self, now: Instant) -> Duration {
        if self.working_since.take().is_some_and(|since| now.duration_since(since) >= WELL) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        match self.failures {
            1 => Duration::ZERO,
            failures => LONGEST_PAUSE.min(FIRST_PAUSE.saturating_mul(1 << (failures - 2).min(16))),
        }
    }

    /// The operator has mended something.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_nothing_to_two_seconds() {
        let mut breaker = Breaker::default();
        let pauses: Vec<_> = (0..12).map(|_| breaker.failed(Instant::now()).as_millis()).collect();
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1600, 2000, 2000, 2000, 2000, 2000, 2000]);
        for _ in 0..100 {
            assert_eq!(breaker.failed(Instant::now()), LONGEST_PAUSE);
        }
        breaker.reset();
        assert_eq!(breaker.failed(Instant::now()), Duration::ZERO);
    }

    #[test]
    fn only_a_host_that_worked_for_a_while_begins_a_new_count() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        breaker.failed(now);
        breaker.worked(now);
        assert_eq!(breaker.failed(now + WELL / 2), FIRST_PAUSE);
        breaker.worked(now);
        breaker.worked(now + WELL);
        assert_eq!(breaker.failed(now + WELL), Duration::ZERO);
        assert_eq!(breaker.failed(now + WELL * 5), FIRST_PAUSE, "the next one never worked");
    }
}
