//! Decides when to start a token host again: at once after a single death, and ever later while it
//! keeps dying.

use std::time::Duration;

use tokio::time::Instant;

const FIRST_RESTART_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause before a new start. A token that is back has to sign within 5 s, and its host
/// needs the rest of them to start.
const LONGEST_RESTART_PAUSE: Duration = Duration::from_secs(2);
/// A host that worked for this long was healthy: its death begins a new count.
const WELL: Duration = Duration::from_secs(1);

/// Counts the failures in a row of one host.
#[derive(Debug, Default)]
pub(crate) struct Restarts {
    failures: u32,
    /// The time since which the present host has been working.
    working_since: Option<Instant>,
}

impl Restarts {
    /// Takes note that the host has signed or passed its self-test.
    pub(crate) fn worked(&mut self, now: Instant) {
        self.working_since.get_or_insert(now);
    }

    /// Takes note that the host is gone. Returns the pause before the next try.
    pub(crate) fn failed(&mut self, now: Instant) -> Duration {
        if self.working_since.take().is_some_and(|since| now.duration_since(since) >= WELL) {
            self.failures = 0;
        }
        self.failures = self.failures.saturating_add(1);
        match self.failures {
            1 => Duration::ZERO,
            failures => LONGEST_RESTART_PAUSE
                .min(FIRST_RESTART_PAUSE.saturating_mul(1 << (failures - 2).min(16))),
        }
    }

    /// Forgets all failures: the operator has repaired something.
    pub(crate) fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_from_nothing_to_two_seconds() {
        let mut restarts = Restarts::default();
        let pauses: Vec<_> = (0..12).map(|_| restarts.failed(Instant::now()).as_millis()).collect();
        assert_eq!(pauses, [0, 100, 200, 400, 800, 1600, 2000, 2000, 2000, 2000, 2000, 2000]);
        for _ in 0..100 {
            assert_eq!(restarts.failed(Instant::now()), LONGEST_RESTART_PAUSE);
        }
        restarts.reset();
        assert_eq!(restarts.failed(Instant::now()), Duration::ZERO);
    }

    #[test]
    fn only_a_host_that_worked_for_a_while_begins_a_new_count() {
        let now = Instant::now();
        let mut restarts = Restarts::default();
        restarts.failed(now);
        restarts.worked(now);
        assert_eq!(restarts.failed(now + WELL / 2), FIRST_RESTART_PAUSE);
        restarts.worked(now);
        restarts.worked(now + WELL);
        assert_eq!(restarts.failed(now + WELL), Duration::ZERO);
        assert_eq!(
            restarts.failed(now + WELL * 5),
            FIRST_RESTART_PAUSE,
            "the next one never worked"
        );
    }
}
