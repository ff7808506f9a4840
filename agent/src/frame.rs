//! Frames of the SSH agent protocol: cut from the bytes that arrived, decoded; and answers built.
//!
//! The message types of `ssh-agent-lib` serve for answers only. Its decoder allocates what an inner length claims
//! (up to 1 MiB) before it looks, and parses the private keys of messages that this agent refuses unread.

use std::cell::Cell;
use std::os::fd::OwnedFd;

use ssh_agent_lib::proto::{Identity, Response};
use ssh_encoding::Encode;
use zeroize::Zeroize;

/// Longest frame accepted or sent, in bytes: type and body, without the length field.
pub const MAX_FRAME: usize = 256 * 1024;
/// Longest JSON payload of an extension, in bytes.
pub const MAX_PAYLOAD: usize = 64 * 1024;

const LENGTH_FIELD: usize = 4;
const READ_AT_ONCE: usize = 16 * 1024;

const FAILURE: u8 = 5;
const REQUEST_IDENTITIES: u8 = 11;
const EXTENSION: u8 = 27;
const EXTENSION_RESPONSE: u8 = 29;

const QUERY: &str = "query";
const OUR_EXTENSIONS: &str = "@countersign";

/// One message from a client.
#[derive(Debug)]
pub enum Incoming {
    /// An extension of this agent, known or not, or `query`, whose payload is empty where the standard's form was sent.
    /// `descriptor` came with it by SCM_RIGHTS; only admin sockets receive one.
    Extension {
        name: String,
        payload: Vec<u8>,
        descriptor: Option<OwnedFd>,
    },
    /// An extension whose payload of `length` bytes was not kept: to be answered `request.malformed`.
    Oversized {
        name: String,
        length: usize,
    },
    /// A message type this agent does not serve, its body unread: to be answered [`Answer::failure`].
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
    /// A descriptor, and the length `buffer` had when it came: it belongs to the frame that holds the byte before.
    descriptor: Option<(usize, OwnedFd)>,
}

