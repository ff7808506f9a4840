//! Cuts frames of the SSH agent protocol from the bytes that arrived, decodes them, and builds
//! answers.
//!
//! The message types of `ssh-agent-lib` are used for answers only. Its decoder allocates the length
//! that an inner field claims (up to 1 MiB) before it looks at the bytes. It also parses private
//! keys in messages, which this agent refuses unread.

use std::os::fd::OwnedFd;

use countersign_core::wire::ssh_agent::{
    EXTENSION, EXTENSION_RESPONSE, FAILURE, LENGTH_FIELD, MAX_FRAME, REQUEST_IDENTITIES,
};
use countersign_core::wire::{MAX_PAYLOAD, SignReply};
use serde::Serialize;
use ssh_agent_lib::proto::{Identity, Response};
use ssh_encoding::Encode;
use zeroize::Zeroize;

use super::spare_buffers;

const FRAME_READ_SIZE: usize = 16 * 1024;
/// Bytes that are allocated for an answer at first. A signed order fits, and an allocator has this
/// size at hand.
const USUAL_ANSWER: usize = 1000;

const QUERY: &str = "query";
const OUR_EXTENSIONS: &str = "@countersign";

/// One message from a client.
#[derive(Debug)]
pub enum Incoming {
    /// An extension of this agent, known or not, or `query`. The payload of `query` is empty if it
    /// came in the standard's form. `descriptor` came with the message by SCM_RIGHTS; only admin
    /// sockets receive one.
    Extension {
        name: String,
        payload: Vec<u8>,
        descriptor: Option<OwnedFd>,
    },
    /// An extension whose payload of `length` bytes was too long and was not kept. Its answer is
    /// `request.malformed`.
    Oversized {
        name: String,
        length: usize,
    },
    /// A message of a type that this agent does not serve. Its body was not read. Its answer is
    /// [`Answer::failure`].
    Refused(u8),
    RequestIdentities,
}

/// Why a connection cannot go on: the beginning of the next frame cannot be found reliably any
/// more.
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

/// Collects bytes as they arrive and gives out each complete frame.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
    /// The offset in `buffer` at which the next frame begins.
    start: usize,
    /// A descriptor, and the length of `buffer` when it came. It belongs to the frame that holds
    /// the byte before that.
    descriptor: Option<(usize, OwnedFd)>,
}

impl FrameReader {
    /// The buffer to which a read is appended. It has room for at least 16 KiB more.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        if self.buffer.capacity() == 0 {
            self.buffer = spare_buffers::take();
        }
        self.buffer.drain(..self.start);
        if let Some((position, _)) = &mut self.descriptor {
            *position -= self.start;
        }
        self.start = 0;
        self.buffer.reserve(FRAME_READ_SIZE);
        &mut self.buffer
    }

    /// Takes the descriptor that came with the bytes that were appended last.
    pub fn attach(&mut self, descriptor: OwnedFd) -> Result<(), FrameError> {
        match self.descriptor.replace((self.buffer.len(), descriptor)) {
            Some(_) => Err(FrameError::Descriptors),
            None => Ok(()),
        }
    }

    /// The next complete frame, decoded. `None` if more bytes are needed.
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

    /// True if [`Self::next_frame`] would return a frame or an error.
    pub fn has_frame(&self) -> bool {
        self.buffer[self.start..].split_first_chunk::<LENGTH_FIELD>().is_some_and(
            |(length, rest)| {
                let length = u32::from_be_bytes(*length) as usize;
                !(1..=MAX_FRAME).contains(&length) || rest.len() >= length
            },
        )
    }

    /// The number of bytes that are held. A frame counts with its full length as soon as its length
    /// field is there.
    pub fn held(&self) -> usize {
        let held = &self.buffer[self.start..];
        let said = held
            .first_chunk::<LENGTH_FIELD>()
            .map_or(0, |length| u32::from_be_bytes(*length) as usize);
        if said <= MAX_FRAME { held.len().max(said) } else { held.len() }
    }

    /// True if the beginning of a frame is held, or a frame that was not taken yet.
    pub fn holds_bytes(&self) -> bool {
        self.buffer.len() > self.start
    }

    /// Gives the buffer back if it holds nothing, so that an idle connection has none.
    pub fn release(&mut self) {
        if !self.holds_bytes() {
            self.start = 0;
            spare_buffers::give(std::mem::take(&mut self.buffer));
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

/// The body of an extension that is not ours is not read: for example `session-bind@openssh.com`
/// has a form of its own.
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

    /// The same as [`Self::extension`], with a payload that is written as JSON.
    pub fn json(name: &str, payload: &impl Serialize) -> Self {
        Self::with_payload(name, |frame| serde_json::to_writer(frame, payload))
    }

    /// The same as [`Self::json`], for the reply to a signed request.
    pub fn signed(name: &str, reply: &SignReply) -> Self {
        Self::with_payload(name, |frame| {
            reply.write_json(frame);
            Ok(())
        })
    }

    /// `EXTENSION_RESPONSE` with an error that has no request id, because no request was
    /// understood.
    pub fn error(name: &str, code: &str, message: &str) -> Self {
        let payload = serde_json::json!({"v": 1, "error": {"code": code, "message": message}});
        Self::strings(name, [payload.to_string().as_bytes()])
    }

    /// The answer to a `query`: the names one after the other, in the standard's form.
    pub fn query(extensions: &[&str]) -> Self {
        Self::strings(QUERY, extensions.iter().map(|name| name.as_bytes()))
    }

    /// `FAILURE`: the agent does not serve this message.
    pub fn failure() -> Self {
        Self::frame(&[FAILURE])
    }

    /// `IDENTITIES_ANSWER`. If the keys do not fit in one frame, `FAILURE`.
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

    /// Builds the frame in one buffer: `write` appends the payload in its place.
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
