//! Talks with one token host from its start to its end: writes requests, reads answers, watches the
//! deadlines.

use std::io;
use std::time::Duration;

use countersign_base::messages::token_host::{FromHost, HostError, ToHost};
use countersign_base::messages::yubikey;
use countersign_core::ports::TokenError;
use tokio::time::{Instant, sleep_until};

use super::host_handle::{Deadlines, HostShared, HostTraffic};
use super::link::{Inbound, LinkError, append};
use super::outstanding::HostAnswer;
use super::restarts::Restarts;
use super::token_status::{TokenState, unix_ms};
use crate::sockets::stream::Stream;

/// Why the conversation with a host has ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostGone {
    #[error(transparent)]
    Broken(HostError),
    #[error("the token host hung and was killed")]
    Hung,
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("the token host was not ready in time")]
    NotReady,
    #[error("the token host could not be started: {0}")]
    NotStarted(io::Error),
    #[error("stopped")]
    Stopped,
}

impl HostGone {
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Self::Broken(error) if error.is_final())
    }

    pub(crate) fn as_token_error(&self, token: &str) -> TokenError {
        match self {
            Self::Hung => TokenError::Timeout(token.to_owned()),
            _ => TokenError::Unavailable(format!("{token}: {self}")),
        }
    }
}

/// If the front checks a host later than this, it was late itself, so it must not call the host
/// late.
const LATE: Duration = Duration::from_millis(100);
/// Time that a host then gets to answer.
const REPRIEVE: Duration = Duration::from_millis(250);

/// The conversation with one host.
pub(crate) struct Conversation<'a> {
    shared: &'a HostShared,
    restarts: &'a mut Restarts,
    ready: bool,
    /// The time of the host's last message, or of its start.
    heard: Instant,
    /// True while the answer to a self-test has not come.
    testing: bool,
    /// The time of the last answer to a self-test.
    tested: Instant,
    stopping_since: Option<Instant>,
    /// The front was late itself: the host is not judged before this time.
    reprieve: Option<Instant>,
}

impl<'a> Conversation<'a> {
    pub(crate) fn new(shared: &'a HostShared, restarts: &'a mut Restarts) -> Self {
        let heard = Instant::now();
        Self {
            shared,
            restarts,
            ready: false,
            heard,
            testing: false,
            tested: heard,
            stopping_since: None,
            reprieve: None,
        }
    }

    /// Handles requests until the host is lost, or until it was asked to stop and its time is over.
    pub(crate) async fn run(
        &mut self,
        stream: &Stream,
    ) -> Result<std::convert::Infallible, HostGone> {
        let mut stop = self.shared.stop.1.clone();
        let mut stopped = std::pin::pin!(stop.requested());
        let mut inbound = Inbound::new();
        let mut alarm = std::pin::pin!(sleep_until(self.due()));
        loop {
            let written = self.shared.traffic.borrow_mut().write_to(stream);
            let due = self.due();
            if due < alarm.deadline() {
                alarm.as_mut().reset(due);
            }
            self.shared.supervision.waits_until(alarm.deadline());
            tokio::select! {
                biased;
                ready = stream.readable() => {
                    ready.map_err(LinkError::Socket)?;
                    self.read(stream, &mut inbound)?;
                }
                ready = stream.writable(), if !written => ready.map_err(LinkError::Socket)?,
                () = self.shared.wake.notified() => {}
                () = &mut stopped, if self.stopping_since.is_none() => self.ask_to_stop(),
                () = &mut alarm => {
                    let unnoticed = inbound.read(
                        |room| stream.fill_unnoticed(room),
                        |message| self.receive(message),
                    );
                    self.unless_stopped(unnoticed)?;
                    self.reprieve = None;
                    match alarm.deadline().elapsed() > LATE {
                        true => self.reprieve = Some(Instant::now() + REPRIEVE),
                        false => self.check()?,
                    }
                    alarm.as_mut().reset(self.due());
                }
            }
        }
    }

    fn read(&mut self, stream: &Stream, inbound: &mut Inbound) -> Result<(), HostGone> {
        let read = inbound.read(|room| stream.fill(room), |message| self.receive(message));
        self.unless_stopped(read)
    }

    fn unless_stopped(&self, read: Result<(), HostGone>) -> Result<(), HostGone> {
        match read {
            Err(HostGone::Link(LinkError::Closed)) if self.stopping_since.is_some() => {
                Err(HostGone::Stopped)
            }
            result => result,
        }
    }