thread_local! {
    /// The buffer of the last connection that was read from: it serves the next one.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

impl FrameReader {
    /// The buffer to append a read to; it has room for at least 16 KiB more.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        if self.buffer.capacity() == 0 {
            self.buffer = SPARE.take();
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
        let Some((length, rest)) = self.buffer[self.start..].split_first_chunk_mut::<LENGTH_FIELD>() else {
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
        if let (Incoming::Extension { descriptor, .. }, Some((_, received))) = (&mut incoming, came_with_it) {
            *descriptor = Some(received);
        }
        Ok(Some(incoming))
    }

    /// True where the beginning of a frame, or frames not yet taken, are held.
    pub fn holds_bytes(&self) -> bool {
        self.buffer.len() > self.start
    }

    /// Gives the buffer away where nothing is held, so that an idle connection costs none.
    pub fn release(&mut self) {
        if !self.holds_bytes() {
            let mut buffer = std::mem::take(&mut self.buffer);
            buffer.clear();
            self.start = 0;
            if buffer.capacity() <= 2 * READ_AT_ONCE {
                SPARE.set(buffer);
            }
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

/// The body of an extension that is not ours, such as `session-bind@openssh.com`, has a form of its own: not read.
fn decode_extension(body: &[u8]) -> Result<Incoming, FrameError> {
    let (name, rest) = split_string(body)?;
    let name = match std::str::from_utf8(name) {
        Ok(name) if name == QUERY || (name.ends_with(OUR_EXTENSIONS) && name.len() <= 64) => name.to_owned(),
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
    let (length, rest) = bytes.split_first_chunk::<LENGTH_FIELD>().ok_or(FrameError::InnerLength)?;
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
        if 1 + 2 * LENGTH_FIELD + name.len() + payload.len() > MAX_FRAME {
            return Self::error(name, "internal", "the answer is longer than a frame");
        }
        Self::strings(name, [payload])
    }

    /// `EXTENSION_RESPONSE` with an error that has no request id, because no request was understood.
    pub fn error(name: &str, code: &str, message: &str) -> Self {
        let payload = serde_json::json!({"v": 1, "error": {"code": code, "message": message}});
        Self::strings(name, [payload.to_string().as_bytes()])
    }

    /// The answer to a `query` that came without payload: names one after the other, as the standard has it.
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
mod tests {
    use super::*;
    use ssh_agent_lib::proto::{Extension, Request, Unparsed};
    use ssh_encoding::Decode;

    fn framed(message: &[u8]) -> Vec<u8> {
        [&(message.len() as u32).to_be_bytes(), message].concat()
    }

    fn string(bytes: &[u8]) -> Vec<u8> {
        framed(bytes)
    }

    fn extension(name: &[u8], rest: &[u8]) -> Vec<u8> {
        framed(&[&[EXTENSION], &string(name)[..], rest].concat())
    }

    /// All frames in `bytes`, in short form, and the error that ended them.
    fn read(bytes: &[u8]) -> (Vec<String>, Option<FrameError>) {
        let mut reader = FrameReader::default();
        reader.buffer().extend_from_slice(bytes);
        let mut seen = Vec::new();
        loop {
            match reader.next_frame() {
                Ok(Some(incoming)) => seen.push(short(&incoming)),
                Ok(None) => return (seen, None),
                Err(error) => return (seen, Some(error)),
            }
        }
    }

    fn short(incoming: &Incoming) -> String {
        match incoming {
            Incoming::Extension { name, payload, .. } => format!("{name} {}", String::from_utf8_lossy(payload)),
            Incoming::Oversized { name, length } => format!("oversized {name} {length}"),
            Incoming::Refused(kind) => format!("refused {kind}"),
            Incoming::RequestIdentities => "identities".to_owned(),
        }
    }

    #[test]
    fn two_pipelined_frames_stay_two() {
        let bytes = [framed(&[11]), extension(b"keys@countersign", &string(b"{}")), framed(&[11])].concat();
        assert_eq!(read(&bytes), (vec!["identities".into(), "keys@countersign {}".into(), "identities".into()], None));
    }

    #[test]
    fn one_byte_at_a_time_gives_the_same_frames() {
        let bytes = [extension(b"keys@countersign", &string(b"{}")), framed(&[13, 1, 2])].concat();
        let mut reader = FrameReader::default();
        let mut seen = Vec::new();
        for byte in &bytes {
            reader.buffer().push(*byte);
            while let Some(incoming) = reader.next_frame().expect("well formed") {
                seen.push(short(&incoming));
            }
        }
        assert_eq!(seen, ["keys@countersign {}", "refused 13"]);
        assert!(!reader.holds_bytes());
    }

    #[test]
    fn a_length_is_judged_before_anything_is_allocated_for_it() {
        for (length, error) in [
            (0, FrameError::Empty),
            (MAX_FRAME as u32 + 1, FrameError::TooLong(MAX_FRAME + 1)),
            (600 << 20, FrameError::TooLong(600 << 20)),
            (u32::MAX, FrameError::TooLong(u32::MAX as usize)),
        ] {
            let mut reader = FrameReader::default();
            reader.buffer().extend_from_slice(&length.to_be_bytes());
            assert_eq!(reader.next_frame().expect_err("refused"), error);
            assert!(reader.buffer().capacity() < 2 * READ_AT_ONCE + LENGTH_FIELD);
        }
    }

    #[test]
    fn what_is_wrong_inside_a_frame_ends_the_connection_after_the_frames_before_it() {
        let name = b"sign@countersign";
        for (bad, error) in [
            (framed(&[11, 0]), FrameError::Trailing(1)),
            (extension(name, &[string(b"{}"), vec![0; 3]].concat()), FrameError::Trailing(3)),
            (extension(name, &[0, 0, 0, 9, b'{', b'}']), FrameError::InnerLength),
            (extension(name, &[0xff, 0xff, 0xff, 0xff]), FrameError::InnerLength),
            (extension(name, &[]), FrameError::InnerLength),
            (extension(name, &[0, 0]), FrameError::InnerLength),
            (framed(&[27]), FrameError::InnerLength),
            (framed(&[27, 0, 0, 0, 200, b'x']), FrameError::InnerLength),
            (framed(&[27, 0xff, 0xff, 0xff, 0xff, b'x']), FrameError::InnerLength),
        ] {
            let bytes = [framed(&[11]), bad.clone()].concat();
            assert_eq!(read(&bytes), (vec!["identities".into()], Some(error)), "{bad:?}");
        }
    }

    #[test]
    fn names_that_are_not_ours_are_refused_and_the_connection_goes_on() {
        let huge = [&[b'x'; 100_000][..], b"@countersign"].concat();
        for (name, rest) in [
            (&b"session-bind@openssh.com"[..], &[1, 2, 3][..]),
            (b"sign@elsewhere", &[]),
            (b"\xff\xfe@countersign", &[]),
            (b"", &[]),
            (b"Query", &[]),
            (&huge, &[]),
        ] {
            let bytes = [extension(name, rest), framed(&[11])].concat();
            assert_eq!(read(&bytes), (vec!["refused 27".into(), "identities".into()], None));
        }
    }

    #[test]
    fn a_query_may_come_with_or_without_payload() {
        assert_eq!(read(&extension(b"query", &[])), (vec!["query ".into()], None));
        assert_eq!(read(&extension(b"query", &string(b"{}"))), (vec!["query {}".into()], None));
    }

    #[test]
    fn a_payload_is_kept_up_to_64_kib() {
        let name = b"sign@countersign";
        let fits = extension(name, &string(&[b' '; MAX_PAYLOAD]));
        let (seen, error) = read(&fits);
        assert_eq!((seen[0].len(), error), ("sign@countersign ".len() + MAX_PAYLOAD, None));
        let too_long = [extension(name, &string(&[b' '; MAX_PAYLOAD + 1])), framed(&[11])].concat();
        assert_eq!(read(&too_long), (vec!["oversized sign@countersign 65537".into(), "identities".into()], None));
        let longest = framed(&[99; MAX_FRAME]);
        assert_eq!(read(&longest), (vec!["refused 99".into()], None));
    }

    #[test]
    fn every_other_message_is_refused_unread() {
        for kind in (0..=255).filter(|kind| ![REQUEST_IDENTITIES, EXTENSION].contains(kind)) {
            assert_eq!(read(&framed(&[kind, 0xff, 0xff, 0xff, 0xff])), (vec![format!("refused {kind}")], None));
        }
    }

    #[test]
    fn a_refused_body_does_not_stay_in_the_buffer() {
        let mut reader = FrameReader::default();
        reader.buffer().extend_from_slice(&framed(b"\x11a private key"));
        assert!(matches!(reader.next_frame(), Ok(Some(Incoming::Refused(17)))));
        assert!(!reader.buffer.windows(7).any(|window| window == b"private"));
    }

    #[test]
    fn a_descriptor_belongs_to_the_frame_that_holds_the_last_byte_read() {
        let open = || OwnedFd::from(std::fs::File::open("/dev/null").expect("opens"));
        let frame = extension(b"register@countersign", &string(b"{}"));
        let mut reader = FrameReader::default();
        reader.buffer().extend_from_slice(&[&frame[..], &frame[..10]].concat());
        reader.attach(open()).expect("the first");
        let with = |incoming| match incoming {
            Ok(Some(Incoming::Extension { descriptor, .. })) => descriptor.is_some(),
            other => panic!("{other:?}"),
        };
        assert!(!with(reader.next_frame()));
        assert!(reader.next_frame().expect("partial").is_none());
        reader.buffer().extend_from_slice(&[&frame[10..], &frame[..]].concat());
        assert!(with(reader.next_frame()));
        assert!(!with(reader.next_frame()));
        reader.buffer().push(0);
        reader.attach(open()).expect("the first again");
        assert_eq!(reader.attach(open()).expect_err("two for one frame"), FrameError::Descriptors);
    }

    #[test]
    fn messages_of_ssh_agent_lib_are_understood() {
        let details = Unparsed::from(string(b"{}"));
        let request = Request::Extension(Extension { name: "sign@countersign".into(), details });
        let mut message = Vec::new();
        request.encode(&mut message).expect("encodes");
        assert_eq!(read(&framed(&message)), (vec!["sign@countersign {}".into()], None));
    }

    #[test]
    fn ssh_agent_lib_understands_the_answers() {
        let decoded = |answer: Answer| {
            let (length, mut message) = answer.as_bytes().split_first_chunk::<4>().expect("a length");
            assert_eq!(u32::from_be_bytes(*length) as usize, message.len());
            let response = Response::decode(&mut message).expect("decodes");
            assert!(message.is_empty());
            response
        };
        assert_eq!(decoded(Answer::failure()), Response::Failure);
        assert_eq!(decoded(Answer::identities(vec![])), Response::IdentitiesAnswer(vec![]));
        let details = Unparsed::from(string(b"{\"v\":1}"));
        let expected = Extension { name: "keys@countersign".into(), details };
        assert_eq!(decoded(Answer::extension("keys@countersign", b"{\"v\":1}")), Response::ExtensionResponse(expected));
        let details = Unparsed::from([string(b"a@countersign"), string(b"b@countersign")].concat());
        assert_eq!(
            decoded(Answer::query(&["a@countersign", "b@countersign"])),
            Response::ExtensionResponse(Extension { name: "query".into(), details })
        );
    }

    #[test]
    fn an_answer_never_exceeds_a_frame() {
        let answer = Answer::extension("events@countersign", &vec![b' '; MAX_FRAME]);
        assert!(String::from_utf8_lossy(answer.as_bytes()).contains(r#""code":"internal""#));
        let name = "events@countersign";
        let longest = Answer::extension(name, &vec![b' '; MAX_FRAME - 9 - name.len()]);
        assert_eq!(longest.as_bytes().len(), LENGTH_FIELD + MAX_FRAME);
    }
}
