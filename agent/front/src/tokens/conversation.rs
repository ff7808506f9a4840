//! The conversation with one token host, from its settings to its end: writes requests, reads
//! answers, minds the time.

use std::io;
use std::time::Duration;

use countersign_base::messages::token_host::{FromHost, HostError, ToHost};
use countersign_base::messages::yubikey;
use countersign_core::ports::TokenError;
use tokio::time::{Instant, sleep_until};

use super::breaker::Breaker;
use super::handle::{Deadlines, Desk, Shared};
use super::link::{Inbound, LinkError, append};
use super::outstanding::Answered;
use super::token_status::{TokenState, unix_ms};
use crate::sockets::stream::Stream;

/// Why a host is not there any more.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Ended {
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

impl Ended {
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

/// A front that comes later than this to see whether a host is late has no right to say so.
const LATE: Duration = Duration::from_millis(100);
/// What a host has then to answer in.
const REPRIEVE: Duration = Duration::from_millis(250);

/// The conversation with one host.
pub(crate) struct Session<'a> {
    shared: &'a Shared,
    breaker: &'a mut Breaker,
    ready: bool,
    /// When it was last heard of, or started.
    heard: Instant,
    /// The answer to a self-test is awaited.
    testing: bool,
    /// When the last self-test was answered.
    tested: Instant,
    stopping_since: Option<Instant>,
    /// The front was late itself: nobody is judged before this.
    reprieve: Option<Instant>,
}

impl<'a> Session<'a> {
    pub(crate) fn new(shared: &'a Shared, breaker: &'a mut Breaker) -> Self {
        let heard = Instant::now();
        Self {
            shared,
            breaker,
            ready: false,
            heard,
            testing: false,
            tested: heard,
            stopping_since: None,
            reprieve: None,
        }
    }

