//! Keeps the requests that a token host has not answered yet, and tells a busy host from one that
//! hangs.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use countersign_base::messages::token_host::{FromHost, HostError, HostedKey};
use countersign_core::algorithm::Algorithm;
use countersign_core::ports::{Signature, TokenError};
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Most requests that one host may have to answer. Beyond that it is too slow to be asked more.
pub(crate) const MOST_OUTSTANDING: usize = 1024;

type SignatureSender = oneshot::Sender<Result<Signature, TokenError>>;

enum Reply {
    /// The caller was told that the request took too long. The token may still answer.
    GivenUp,
    SelfTest,
    Sign(SignatureSender),
}

/// The kind of an answer, as the front has to treat it.
#[derive(Debug)]
pub(crate) enum HostAnswer {
    Blinking,
    KeysFound(Vec<HostedKey>),
    /// Only this request failed.
    RequestFailed,
    SelfTestFailed(HostError),
    SelfTestPassed,
    Signed,
}

/// The requests to one worker of the host. HMAC and self-tests are one lane, asymmetric keys the
/// other.
#[derive(Default)]
struct Lane {
    waiting: BTreeMap<u64, (Instant, Reply)>,
    last_answer: Option<Instant>,
}

impl Lane {
    /// The time from which this lane counts as hanging: when its oldest request has waited for the
    /// deadline, and nothing was answered for as long. If later requests are answered meanwhile, it
    /// counts as hanging when its oldest request has waited for four deadlines.
    fn stuck_at(&self, deadline: Duration) -> Option<Instant> {
        let (_, (oldest, _)) = self.waiting.first_key_value()?;
        let quiet_since = self.last_answer.map_or(*oldest, |last| last.max(*oldest));
        Some(quiet_since.min(*oldest + deadline * 3) + deadline)
    }

    /// The time at which the next caller has to be told that its request took too long.
    fn expires_at(&self, deadline: Duration) -> Option<Instant> {
        let mut waiting =
            self.waiting.values().filter(|(_, reply)| matches!(reply, Reply::Sign(_)));
        waiting.next().map(|(since, _)| *since + deadline)
    }
}

/// All requests that one host has not answered.
#[derive(Default)]
pub(crate) struct Outstanding {
    last_id: u64,
    lanes: [Lane; 2],
    rescans: VecDeque<(u64, Instant, oneshot::Sender<Vec<HostedKey>>)>,
    /// The last request that was written to the host. The time of a request counts from its
    /// writing.
    handed_over: u64,
    /// The request that waits for a touch.
    blinks_for: Option<u64>,
}

impl Outstanding {
    pub(crate) fn is_full(&self) -> bool {
        self.lanes.iter().map(|lane| lane.waiting.len()).sum::<usize>() >= MOST_OUTSTANDING
    }

