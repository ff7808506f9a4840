//! Waits for the outcome of a request that persons must approve, however long they take.

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use countersign_core::refusal::Code;
use countersign_core::wire::PendingReply;
use serde::de::DeserializeOwned;

use crate::client::AgentClient;
use crate::error::{AgentRefusal, Error};

/// Longest wait for the outcome after the request's expiry. Clocks may differ a little.
const EXPIRY_GRACE: Duration = Duration::from_secs(30);
/// Pause after a question that was refused as too frequent. The agent forgets a client that is
/// silent for 30 s.
const FIRST_POLL_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_POLL_PAUSE: Duration = Duration::from_secs(5);

impl AgentClient {
    /// Waits for the outcome: the finished request or login, or the refusal that ended it.
    ///
    /// One question waits at the agent for `step`. Before each question `show` gets the state of
    /// the request. If a question is refused because the client asks too often, it is asked again
    /// after a pause, until the request has expired.
    pub fn outcome<R: DeserializeOwned>(
        &mut self,
        mut waits: PendingReply,
        step: Duration,
        mut show: impl FnMut(&PendingReply),
    ) -> Result<R, Error> {
        let mut pause = FIRST_POLL_PAUSE;
        loop {
            show(&waits);
            match self.result(&waits.pending.id, step) {
                Err(Error::Waits(still)) => (waits, pause) = (*still, FIRST_POLL_PAUSE),
                Err(Error::Refused(refused))
                    if refused.is_of_the_question() && !time_left(&waits).is_zero() =>
                {
                    thread::sleep(pause.min(time_left(&waits)));
                    pause = LONGEST_POLL_PAUSE.min(pause * 2);
                }
                answer => return answer,
            }
        }
    }
}

impl AgentRefusal {
    /// True if the agent refused the question about the request. A refusal of the request itself
    /// has the request's id.
    fn is_of_the_question(&self) -> bool {
        self.known_code() == Some(Code::PolicyRate) && self.request_id.is_none()
    }
}

fn time_left(waits: &PendingReply) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_millis(waits.pending.expires_ms).saturating_add(EXPIRY_GRACE).saturating_sub(now)
}
