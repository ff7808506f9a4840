//! Gives the rest of the front a token: it asks the token to sign, and reads its status.

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
use super::supervision::Supervision;
use super::token_status::{TokenState, TokenStatus};
use crate::shutdown::{Stop, Stopper};

/// Times for which the front waits for a token host.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// From its start or from a rescan to the list of keys.
    pub start: Duration,
    pub sign: Duration,
    /// From a request to stop to SIGKILL.
    pub stop: Duration,
    /// Time without a signature after which the host is asked to test itself.
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
    /// Deadlines for a YubiKey. The front waits for a touch as long as the YubiKey does, and the
    /// start looks for the YubiKey among the readers.
    pub fn with_touch() -> Self {
        let sign = yubikey::TOUCH_TIMEOUT + yubikey::BUSY_DEADLINE * 2;
        Self { start: Duration::from_secs(30), sign, ..Self::default() }
    }

    /// True if signatures need a touch: only for a person does the front wait that long.
    fn wait_for_touch(&self) -> bool {
        self.sign >= yubikey::TOUCH_TIMEOUT
    }
}

/// One token, and the process that serves it at the moment.
#[derive(Clone)]
pub struct HostHandle(pub(crate) Rc<HostShared>);

/// The state that a handle and its supervisor share.
pub(crate) struct HostShared {
    pub(crate) name: String,
    pub(crate) deadlines: Deadlines,
    pub(crate) traffic: RefCell<HostTraffic>,
    /// There is something to write.
    pub(crate) wake: Notify,
    pub(crate) retry: Notify,
    pub(crate) status: watch::Sender<TokenStatus>,
    pub(crate) supervision: Supervision,
    pub(crate) stop: (Stopper, Stop),
    pub(crate) ended: (Stopper, Stop),
}

/// Requests on their way to the host and back.
#[derive(Default)]
pub(crate) struct HostTraffic {
    /// True while there is a host that takes requests.
    pub(crate) serving: bool,
    pub(crate) outbound: Vec<u8>,
    pub(crate) outstanding: Outstanding,
}

/// Most bytes that wait to be written. Beyond that the host is too slow to be asked more.
const MOST_OUTBOUND: usize = 8 * 1024 * 1024;

impl HostHandle {
    pub(crate) fn new(name: String, deadlines: Deadlines) -> Self {
        Self(Rc::new(HostShared {
            name,
            deadlines,
            traffic: RefCell::default(),
            wake: Notify::new(),
            retry: Notify::new(),
            status: watch::Sender::new(TokenStatus::starting()),
            supervision: Supervision::new(Instant::now()),
            stop: Stopper::new(),
            ended: Stopper::new(),
        }))
    }

    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Asks for one signature over `message`. Fails at once if no host is ready. A host that hangs
    /// is killed.
    ///
    /// The token may still make the signature if the answer comes too late, or if the caller stops
    /// waiting.
    pub async fn sign(
        &self,
        key: &str,
        algorithm: Algorithm,
        message: &[u8],
    ) -> Result<Signature, TokenError> {
        let answer = self.0.ask_to_sign(key, algorithm, message)?;
        // The conversation with the host watches the deadline.
        answer.await.unwrap_or_else(|_| Err(self.0.unavailable("its host is gone")))
    }

    /// `Ok` if [`Self::sign`] would ask the host now.
    pub fn ready(&self) -> Result<(), TokenError> {
        let traffic = self.0.serving_traffic()?;
        if self.0.status.borrow().blinks_until_ms.is_some() {
            return Err(self.0.unavailable("it waits for the touch of another request; ask again"));
        }
        if traffic.outstanding.is_full() {
            Err(self.0.unavailable("too many requests are waiting"))
        } else {
            Ok(())
        }
    }

    /// True if each of its signatures needs a person's touch.
    pub fn takes_touch(&self) -> bool {
        self.0.deadlines.wait_for_touch()
    }

    /// Asks the host to look for its keys again, after a key was enrolled, activated or removed.
    pub async fn rescan(&self) -> Result<Vec<HostedKey>, TokenError> {
        let keys = {
            let mut traffic = self.0.serving_traffic()?;
            append(&ToHost::Rescan, &mut traffic.outbound);
            traffic.outstanding.rescan(Instant::now())
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

    /// Tells of each change of the status, for the journal and the service manager.
    pub fn subscribe(&self) -> watch::Receiver<TokenStatus> {
        self.0.status.subscribe()
    }

    /// Describes a fault in the supervision of this token, if there is one. A token that is known
    /// to be down is no fault.
    pub fn fault(&self) -> Option<&'static str> {
        let Deadlines { start, sign, idle, .. } = self.0.deadlines;
        // A rescan and a slow queue may come before a self-test.
        let longest_proof = idle + start + sign * 4;
        let healthy = self.0.status.borrow().state == TokenState::Healthy;
        self.0.supervision.fault(healthy, longest_proof, Instant::now())
    }

    /// Starts a host again that waits for its next try, or that failed for good, for example after
    /// a refused PIN.
    pub fn retry(&self) {
        self.0.retry.notify_one(); // kept if the supervisor still ends the last host
    }

    /// Asks the host to stop, kills it if it does not, and returns when its process is gone.
    pub async fn stop(&self) {
        self.0.stop.0.stop();
        self.0.ended.1.clone().requested().await;
    }
}

impl HostShared {
    fn ask_to_sign(
        &self,
        key: &str,
        algorithm: Algorithm,
        message: &[u8],
    ) -> Result<oneshot::Receiver<Result<Signature, TokenError>>, TokenError> {
        let mut traffic = self.serving_traffic()?;
        let Some((id, answer)) = traffic.outstanding.sign(algorithm, Instant::now()) else {
            return Err(self.unavailable("too many requests are waiting"));
        };
        let request = ToHost::Sign { id, key, algorithm, message: Bytes(message) };
        if !append(&request, &mut traffic.outbound) {
            traffic.outstanding.withdraw(id);
            return Err(self.unavailable("the message is too long"));
        }
        self.wake.notify_one();
        Ok(answer)
    }

    fn serving_traffic(&self) -> Result<std::cell::RefMut<'_, HostTraffic>, TokenError> {
        let traffic = self.traffic.borrow_mut();
        if !traffic.serving {
            let last_error = self.status.borrow().last_error.clone();
            return Err(self.unavailable(last_error.as_deref().unwrap_or("its host is starting")));
        }
        if traffic.outbound.len() > MOST_OUTBOUND {
            return Err(self.unavailable("too many requests are waiting"));
        }
        Ok(traffic)
    }

    pub(crate) fn unavailable(&self, reason: &str) -> TokenError {
        TokenError::Unavailable(format!("{}: {reason}", self.name))
    }
}

impl std::fmt::Debug for HostHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostHandle").field("name", &self.0.name).finish_non_exhaustive()
    }
}
