//! Receives bytes and, beside them, a file descriptor: how the terminal of `key add` reaches the agent.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};

use super::frame::FrameError;
use super::stream::Stream;

/// Appends what has arrived to `buffer`; gives the number of bytes and the descriptor that came with the last of them.
///
/// The kernel ends a read behind the write that carried a descriptor, so a descriptor belongs to the frame that holds
/// the last byte read, if its sender gave that frame a write of its own. More than one is an error and all are closed.
pub(crate) fn receive(stream: &Stream, buffer: &mut Vec<u8>) -> io::Result<(usize, Option<OwnedFd>)> {
    stream.read_with(|stream| receive_now(stream, buffer))
}

fn receive_now(stream: impl AsFd, buffer: &mut Vec<u8>) -> io::Result<(usize, Option<OwnedFd>)> {
    let held = buffer.len();
    buffer.resize(buffer.capacity(), 0);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received =
        recvmsg(stream, &mut [IoSliceMut::new(&mut buffer[held..])], &mut ancillary, RecvFlags::CMSG_CLOEXEC);
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
