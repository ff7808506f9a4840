//! The messages between the front and the spawner. Each packet holds one postcard body, and
//! descriptors beside it.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::confinement::ConfinementReport;

/// The kind of child to start.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub enum ChildKind {
    /// Reads the configuration for a front that can no longer open it.
    Configuration,
    Enrol,
    Host,
    /// Keeps a PIN that a touch opened, for later hosts.
    Keeper,
    /// Makes one signature with a key of a vault, and ends.
    Vault,
}

/// The requests of the front. `id` is the front's own number for the child.
#[derive(Debug, Deserialize, Serialize)]
pub enum ToSpawner {
    Kill {
        id: u64,
    },
    /// The first descriptor becomes the child's standard input. The second one, if there is one,
    /// becomes its standard output.
    Start {
        id: u64,
        kind: ChildKind,
        /// For a host: the keeper whose PIN it gets. The spawner connects the two, and the front
        /// has no end of that connection.
        keeper: Option<u64>,
    },
}

/// The messages of the spawner to a keeper.
#[derive(Debug, Deserialize, Serialize)]
pub enum ToKeeper {
    /// A host may ask this keeper for the PIN. The descriptor beside this message is the keeper's
    /// end of the connection to that host.
    Visit,
}

/// The reports of the spawner. The first one is `Ready`. After each start comes either
/// `NotStarted`, or `Started` and later `Ended`.
#[derive(Debug, Deserialize, Serialize)]
pub enum FromSpawner {
    Ended { id: u64, code: Option<i32>, signal: Option<i32> },
    NotStarted { id: u64, error: i32 },
    Ready(ConfinementReport),
    Started { id: u64, pid: u32 },
}

const LONGEST_PACKET: usize = 1024;
const MOST_DESCRIPTORS: usize = 2;

/// Sends one message whole. If there is an error, nothing of it was sent.
pub fn send(
    to: impl AsFd,
    message: &impl Serialize,
    descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let mut body = [0; LONGEST_PACKET];
    let body = postcard::to_slice(message, &mut body).map_err(io::Error::other)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("more descriptors than a message takes"));
    }
    rustix::io::retry_on_intr(|| {
        sendmsg(&to, &[IoSlice::new(body)], &mut ancillary, SendFlags::NOSIGNAL)
    })?;
    Ok(())
}

/// Receives one message and its descriptors; `None` if the other side is gone.
pub fn receive<Message: DeserializeOwned>(
    from: impl AsFd,
) -> io::Result<Option<(Message, Vec<OwnedFd>)>> {
    let mut body = [0; LONGEST_PACKET];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(&from, &mut [IoSliceMut::new(&mut body)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut descriptors = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet that is too long"));
    }
    match postcard::take_from_bytes(&body[..received.bytes]) {
        Ok((message, [])) => Ok(Some((message, descriptors))),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a packet that is no message")),
    }
}

#[cfg(test)]
mod tests {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

    use super::*;

    fn pair() -> (OwnedFd, OwnedFd) {
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .expect("a pair")
    }

    #[test]
    fn messages_stay_apart_and_keep_their_descriptors() {
        let (ours, theirs) = pair();
        let (given, _) = pair();
        let start = |id| ToSpawner::Start { id, kind: ChildKind::Host, keeper: None };
        send(&ours, &start(u64::MAX), &[given.as_fd()]).expect("sent");
        send(&ours, &ToSpawner::Kill { id: 2 }, &[]).expect("sent");
        let received = || receive::<ToSpawner>(&theirs).expect("well formed").expect("there");
        let (message, descriptors) = received();
        assert!(
            matches!(
                message,
                ToSpawner::Start { id: u64::MAX, kind: ChildKind::Host, keeper: None }
            ),
            "{message:?}"
        );
        assert_eq!(descriptors.len(), 1);
        let (message, descriptors) = received();
        assert!(
            matches!(message, ToSpawner::Kill { id: 2 }) && descriptors.is_empty(),
            "{message:?}"
        );
        drop(ours);
        assert!(receive::<ToSpawner>(&theirs).expect("an end").is_none());
    }

    #[test]
    fn bytes_that_are_no_message_to_the_spawner_are_refused() {
        for bytes in [&[9][..], &[0], &[0, 1, 1], &[0; 2000]] {
            let (ours, theirs) = pair();
            rustix::io::write(&ours, bytes).expect("sent");
            let error = receive::<ToSpawner>(&theirs).expect_err("refused");
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{bytes:?}");
        }
    }

    #[test]
    fn the_longest_message_fits() {
        let (ours, _theirs) = pair();
        let longest =
            FromSpawner::Ended { id: u64::MAX, code: Some(i32::MIN), signal: Some(i32::MIN) };
        send(&ours, &longest, &[]).expect("fits");
    }
}
