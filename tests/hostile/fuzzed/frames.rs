//! Frames of the agent protocol.

use countersign_core::wire::MAX_PAYLOAD;
use countersign_core::wire::ssh_agent::MAX_FRAME;
use countersign_front::sockets::frame::{FrameError, FrameReader, Incoming};

pub fn seeds() -> Vec<Vec<u8>> {
    let string = |text: &str| [&(text.len() as u32).to_be_bytes(), text.as_bytes()].concat();
    let framed = |body: &[u8]| [&(body.len() as u32).to_be_bytes(), body].concat();
    let extension = |name, payload| framed(&[&[27][..], &string(name), &string(payload)].concat());
    let sign = extension("sign@countersign", r#"{"v":1,"key":"k","method":"GET","path":"/a"}"#);
    vec![
        framed(&[11]),
        framed(&[13, 0, 0, 0, 1, 0]),
        framed(&[&[27][..], &string("query")].concat()),
        [sign.clone(), framed(&[11]), extension("keys@countersign", r#"{"v":1}"#)].concat(),
        [framed(&[17, 1, 2, 3]), extension("session-bind@openssh.com", "x"), sign].concat(),
        [&[0xff; 4][..], &[27]].concat(),
    ]
}

/// Checks that the same frames come out in whatever pieces the bytes arrive, each from its own
/// bytes and none longer than allowed.
pub fn check(bytes: &[u8]) {
    let whole = read(bytes, bytes.len().max(1));
    for step in [1, 3, 7, 4096] {
        assert_eq!(read(bytes, step), whole, "in pieces of {step}");
    }
    assert_eq!(whole, expected(bytes));
}

type Seen = (Vec<String>, Option<FrameError>);

fn read(bytes: &[u8], step: usize) -> Seen {
    let (mut reader, mut seen) = (FrameReader::default(), Vec::new());
    for piece in bytes.chunks(step) {
        reader.buffer().extend_from_slice(piece);
        loop {
            let (has_frame, next) = (reader.has_frame(), reader.next_frame());
            assert_eq!(has_frame, !matches!(next, Ok(None)), "a frame is there or not");
            match next {
                Ok(Some(incoming)) => seen.push(shown(&incoming)),
                Ok(None) => break,
                Err(error) => return (seen, Some(error)),
            }
        }
        assert!(
            reader.buffer().len() < 4 + MAX_FRAME + step,
            "more is held than one unfinished frame"
        );
    }
    (seen, None)
}

fn shown(incoming: &Incoming) -> String {
    if let Incoming::Extension { payload, descriptor, .. } = incoming {
        assert!(payload.len() <= MAX_PAYLOAD && descriptor.is_none());
    }
    format!("{incoming:?}")
}

/// The same by the letter of the protocol, up to the first frame that is wrong.
fn expected(mut bytes: &[u8]) -> Seen {
    let mut seen = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        if length == 0 || length > MAX_FRAME {
            let error = if length == 0 { FrameError::Empty } else { FrameError::TooLong(length) };
            return (seen, Some(error));
        }
        let Some((frame, next)) = rest.split_at_checked(length) else { break };
        match message(frame) {
            Ok(incoming) => seen.push(shown(&incoming)),
            Err(error) => return (seen, Some(error)),
        }
        bytes = next;
    }
    (seen, None)
}

fn message(frame: &[u8]) -> Result<Incoming, FrameError> {
    match frame[0] {
        11 if frame.len() == 1 => return Ok(Incoming::RequestIdentities),
        11 => return Err(FrameError::Trailing(frame.len() - 1)),
        27 => {}
        other => return Ok(Incoming::Refused(other)),
    }
    let mut strings = Strings(&frame[1..]);
    let name = String::from_utf8(strings.next()?.to_vec()).unwrap_or_default();
    if name != "query" && !(name.ends_with("@countersign") && name.len() <= 64) {
        return Ok(Incoming::Refused(27));
    }
    let payload = if name == "query" && strings.0.is_empty() { &[] } else { strings.next()? };
    match (strings.0.len(), payload.len()) {
        (0, 0..=MAX_PAYLOAD) => {
            Ok(Incoming::Extension { name, payload: payload.to_vec(), descriptor: None })
        }
        (0, length) => Ok(Incoming::Oversized { name, length }),
        (trailing, _) => Err(FrameError::Trailing(trailing)),
    }
}

struct Strings<'a>(&'a [u8]);

impl<'a> Strings<'a> {
    fn next(&mut self) -> Result<&'a [u8], FrameError> {
        let (length, rest) = self.0.split_at_checked(4).ok_or(FrameError::InnerLength)?;
        let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        let (string, rest) = rest.split_at_checked(length).ok_or(FrameError::InnerLength)?;
        self.0 = rest;
        Ok(string)
    }
}
