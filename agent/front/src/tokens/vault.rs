//! Uses a vault: starts a process for each signature, asks it once, and waits until it is gone.

use std::cell::{Cell, RefCell};
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use countersign_base::messages::frame::{self, Frames};
use countersign_base::messages::spawner::ChildKind;
use countersign_base::messages::vault_host::{SignedRequest, VaultReply, VaultRequest};
use countersign_base::messages::yubikey::{BUSY_DEADLINE, TOUCH_TIMEOUT};
use countersign_core::draft::Finished;
use countersign_core::policy::Grant;
use countersign_core::ports::{Drafted, Signature, TokenError};
use countersign_core::request::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, timeout, timeout_at};

use super::spawner::{Child, Spawner};
use super::token_status::{TokenState, TokenStatus, unix_ms};

/// Longest time from the start of the process to the blinking, and from the touch to the answer.
/// Cards and tokens are slow.
const WORK: Duration = Duration::from_secs(30);
/// Longest time for the process to change the PIN after it answered.
const CLOSING: Duration = Duration::from_secs(20);

/// The spawner of vaults' processes: the agent's own spawner, or in a system install one that runs
/// as a user of its own.
#[derive(Debug)]
pub struct VaultSpawner {
    own: Spawner,
    socket: Option<PathBuf>,
    connected: RefCell<Option<Spawner>>,
}

impl VaultSpawner {
    pub fn new(own: Spawner, socket: Option<PathBuf>) -> Self {
        Self { own, socket, connected: RefCell::default() }
    }

    /// Returns the spawner. Connects to it if that is needed, and again if the last connection is
    /// gone.
    pub fn ready(&self) -> io::Result<Spawner> {
        let Some(socket) = &self.socket else { return Ok(self.own.clone()) };
        let mut connected = self.connected.borrow_mut();
        match &*connected {
            Some(spawner) if !spawner.is_gone() => Ok(spawner.clone()),
            _ => {
                let unreachable =
                    |error| io::Error::other(format!("{}: {error}", socket.display()));
                Ok(connected.insert(Spawner::at(socket).map_err(unreachable)?).clone())
            }
        }
    }
}

/// A token that a touch opens for one signature each time. It has no host.
#[derive(Clone)]
pub struct VaultHandle(Rc<VaultShared>);

struct VaultShared {
    name: String,
    spawner: Rc<VaultSpawner>,
    /// Held for the one process until it is gone.
    turn: Arc<Mutex<()>>,
    /// True while somebody is asked to touch.
    asks: Cell<bool>,
    status: watch::Sender<TokenStatus>,
}

/// Notes on drop that nobody is asked to touch any more.
struct Asking<'a>(&'a Cell<bool>);

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        self.0.set(false);
    }
}

