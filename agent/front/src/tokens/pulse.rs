//! Whether the supervisor of a token does its work, for the service manager's watchdog.
//!
//! A token that is down does not count against it: the supervisor knows and tries again. What
//! counts is a supervisor that does not do what it set out to do, or calls a token healthy that has
//! not signed for too long.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// What a busy machine may add to any step.
const GRACE: Duration = Duration::from_secs(5);

/// When the supervisor acts next, and when its token last signed.
#[derive(Debug)]
pub(crate) struct Pulse {
    /// `None`: it waits for the operator, and nothing has to happen.
    next_step: Cell<Option<Instant>>,
    proven: Cell<Instant>,
}

impl Pulse {
    pub(crate) fn new(now: Instant) -> Self {
        Self { next_step: Cell::new(Some(now)), proven: Cell::new(now) }
    }

    /// The supervisor begins to wait, at most until `next_step`. Said before it waits: one that
    /// dies while it acts is late.
    pub(crate) fn waits_until(&self, next_step: Instant) {
        self.next_step.set(Some(next_step));
    }

    pub(crate) fn waits_for_the_operator(&self) {
        self.next_step.set(None);
    }

    /// The token has made a signature: a client's, or that of a self-test.
    pub(crate) fn signed(&self, now: Instant) {
        self.proven.set(now);
    }

    pub(crate) fn last_signed(&self) -> Instant {
        self.proven.get()
    }

    /// What is wrong with the supervisor, if something is. `longest_proof`: how old a healthy
    /// token's last signature may be.
    pub(crate) fn fault(
        &self,
        healthy: bool,
        longest_proof: Duration,
        now: Instant,
    ) -> Option<&'static str> {
        if self.next_step.get().is_some_and(|step| now > step + GRACE) {
            return Some("its supervisor does nothing");
        }
        if healthy && now > self.proven.get() + longest_proof + GRACE {
            return Some("it has not signed for too long and still counts as healthy");
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PROOF: Duration = Duration::from_secs(20);

    #[test]
    fn a_supervisor_that_is_late_is_at_fault_whatever_its_token_does() {
        let start = Instant::now();
        let pulse = Pulse::new(start);
        for healthy in [true, false] {
            pulse.waits_until(start + 2 * SECOND);
            pulse.signed(start + 7 * SECOND);
            assert_eq!(pulse.fault(healthy, PROOF, start + 7 * SECOND), None);
            assert!(
                pulse
                    .fault(healthy, PROOF, start + 8 * SECOND)
                    .is_some_and(|fault| fault.contains("supervisor"))
            );
            pulse.waits_for_the_operator();
            assert_eq!(pulse.fault(healthy, PROOF, start + 8 * SECOND), None);
        }
    }

    #[test]
    fn a_healthy_token_has_to_have_signed_and_one_that_is_down_has_not() {
        let start = Instant::now();
        let pulse = Pulse::new(start);
        pulse.waits_until(start + 100 * SECOND);
        pulse.signed(start);
        assert_eq!(pulse.fault(true, PROOF, start + 25 * SECOND), None);
        assert!(
            pulse
                .fault(true, PROOF, start + 26 * SECOND)
                .is_some_and(|fault| fault.contains("signed"))
        );
        assert_eq!(pulse.fault(false, PROOF, start + 26 * SECOND), None);
    }
}
