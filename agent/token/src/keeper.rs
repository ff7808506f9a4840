//! The keeper: keeps the PIN of one trading token while the agent runs, so that a new host can open
//! the token at night without a person.
//!
//! When the first host asks for the PIN, a person must touch a YubiKey. From then on this process
//! has the PIN in locked memory, and the socket by which the spawner hands it connections to hosts.
//! It has no file, no program and no other socket. The front has no end of those connections. The
//! keeper ends when the agent ends, or when a host asks for a PIN other than the one that the touch
//! opened.

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use countersign_base::messages::frame::Frames;
use countersign_base::messages::settings::TokenSettings;
use countersign_base::messages::spawner::{ToKeeper, receive, send};
use countersign_base::messages::token_host::HostError;
use countersign_base::system::confine::{self, Calls, Files};
use countersign_base::system::sys::{self, LockedMemory};
use pkcs11_profiles::Reach;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::token::kept_pin::{KeptPinName, lost, wanted};
use crate::vault::unseal;

/// Longest time from the start of a host to its question.
const HOST_QUESTION_DEADLINE: Duration = Duration::from_secs(5);

/// A PIN that a touch opened.
struct Kept {
    wanted: KeptPinName,
    pin: LockedMemory,
}

/// Serves the hosts that the spawner hands over at `door`, until the front at the other end of
/// `control` is gone.
pub fn run(control: OwnedFd, door: &OwnedFd) -> Result<(), HostError> {
    confine::hide_memory().map_err(HostError::unprotected)?;
    confine::follow_parent().map_err(HostError::unprotected)?;
    confine::leave_terminal();
    // The signals are blocked and never read: the front decides when its processes end, not a
    // signal to the whole service.
    let _signals = sys::termination_signals().map_err(HostError::unprotected)?;
    let mut front = UnixStream::from(control);
    let settings: TokenSettings =
        Frames::default().receive(&mut front).map_err(|error| lost(&error))?;
    let mut kept = None;
    while let Some(host) = next_host(&front, door)? {
        let Some(wanted) = question(&host) else { continue };
        let opened = match kept.take() {
            Some(kept) => Ok(kept),
            None => Kept::open(&settings),
        };
        let opened = opened
            .and_then(|kept: Kept| if kept.wanted == wanted { Ok(kept) } else { Err(another()) });
        // A host that is gone asks again after its next start.
        let _ = send(&host, &opened.as_ref().map(drop).map_err(Clone::clone), &[]);
        let opened = opened?;
        let _ = rustix::io::write(&host, opened.pin.as_bytes());
        kept = Some(opened);
    }
    Ok(())
}

impl Kept {
    /// Waits for the touch, and then gives up all files and calls that it no longer needs.
    fn open(settings: &TokenSettings) -> Result<Self, HostError> {
        let wanted = wanted(settings, &unseal::identity(settings)?);
        let pin = unseal::unsealed_pin(settings, None)?;
        confine::enter(settings.confinement, Some(&Files::default()), Calls::Host(Reach::OwnFiles))
            .map_err(|error| {
                HostError::Refused(format!("the keeper of its PIN could not be confined: {error}"))
            })?;
        Ok(Self { wanted, pin })
    }
}

/// The connection to the next host; `None` if the front is gone.
fn next_host(front: &UnixStream, door: &OwnedFd) -> Result<Option<OwnedFd>, HostError> {
    loop {
        let mut polled = [PollFd::new(front, PollFlags::IN), PollFd::new(door, PollFlags::IN)];
        rustix::io::retry_on_intr(|| poll(&mut polled, None)).map_err(|error| lost(&error))?;
        // The front sends nothing more, so it is gone.
        if !polled[0].revents().is_empty() {
            return Ok(None);
        }
        match receive::<ToKeeper>(door).map_err(|error| lost(&error))? {
            None => return Ok(None),
            Some((ToKeeper::Visit, mut ends)) => {
                if let Some(host) = ends.pop() {
                    return Ok(Some(host));
                }
            }
        }
    }
}

fn question(host: &OwnedFd) -> Option<KeptPinName> {
    let mut polled = [PollFd::new(host, PollFlags::IN)];
    let timeout = Timespec::try_from(HOST_QUESTION_DEADLINE).ok()?;
    let ready = rustix::io::retry_on_intr(|| poll(&mut polled, Some(&timeout))).ok()?;
    let (wanted, _) =
        (ready > 0).then(|| receive::<KeptPinName>(host.as_fd()).ok().flatten())??;
    Some(wanted)
}

/// The error for another sealed PIN. The next keeper opens that one with a touch.
fn another() -> HostError {
    HostError::Card(
        "its sealed PIN, or its section, is not the one that was kept: a touch opens it".to_owned(),
    )
}