    fn receive(&mut self, message: FromHost) -> Result<(), HostGone> {
        self.heard = Instant::now();
        match message {
            FromHost::Broken(error) => return Err(HostGone::Broken(error)),
            FromHost::Ready { token, keys, limits } if !self.ready => {
                self.ready = true;
                // A host tests itself before it is ready.
                self.shared.supervision.signed(self.heard);
                self.shared.traffic.borrow_mut().serving = self.stopping_since.is_none();
                self.shared.status.send_modify(|status| {
                    status.enter(TokenState::Healthy);
                    (status.facts, status.keys, status.limits) = (token, keys, limits);
                });
                return Ok(());
            }
            _ if !self.ready => return Err(LinkError::Garbage.into()),
            _ => {}
        }
        let (answered, blinks) = {
            let outstanding = &mut self.shared.traffic.borrow_mut().outstanding;
            (
                outstanding.answer(message, self.heard).ok_or(LinkError::Garbage)?,
                outstanding.blinks(),
            )
        };
        if !blinks {
            self.shared.status.send_if_modified(|status| status.blinks_until_ms.take().is_some());
        }
        self.note(answered);
        Ok(())
    }

    fn note(&mut self, answered: HostAnswer) {
        match answered {
            HostAnswer::Blinking => {
                let until = unix_ms(yubikey::TOUCH_TIMEOUT);
                self.shared.status.send_modify(|status| status.blinks_until_ms = Some(until));
            }
            HostAnswer::KeysFound(keys) => {
                self.shared.status.send_modify(|status| status.keys = keys)
            }
            HostAnswer::RequestFailed => {}
            HostAnswer::SelfTestFailed(error) => {
                (self.testing, self.tested) = (false, self.heard);
                self.shared.status.send_modify(|status| {
                    status.enter(TokenState::Degraded);
                    status.last_error = Some(error.to_string());
                });
            }
            HostAnswer::SelfTestPassed => {
                (self.testing, self.tested) = (false, self.heard);
                self.worked();
            }
            HostAnswer::Signed => self.worked(),
        }
    }

    fn worked(&mut self) {
        self.restarts.worked(self.heard);
        self.shared.supervision.signed(self.heard);
        self.shared.status.send_if_modified(|status| status.enter(TokenState::Healthy));
    }

    /// The next time at which there is something to check.
    fn due(&self) -> Instant {
        let expires_at =
            self.shared.traffic.borrow().outstanding.expires_at(self.shared.deadlines.sign);
        let due = expires_at.map_or(self.timer(), |at| at.min(self.timer()));
        self.reprieve.map_or(due, |reprieve| due.max(reprieve))
    }

    /// The time by which the host must have done something, or must be tested.
    fn timer(&self) -> Instant {
        let Deadlines { start, stop, .. } = self.shared.deadlines;
        match self.stopping_since {
            Some(since) => since + stop,
            None if !self.ready => self.heard + start,
            None => [self.stuck_at(), self.test_at()]
                .into_iter()
                .flatten()
                .min()
                .unwrap_or(self.heard + start),
        }
    }

    fn stuck_at(&self) -> Option<Instant> {
        let Deadlines { start, sign, .. } = self.shared.deadlines;
        self.shared.traffic.borrow().outstanding.stuck_at(sign, start)
    }

    /// The time for the next self-test. A token that signs for its clients needs no test. A token
    /// that only fails for them needs one, even if it is busy.
    fn test_at(&self) -> Option<Instant> {
        let last = self.shared.supervision.last_signed().max(self.tested);
        (!self.testing).then_some(last + self.shared.deadlines.idle)
    }

    /// Checks all deadlines when the alarm goes off. The alarm is not moved while requests come and
    /// go, so its reason may be gone.
    fn check(&mut self) -> Result<(), HostGone> {
        let now = Instant::now();
        let late = TokenError::Timeout(self.shared.name.clone());
        self.shared.traffic.borrow_mut().outstanding.expire(now, self.shared.deadlines.sign, &late);
        if now < self.timer() {
            return Ok(());
        }
        if self.stopping_since.is_some() {
            return Err(HostGone::Stopped);
        }
        if !self.ready {
            return Err(HostGone::NotReady);
        }
        if self.stuck_at().is_some_and(|at| at <= now) {
            return Err(HostGone::Hung);
        }
        if self.test_at().is_some_and(|at| at <= now) {
            let mut traffic = self.shared.traffic.borrow_mut();
            let id = traffic.outstanding.self_test(now);
            self.testing = append(&ToHost::SelfTest { id }, &mut traffic.outbound);
        }
        Ok(())
    }

