//! A client of the agent's sockets that speaks in bytes.

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::io::retry_on_intr;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

/// The most descriptors that the kernel lets one message carry.
pub(crate) const MOST_DESCRIPTORS: usize = 253;

/// A client that speaks in bytes.
pub(crate) struct ByteClient(pub(crate) UnixStream);

impl ByteClient {
    pub(crate) fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream.set_write_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        Self(stream)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the server reads");
    }

    /// Sends `bytes` in one message, with this number of descriptors beside it.
    pub(crate) fn send_with(&mut self, bytes: &[u8], descriptors: usize) {
        let passed = vec![self.0.as_fd(); descriptors];
        assert_eq!(
            self.pass(bytes, &passed, SendFlags::empty()).expect("the server reads"),
            bytes.len()
        );
    }

    /// Sends `bytes` in one message, with these descriptors beside it.
    pub(crate) fn pass(
        &self,
        bytes: &[u8],
        passed: &[BorrowedFd<'_>],
        flags: SendFlags,
    ) -> std::io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(
            ancillary.push(SendAncillaryMessage::ScmRights(passed)),
            "no more than the kernel lets one message carry"
        );
        let sent =
            retry_on_intr(|| sendmsg(&self.0, &[IoSlice::new(bytes)], &mut ancillary, flags));
        Ok(sent?)
    }

    pub(crate) fn ask(&mut self, name: &str, payload: &str) -> String {
        self.send(&extension(name, payload));
        self.answer().expect("an answer")
    }

    /// Reads once. A signal, such as the end of another test's child, interrupts a read that has a
    /// timeout.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// The payload of the next answer or `FAILURE`; `None` if the server has closed the connection.
    pub(crate) fn answer(&mut self) -> Option<String> {
        let mut length = [0; 4];
        match self.read(&mut length[..1]) {
            Ok(0) => return None,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
            other => other.expect("an answer in time"),
        };
        self.0.read_exact(&mut length[1..]).expect("a whole length");
        let mut message = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut message).expect("a whole frame");
        match message[0] {
            5 => Some("FAILURE".into()),
            12 => Some("IDENTITIES".into()),
            29 => {
                let name =
                    u32::from_be_bytes(message[1..5].try_into().expect("four bytes")) as usize;
                Some(String::from_utf8(message.split_off(1 + 4 + name + 4)).expect("text"))
            }
            other => panic!("an answer of type {other}"),
        }
    }
}

pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u32).to_be_bytes(), message].concat()
}

pub(crate) fn extension(name: &str, payload: &str) -> Vec<u8> {
    framed(&[&[27], &framed(name.as_bytes())[..], &framed(payload.as_bytes())].concat())
}
