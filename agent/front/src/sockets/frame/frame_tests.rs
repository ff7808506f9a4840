//! Tests the cutting of frames, hostile and well formed.

use ssh_agent_lib::proto::{Extension, Request, Unparsed};
use ssh_encoding::Decode;

use crate::sockets::frame::*;

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
        let (has_frame, next) = (reader.has_frame(), reader.next_frame());
        assert_eq!(has_frame, !matches!(next, Ok(None)), "a frame is there or not");
        match next {
            Ok(Some(incoming)) => seen.push(short(&incoming)),
            Ok(None) => return (seen, None),
            Err(error) => return (seen, Some(error)),
        }
    }
}

fn short(incoming: &Incoming) -> String {
    match incoming {
        Incoming::Extension { name, payload, .. } => {
            format!("{name} {}", String::from_utf8_lossy(payload))
        }
        Incoming::Oversized { name, length } => format!("oversized {name} {length}"),
        Incoming::Refused(kind) => format!("refused {kind}"),
        Incoming::RequestIdentities => "identities".to_owned(),
    }
}

#[test]
fn two_pipelined_frames_stay_two() {
    let bytes =
        [framed(&[11]), extension(b"keys@countersign", &string(b"{}")), framed(&[11])].concat();
    assert_eq!(
        read(&bytes),
        (vec!["identities".into(), "keys@countersign {}".into(), "identities".into()], None)
    );
}

#[test]
fn a_frame_counts_as_long_as_it_says_from_its_first_bytes_on() {
    let mut reader = FrameReader::default();
    for (piece, held) in [(&[0, 0, 1][..], 3), (&[0], 256), (&[27; 100], 256), (&[27; 156], 260)] {
        reader.buffer().extend_from_slice(piece);
        assert_eq!(reader.held(), held, "{piece:?}");
    }
    reader.next_frame().expect_err("a string longer than the frame");
    let mut reader = FrameReader::default();
    reader.buffer().extend_from_slice(&[0xff; 4]);
    assert_eq!(reader.held(), 4, "it will not be taken");
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
        assert!(reader.buffer().capacity() < 2 * FRAME_READ_SIZE + LENGTH_FIELD);
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
    assert_eq!(
        read(&too_long),
        (vec!["oversized sign@countersign 65537".into(), "identities".into()], None)
    );
    let longest = framed(&[99; MAX_FRAME]);
    assert_eq!(read(&longest), (vec!["refused 99".into()], None));
}

#[test]
fn every_other_message_is_refused_unread() {
    for kind in (0..=255).filter(|kind| ![REQUEST_IDENTITIES, EXTENSION].contains(kind)) {
        assert_eq!(
            read(&framed(&[kind, 0xff, 0xff, 0xff, 0xff])),
            (vec![format!("refused {kind}")], None)
        );
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
    assert_eq!(
        decoded(Answer::extension("keys@countersign", b"{\"v\":1}")),
        Response::ExtensionResponse(expected)
    );
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