    /// Adds a request for a signature. Returns its id and the receiver of its answer; `None` if the
    /// queue is full.
    pub(crate) fn sign(
        &mut self,
        algorithm: Algorithm,
        now: Instant,
    ) -> Option<(u64, oneshot::Receiver<Result<Signature, TokenError>>)> {
        if self.is_full() {
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        Some((self.queue(lane(algorithm), Reply::Sign(sender), now), receiver))
    }

    pub(crate) fn self_test(&mut self, now: Instant) -> u64 {
        self.queue(0, Reply::SelfTest, now)
    }

    pub(crate) fn rescan(&mut self, now: Instant) -> oneshot::Receiver<Vec<HostedKey>> {
        let (sender, receiver) = oneshot::channel();
        self.last_id += 1;
        self.rescans.push_back((self.last_id, now, sender));
        receiver
    }

    /// Takes note that all requests so far were written to the host. Their time counts from now:
    /// the front caused the delay before.
    pub(crate) fn hand_over(&mut self, now: impl FnOnce() -> Instant) {
        if self.handed_over == self.last_id {
            return;
        }
        let (first, now) = (self.handed_over + 1, now());
        for lane in &mut self.lanes {
            lane.waiting.range_mut(first..).for_each(|(_, (since, _))| *since = now);
        }
        self.rescans
            .iter_mut()
            .filter(|(id, ..)| *id >= first)
            .for_each(|(_, since, _)| *since = now);
        self.handed_over = self.last_id;
    }

    /// Removes a request that could not be written into a frame.
    pub(crate) fn withdraw(&mut self, id: u64) {
        for lane in &mut self.lanes {
            lane.waiting.remove(&id);
        }
    }

    /// Gives an answer to the caller that waits for it. `None` if no such request was made.
    pub(crate) fn answer(&mut self, answer: FromHost, now: Instant) -> Option<HostAnswer> {
        match answer {
            FromHost::Blinking { id } => {
                let known = self.lanes.iter().any(|lane| lane.waiting.contains_key(&id));
                self.blinks_for = known.then_some(id).or(self.blinks_for);
                known.then_some(HostAnswer::Blinking)
            }
            FromHost::Broken(_) | FromHost::Ready { .. } => None,
            FromHost::Keys(keys) => {
                let (.., waiting) = self.rescans.pop_front()?;
                let _ = waiting.send(keys.clone());
                Some(HostAnswer::KeysFound(keys))
            }
            FromHost::SelfTested { id } => match self.take(id, now)? {
                Reply::SelfTest => Some(HostAnswer::SelfTestPassed),
                Reply::GivenUp | Reply::Sign(_) => None,
            },
            FromHost::Signed { id, signature, passphrase } => {
                let waiting = match self.take(id, now)? {
                    Reply::GivenUp => return Some(HostAnswer::Signed),
                    Reply::SelfTest => return None,
                    Reply::Sign(waiting) => waiting,
                };
                let passphrase =
                    passphrase.map(|mut passphrase| std::mem::take(&mut *passphrase.0).into());
                // the caller may be gone
                let _ = waiting.send(Ok(Signature { bytes: signature, passphrase, drafted: None }));
                Some(HostAnswer::Signed)
            }
            FromHost::Failed { id, error } => match self.take(id, now)? {
                Reply::GivenUp => Some(HostAnswer::RequestFailed),
                Reply::SelfTest => Some(HostAnswer::SelfTestFailed(error)),
                Reply::Sign(waiting) => {
                    let _ = waiting.send(Err(match error {
                        HostError::TouchTooLate(text) => TokenError::Timeout(text),
                        error => TokenError::Unavailable(error.to_string()),
                    }));
                    Some(HostAnswer::RequestFailed)
                }
            },
        }
    }

    /// True while the request that the token blinked for waits for its answer.
    pub(crate) fn blinks(&self) -> bool {
        self.blinks_for.is_some()
    }

    /// The time from which the host counts as hanging if it stays silent. A rescan is one long task
    /// and has a deadline of its own.
    pub(crate) fn stuck_at(
        &self,
        deadline: Duration,
        rescan_deadline: Duration,
    ) -> Option<Instant> {
        match self.rescans.front() {
            Some((_, since, _)) => Some(*since + rescan_deadline),
            None => self.lanes.iter().filter_map(|lane| lane.stuck_at(deadline)).min(),
        }
    }

    /// The next time at which [`Self::expire`] has something to do.
    pub(crate) fn expires_at(&self, deadline: Duration) -> Option<Instant> {
        self.lanes.iter().filter_map(|lane| lane.expires_at(deadline)).min()
    }

    /// Tells every caller that has waited for `deadline` that its request took too long. The
    /// token's answer may still come.
    pub(crate) fn expire(&mut self, now: Instant, deadline: Duration, error: &TokenError) {
        for lane in &mut self.lanes {
            for (_, reply) in
                lane.waiting.values_mut().take_while(|(since, _)| *since + deadline <= now)
            {
                if matches!(reply, Reply::Sign(_))
                    && let Reply::Sign(waiting) = std::mem::replace(reply, Reply::GivenUp)
                {
                    let _ = waiting.send(Err(error.clone()));
                }
            }
        }
    }

    /// Fails all requests: the host will answer nothing any more.
    pub(crate) fn fail(&mut self, error: &TokenError) {
        self.rescans.clear();
        self.blinks_for = None;
        for lane in &mut self.lanes {
            for (_, (_, reply)) in std::mem::take(&mut lane.waiting) {
                if let Reply::Sign(waiting) = reply {
                    let _ = waiting.send(Err(error.clone()));
                }
            }
        }
    }

    fn queue(&mut self, lane: usize, reply: Reply, now: Instant) -> u64 {
        self.last_id += 1;
        self.lanes[lane].waiting.insert(self.last_id, (now, reply));
        self.last_id
    }

    fn take(&mut self, id: u64, now: Instant) -> Option<Reply> {
        for lane in &mut self.lanes {
            if let Some((_, reply)) = lane.waiting.remove(&id) {
                lane.last_answer = Some(now);
                self.blinks_for = self.blinks_for.filter(|blinking| *blinking != id);
                return Some(reply);
            }
        }
        None
    }
}

fn lane(algorithm: Algorithm) -> usize {
    usize::from(!algorithm.is_hmac())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(2);
    const SECOND: Duration = Duration::from_secs(1);

    fn signed(id: u64) -> FromHost {
        FromHost::Signed { id, signature: vec![1], passphrase: None }
    }

    fn stuck_at(outstanding: &Outstanding) -> Option<Instant> {
        outstanding.stuck_at(DEADLINE, 5 * DEADLINE)
    }

    #[test]
    fn a_slow_queue_that_moves_is_not_stuck_and_a_silent_lane_is() {
        let mut outstanding = Outstanding::default();
        assert_eq!(stuck_at(&outstanding), None);
        let start = Instant::now();
        let (slow, _slow) = outstanding.sign(Algorithm::RsaPkcs1v15Sha256, start).expect("room");
        let ids: Vec<_> = (0..3)
            .map(|_| outstanding.sign(Algorithm::HmacSha256, start).expect("room").0)
            .collect();
        assert_eq!(stuck_at(&outstanding), Some(start + DEADLINE));
        outstanding.answer(signed(slow), start).expect("asked");
        outstanding.answer(signed(ids[0]), start + SECOND).expect("asked");
        assert_eq!(
            stuck_at(&outstanding),
            Some(start + SECOND + DEADLINE),
            "a new answer, a new deadline"
        );
        let _hangs = outstanding.sign(Algorithm::Ed25519, start + SECOND).expect("room");
        outstanding.answer(signed(ids[1]), start + 2 * SECOND).expect("asked");
        assert_eq!(
            stuck_at(&outstanding),
            Some(start + SECOND + DEADLINE),
            "HMAC does not excuse the other lane"
        );
    }

    #[test]
    fn a_request_that_is_overtaken_for_ever_counts_as_stuck() {
        let mut outstanding = Outstanding::default();
        let start = Instant::now();
        let _first = outstanding.sign(Algorithm::HmacSha256, start).expect("room");
        for seconds in 0..20 {
            let now = start + seconds * SECOND;
            let (id, _) = outstanding.sign(Algorithm::HmacSha256, now).expect("room");
            outstanding.answer(signed(id), now).expect("asked");
        }
        assert_eq!(stuck_at(&outstanding), Some(start + 4 * DEADLINE));
    }

    #[test]
    fn whoever_waits_too_long_is_told_once_and_a_late_answer_is_no_garbage() {
        let mut outstanding = Outstanding::default();
        let start = Instant::now();
        let error = TokenError::Timeout("hsm".into());
        let (first, mut first_answer) =
            outstanding.sign(Algorithm::HmacSha256, start).expect("room");
        let (second, mut second_answer) =
            outstanding.sign(Algorithm::HmacSha256, start + SECOND).expect("room");
        assert_eq!(outstanding.expires_at(DEADLINE), Some(start + DEADLINE));
        outstanding.expire(start + DEADLINE, DEADLINE, &error);
        assert!(
            matches!(first_answer.try_recv(), Ok(Err(TokenError::Timeout(_))))
                && second_answer.try_recv().is_err()
        );
        assert_eq!(outstanding.expires_at(DEADLINE), Some(start + SECOND + DEADLINE));
        assert_eq!(
            stuck_at(&outstanding),
            Some(start + DEADLINE),
            "the lane waits for it all the same"
        );
        assert!(matches!(
            outstanding.answer(signed(first), start + DEADLINE),
            Some(HostAnswer::Signed)
        ));
        assert!(outstanding.answer(signed(second), start + DEADLINE).is_some());
        assert!(
            second_answer.try_recv().expect("in time").is_ok() && stuck_at(&outstanding).is_none()
        );
    }

    #[test]
    fn the_time_of_a_request_counts_from_when_the_host_has_it() {
        let mut outstanding = Outstanding::default();
        let start = Instant::now();
        let (first, _first) = outstanding.sign(Algorithm::HmacSha256, start).expect("room");
        outstanding.hand_over(|| start + 5 * SECOND);
        let _second = outstanding.sign(Algorithm::Ed25519, start + 6 * SECOND).expect("room");
        assert_eq!(outstanding.expires_at(DEADLINE), Some(start + 5 * SECOND + DEADLINE));
        assert_eq!(stuck_at(&outstanding), Some(start + 5 * SECOND + DEADLINE));
        outstanding.hand_over(|| start + 9 * SECOND);
        assert_eq!(
            stuck_at(&outstanding),
            Some(start + 5 * SECOND + DEADLINE),
            "the first had it before"
        );
        outstanding.answer(signed(first), start + 9 * SECOND).expect("asked");
        assert_eq!(stuck_at(&outstanding), Some(start + 9 * SECOND + DEADLINE));
        let _keys = outstanding.rescan(start);
        outstanding.hand_over(|| start + 10 * SECOND);
        assert_eq!(stuck_at(&outstanding), Some(start + 10 * SECOND + 5 * DEADLINE));
    }

    #[test]
    fn a_rescan_has_its_own_deadline() {
        let mut outstanding = Outstanding::default();
        let start = Instant::now();
        let _sign = outstanding.sign(Algorithm::HmacSha256, start).expect("room");
        let mut keys = outstanding.rescan(start);
        assert_eq!(stuck_at(&outstanding), Some(start + 5 * DEADLINE));
        assert!(matches!(
            outstanding.answer(FromHost::Keys(vec![]), start),
            Some(HostAnswer::KeysFound(_))
        ));
        assert_eq!(keys.try_recv().expect("answered"), vec![]);
        assert_eq!(stuck_at(&outstanding), Some(start + DEADLINE));
    }

    #[test]
    fn answers_reach_their_own_request_only() {
        let now = Instant::now();
        let mut outstanding = Outstanding::default();
        let (first, mut first_answer) = outstanding.sign(Algorithm::HmacSha256, now).expect("room");
        let (second, mut second_answer) = outstanding.sign(Algorithm::Ed25519, now).expect("room");
        let test = outstanding.self_test(now);
        assert!(outstanding.answer(signed(99), now).is_none(), "never asked");
        assert!(outstanding.answer(FromHost::Keys(vec![]), now).is_none(), "never asked");
        assert!(outstanding.answer(signed(second), now).is_some());
        assert!(outstanding.answer(signed(second), now).is_none(), "answered already");
        assert!(
            second_answer.try_recv().expect("answered").is_ok() && first_answer.try_recv().is_err()
        );
        let error = HostError::KeyUnknown("k".into());
        let failed = |id| FromHost::Failed { id, error: error.clone() };
        assert!(matches!(outstanding.answer(failed(first), now), Some(HostAnswer::RequestFailed)));
        assert!(matches!(first_answer.try_recv(), Ok(Err(TokenError::Unavailable(_)))));
        assert!(matches!(
            outstanding.answer(failed(test), now),
            Some(HostAnswer::SelfTestFailed(_))
        ));
        assert_eq!(stuck_at(&outstanding), None, "nothing waits");
    }

    #[test]
    fn a_token_blinks_until_the_request_that_it_blinks_for_is_answered() {
        let now = Instant::now();
        let mut outstanding = Outstanding::default();
        let ask = |outstanding: &mut Outstanding| {
            outstanding.sign(Algorithm::Ed25519, now).expect("room").0
        };
        let (first, second) = (ask(&mut outstanding), ask(&mut outstanding));
        assert!(
            outstanding.answer(FromHost::Blinking { id: 99 }, now).is_none()
                && !outstanding.blinks()
        );
        assert!(
            outstanding.answer(FromHost::Blinking { id: first }, now).is_some()
                && outstanding.blinks()
        );
        let error = HostError::Card("it waits for the touch of another".into());
        assert!(
            outstanding.answer(FromHost::Failed { id: second, error }, now).is_some()
                && outstanding.blinks()
        );
        assert!(outstanding.answer(signed(first), now).is_some() && !outstanding.blinks());
    }

    #[test]
    fn the_queue_is_bounded_and_fails_as_one() {
        let now = Instant::now();
        let mut outstanding = Outstanding::default();
        let mut answers: Vec<_> = (0..MOST_OUTSTANDING)
            .map(|_| outstanding.sign(Algorithm::HmacSha256, now).expect("room").1)
            .collect();
        assert!(outstanding.sign(Algorithm::Ed25519, now).is_none());
        outstanding.fail(&TokenError::Timeout("hsm".into()));
        assert!(
            answers
                .iter_mut()
                .all(|answer| matches!(answer.try_recv(), Ok(Err(TokenError::Timeout(_)))))
        );
        assert!(outstanding.sign(Algorithm::Ed25519, now).is_some());
    }
}
