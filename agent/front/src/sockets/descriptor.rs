//! Receives bytes, and from the operator also a file descriptor beside them. So the terminal of
//! `key add` reaches the agent. Descriptors of other peers are not taken.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};

use super::frame::FrameError;
use super::stream::Stream;

const USUAL_FRAME: usize = 4 * 1024;

/// Appends the bytes that have arrived to `buffer`. Returns their number, and the descriptor that
/// came with the last of them.
///
/// The kernel ends a read after the write that carried a descriptor. So a descriptor belongs to the
/// frame that holds the last byte read, if the sender wrote that frame with a write of its own.
/// More than one descriptor is an error, and all are closed.
pub(crate) fn receive(
    stream: &Stream,
    buffer: &mut Vec<u8>,
) -> io::Result<(usize, Option<OwnedFd>)> {
    stream.read_with(|stream| receive_now(stream, buffer))
}

/// Appends the bytes that have arrived to `buffer`. Returns their number, and true if descriptors
/// came with them.
///
/// In that case the caller must not read the stream any more: its bytes were only looked at, and
/// the closing thread closes the descriptors ([`super::closer`]).
pub(crate) fn receive_bytes(stream: &Stream, buffer: &mut Vec<u8>) -> io::Result<(usize, bool)> {
    stream.read_with(|stream| {
        let held = buffer.len();
        let room = buffer.capacity() - held;
        // Most frames are short, and the part of the buffer that is used has to be filled with
        // zeros each time.
        buffer.resize(held + if held == 0 { room.min(USUAL_FRAME) } else { room }, 0);
        let received = receive_bytes_now(stream, &mut buffer[held..]);
        buffer.truncate(held + received.as_ref().map_or(0, |(bytes, _)| *bytes));
        received
    })
}

fn receive_bytes_now(stream: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
    match look(&stream, buffer)? {
        (bytes, true) => Ok((bytes, true)),
        (bytes, false) => Ok((rustix::io::read(stream, &mut buffer[..bytes])?, false)),
    }
}

/// Does the same as [`receive_bytes`], but leaves everything in the socket. The kernel ends a look
/// after the first descriptors, and says that there was no room for them.
pub(crate) fn look(stream: impl AsFd, buffer: &mut [u8]) -> io::Result<(usize, bool)> {
    let mut none = RecvAncillaryBuffer::default();
    let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
    let seen = recvmsg(stream, &mut [IoSliceMut::new(buffer)], &mut none, flags)?;
    Ok((seen.bytes, seen.flags.contains(ReturnFlags::CTRUNC)))
}

fn receive_now(stream: impl AsFd, buffer: &mut Vec<u8>) -> io::Result<(usize, Option<OwnedFd>)> {
    let held = buffer.len();
    buffer.resize(buffer.capacity(), 0);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = recvmsg(
        stream,
        &mut [IoSliceMut::new(&mut buffer[held..])],
        &mut ancillary,
        RecvFlags::CMSG_CLOEXEC,
    );
    buffer.truncate(held + received.as_ref().map_or(0, |received| received.bytes));
    let received = received?;
    let mut descriptors = ancillary.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let mut descriptors = descriptors.by_ref().flatten().collect::<Vec<_>>();
    if received.flags.contains(ReturnFlags::CTRUNC) || descriptors.len() > 1 {
        return Err(io::Error::new(io::ErrorKind::InvalidData, FrameError::Descriptors));
    }
    Ok((received.bytes, descriptors.pop()))
}