impl VaultHandle {
    /// A vault that no process works for yet. It counts as healthy.
    pub fn new(name: String, spawner: Rc<VaultSpawner>) -> Self {
        let status = watch::Sender::new(TokenStatus::starting());
        status.send_if_modified(|status| status.enter(TokenState::Healthy));
        Self(Rc::new(VaultShared {
            name,
            spawner,
            turn: Arc::default(),
            asks: Cell::default(),
            status,
        }))
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub fn status(&self) -> TokenStatus {
        self.0.status.borrow().clone()
    }

    /// Tells of each change of the status.
    pub fn subscribe(&self) -> watch::Receiver<TokenStatus> {
        self.0.status.subscribe()
    }

    /// `Ok` if [`Self::sign`] would ask for a touch now.
    pub fn ready(&self) -> Result<(), TokenError> {
        if self.0.asks.get() {
            return Err(self.unavailable("it waits for the touch of another request; ask again"));
        }
        Ok(())
    }

    fn unavailable(&self, reason: &str) -> TokenError {
        TokenError::Unavailable(format!("{}: {reason}", self.0.name))
    }

    /// Asks for one signature of a request that persons approved. The vault's process judges the
    /// request again.
    pub async fn sign(&self, grant: &Grant) -> Result<Signature, TokenError> {
        let unavailable = |reason: &str| self.unavailable(reason);
        let name = self.name();
        let evidence = grant
            .evidence()
            .ok_or_else(|| unavailable("a vault signs only requests that persons approved"))?;
        self.ready()?;
        self.0.asks.set(true);
        let _asking = Asking(&self.0.asks);
        let turn = timeout(CLOSING, Arc::clone(&self.0.turn).lock_owned()).await;
        let turn = turn.map_err(|_| TokenError::Timeout(name.to_owned()))?;
        let statement = String::from_utf8(evidence.approved.statement().bytes());
        let request = VaultRequest {
            token: name.to_owned(),
            statement: statement.map_err(|_| unavailable("the statement is no text"))?,
            sshsigs: evidence.approved.sshsigs().map(str::to_owned).collect(),
            nonce: evidence.nonce,
        };
        let failed = |error: io::Error| unavailable(&format!("its process failed: {error}"));
        let spawner = self.0.spawner.ready().map_err(failed)?;
        let started = started(spawner.start(ChildKind::Vault, None), WORK).await;
        let (mut child, mut stream) = started.map_err(failed)?;
        let answered = self.converse(&mut stream, &request).await;
        self.0.status.send_if_modified(|status| status.blinks_until_ms.take().is_some());
        // The process changes the PIN now, and the answer need not wait for that.
        let closing = Instant::now() + CLOSING;
        tokio::task::spawn_local(async move {
            end(&mut child, closing).await;
            drop((turn, stream));
        });
        match answered {
            Ok(VaultReply::Signed(signed)) => {
                tracing::info!(token = name, own_share_us = signed.own_share_us, "a vault signed");
                signature(*signed).ok_or_else(|| unavailable("its answer makes no sense"))
            }
            Ok(VaultReply::Refused(reason)) => Err(unavailable(&reason)),
            Ok(VaultReply::TouchTooLate(reason)) => {
                Err(TokenError::Timeout(format!("{name}: {reason}")))
            }
            Ok(VaultReply::Touch { .. }) => Err(unavailable("its answer makes no sense")),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                Err(TokenError::Timeout(name.to_owned()))
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Sends the request and waits for the last answer. Meanwhile it notes in the status that the
    /// YubiKey blinks.
    async fn converse(
        &self,
        stream: &mut UnixStream,
        request: &VaultRequest,
    ) -> io::Result<VaultReply> {
        let mut encoded = Vec::new();
        frame::encode(request, &mut encoded).map_err(io::Error::other)?;
        stream.write_all(&encoded).await?;
        let mut deadline = Instant::now() + WORK;
        let mut frames = Frames::default();
        loop {
            while let Some(reply) = frames.take::<VaultReply>().map_err(io::Error::other)? {
                let VaultReply::Touch { yubikey } = reply else { return Ok(reply) };
                tracing::info!(token = self.name(), yubikey, "a vault waits for a touch");
                self.0
                    .status
                    .send_modify(|status| status.blinks_until_ms = Some(unix_ms(TOUCH_TIMEOUT)));
                deadline = Instant::now() + TOUCH_TIMEOUT + BUSY_DEADLINE * 2 + WORK;
            }
            let read = stream.read(frames.spare());
            let read = timeout_at(deadline, read).await.map_err(|_| io::ErrorKind::TimedOut)??;
            if read == 0 {
                return Err(io::Error::new(
                    io::ErrorKind::UnexpectedEof,
                    "it ended without an answer",
                ));
            }
            frames.advance(read);
        }
    }
}

impl std::fmt::Debug for VaultHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VaultHandle").field("name", &self.0.name).finish_non_exhaustive()
    }
}

/// Waits for a start, but not for ever: a spawner that runs as another user may hang, or may be
/// another program.
async fn started<T>(
    start: impl Future<Output = io::Result<T>>,
    longest: Duration,
) -> io::Result<T> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "nobody started it in time");
    timeout(longest, start).await.map_err(late)?
}

/// Waits until the process ends, and kills it if it does not. The vault's files can be opened again
/// even then.
async fn end(child: &mut Child, deadline: Instant) {
    if timeout_at(deadline, child.wait()).await.is_err() {
        tracing::error!(pid = child.pid(), "a vault's process did not end by itself and is killed");
        child.kill();
        child.wait().await;
    }
}

fn signature(signed: SignedRequest) -> Option<Signature> {
    let SignedRequest { message, signature_bytes, stamped_since_boot_ms, .. } = signed;
    let SignedRequest { method, url, headers, body, signature, timestamp_ms, .. } = signed;
    let finished = Finished {
        method: Method::parse(&method).ok()?,
        url,
        headers,
        body,
        signature,
        timestamp_ms,
    };
    let drafted = Some(Box::new(Drafted { message, finished, stamped_since_boot_ms }));
    Some(Signature { bytes: signature_bytes, passphrase: None, drafted })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_spawner_that_never_answers_is_not_waited_for() {
        let late =
            started(std::future::pending::<io::Result<()>>(), Duration::from_millis(10)).await;
        assert_eq!(late.map_err(|error| error.kind()), Err(io::ErrorKind::TimedOut));
        started(async { Ok(()) }, WORK).await.expect("started");
    }
}
