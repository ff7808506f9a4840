//! Reads what has arrived on a stream with one system call.

use std::io;

use rustix::buffer::{Buffer, spare_capacity};
use tokio::io::Interest;
use tokio::net::UnixStream;

/// Appends what has arrived, as far as `buffer` has room; 0 is the end of the stream.
pub(crate) fn append(stream: &UnixStream, buffer: &mut Vec<u8>) -> io::Result<usize> {
    let room = buffer.capacity() - buffer.len();
    read(stream, room, spare_capacity(buffer))
}

/// As [`append`], into the beginning of a slice.
pub(crate) fn fill(stream: &UnixStream, buffer: &mut [u8]) -> io::Result<usize> {
    read(stream, buffer.len(), buffer)
}

/// A read that leaves room has emptied the socket: saying `WouldBlock` to tokio, which clears its readiness, saves the
/// second read that would only find that out. New data sets it again, and the end of a stream is never cleared.
fn read(stream: &UnixStream, room: usize, buffer: impl Buffer<u8, Output = usize>) -> io::Result<usize> {
    let mut received = None;
    let outcome = stream.try_io(Interest::READABLE, || {
        let bytes = rustix::io::read(stream, buffer)?;
        received = Some(bytes);
        if (1..room).contains(&bytes) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(bytes) }
    });
    received.map_or(outcome, Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(flavor = "current_thread")]
    async fn everything_arrives_and_then_the_end() {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let mut buffer = Vec::with_capacity(8);
        assert_eq!(append(&ours, &mut buffer).expect_err("nothing yet").kind(), io::ErrorKind::WouldBlock);
        for text in ["short", "exact123", "longer than eight"] {
            assert_eq!(theirs.try_write(text.as_bytes()).expect("there is room"), text.len());
            let mut received = String::new();
            while received.len() < text.len() {
                ours.readable().await.expect("readable");
                buffer.clear();
                if append(&ours, &mut buffer).is_ok() {
                    received += std::str::from_utf8(&buffer).expect("text");
                }
            }
            assert_eq!(received, text);
        }
        theirs.try_write(b"last words").expect("there is room");
        drop(theirs);
        let mut lengths = Vec::new();
        while lengths.last() != Some(&0) {
            ours.readable().await.expect("readable");
            lengths.extend(fill(&ours, &mut [0; 100]));
        }
        assert_eq!(lengths, [10, 0]);
    }
}
