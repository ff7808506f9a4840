//! What the rest of the front holds of a token: a way to have something signed, and its status.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use countersign_base::messages::token_host::{Bytes, HostedKey, ToHost};
use countersign_base::messages::yubikey;
use countersign_core::algorithm::Algorithm;
use countersign_core::ports::{Signature, TokenError};
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::{Instant, timeout};

use super::link::append;
use super::outstanding::Outstanding;
use super::pulse::Pulse;
use super::token_status::{TokenState, TokenStatus};
use crate::shutdown::{Stop, Stopper};

/// How long the front waits for a token host.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// From its start, or a rescan, to the list of keys.
    pub start: Duration,
    pub sign: Duration,
    /// From a polite stop to SIGKILL.
    pub stop: Duration,
    /// Without a signature until the host is asked to test itself.
    pub idle: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            start: Duration::from_secs(10),
            sign: Duration::from_millis(1_900), // so that a client has its answer within 2 s
            stop: Duration::from_secs(1),
            idle: Duration::from_secs(5),
        }
    }
}

impl Deadlines {
    /// Of a YubiKey: a touch is waited for as long as the YubiKey waits, and the start looks for it
    /// among the readers.
    pub fn with_touch() -> Self {
        let sign = yubikey::TOUCH_TIMEOUT + yubikey::BUSY_DEADLINE * 2;
        Self { start: Duration::from_secs(30), sign, ..Self::default() }
    }

    /// Nothing but a person is waited for that long.
    fn wait_for_touch(&self) -> bool {
        self.sign >= yubikey::TOUCH_TIMEOUT
    }
}

/// One token and the process that serves it, whichever that is at the moment.
#[derive(Clone)]
pub struct TokenHandle(pub(crate) Rc<Shared>);

/// What a handle and its supervisor share.
pub(crate) struct Shared {
    pub(crate) name: String,
    pub(crate) deadlines: Deadlines,
    pub(crate) desk: RefCell<Desk>,
    /// There is something to write.
    pub(crate) wake: Notify,
    pub(crate) retry: Notify,
    pub(crate) status: watch::Sender<TokenStatus>,
    pub(crate) pulse: Pulse,
    pub(crate) stop: (Stopper, Stop),
    pub(crate) ended: (Stopper, Stop),
}

/// Requests on their way to the host and back.
#[derive(Default)]
pub(crate) struct Desk {
    /// A host is there that takes requests.
    pub(crate) serving: bool,
    pub(crate) outbound: Vec<u8>,
    pub(crate) outstanding: Outstanding,
}

/// Bytes waiting to be written beyond which the host is too slow to be asked more.
const MOST_OUTBOUND: usize = 8 * 1024 * 1024;

impl TokenHandle {
    pub(crate) fn new(name: String, deadlines: Deadlines) -> Self {
        Self(Rc::new(Shared {
            name,
            deadlines,
            desk: RefCell::default(),
            wake: Notify::new(),
            retry: Notify::new(),
            status: watch::Sender::new(TokenStatus::starting()),
            pulse: Pulse::new(Instant::now()),
            stop: Stopper::new(),
            ended: Stopper::new(),
        }))
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// One signature over `message`. Fails at once where no host is ready; a host that hangs is
    /// killed.
    ///
    /// The token may still make the signature where the answer came too late, or the caller stopped
    /// waiting.
    pub async fn sign(
        &self,
        key: &str,
        algorithm: Algorithm,
        message: &[u8],
    ) -> Result<Signature, TokenError> {
        let answer = self.0.ask_to_sign(key, algorithm, message)?;
        // The session with the host minds the deadline.
        answer.await.unwrap_or_else(|_| Err(self.0.unavailable("its host is gone")))
    }

    /// Whether [`Self::sign`] would be put to the host now.
    pub fn ready(&self) -> Result<(), TokenError> {
        let desk = self.0.serving_desk()?;
        if self.0.status.borrow().blinks_until_ms.is_some() {
            return Err(self.0.unavailable("it waits for the touch of another request; ask again"));
        }
        if desk.outstanding.is_full() {
            Err(self.0.unavailable("too many requests are waiting"))
        } else {
            Ok(())
        }
    }

    /// Whether each of its signatures takes a person's touch.
    pub fn takes_touch(&self) -> bool {
        self.0.deadlines.wait_for_touch()
    }

    /// Has the host look for its keys again, after one was enrolled, activated or removed.
    pub async fn rescan(&self) -> Result<Vec<HostedKey>, TokenError> {
        let keys = {
            let mut desk = self.0.serving_desk()?;
            append(&ToHost::Rescan, &mut desk.outbound);
            desk.outstanding.rescan(Instant::now())
        };
        self.0.wake.notify_one();
        match timeout(self.0.deadlines.start, keys).await {
            Ok(Ok(keys)) => Ok(keys),
            Ok(Err(_)) => Err(self.0.unavailable("its host is gone")),
            Err(_) => Err(TokenError::Timeout(self.0.name.clone())),
        }
    }

    pub fn status(&self) -> TokenStatus {
        self.0.status.borrow().clone()
    }

    /// Changes whenever the status does; for the journal and the service manager.
    pub fn subscribe(&self) -> watch::Receiver<TokenStatus> {
        self.0.status.subscribe()
    }

    /// What is wrong with the supervision of this token, if something is; a token that is known to
    /// be down is not wrong.
    pub fn fault(&self) -> Option<&'static str> {
        let Deadlines { start, sign, idle, .. } = self.0.deadlines;
        // Before a self-test there may be a rescan and a slow queue.
        let longest_proof = idle + start + sign * 4;
        let healthy = self.0.status.borrow().state == TokenState::Healthy;
        self.0.pulse.fault(healthy, longest_proof, Instant::now())
    }

    /// Starts a host again that waits: because it failed for good, such as on a refused PIN, or for
    /// its next try.
    pub fn retry(&self) {
        self.0.retry.notify_one(); // kept for a supervisor that is still burying the last host
    }

    /// Ends the host, politely first, and returns when its process is gone.
    pub async fn stop(&self) {
        self.0.stop.0.stop();
        self.0.ended.1.clone().requested().await;
    }
}

impl Shared {
    fn ask_to_sign(
        &self,
        key: &str,
        algorithm: Algorithm,
        message: &[u8],
    ) -> Result<oneshot::Receiver<Result<Signature, TokenError>>, TokenError> {
        let mut desk = self.serving_desk()?;
        let Some((id, answer)) = desk.outstanding.sign(algorithm, Instant::now()) else {
            return Err(self.unavailable("too many requests are waiting"));
        };
        let request = ToHost::Sign { id, key, algorithm, message: Bytes(message) };
        if !append(&request, &mut desk.outbound) {
            desk.outstanding.withdraw(id);
            return Err(self.unavailable("the message is too long"));
        }
        self.wake.notify_one();
        Ok(answer)
    }

    fn serving_desk(&self) -> Result<std::cell::RefMut<'_, Desk>, TokenError> {
        let desk = self.desk.borrow_mut();
        if !desk.serving {
            let last_error = self.status.borrow().last_error.clone();
            return Err(self.unavailable(last_error.as_deref().unwrap_or("its host is starting")));
        }
        if desk.outbound.len() > MOST_OUTBOUND {
            return Err(self.unavailable("too many requests are waiting"));
        }
        Ok(desk)
    }

    pub(crate) fn unavailable(&self, reason: &str) -> TokenError {
        TokenError::Unavailable(format!("{}: {reason}", self.name))
    }
}

impl std::fmt::Debug for TokenHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TokenHandle").field("name", &self.0.name).finish_non_exhaustive()
    }
}
