//! Frames of the SSH agent protocol: cut from the bytes that arrived, decoded; and answers built.
//!
//! The message types of `ssh-agent-lib` serve for answers only. Its decoder allocates what an inner
//! length claims (up to 1 MiB) before it looks, and parses the private keys of messages that this
//! agent refuses unread.

use std::os::fd::OwnedFd;

use serde::Serialize;
use ssh_agent_lib::proto::{Identity, Response};
use ssh_encoding::Encode;
use zeroize::Zeroize;

use super::spare;

/// Longest frame accepted or sent, in bytes: type and body, without the length field.
pub const MAX_FRAME: usize = 256 * 1024;
/// Longest JSON payload of an extension, in bytes.
pub const MAX_PAYLOAD: usize = 64 * 1024;

const LENGTH_FIELD: usize = 4;
const READ_AT_ONCE: usize = 16 * 1024;
/// A signed order fits, and an allocator has room of this size at hand.
const USUAL_ANSWER: usize = 1000;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const EXTENSION: u8 = 27;
const EXTENSION_RESPONSE: u8 = 29;

const QUERY: &str = "query";
const OUR_EXTENSIONS: &str = "@countersign";

/// One message from a client.
#[derive(Debug)]
pub enum Incoming {
    /// An extension of this agent, known or not, or `query`, whose payload is empty where the
    /// standard's form was sent. `descriptor` came with it by SCM_RIGHTS; only admin sockets
    /// receive one.
    Extension {
        name: String,
        payload: Vec<u8>,
        descriptor: Option<OwnedFd>,
    },
    /// An extension whose payload of `length` bytes was not kept: to be answered
    /// `request.malformed`.
    Oversized {
        name: String,
        length: usize,
    },
    /// A message type this agent does not serve, its body unread: to be answered
    /// [`Answer::failure`].
    Refused(u8),
    RequestIdentities,
}

/// Why a connection cannot go on: where the next frame begins can no longer be trusted.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum FrameError {
    #[error("more than one descriptor came with one message")]
    Descriptors,
    #[error("a frame of length 0")]
    Empty,
    #[error("a string inside the frame is longer than the frame")]
    InnerLength,
    #[error("a frame of {0} bytes, more than {MAX_FRAME}")]
    TooLong(usize),
    #[error("{0} bytes after the end of the message in its frame")]
    Trailing(usize),
}

/// Collects bytes as they arrive and gives out every complete frame among them.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
    /// Where in `buffer` the next frame begins.
    start: usize,
    /// A descriptor, and the length `buffer` had when it came: it belongs to the frame that holds
    /// the byte before.
    descriptor: Option<(usize, OwnedFd)>,
}

impl FrameReader {
    /// The buffer to append a read to; it has room for at least 16 KiB more.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        if self.buffer.capacity() == 0 {
            self.buffer = spare::take();
        }
        self.buffer.drain(..self.start);
        if let Some((position, _)) = &mut self.descriptor {
            *position -= self.start;
        }
        self.start = 0;
        self.buffer.reserve(READ_AT_ONCE);
        &mut self.buffer
    }

    /// Takes the descriptor that came with the last bytes appended.
    pub fn attach(&mut self, descriptor: OwnedFd) -> Result<(), FrameError> {
        match self.descriptor.replace((self.buffer.len(), descriptor)) {
            Some(_) => Err(FrameError::Descriptors),
            None => Ok(()),
        }
    }

    /// The next complete frame, decoded; `None` where more bytes are needed.
    pub fn next_frame(&mut self) -> Result<Option<Incoming>, FrameError> {
        let Some((length, rest)) =
            self.buffer[self.start..].split_first_chunk_mut::<LENGTH_FIELD>()
        else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        match length {
            0 => return Err(FrameError::Empty),
            1..=MAX_FRAME => {}
            _ => return Err(FrameError::TooLong(length)),
        }
        let Some(frame) = rest.get_mut(..length) else { return Ok(None) };
        let mut incoming = decode(frame)?;
        if matches!(incoming, Incoming::Refused(_)) {
            frame.zeroize(); // it may be a private key, sent to the wrong agent
        }
        self.start += LENGTH_FIELD + length;
        let came_with_it = self.descriptor.take_if(|(position, _)| *position <= self.start);
        if let (Incoming::Extension { descriptor, .. }, Some((_, received))) =
            (&mut incoming, came_with_it)
        {
            *descriptor = Some(received);
        }
        Ok(Some(incoming))
    }

    /// True where [`Self::next_frame`] would give something out, be it an error.
    pub fn has_frame(&self) -> bool {
        self.buffer[self.start..].split_first_chunk::<LENGTH_FIELD>().is_some_and(
            |(length, rest)| {
                let length = u32::from_be_bytes(*length) as usize;
                !(1..=MAX_FRAME).contains(&length) || rest.len() >= length
            },
        )
    }

    /// What is held, in bytes. A frame counts as long as it says it is, from its first bytes on.
    pub fn held(&self) -> usize {
        let held = &self.buffer[self.start..];
        let said = held
            .first_chunk::<LENGTH_FIELD>()
            .map_or(0, |length| u32::from_be_bytes(*length) as usize);
        if said <= MAX_FRAME { held.len().max(said) } else { held.len() }
    }

    /// True where the beginning of a frame, or frames not yet taken, are held.
    pub fn holds_bytes(&self) -> bool {
        self.buffer.len() > self.start
    }

    /// Gives the buffer away where nothing is held, so that an idle connection costs none.
    pub fn release(&mut self) {
        if !self.holds_bytes() {
            self.start = 0;
            spare::give(std::mem::take(&mut self.buffer));
        }
    }
}

