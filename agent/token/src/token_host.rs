//! The main loop of a token host: it takes the requests of one read, signs MACs itself, and answers
//! with one write.
//!
//! RSA, P-256 and Ed25519 go to a second thread with a session of its own, so that they do not
//! delay other requests. A profile may ask for more threads, and then all requests go to them.

pub mod card_host;
pub mod catalogue;
pub mod self_test;
pub mod signer;
pub mod workers;

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use countersign_base::messages::frame::{self, Frames, MessageFrameError};
use countersign_base::messages::settings::TokenSettings;
use countersign_base::messages::token_host::{FromHost, HostError, ToHost};
use countersign_base::system::{confine, sys};
use countersign_core::algorithm::Algorithm;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use zeroize::{Zeroize, Zeroizing};

use crate::login::{self, PinKeeper};
use crate::token::attempt::TokenLogin;
use crate::token::fault::Fault;
use crate::token_host::catalogue::Catalogue;
use crate::token_host::self_test::SelfTest;
use crate::token_host::signer::{SigningSession, sign};
use crate::token_host::workers::{SignatureJob, Workers};

/// The way in which a host ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HostEnd {
    /// The front closed the connection, or asked the host to end.
    Asked,
    /// A new process may do better.
    Broken,
    /// A new process would only end in the same way.
    Final,
}

impl HostEnd {
    /// The exit code of the process, as documented for operators.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Asked => 0,
            Self::Broken => 5,
            Self::Final => 78,
        }
    }
}

/// Runs a token host over `control`, whose first frame is the [`TokenSettings`].
pub fn run(control: OwnedFd, front_writes: &[PathBuf]) -> HostEnd {
    let mut stream = UnixStream::from(control);
    let mut frames = Frames::default();
    let Err(error) = serve(&mut stream, &mut frames, front_writes) else { return HostEnd::Asked };
    let end = if error.is_final() { HostEnd::Final } else { HostEnd::Broken };
    // If the front is gone, nobody can be told.
    let _ = frame::send(&mut stream, &FromHost::Broken(error));
    end
}

fn serve(
    stream: &mut UnixStream,
    frames: &mut Frames,
    front_writes: &[PathBuf],
) -> Result<(), HostError> {
    confine::hide_memory().map_err(HostError::unprotected)?;
    let settings: TokenSettings = match frames.receive(stream) {
        Ok(settings) => settings,
        Err(MessageFrameError::Closed) => return Ok(()),
        Err(error) => {
            return Err(HostError::Refused(format!(
                "the front's settings cannot be read: {error}"
            )));
        }
    };
    if settings.is_yubikey() {
        return card_host::serve(&settings, stream, frames);
    }
    let keeper = if settings.keeps_pin() { PinKeeper::OnStandardOutput } else { PinKeeper::None };
    let login = login::log_in(&settings, front_writes, None, keeper)?;
    confine::follow_parent().map_err(HostError::unprotected)?;
    confine::leave_terminal();
    // The signals are blocked and never read: the front decides when its hosts end, not a signal to
    // the whole service.
    let _signals = sys::termination_signals().map_err(HostError::unprotected)?;
    let mut host = TokenHost::start(login, stream)?;
    host.announce()?;
    host.serve(stream, frames)
}

/// Longest time that an answer waits for the next one, so that both go in one write. It does not
/// wait for the answers to all requests of one read: a slow token may take longer for them than the
/// front waits for one of them. And a front with a CPU of its own works on the first answers while
/// the last requests are signed.
const COLLECTING: Duration = Duration::from_micros(200);

struct TokenHost {
    login: TokenLogin,
    signer: SigningSession,
    self_test: SelfTest,
    catalogue: Catalogue,
    workers: Workers,
    /// Frames to write. They may hold passphrases.
    out: Zeroizing<Vec<u8>>,
}

impl TokenHost {
    fn start(login: TokenLogin, stream: &UnixStream) -> Result<Self, HostError> {
        let mut signer = SigningSession::open(login.token.clone())?;
        let self_test = SelfTest::prepare(&login.token, &login.keeper, &mut signer)?;
        let mut catalogue = Catalogue::default();
        catalogue.rescan(&login.token, &login.keeper)?;
        let workers = Workers::start(&login.token, stream)?;
        Ok(Self { login, signer, self_test, catalogue, workers, out: Zeroizing::default() })
    }

    fn announce(&mut self) -> Result<(), HostError> {
        let token = self.login.token.facts().clone();
        self.answer(&FromHost::Ready {
            token,
            keys: self.catalogue.describe(),
            limits: self.login.limits.clone(),
        })?;
        self.flush()
    }

