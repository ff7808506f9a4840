//! Frames between the front and its children: a `u32` little-endian length and a postcard body.

use std::io::{self, Read, Write};

use postcard::ser_flavors::Flavor;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, Zeroizing};

use super::token_host::MAX_MESSAGE;

const MESSAGE_LENGTH_FIELD: usize = 4;
const MESSAGE_READ_SIZE: usize = 16 * 1024;

/// Why a frame could not be sent or received.
#[derive(Debug, thiserror::Error)]
pub enum MessageFrameError {
    #[error("the other side closed the connection")]
    Closed,
    #[error("the connection failed")]
    Connection(#[from] io::Error),
    #[error("a message could not be read or written")]
    Message(#[from] postcard::Error),
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
}

/// Appends one frame to `out`. After an error `out` is as it was before.
pub fn encode(message: &impl Serialize, out: &mut Vec<u8>) -> Result<(), MessageFrameError> {
    let start = out.len();
    out.extend_from_slice(&[0; MESSAGE_LENGTH_FIELD]);
    let encoded = postcard::serialize_with_flavor(message, BufferEnd(out));
    let length = out.len() - start - MESSAGE_LENGTH_FIELD;
    let failed = match encoded {
        Err(error) => Some(MessageFrameError::Message(error)),
        Ok(()) => (length > MAX_MESSAGE).then_some(MessageFrameError::TooLong(length)),
    };
    if let Some(error) = failed {
        out[start..].zeroize();
        out.truncate(start);
        return Err(error);
    }
    // MAX_FRAME is far below u32::MAX, so the cast cannot cut.
    out[start..][..MESSAGE_LENGTH_FIELD].copy_from_slice(&(length as u32).to_le_bytes());
    Ok(())
}

/// The end of a buffer, as a place for postcard to write to.
struct BufferEnd<'a>(&'a mut Vec<u8>);

impl Flavor for BufferEnd<'_> {
    type Output = ();

    fn try_push(&mut self, byte: u8) -> postcard::Result<()> {
        self.0.push(byte);
        Ok(())
    }

