//! Frames of the SSH agent protocol, as far as a client of countersign needs them.

use countersign_core::wire::ssh_agent::{
    EXTENSION, EXTENSION_RESPONSE, FAILURE, LENGTH_FIELD, MAX_FRAME,
};

/// An answer that is not a frame of the agent protocol. The connection cannot be used after it.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum AnswerFrameError {
    #[error("a frame of length 0")]
    Empty,
    #[error("a string inside the frame is longer than the frame")]
    InnerLength,
    #[error("the extension's name is not UTF-8")]
    Name,
    #[error("a frame of {0} bytes, more than {MAX_FRAME}")]
    TooLong(usize),
    #[error("{0} bytes after the end of the message")]
    Trailing(usize),
    #[error("message type {0}, which answers no extension")]
    Type(u8),
}

/// The agent's answer to one extension message.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum AgentAnswer<'a> {
    Extension { name: &'a str, payload: &'a [u8] },
    Failure,
}

/// The complete frame of an extension message, length field included.
pub(crate) fn extension(name: &str, payload: &[u8]) -> Vec<u8> {
    let length = 1 + 2 * LENGTH_FIELD + name.len() + payload.len();
    let mut frame = Vec::with_capacity(LENGTH_FIELD + length);
    frame.extend_from_slice(&field(length));
    frame.push(EXTENSION);
    for string in [name.as_bytes(), payload] {
        frame.extend_from_slice(&field(string.len()));
        frame.extend_from_slice(string);
    }
    frame
}

/// Payloads are at most 64 KiB, so that every length fits.
fn field(length: usize) -> [u8; LENGTH_FIELD] {
    (length as u32).to_be_bytes()
}

/// Reads a length field. A length that is not allowed is refused before anything is allocated.
pub(crate) fn length(field: [u8; LENGTH_FIELD]) -> Result<usize, AnswerFrameError> {
    match u32::from_be_bytes(field) as usize {
        0 => Err(AnswerFrameError::Empty),
        length if length > MAX_FRAME => Err(AnswerFrameError::TooLong(length)),
        length => Ok(length),
    }
}

/// Decodes one frame, given without its length field.
pub(crate) fn decode(frame: &[u8]) -> Result<AgentAnswer<'_>, AnswerFrameError> {
    match frame {
        [] => Err(AnswerFrameError::Empty),
        [FAILURE] => Ok(AgentAnswer::Failure),
        [FAILURE, trailing @ ..] => Err(AnswerFrameError::Trailing(trailing.len())),
        [EXTENSION_RESPONSE, body @ ..] => {
            let (name, rest) = split_string(body)?;
            let (payload, trailing) = split_string(rest)?;
            if !trailing.is_empty() {
                return Err(AnswerFrameError::Trailing(trailing.len()));
            }
            let name = std::str::from_utf8(name).map_err(|_| AnswerFrameError::Name)?;
            Ok(AgentAnswer::Extension { name, payload })
        }
        [other, ..] => Err(AnswerFrameError::Type(*other)),
    }
}

fn split_string(bytes: &[u8]) -> Result<(&[u8], &[u8]), AnswerFrameError> {
    let (length, rest) =
        bytes.split_first_chunk::<LENGTH_FIELD>().ok_or(AnswerFrameError::InnerLength)?;
    rest.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or(AnswerFrameError::InnerLength)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_extension_has_the_published_form() {
        let frame = extension("a@b", b"{}");
        assert_eq!(frame, b"\0\0\0\x0e\x1b\0\0\0\x03a@b\0\0\0\x02{}");
        assert_eq!(length([0, 0, 0, 14]), Ok(frame.len() - LENGTH_FIELD));
    }

    #[test]
    fn answers_are_decoded() {
        assert_eq!(
            decode(b"\x1d\0\0\0\x03a@b\0\0\0\x02{}"),
            Ok(AgentAnswer::Extension { name: "a@b", payload: b"{}" })
        );
        assert_eq!(decode(&[5]), Ok(AgentAnswer::Failure));
    }

    #[test]
    fn anything_else_is_an_error() {
        for (frame, error) in [
            (&b""[..], AnswerFrameError::Empty),
            (b"\x05\0", AnswerFrameError::Trailing(1)),
            (b"\x06", AnswerFrameError::Type(6)),
            (b"\x1d", AnswerFrameError::InnerLength),
            (b"\x1d\xff\xff\xff\xff", AnswerFrameError::InnerLength),
            (b"\x1d\0\0\0\x01a", AnswerFrameError::InnerLength),
            (b"\x1d\0\0\0\x01a\0\0\0\x03{}", AnswerFrameError::InnerLength),
            (b"\x1d\0\0\0\x01a\0\0\0\x02{}x", AnswerFrameError::Trailing(1)),
            (b"\x1d\0\0\0\x01\xff\0\0\0\x02{}", AnswerFrameError::Name),
        ] {
            assert_eq!(decode(frame), Err(error), "{frame:?}");
        }
    }

    #[test]
    fn lengths_are_capped() {
        assert_eq!(length([0; 4]), Err(AnswerFrameError::Empty));
        assert_eq!(length((MAX_FRAME as u32).to_be_bytes()), Ok(MAX_FRAME));
        assert_eq!(
            length((MAX_FRAME as u32 + 1).to_be_bytes()),
            Err(AnswerFrameError::TooLong(MAX_FRAME + 1))
        );
        assert_eq!(length([0xff; 4]), Err(AnswerFrameError::TooLong(u32::MAX as usize)));
    }
}