    fn serve(&mut self, stream: &mut UnixStream, frames: &mut Frames) -> Result<(), HostError> {
        loop {
            let mut collecting_since = Instant::now();
            while let Some(message) = frames.take().map_err(unreadable)? {
                if self.handle(message)? == NextStep::End {
                    return self.stop();
                }
                if collecting_since.elapsed() >= COLLECTING {
                    self.flush()?;
                    collecting_since = Instant::now();
                }
            }
            self.flush()?;
            self.wait(stream)?;
            if !frames.fill(stream).map_err(unreadable)? {
                // A worker that gave up has told the front why, and has closed the connection.
                return self.workers.gave_up().map_or(Ok(()), Err);
            }
        }
    }

    fn handle(&mut self, message: ToHost<'_>) -> Result<NextStep, HostError> {
        match message {
            ToHost::Rescan => {
                let found = self.catalogue.rescan(&self.login.token, &self.login.keeper);
                found.map_err(|fault| fault.error)?;
                self.answer(&FromHost::Keys(self.catalogue.describe()))?;
            }
            ToHost::SelfTest { id } => {
                let result = self.self_test.run(&self.login.token, &mut self.signer);
                self.conclude(id, result.map(|()| FromHost::SelfTested { id }))?;
            }
            ToHost::Sign { id, key, algorithm, message } => {
                self.sign(id, key, algorithm, message.0)?
            }
            ToHost::Stop => return Ok(NextStep::End),
        }
        Ok(NextStep::Continue)
    }

    /// Finishes the requests under way, and logs out.
    fn stop(&mut self) -> Result<(), HostError> {
        self.flush()?;
        self.workers.finish();
        // If C_Logout fails, the login ends with the process, which ends now.
        let _ = self.login.keeper.logout();
        Ok(())
    }

    fn sign(
        &mut self,
        id: u64,
        name: &str,
        algorithm: Algorithm,
        message: &[u8],
    ) -> Result<(), HostError> {
        let Some(key) = self.catalogue.key(name) else {
            return self
                .answer(&FromHost::Failed { id, error: HostError::KeyUnknown(name.to_owned()) });
        };
        if key.algorithm() != algorithm {
            let reason = format!("it is a key for {}", key.algorithm());
            return self.answer(&FromHost::Failed {
                id,
                error: HostError::Unsupported { algorithm, reason },
            });
        }
        if self.workers.take(algorithm) {
            return self.workers.send(SignatureJob {
                id,
                key: key.clone(),
                message: message.to_vec(),
            });
        }
        let result = sign(&mut self.signer, id, key, message);
        self.conclude(id, result)
    }

    /// Answers with a result. If only a new process can cure the error, the host ends after the
    /// answer.
    fn conclude(&mut self, id: u64, result: Result<FromHost, Fault>) -> Result<(), HostError> {
        match result {
            Ok(answer) => self.answer(&answer),
            Err(Fault { error, broken }) => {
                self.answer(&FromHost::Failed { id, error: error.clone() })?;
                if broken { self.flush().and(Err(error)) } else { Ok(()) }
            }
        }
    }

    fn answer(&mut self, answer: &FromHost) -> Result<(), HostError> {
        frame::encode(answer, &mut self.out).map_err(unreadable)
    }

    fn flush(&mut self) -> Result<(), HostError> {
        let result = self.workers.write(&self.out);
        // Bytes beyond the length were wiped by an earlier flush.
        self.out.as_mut_slice().zeroize();
        self.out.clear();
        result.map_err(|error| HostError::Token(format!("a front that is gone: {error}")))
    }

    /// Waits for the front. Meanwhile it uses the sessions, because the token would drop unused
    /// ones.
    ///
    /// It polls: a waiting read would also be woken, in vain, each time the front reads an answer.
    fn wait(&mut self, stream: &UnixStream) -> Result<(), HostError> {
        let idle_timeout = self.login.token.profile().idle_timeout_s;
        let pause = idle_timeout
            .and_then(|seconds| Timespec::try_from(Duration::from_secs(seconds) / 3).ok());
        loop {
            let mut front = [PollFd::new(stream, PollFlags::IN)];
            let ready = rustix::io::retry_on_intr(|| poll(&mut front, pause.as_ref()));
            if ready.map_err(|error| HostError::Token(error.to_string()))? > 0 {
                return Ok(());
            }
            self.signer.keep_alive().map_err(|fault| fault.error)?;
            self.workers.keep_alive()?;
        }
    }
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum NextStep {
    Continue,
    End,
}

fn unreadable(error: MessageFrameError) -> HostError {
    HostError::Token(format!("a front that cannot be understood: {error}"))
}
