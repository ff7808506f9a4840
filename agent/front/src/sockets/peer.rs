//! Who is at the other end of a connection: the uid the kernel vouches for and the socket it came
//! in by.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use countersign_base::config::endpoint::ListenerKind;
use countersign_base::system::sys;
use tokio::net::UnixStream;
use tokio::sync::Notify;

use super::turns::Seat;

/// The peer of one connection. It is identified by uid and socket, never by the path of its
/// program.
#[derive(Debug)]
pub struct Peer {
    /// Number of the connection, unique in the life of the agent.
    pub connection: u64,
    pub listener: ListenerKind,
    /// The uid at connect time; `None` where it has no number in our user namespace.
    pub uid: Option<u32>,
    /// For the record only: the process may have died and its number been given to another.
    pub pid: Option<i32>,
    pidfd: Option<OwnedFd>,
    /// On the admin socket, from the operator. Who else passes one has read its last answer.
    pub(crate) may_pass_descriptors: bool,
    /// Where its messages wait for their turns.
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

    /// The process that connected, where the kernel can give it: unlike the pid it never becomes
    /// another process.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(AsFd::as_fd)
    }

    pub(crate) fn take_seat(&mut self, seat: Seat) {
        self.seat = Some(seat);
    }

    pub(crate) fn seat(&self) -> Option<&Seat> {
        self.seat.as_ref()
    }

    /// Waits for another turn: whatever waited for something else has had its own.
    pub async fn turn(&self) {
        if let Some(seat) = &self.seat {
            seat.turn().await;
        }
    }

    /// Waits until nobody can read an answer any more: whoever waits for a person on the peer's
    /// behalf can give up.
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

/// The kernel shows the overflow uid for every uid that our user namespace does not map: it is
/// nobody in particular.
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
