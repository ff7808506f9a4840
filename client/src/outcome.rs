//! What becomes of a request that waits for persons, however long they take.

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use countersign_core::refusal::Code;
use countersign_core::wire::PendingReply;
use serde::de::DeserializeOwned;

use crate::client::Client;
use crate::error::{Error, Refused};

/// How long after its expiry the outcome may take, clocks that differ a little included.
const EXPIRY_GRACE: Duration = Duration::from_secs(30);
/// After a question that came too often. The agent forgets a client that is silent for 30 s.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

impl Client {
    /// Waits for the outcome: the finished request or login, or the refusal that ended it.
    ///
    /// One question waits at the agent for `step`; `show` sees how far the request is before each.
    /// A question that is refused because the client asks too often ends nothing: it is asked again
    /// after a pause, until the request has expired.
    pub fn outcome<R: DeserializeOwned>(
        &mut self,
        mut waits: PendingReply,
        step: Duration,
        mut show: impl FnMut(&PendingReply),
    ) -> Result<R, Error> {
        let mut pause = FIRST_PAUSE;
        loop {
            show(&waits);
            match self.result(&waits.pending.id, step) {
                Err(Error::Waits(still)) => (waits, pause) = (*still, FIRST_PAUSE),
                Err(Error::Refused(refused))
                    if refused.is_of_the_question() && !time_left(&waits).is_zero() =>
                {
                    thread::sleep(pause.min(time_left(&waits)));
                    pause = LONGEST_PAUSE.min(pause * 2);
                }
                answer => return answer,
            }
        }
    }
}

impl Refused {
    /// The agent refused a question about the request, not the request, whose own end has its id.
    fn is_of_the_question(&self) -> bool {
        self.known_code() == Some(Code::PolicyRate) && self.request_id.is_none()
    }
}

fn time_left(waits: &PendingReply) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Duration::from_millis(waits.pending.expires_ms).saturating_add(EXPIRY_GRACE).saturating_sub(now)
}