fn decode(frame: &[u8]) -> Result<Incoming, FrameError> {
    match frame {
        [REQUEST_IDENTITIES] => Ok(Incoming::RequestIdentities),
        [REQUEST_IDENTITIES, trailing @ ..] => Err(FrameError::Trailing(trailing.len())),
        [EXTENSION, body @ ..] => decode_extension(body),
        [other, ..] => Ok(Incoming::Refused(*other)),
        [] => Err(FrameError::Empty),
    }
}

/// The body of an extension that is not ours, such as `session-bind@openssh.com`, has a form of its
/// own: not read.
fn decode_extension(body: &[u8]) -> Result<Incoming, FrameError> {
    let (name, rest) = split_string(body)?;
    let name = match std::str::from_utf8(name) {
        Ok(name) if name == QUERY || (name.ends_with(OUR_EXTENSIONS) && name.len() <= 64) => {
            name.to_owned()
        }
        _ => return Ok(Incoming::Refused(EXTENSION)),
    };
    if rest.is_empty() && name == QUERY {
        return Ok(Incoming::Extension { name, payload: Vec::new(), descriptor: None });
    }
    let (payload, trailing) = split_string(rest)?;
    if !trailing.is_empty() {
        return Err(FrameError::Trailing(trailing.len()));
    }
    if payload.len() > MAX_PAYLOAD {
        return Ok(Incoming::Oversized { name, length: payload.len() });
    }
    Ok(Incoming::Extension { name, payload: payload.to_vec(), descriptor: None })
}

fn split_string(bytes: &[u8]) -> Result<(&[u8], &[u8]), FrameError> {
    let (length, rest) =
        bytes.split_first_chunk::<LENGTH_FIELD>().ok_or(FrameError::InnerLength)?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or(FrameError::InnerLength)
}

/// One answer, as the complete frame that goes to the client.
#[derive(Debug)]
pub struct Answer(Vec<u8>);

impl Answer {
    /// `EXTENSION_RESPONSE`: the name of the extension and its JSON payload.
    ///
    /// A payload that no frame can hold becomes the error `internal`.
    pub fn extension(name: &str, payload: &[u8]) -> Self {
        Self::with_payload(name, |frame| {
            frame.extend_from_slice(payload);
            Ok(())
        })
    }

    /// As [`Self::extension`], with a payload to be written as JSON.
    pub fn json(name: &str, payload: &impl Serialize) -> Self {
        Self::with_payload(name, |frame| serde_json::to_writer(frame, payload))
    }

    /// `EXTENSION_RESPONSE` with an error that has no request id, because no request was
    /// understood.
    pub fn error(name: &str, code: &str, message: &str) -> Self {
        let payload = serde_json::json!({"v": 1, "error": {"code": code, "message": message}});
        Self::strings(name, [payload.to_string().as_bytes()])
    }

    /// The answer to a `query` that came without payload: names one after the other, as the
    /// standard has it.
    pub fn query(extensions: &[&str]) -> Self {
        Self::strings(QUERY, extensions.iter().map(|name| name.as_bytes()))
    }

    /// `FAILURE`: this agent does not do that.
    pub fn failure() -> Self {
        Self::frame(&[FAILURE])
    }

    /// `IDENTITIES_ANSWER`; keys that cannot be written in one frame become `FAILURE`.
    pub fn identities(identities: Vec<Identity>) -> Self {
        let mut message = Vec::new();
        match Response::IdentitiesAnswer(identities).encode(&mut message) {
            Ok(()) if message.len() <= MAX_FRAME => Self::frame(&message),
            _ => Self::failure(),
        }
    }

    /// The frame, length field included.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The payload is written where it goes.
    fn with_payload(
        name: &str,
        write: impl FnOnce(&mut Vec<u8>) -> serde_json::Result<()>,
    ) -> Self {
        let mut frame = Vec::with_capacity(USUAL_ANSWER);
        frame.extend_from_slice(&[0; LENGTH_FIELD]);
        frame.push(EXTENSION_RESPONSE);
        frame.extend_from_slice(&(name.len() as u32).to_be_bytes());
        frame.extend_from_slice(name.as_bytes());
        let payload = frame.len();
        frame.extend_from_slice(&[0; LENGTH_FIELD]);
        if write(&mut frame).is_err() {
            return Self::error(name, "internal", "the answer could not be written as JSON");
        }
        if frame.len() - LENGTH_FIELD > MAX_FRAME {
            return Self::error(name, "internal", "the answer is longer than a frame");
        }
        for start in [0, payload] {
            let length = (frame.len() - start - LENGTH_FIELD) as u32;
            frame[start..][..LENGTH_FIELD].copy_from_slice(&length.to_be_bytes());
        }
        Self(frame)
    }

    fn strings<'a>(name: &'a str, contents: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut message = vec![EXTENSION_RESPONSE];
        for string in std::iter::once(name.as_bytes()).chain(contents) {
            message.extend_from_slice(&(string.len() as u32).to_be_bytes());
            message.extend_from_slice(string);
        }
        Self::frame(&message)
    }

    fn frame(message: &[u8]) -> Self {
        let mut frame = Vec::with_capacity(LENGTH_FIELD + message.len());
        frame.extend_from_slice(&(message.len() as u32).to_be_bytes());
        frame.extend_from_slice(message);
        Self(frame)
    }
}

#[cfg(test)]
mod frame_tests;
