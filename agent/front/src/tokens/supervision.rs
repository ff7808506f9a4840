//! Checks that the supervisor of a token does its work, for the service manager's watchdog.
//!
//! A token that is down is no fault of its supervisor: the supervisor knows it and tries again. A
//! supervisor is at fault if it does not take its next step in time, or if it calls a token healthy
//! that has not signed for too long.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// Delay that a busy machine may add to any step.
const BUSY_MACHINE_DELAY: Duration = Duration::from_secs(5);

/// The time of the supervisor's next step, and of its token's last signature.
#[derive(Debug)]
pub(crate) struct Supervision {
    /// `None` if the supervisor waits for the operator, so that nothing has to happen.
    next_step: Cell<Option<Instant>>,
    proven: Cell<Instant>,
}

impl Supervision {
    pub(crate) fn new(now: Instant) -> Self {
        Self { next_step: Cell::new(Some(now)), proven: Cell::new(now) }
    }

    /// The supervisor will act at `next_step` at the latest. It says so before it waits, so that
    /// one that dies while it acts is noticed.
    pub(crate) fn waits_until(&self, next_step: Instant) {
        self.next_step.set(Some(next_step));
    }

    pub(crate) fn waits_for_the_operator(&self) {
        self.next_step.set(None);
    }

    /// The token has made a signature, for a client or for a self-test.
    pub(crate) fn signed(&self, now: Instant) {
        self.proven.set(now);
    }

    pub(crate) fn last_signed(&self) -> Instant {
        self.proven.get()
    }

    /// Describes the supervisor's fault, if there is one. `longest_proof` is the greatest age of a
    /// healthy token's last signature.
    pub(crate) fn fault(
        &self,
        healthy: bool,
        longest_proof: Duration,
        now: Instant,
    ) -> Option<&'static str> {
        if self.next_step.get().is_some_and(|step| now > step + BUSY_MACHINE_DELAY) {
            return Some("its supervisor does nothing");
        }
        if healthy && now > self.proven.get() + longest_proof + BUSY_MACHINE_DELAY {
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
        let supervision = Supervision::new(start);
        for healthy in [true, false] {
            supervision.waits_until(start + 2 * SECOND);
            supervision.signed(start + 7 * SECOND);
            assert_eq!(supervision.fault(healthy, PROOF, start + 7 * SECOND), None);
            assert!(
                supervision
                    .fault(healthy, PROOF, start + 8 * SECOND)
                    .is_some_and(|fault| fault.contains("supervisor"))
            );
            supervision.waits_for_the_operator();
            assert_eq!(supervision.fault(healthy, PROOF, start + 8 * SECOND), None);
        }
    }

    #[test]
    fn a_healthy_token_has_to_have_signed_and_one_that_is_down_has_not() {
        let start = Instant::now();
        let supervision = Supervision::new(start);
        supervision.waits_until(start + 100 * SECOND);
        supervision.signed(start);
        assert_eq!(supervision.fault(true, PROOF, start + 25 * SECOND), None);
        assert!(
            supervision
                .fault(true, PROOF, start + 26 * SECOND)
                .is_some_and(|fault| fault.contains("signed"))
        );
        assert_eq!(supervision.fault(false, PROOF, start + 26 * SECOND), None);
    }
}
