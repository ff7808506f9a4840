//! Wraps a socket of the front that is registered for reading only.
//!
//! Each time a peer reads, the socket becomes writable again. If the socket were registered for
//! writing too, the front would be woken in the middle of every request and find nothing to do.

use std::future::poll_fn;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net;

use rustix::buffer::Buffer;
use rustix::net::sockopt::set_socket_oobinline;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sockets::runtime_registration::registered;

#[derive(Debug)]
pub(crate) struct Stream(AsyncFd<net::UnixStream>);

impl Stream {
    /// Registers a socket. Call this inside a runtime.
    ///
    /// An urgent byte is received like other bytes: if the kernel dropped it, the descriptors
    /// beside it would be lost too.
    pub(crate) fn new(stream: net::UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        set_socket_oobinline(&stream, true)?;
        registered(stream, Interest::READABLE).map(Self)
    }

    /// Waits until there is something to read, or until the end of the stream. One task may wait at
    /// a time.
    pub(crate) async fn readable(&self) -> io::Result<()> {
        poll_fn(|context| self.0.poll_read_ready(context)).await.map(drop)
    }

    /// Waits until the peer has made room.
    pub(crate) async fn writable(&self) -> io::Result<()> {
        let to_write = registered(self.0.get_ref().try_clone()?, Interest::WRITABLE)?;
        to_write.writable().await.map(drop)
    }

    /// Reads the bytes that have arrived, as far as `buffer` has room. 0 is the end of the stream.
    pub(crate) fn fill(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read(buffer)
    }

    /// The same as [`Self::fill`], even if the runtime does not know that there is something to
    /// read.
    pub(crate) fn fill_unnoticed(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(self.0.get_ref(), buffer)?)
    }

    /// Reads with the caller's function. `WouldBlock` if nothing has arrived.
    pub(crate) fn read_with<T>(
        &self,
        read: impl FnOnce(BorrowedFd<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        self.0.try_io(Interest::READABLE, |stream| read(stream.as_fd()))
    }

    /// Writes as much as the socket takes at once. `WouldBlock` if it takes nothing.
    pub(crate) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut stream = self.0.get_ref();
        stream.write(bytes)
    }

    /// A read that does not fill the buffer does not mean that the socket is empty: the kernel also
    /// ends a read after a message that carried descriptors. Only `WouldBlock` clears the
    /// readiness.
    fn read(&self, buffer: impl Buffer<u8, Output = usize>) -> io::Result<usize> {
        self.read_with(|stream| Ok(rustix::io::read(stream, buffer)?))
    }
}

impl From<Stream> for net::UnixStream {
    fn from(stream: Stream) -> Self {
        stream.0.into_inner()
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.get_ref().as_fd()
    }
}

#[cfg(test)]
mod tests {
    use std::io::IoSlice;
    use std::mem::MaybeUninit;
    use std::time::Duration;

    use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

    use super::*;

    fn pair() -> (Stream, Stream) {
        let (ours, theirs) = net::UnixStream::pair().expect("a socket pair");
        (Stream::new(ours).expect("registered"), Stream::new(theirs).expect("registered"))
    }

    #[tokio::test(flavor = "current_thread")]
    async fn everything_arrives_and_then_the_end() {
        let (ours, theirs) = pair();
        let mut buffer = [0; 8];
        assert_eq!(
            ours.fill(&mut buffer).expect_err("nothing yet").kind(),
            io::ErrorKind::WouldBlock
        );
        for text in ["short", "exact123", "longer than eight"] {
            assert_eq!(theirs.try_write(text.as_bytes()).expect("there is room"), text.len());
            let mut received = String::new();
            while received.len() < text.len() {
                ours.readable().await.expect("readable");
                if let Ok(bytes) = ours.fill(&mut buffer) {
                    received += std::str::from_utf8(&buffer[..bytes]).expect("text");
                }
            }
            assert_eq!(received, text);
        }
        theirs.try_write(b"last words").expect("there is room");
        drop(theirs);
        let mut lengths = Vec::new();
        while lengths.last() != Some(&0) {
            ours.readable().await.expect("readable");
            lengths.extend(ours.fill(&mut [0; 100]));
        }
        assert_eq!(lengths, [10, 0]);
    }

    /// Sends `first` so that a read ends after it, and then `second`.
    type Boundary = fn(&net::UnixStream, &[u8], &[u8]);

    fn with_descriptors(theirs: &net::UnixStream, first: &[u8], second: &[u8]) {
        let passed = [theirs.as_fd(); 3];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(3))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(ancillary.push(SendAncillaryMessage::ScmRights(&passed)));
        let sent = sendmsg(theirs, &[IoSlice::new(first)], &mut ancillary, SendFlags::empty());
        assert_eq!(sent.expect("there is room"), first.len());
        (&*theirs).write_all(second).expect("there is room");
    }

    fn with_an_urgent_byte(theirs: &net::UnixStream, first: &[u8], second: &[u8]) {
        let (urgent, before) = first.split_last().expect("there are some");
        (&*theirs).write_all(before).expect("there is room");
        rustix::net::send(theirs, &[*urgent], SendFlags::OOB).expect("there is room");
        (&*theirs).write_all(second).expect("there is room");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_stands_behind_the_boundary_of_a_read_is_found_without_another_wake_up() {
        let boundaries: [(&str, Boundary); 2] =
            [("descriptors", with_descriptors), ("an urgent byte", with_an_urgent_byte)];
        for (name, send) in boundaries {
            let (ours, theirs) = net::UnixStream::pair().expect("a socket pair");
            let ours = Stream::new(ours).expect("registered");
            send(&theirs, b"first", b"second");
            let mut received = Vec::with_capacity(100);
            while received.len() < "firstsecond".len() {
                let ready = tokio::time::timeout(Duration::from_secs(2), ours.readable()).await;
                ready.unwrap_or_else(|_| panic!("{name}: {received:?} arrived")).expect("readable");
                let mut buffer = [0; 100];
                match ours.fill(&mut buffer) {
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "{name}"),
                    Ok(bytes) => received.extend_from_slice(&buffer[..bytes]),
                }
            }
            assert_eq!(received, b"firstsecond", "{name}");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_full_socket_is_writable_once_the_peer_has_read() {
        let (ours, theirs) = pair();
        while ours.try_write(&[7; 4096]).is_ok() {}
        let soon = Duration::from_millis(20);
        assert!(tokio::time::timeout(soon, ours.writable()).await.is_err(), "it is full");
        theirs.readable().await.expect("readable");
        theirs.fill(&mut vec![0; 1 << 20]).expect("all of it");
        ours.writable().await.expect("writable");
        assert!(ours.try_write(b"more").is_ok());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_peer_that_reads_wakes_nobody_who_waits_to_read() {
        let (ours, theirs) = pair();
        ours.try_write(b"asked").expect("there is room");
        theirs.readable().await.expect("readable");
        theirs.fill(&mut [0; 100]).expect("arrived");
        let waited = tokio::time::timeout(Duration::from_millis(20), ours.readable()).await;
        assert!(waited.is_err(), "nothing was answered");
    }
}