    fn ask_to_stop(&mut self) {
        self.stopping_since = Some(Instant::now());
        let mut traffic = self.shared.traffic.borrow_mut();
        traffic.serving = false;
        append(&ToHost::Stop, &mut traffic.outbound);
    }
}

impl HostTraffic {
    /// Writes as much as the socket takes, everything in one write. False if some is left.
    ///
    /// The next read finds an error of the socket, after the host's last message: that message
    /// tells whether to start the host again.
    fn write_to(&mut self, stream: &Stream) -> bool {
        const KEPT_CAPACITY: usize = 64 * 1024;
        if self.outbound.is_empty() {
            return true;
        }
        match stream.try_write(&self.outbound) {
            Ok(written) => drop(self.outbound.drain(..written)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.outbound.clear(),
        }
        self.outbound.shrink_to(KEPT_CAPACITY);
        let written = self.outbound.is_empty();
        if written {
            self.outstanding.hand_over(Instant::now);
        }
        written
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;
    use std::thread;

    use countersign_core::algorithm::Algorithm;

    use super::*;
    use crate::tokens::host_handle::HostHandle;
    use countersign_base::messages::confinement::ConfinementReport;
    use countersign_base::messages::token_host::TokenFacts;

    const SIGN: Duration = Duration::from_millis(300);

    fn framed(message: &FromHost) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert!(append(message, &mut bytes));
        bytes
    }

    /// A host that answers each of `requests` requests `after` this time.
    fn host(mut stream: UnixStream, requests: u64, after: Duration) {
        let text = String::new;
        let token =
            TokenFacts { label: text(), manufacturer: text(), model: text(), serial: text() };
        let limits = ConfinementReport { on: Vec::new(), missing: Vec::new() };
        stream
            .write_all(&framed(&FromHost::Ready { token, keys: Vec::new(), limits }))
            .expect("the front reads");
        for id in 1..=requests {
            let mut length = [0; 4];
            stream.read_exact(&mut length).expect("a request");
            stream
                .read_exact(&mut vec![0; u32::from_le_bytes(length) as usize])
                .expect("a request");
            thread::sleep(after);
            let signed = FromHost::Signed { id, signature: vec![7], passphrase: None };
            let _ = stream.write_all(&framed(&signed)); // fails if the front no longer waits
        }
        let _ = stream.read(&mut [0]); // until the front has gone
    }

    /// The outcome of a request if the front is busy for `before` once it was asked, and again for
    /// `after` a moment later.
    async fn outcome(
        answers_after: Duration,
        before: Duration,
        after: Duration,
    ) -> Result<(), String> {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let host = thread::spawn(move || host(theirs, 1, answers_after));
        let stream = Stream::new(ours).expect("registered");
        let handle =
            HostHandle::new("hsm".to_owned(), Deadlines { sign: SIGN, ..Deadlines::default() });
        let mut restarts = Restarts::default();
        let mut conversation = Conversation::new(&handle.0, &mut restarts);
        let asked = async {
            while handle.ready().is_err() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let answer = handle.sign("key", Algorithm::HmacSha256, b"message");
            let works = async {
                thread::sleep(before);
                tokio::time::sleep(Duration::from_millis(5)).await;
                thread::sleep(after);
            };
            tokio::join!(answer, works).0.map(drop).map_err(|error| error.to_string())
        };
        let outcome = tokio::select! {
            biased;
            outcome = asked => outcome,
            ended = conversation.run(&stream) => Err(ended.expect_err("it runs until it \
                ends").to_string()),
        };
        drop(stream);
        host.join().expect("the host ends");
        outcome
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_front_that_is_late_takes_no_healthy_host_for_hung() {
        let (none, soon, long) = (Duration::ZERO, Duration::from_millis(30), SIGN * 3);
        assert_eq!(outcome(soon, none, none).await, Ok(()));
        assert_eq!(outcome(soon, long, none).await, Ok(()), "the host was given the request late");
        assert_eq!(
            outcome(soon, none, long).await,
            Ok(()),
            "its answer was there before it was looked for"
        );
        assert_eq!(outcome(soon, long, long).await, Ok(()));
        assert!(outcome(SIGN * 4, none, none).await.is_err(), "a host that hangs is found out");
        assert!(outcome(SIGN * 8, long, none).await.is_err());
    }
}
