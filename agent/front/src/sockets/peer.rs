//! Identifies the other end of a connection: by the uid that the kernel gives, and by the socket
//! that it connected to.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use countersign_base::config::listener::ListenerKind;
use countersign_base::system::sys;
use tokio::net::UnixStream;
use tokio::sync::Notify;

use super::turns::Seat;

/// The peer of one connection. It is identified by uid and socket, never by the path of its
/// program.
#[derive(Debug)]
pub struct Peer {
    /// Number of the connection, unique while the agent runs.
    pub connection: u64,
    pub listener: ListenerKind,
    /// The uid at the time of connecting. `None` if it has no number in our user namespace.
    pub uid: Option<u32>,
    /// For records only: the process may have ended, and another process may have its number.
    pub pid: Option<i32>,
    pidfd: Option<OwnedFd>,
    /// True for the operator on the admin socket. The agent reads nothing more from any other peer
    /// that passes a descriptor.
    pub(crate) may_pass_descriptors: bool,
    /// The seat in which its messages wait for their turns.
    seat: Option<Seat>,
    gone: Cell<bool>,
    going: Notify,
}

impl Peer {
    pub(crate) fn identify(
        stream: &UnixStream,
        connection: u64,
        listener: ListenerKind,
    ) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        Ok(Self {
            connection,
            listener,
            uid: known_uid(credentials.uid(), overflow_uid()),
            pid: credentials.pid().filter(|pid| *pid > 0),
            pidfd: sys::peer_pidfd(stream.as_fd()).ok(), // Linux 6.5 and later
            may_pass_descriptors: false,
            seat: None,
            gone: Cell::new(false),
            going: Notify::new(),
        })
    }

    /// The process that connected, if the kernel can give it. Unlike a pid it never stands for
    /// another process later.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn take_seat(&mut self, seat: Seat) {
        self.seat = Some(seat);
    }

    pub(crate) fn seat(&self) -> Option<&Seat> {
        self.seat.as_ref()
    }

    /// Waits for another turn. A handler that has waited for something else has used its own turn.
    pub async fn turn(&self) {
        if let Some(seat) = &self.seat {
            seat.turn().await;
        }
    }

    /// Waits until nobody can read an answer any more. A handler that waits for a person for this
    /// peer can give up then.
    pub async fn gone(&self) {
        while !self.gone.get() {
            self.going.notified().await; // one thread: nothing runs between the check and this
        }
    }

    pub(crate) fn mark_gone(&self) {
        self.gone.set(true);
        self.going.notify_waiters();
    }
}

/// `None` for the overflow uid: the kernel shows it for every uid that our user namespace does not
/// map, so it does not stand for one user.
fn known_uid(uid: u32, overflow: u32) -> Option<u32> {
    (uid != overflow && uid != u32::MAX).then_some(uid)
}

fn overflow_uid() -> u32 {
    const DEFAULT: u32 = 65534;
    thread_local! {
        static OVERFLOW: u32 = std::fs::read_to_string("/proc/sys/kernel/overflowuid")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(DEFAULT);
    }
    OVERFLOW.with(|uid| *uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overflow_uid_is_nobody() {
        assert_eq!(known_uid(1000, 65534), Some(1000));
        assert_eq!(known_uid(0, 65534), Some(0));
        assert_eq!(known_uid(65534, 65534), None);
        assert_eq!(known_uid(u32::MAX, 65534), None);
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_peer_is_known_by_its_uid_and_process() {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let peer = Peer::identify(&ours, 1, ListenerKind::Agent).expect("credentials");
        assert_eq!(peer.uid, Some(rustix::process::getuid().as_raw()));
        assert_eq!(peer.pid, Some(std::process::id() as i32));
        drop(theirs);
    }
}