    fn try_extend(&mut self, bytes: &[u8]) -> postcard::Result<()> {
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

/// Writes one frame.
pub fn send(mut to: impl Write, message: &impl Serialize) -> Result<(), MessageFrameError> {
    let mut out = Zeroizing::new(Vec::new());
    encode(message, &mut out)?;
    Ok(to.write_all(&out)?)
}

/// Cuts a stream into frames; one read may bring many of them. The bytes are wiped after use,
/// because they may hold a passphrase.
#[derive(Default)]
pub struct Frames {
    buffer: Zeroizing<Vec<u8>>,
    /// The bytes from `start` to `end` were read and not taken yet.
    start: usize,
    end: usize,
}

impl Frames {
    /// Makes a buffer that has room for `bytes` bytes from the beginning.
    pub fn with_room(bytes: usize) -> Self {
        Self { buffer: Zeroizing::new(vec![0; bytes]), ..Self::default() }
    }

    /// The free part of the buffer, at least one byte. After reading into it, call
    /// [`Self::advance`].
    pub fn spare(&mut self) -> &mut [u8] {
        self.make_room(self.end - self.start + 1);
        &mut self.buffer[self.end..]
    }

    /// Adds the first `bytes` of [`Self::spare`].
    pub fn advance(&mut self, bytes: usize) {
        self.end = self.buffer.len().min(self.end + bytes);
    }

    /// Reads once; false at the end of the stream.
    pub fn fill(&mut self, from: &mut impl Read) -> Result<bool, MessageFrameError> {
        let read = loop {
            match from.read(self.spare()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other?,
            }
        };
        self.advance(read);
        Ok(read != 0)
    }

    /// Adds bytes that were read elsewhere.
    pub fn push(&mut self, bytes: &[u8]) {
        self.make_room(self.end - self.start + bytes.len());
        self.buffer[self.end..][..bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// The next whole frame. If there is none yet, the frames already taken are wiped. A message
    /// may borrow from the buffer.
    pub fn take<'a, Message: Deserialize<'a>>(
        &'a mut self,
    ) -> Result<Option<Message>, MessageFrameError> {
        let held = &self.buffer[self.start..self.end];
        let length = held
            .first_chunk::<MESSAGE_LENGTH_FIELD>()
            .map_or(0, |length| u32::from_le_bytes(*length) as usize);
        if length > MAX_MESSAGE {
            return Err(MessageFrameError::TooLong(length));
        }
        if held.len() < MESSAGE_LENGTH_FIELD + length {
            self.make_room(MESSAGE_LENGTH_FIELD + length);
            return Ok(None);
        }
        let (message, trailing) =
            postcard::take_from_bytes(&self.buffer[self.start + MESSAGE_LENGTH_FIELD..][..length])?;
        if !trailing.is_empty() {
            return Err(MessageFrameError::Message(postcard::Error::DeserializeBadEncoding));
        }
        self.start += MESSAGE_LENGTH_FIELD + length;
        Ok(Some(message))
    }

    /// Reads until one frame is whole.
    pub fn receive<Message: DeserializeOwned>(
        &mut self,
        from: &mut impl Read,
    ) -> Result<Message, MessageFrameError> {
        loop {
            if let Some(message) = self.take::<Message>()? {
                return Ok(message);
            }
            if !self.fill(from)? {
                return Err(MessageFrameError::Closed);
            }
        }
    }

    /// The whole buffer, for tests that bytes are wiped.
    #[doc(hidden)]
    pub fn buffer(&self) -> &[u8] {
        &self.buffer
    }

    /// Wipes the frames already taken, and makes room for `bytes` bytes, counted from the first
    /// byte that was not taken.
    fn make_room(&mut self, bytes: usize) {
        if self.start > 0 {
            let held = self.end - self.start;
            self.buffer.copy_within(self.start..self.end, 0);
            self.buffer[held..self.end].zeroize();
            (self.start, self.end) = (0, held);
        }
        if self.buffer.len() < bytes {
            let usual = if self.buffer.is_empty() {
                MESSAGE_READ_SIZE
            } else {
                MESSAGE_LENGTH_FIELD + MAX_MESSAGE
            };
            // A larger buffer is a new one: a buffer that grows may leave a copy behind.
            let mut larger = Zeroizing::new(vec![0; bytes.max(usual)]);
            larger[..self.end].copy_from_slice(&self.buffer[..self.end]);
            self.buffer = larger;
        }
    }
}

impl std::fmt::Debug for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frames({} bytes)", self.end - self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::messages::token_host::{FromHost, ToHost};

    #[test]
    fn two_pipelined_frames_stay_two_at_every_cut() {
        let mut bytes = Vec::new();
        for id in [1, 2] {
            encode(&ToHost::SelfTest { id }, &mut bytes).expect("encodes");
        }
        for cut in 0..=bytes.len() {
            let mut frames = Frames::default();
            let mut ids = Vec::new();
            for part in [&bytes[..cut], &bytes[cut..]] {
                frames.push(part);
                while let Some(message) = frames.take().expect("well formed") {
                    let ToHost::SelfTest { id } = message else {
                        panic!("another message at cut {cut}")
                    };
                    ids.push(id);
                }
            }
            assert_eq!(ids, [1, 2], "cut at {cut}");
        }
    }

    #[test]
    fn too_long_trailing_and_malformed_frames_are_refused() {
        let mut frames = Frames::default();
        frames.push(&u32::MAX.to_le_bytes());
        assert!(matches!(frames.take::<ToHost<'_>>(), Err(MessageFrameError::TooLong(_))));
        for body in [&[0, 0][..], &[99], &[]] {
            let mut frames = Frames::default();
            frames.push(&(body.len() as u32).to_le_bytes());
            frames.push(body);
            assert!(
                matches!(frames.take::<ToHost<'_>>(), Err(MessageFrameError::Message(_))),
                "{body:?}"
            );
        }
    }

    #[test]
    fn the_end_of_the_stream_is_closed() {
        assert!(matches!(
            Frames::default().receive::<FromHost>(&mut &[][..]),
            Err(MessageFrameError::Closed)
        ));
        assert!(matches!(
            Frames::default().receive::<FromHost>(&mut &[1, 0, 0][..]),
            Err(MessageFrameError::Closed)
        ));
    }
}
