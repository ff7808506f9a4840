//! Frames between the front and its children: a `u32` little-endian length and a postcard body.

use std::io::{self, Read, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::protocol::MAX_FRAME;

const LENGTH_FIELD: usize = 4;
/// Small enough that clearing it costs nothing beside a signature.
const READ_AT_ONCE: usize = 16 * 1024;

/// Why bytes are not a frame.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    #[error("the other side closed the connection")]
    Closed,
    #[error("the connection failed")]
    Connection(#[from] io::Error),
    #[error("a message could not be read or written")]
    Message(#[from] postcard::Error),
    #[error("a frame of {0} bytes is too long")]
    TooLong(usize),
}

/// Appends one frame to `out`.
pub fn encode(message: &impl Serialize, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let body = Zeroizing::new(postcard::to_stdvec(message)?);
    if body.len() > MAX_FRAME {
        return Err(FrameError::TooLong(body.len()));
    }
    // MAX_FRAME is far below u32::MAX, so the cast cannot cut.
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&body);
    Ok(())
}

/// Writes one frame.
pub fn send(mut to: impl Write, message: &impl Serialize) -> Result<(), FrameError> {
    let mut out = Zeroizing::new(Vec::new());
    encode(message, &mut out)?;
    Ok(to.write_all(&out)?)
}

/// Cuts frames from a stream; what one read brought may hold many. What was read is wiped: it may hold a passphrase.
#[derive(Default)]
pub struct Frames {
    buffer: Zeroizing<Vec<u8>>,
    start: usize,
}

impl Frames {
    /// Reads once; false at the end of the stream.
    pub fn fill(&mut self, from: &mut impl Read) -> Result<bool, FrameError> {
        self.make_room();
        let end = self.buffer.len();
        self.buffer.resize(end + READ_AT_ONCE, 0);
        let result = loop {
            match from.read(&mut self.buffer[end..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                other => break other,
            }
        };
        self.buffer.truncate(end + *result.as_ref().unwrap_or(&0));
        Ok(result? != 0)
    }

    /// Adds bytes that were read elsewhere.
    pub fn push(&mut self, bytes: &[u8]) {
        self.make_room();
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole frame, or none yet.
    pub fn take<Message: DeserializeOwned>(&mut self) -> Result<Option<Message>, FrameError> {
        let bytes = &self.buffer[self.start..];
        let Some((length, rest)) = bytes.split_first_chunk::<LENGTH_FIELD>() else { return Ok(None) };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MAX_FRAME {
            return Err(FrameError::TooLong(length));
        }
        let Some(body) = rest.get(..length) else { return Ok(None) };
        let (message, trailing) = postcard::take_from_bytes(body)?;
        if !trailing.is_empty() {
            return Err(FrameError::Message(postcard::Error::DeserializeBadEncoding));
        }
        self.start += LENGTH_FIELD + length;
        Ok(Some(message))
    }

    /// Reads until one frame is whole.
    pub fn receive<Message: DeserializeOwned>(&mut self, from: &mut impl Read) -> Result<Message, FrameError> {
        loop {
            if let Some(message) = self.take()? {
                return Ok(message);
            }
            if !self.fill(from)? {
                return Err(FrameError::Closed);
            }
        }
    }

    /// Drops the frames already taken, so that the buffer stays as small as one read and one frame.
    fn make_room(&mut self) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
    }
}

impl std::fmt::Debug for Frames {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frames({} bytes)", self.buffer.len() - self.start)
    }
}

#[cfg(test)]
mod tests {
    use super::super::protocol::ToHost;
    use super::*;

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
                    let ToHost::SelfTest { id } = message else { panic!("another message at cut {cut}") };
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
        assert!(matches!(frames.take::<ToHost>(), Err(FrameError::TooLong(_))));
        for body in [&[0, 0][..], &[99], &[]] {
            let mut frames = Frames::default();
            frames.push(&(body.len() as u32).to_le_bytes());
            frames.push(body);
            assert!(matches!(frames.take::<ToHost>(), Err(FrameError::Message(_))), "{body:?}");
        }
    }

    #[test]
    fn the_end_of_the_stream_is_closed() {
        assert!(matches!(Frames::default().receive::<ToHost>(&mut &[][..]), Err(FrameError::Closed)));
        assert!(matches!(Frames::default().receive::<ToHost>(&mut &[1, 0, 0][..]), Err(FrameError::Closed)));
    }
}