    /// Serves the desk until the host is lost, or has been asked to stop and has had its time.
    pub(crate) async fn run(&mut self, stream: &Stream) -> Result<std::convert::Infallible, Ended> {
        let mut stop = self.shared.stop.1.clone();
        let mut stopped = std::pin::pin!(stop.requested());
        let mut inbound = Inbound::new();
        let mut alarm = std::pin::pin!(sleep_until(self.due()));
        loop {
            let written = self.shared.desk.borrow_mut().write_to(stream);
            let due = self.due();
            if due < alarm.deadline() {
                alarm.as_mut().reset(due);
            }
            self.shared.pulse.waits_until(alarm.deadline());
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
                    let unnoticed = inbound.read(|room| stream.fill_unnoticed(room), |message| self.receive(message));
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

    fn read(&mut self, stream: &Stream, inbound: &mut Inbound) -> Result<(), Ended> {
        let read = inbound.read(|room| stream.fill(room), |message| self.receive(message));
        self.unless_stopped(read)
    }

    fn unless_stopped(&self, read: Result<(), Ended>) -> Result<(), Ended> {
        match read {
            Err(Ended::Link(LinkError::Closed)) if self.stopping_since.is_some() => {
                Err(Ended::Stopped)
            }
            result => result,
        }
    }

    fn receive(&mut self, message: FromHost) -> Result<(), Ended> {
        self.heard = Instant::now();
        match message {
            FromHost::Broken(error) => return Err(Ended::Broken(error)),
            FromHost::Ready { token, keys, limits } if !self.ready => {
                self.ready = true;
                self.shared.pulse.signed(self.heard); // it was tested before it said so
                self.shared.desk.borrow_mut().serving = self.stopping_since.is_none();
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
            let outstanding = &mut self.shared.desk.borrow_mut().outstanding;
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

    fn note(&mut self, answered: Answered) {
        match answered {
            Answered::Blinking => {
                let until = unix_ms(yubikey::TOUCH_TIMEOUT);
                self.shared.status.send_modify(|status| status.blinks_until_ms = Some(until));
            }
            Answered::KeysFound(keys) => {
                self.shared.status.send_modify(|status| status.keys = keys)
            }
            Answered::RequestFailed => {}
            Answered::SelfTestFailed(error) => {
                (self.testing, self.tested) = (false, self.heard);
                self.shared.status.send_modify(|status| {
                    status.enter(TokenState::Degraded);
                    status.last_error = Some(error.to_string());
                });
            }
            Answered::SelfTestPassed => {
                (self.testing, self.tested) = (false, self.heard);
                self.worked();
            }
            Answered::Signed => self.worked(),
        }
    }

    fn worked(&mut self) {
        self.breaker.worked(self.heard);
        self.shared.pulse.signed(self.heard);
        self.shared.status.send_if_modified(|status| status.enter(TokenState::Healthy));
    }

    /// When there is something to check, if nothing happens before.
    fn due(&self) -> Instant {
        let expires_at =
            self.shared.desk.borrow().outstanding.expires_at(self.shared.deadlines.sign);
        let due = expires_at.map_or(self.timer(), |at| at.min(self.timer()));
        self.reprieve.map_or(due, |reprieve| due.max(reprieve))
    }

    /// When something must have happened.
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
        self.shared.desk.borrow().outstanding.stuck_at(sign, start)
    }

    /// A token that signs for its clients needs no test; one that only fails for them does, however
    /// busy it is.
    fn test_at(&self) -> Option<Instant> {
        let last = self.shared.pulse.last_signed().max(self.tested);
        (!self.testing).then_some(last + self.shared.deadlines.idle)
    }

    /// The alarm has gone off. While requests come and go it stays where it is, so what it was set
    /// for may have happened.
    fn check(&mut self) -> Result<(), Ended> {
        let now = Instant::now();
        let late = TokenError::Timeout(self.shared.name.clone());
        self.shared.desk.borrow_mut().outstanding.expire(now, self.shared.deadlines.sign, &late);
        if now < self.timer() {
            return Ok(());
        }
        if self.stopping_since.is_some() {
            return Err(Ended::Stopped);
        }
        if !self.ready {
            return Err(Ended::NotReady);
        }
        if self.stuck_at().is_some_and(|at| at <= now) {
            return Err(Ended::Hung);
        }
        if self.test_at().is_some_and(|at| at <= now) {
            let mut desk = self.shared.desk.borrow_mut();
            let id = desk.outstanding.self_test(now);
            self.testing = append(&ToHost::SelfTest { id }, &mut desk.outbound);
        }
        Ok(())
    }

    fn ask_to_stop(&mut self) {
        self.stopping_since = Some(Instant::now());
        let mut desk = self.shared.desk.borrow_mut();
        desk.serving = false;
        append(&ToHost::Stop, &mut desk.outbound);
    }
}

impl Desk {
    /// Writes what the socket takes, everything in one write; false where some is left.
    ///
    /// An error is left for the read to find: behind the host's last words, which say whether to
    /// start it again.
    fn write_to(&mut self, stream: &Stream) -> bool {
        const KEPT: usize = 64 * 1024;
        if self.outbound.is_empty() {
            return true;
        }
        match stream.try_write(&self.outbound) {
            Ok(written) => drop(self.outbound.drain(..written)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.outbound.clear(),
        }
        self.outbound.shrink_to(KEPT);
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
    use crate::tokens::handle::TokenHandle;
    use countersign_base::messages::confinement::Limits;
    use countersign_base::messages::token_host::TokenFacts;

    const SIGN: Duration = Duration::from_millis(300);

    fn framed(message: &FromHost) -> Vec<u8> {
        let mut bytes = Vec::new();
        assert!(append(message, &mut bytes));
        bytes
    }

    /// A host that answers each of `requests` this long after it came.
    fn host(mut stream: UnixStream, requests: u64, after: Duration) {
        let text = String::new;
        let token =
            TokenFacts { label: text(), manufacturer: text(), model: text(), serial: text() };
        let limits = Limits { on: Vec::new(), missing: Vec::new() };
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
            let _ = stream.write_all(&framed(&signed)); // a front that waited no longer is gone
        }
        let _ = stream.read(&mut [0]); // until the front has gone
    }

    /// The outcome of a request where the front works for `before` once it was asked, and again for
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
            TokenHandle::new("hsm".to_owned(), Deadlines { sign: SIGN, ..Deadlines::default() });
        let mut breaker = Breaker::default();
        let mut session = Session::new(&handle.0, &mut breaker);
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
            ended = session.run(&stream) => Err(ended.expect_err("it runs until it \
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
