//! The conversation with one token host, from its settings to its end: writes requests, reads answers, minds the time.

use std::io;

use countersign_core::ports::TokenError;
use tokio::time::{Instant, sleep_until};

use super::breaker::Breaker;
use super::handle::{Deadlines, Desk, Shared};
use super::link::{Inbound, LinkError, append};
use super::outstanding::Answered;
use super::protocol::{FromHost, HostError, ToHost};
use super::status::{TokenState, unix_ms};
use super::yubikey;
use crate::stream::Stream;

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
}

impl<'a> Session<'a> {
    pub(crate) fn new(shared: &'a Shared, breaker: &'a mut Breaker) -> Self {
        let heard = Instant::now();
        Self { shared, breaker, ready: false, heard, testing: false, tested: heard, stopping_since: None }
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
                    self.check()?;
                    alarm.as_mut().reset(self.due());
                }
            }
        }
    }

    fn read(&mut self, stream: &Stream, inbound: &mut Inbound) -> Result<(), Ended> {
        match inbound.read(stream, |message| self.receive(message)) {
            Err(Ended::Link(LinkError::Closed)) if self.stopping_since.is_some() => Err(Ended::Stopped),
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
            (outstanding.answer(message, self.heard).ok_or(LinkError::Garbage)?, outstanding.blinks())
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
            Answered::KeysFound(keys) => self.shared.status.send_modify(|status| status.keys = keys),
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
        let expires_at = self.shared.desk.borrow().outstanding.expires_at(self.shared.deadlines.sign);
        expires_at.map_or(self.timer(), |at| at.min(self.timer()))
    }

    /// When something must have happened.
    fn timer(&self) -> Instant {
        let Deadlines { start, stop, .. } = self.shared.deadlines;
        match self.stopping_since {
            Some(since) => since + stop,
            None if !self.ready => self.heard + start,
            None => [self.stuck_at(), self.test_at()].into_iter().flatten().min().unwrap_or(self.heard + start),
        }
    }

    fn stuck_at(&self) -> Option<Instant> {
        let Deadlines { start, sign, .. } = self.shared.deadlines;
        self.shared.desk.borrow().outstanding.stuck_at(sign, start)
    }

    /// A token that signs for its clients needs no test; one that only fails for them does, however busy it is.
    fn test_at(&self) -> Option<Instant> {
        let last = self.shared.pulse.last_signed().max(self.tested);
        (!self.testing).then_some(last + self.shared.deadlines.idle)
    }

    /// The alarm has gone off. While requests come and go it stays where it is, so what it was set for may have happened.
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
    /// An error is left for the read to find: behind the host's last words, which say whether to start it again.
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
        self.outbound.is_empty()
    }
}
