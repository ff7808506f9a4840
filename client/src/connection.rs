//! One connection to the agent: sends frames and reads the answers in order, each within a
//! deadline.

use std::collections::VecDeque;
use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use countersign_core::wire;
use countersign_core::wire::ssh_agent::LENGTH_FIELD;
use rustix::net::{self, SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{AgentRefusal, Error};
use crate::frame::{self, AgentAnswer};

/// Longest wait for an answer, unless another deadline is set.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// Longest wait for a signature: longer than the agent waits for a token that needs a touch.
pub const SIGNING_DEADLINE: Duration = Duration::from_secs(25);

/// A connection to one of the agent's sockets.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    socket: PathBuf,
    /// None: each call has its usual deadline.
    deadline: Option<Duration>,
    received: Vec<u8>,
    /// Extensions that were sent and are not answered yet, oldest first.
    awaited: VecDeque<&'static str>,
}

impl Connection {
    pub fn open(socket: &Path) -> Result<Self, Error> {
        let stream = connect(socket).map_err(|error| Error::from_io(socket, error, DEADLINE))?;
        Ok(Self {
            stream,
            socket: socket.to_owned(),
            deadline: None,
            received: Vec::new(),
            awaited: VecDeque::new(),
        })
    }

    /// Sets the longest time for each later [`Self::receive`] and for each write.
    pub fn set_deadline(&mut self, deadline: Duration) {
        self.deadline = Some(deadline);
    }

    /// Makes `calls` with another deadline.
    pub(crate) fn within<R>(
        &mut self,
        deadline: Duration,
        calls: impl FnOnce(&mut Self) -> R,
    ) -> R {
        let usual = self.deadline.replace(deadline);
        let result = calls(self);
        self.deadline = usual;
        result
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends one extension message and waits for its answer.
    pub fn call<R: DeserializeOwned>(
        &mut self,
        extension: &'static str,
        payload: &impl Serialize,
    ) -> Result<R, Error> {
        self.send(extension, payload)?;
        self.receive()
    }

    /// Sends without waiting. Several may be sent ahead; answers come in the same order.
    pub fn send(&mut self, extension: &'static str, payload: &impl Serialize) -> Result<(), Error> {
        self.send_frame(extension, payload, None)
    }

    /// Sends a message together with an open file. The agent receives a descriptor of its own.
    pub fn send_with_descriptor(
        &mut self,
        extension: &'static str,
        payload: &impl Serialize,
        descriptor: BorrowedFd<'_>,
    ) -> Result<(), Error> {
        self.send_frame(extension, payload, Some(descriptor))
    }

    /// Waits for the answer to the oldest message not answered yet.
    pub fn receive<R: DeserializeOwned>(&mut self) -> Result<R, Error> {
        let Some(extension) = self.awaited.pop_front() else {
            return Err(Error::Answer {
                extension: "nothing",
                reason: "no message waits for an answer".to_owned(),
            });
        };
        let usual = if may_take_a_touch(extension) { SIGNING_DEADLINE } else { DEADLINE };
        let frame = self
            .next_frame(self.deadline.unwrap_or(usual))
            .map_err(|error| self.closed_by(error))?;
        match frame::decode(&frame) {
            Ok(AgentAnswer::Extension { name, payload }) if name == extension => {
                understand(extension, payload)
            }
            Ok(AgentAnswer::Extension { .. }) => {
                Err(Error::Answer { extension, reason: "it answers another extension".to_owned() })
            }
            Ok(AgentAnswer::Failure) => {
                Err(Error::Unsupported { socket: self.socket.clone(), extension })
            }
            Err(source) => {
                Err(self.closed_by(Error::Frame { socket: self.socket.clone(), source }))
            }
        }
    }

    fn send_frame(
        &mut self,
        extension: &'static str,
        payload: &impl Serialize,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), Error> {
        let payload = serde_json::to_vec(payload).map_err(|error| Error::Answer {
            extension,
            reason: format!("the request cannot be written: {error}"),
        })?;
        if payload.len() > wire::MAX_PAYLOAD {
            return Err(Error::TooLong { length: payload.len(), maximum: wire::MAX_PAYLOAD });
        }
        let frame = frame::extension(extension, &payload);
        self.write(&frame, descriptor).map_err(|error| self.closed_by(error))?;
        self.awaited.push_back(extension);
        Ok(())
    }

    fn write(&mut self, frame: &[u8], descriptor: Option<BorrowedFd<'_>>) -> Result<(), Error> {
        let deadline = self.deadline.unwrap_or(DEADLINE);
        let written = self.stream.set_write_timeout(Some(deadline)).and_then(|()| {
            let sent = match descriptor {
                Some(descriptor) => send_descriptor(&self.stream, frame, descriptor)?,
                None => 0,
            };
            self.stream.write_all(&frame[sent..])
        });
        written.map_err(|error| Error::from_io(&self.socket, error, deadline))
    }

    /// The next complete frame, without its length field.
    fn next_frame(&mut self, deadline: Duration) -> Result<Vec<u8>, Error> {
        let until = (Instant::now() + deadline, deadline);
        self.fill(LENGTH_FIELD, until)?;
        let field = std::array::from_fn(|index| self.received[index]);
        let length = frame::length(field)
            .map_err(|source| Error::Frame { socket: self.socket.clone(), source })?;
        self.fill(LENGTH_FIELD + length, until)?;
        Ok(self.received.drain(..LENGTH_FIELD + length).skip(LENGTH_FIELD).collect())
    }

    /// Reads until `wanted` bytes are there. Bytes that trickle in do not move the deadline.
    fn fill(&mut self, wanted: usize, (until, deadline): (Instant, Duration)) -> Result<(), Error> {
        let mut chunk = [0; 16 * 1024];
        while self.received.len() < wanted {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Error::TimedOut { socket: self.socket.clone(), deadline });
            }
            let read = self
                .stream
                .set_read_timeout(Some(left))
                .and_then(|()| self.stream.read(&mut chunk));
            match read {
                Ok(0) => return Err(Error::Closed { socket: self.socket.clone() }),
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::from_io(&self.socket, error, deadline)),
            }
        }
        Ok(())
    }

    /// Closes the connection after a lost or late answer: the next answer would be taken for that
    /// one.
    fn closed_by(&self, error: Error) -> Error {
        // It may be closed already.
        let _ = self.stream.shutdown(Shutdown::Both);
        error
    }
}

/// Connects within the deadline. If the queue of the Unix socket is full, the call blocks for the
/// socket's send timeout.
fn connect(socket: &Path) -> io::Result<UnixStream> {
    let address = net::SocketAddrUnix::new(socket)?;
    let stream = net::socket_with(
        net::AddressFamily::UNIX,
        net::SocketType::STREAM,
        net::SocketFlags::CLOEXEC,
        None,
    )?;
    net::sockopt::set_socket_timeout(&stream, net::sockopt::Timeout::Send, Some(DEADLINE))?;
    net::connect(&stream, &address)?;
    Ok(UnixStream::from(stream))
}

/// Sends the descriptor and as much of `frame` as one call takes. Returns the number of bytes sent.
fn send_descriptor(
    stream: &UnixStream,
    frame: &[u8],
    descriptor: BorrowedFd<'_>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors = [descriptor];
    if !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::Error::other("no room for a descriptor"));
    }
    let sent =
        net::sendmsg(stream.as_fd(), &[IoSlice::new(frame)], &mut control, SendFlags::NOSIGNAL)?;
    Ok(sent)
}

/// True if a YubiKey may have to sign before the answer, which takes as long as its touch.
fn may_take_a_touch(extension: &str) -> bool {
    matches!(extension, wire::SESSION | wire::SIGN)
}

/// True if persons may have to approve the request.
fn may_wait(extension: &str) -> bool {
    matches!(extension, wire::RESULT | wire::SESSION | wire::SIGN)
}

/// Reads a payload: a refusal, or the reply that was expected.
fn understand<R: DeserializeOwned>(extension: &'static str, payload: &[u8]) -> Result<R, Error> {
    #[derive(serde::Deserialize)]
    struct Envelope {
        v: u32,
        #[serde(default)]
        error: Option<AgentRefusal>,
        #[serde(default)]
        pending: Option<serde::de::IgnoredAny>,
    }
    let not_understood = |reason: String| Error::Answer { extension, reason };
    let text =
        std::str::from_utf8(payload).map_err(|_| not_understood("it is not UTF-8".to_owned()))?;
    let envelope: Envelope =
        serde_json::from_str(text).map_err(|error| not_understood(error.to_string()))?;
    if envelope.v != wire::VERSION {
        return Err(not_understood(format!(
            "its version is {}, not {}",
            envelope.v,
            wire::VERSION
        )));
    }
    match envelope.error {
        Some(refused) => Err(Error::Refused(refused)),
        None if may_wait(extension) && envelope.pending.is_some() => {
            let waits: wire::PendingReply =
                serde_json::from_str(text).map_err(|error| not_understood(error.to_string()))?;
            Err(Error::Waits(Box::new(waits)))
        }
        None => serde_json::from_str(text).map_err(|error| not_understood(error.to_string())),
    }
}
