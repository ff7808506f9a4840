//! The front's end of the socketpair to a token host: frames out of a buffer, frames into one that wipes itself.

use std::io;

use countersign_base::messages::frame;
use countersign_base::messages::token_host::{FromHost, MAX_FRAME};
use serde::Serialize;
use zeroize::{Zeroize, Zeroizing};

use crate::sockets::stream::Stream;

const LENGTH_FIELD: usize = 4;
const USUAL_SIZE: usize = 64 * 1024;

/// What a host sent is not of the protocol, or the socket failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("the token host closed its socket")]
    Closed,
    #[error("the token host sent what is no message")]
    Garbage,
    #[error("the socket to the token host failed")]
    Socket(#[from] io::Error),
}

/// Appends `body` as one frame; false where it is longer than a frame, and nothing was appended.
pub(crate) fn append_frame(body: &[u8], outbound: &mut Vec<u8>) -> bool {
    if body.len() > MAX_FRAME {
        return false;
    }
    outbound.extend_from_slice(&(body.len() as u32).to_le_bytes());
    outbound.extend_from_slice(body);
    true
}

/// As [`append_frame`], for a message.
pub(crate) fn append(message: &impl Serialize, outbound: &mut Vec<u8>) -> bool {
    frame::encode(message, outbound).is_ok()
}

/// Collects what a host sends. A passphrase may be in it, so nothing decoded stays behind.
pub(crate) struct Inbound {
    buffer: Zeroizing<Vec<u8>>,
    filled: usize,
}

impl Inbound {
    pub(crate) fn new() -> Self {
        Self { buffer: Zeroizing::new(vec![0; USUAL_SIZE]), filled: 0 }
    }

    /// Reads what is there and hands every complete message to `each`, until one is refused.
    pub(crate) fn read<E: From<LinkError>>(
        &mut self,
        stream: &Stream,
        each: impl FnMut(FromHost) -> Result<(), E>,
    ) -> Result<(), E> {
        let received = stream.fill(&mut self.buffer[self.filled..]);
        self.received(received, each)
    }

    /// As [`Self::read`], also where the runtime has not noticed yet that there is something to read.
    pub(crate) fn read_unnoticed<E: From<LinkError>>(
        &mut self,
        stream: &Stream,
        each: impl FnMut(FromHost) -> Result<(), E>,
    ) -> Result<(), E> {
        let received = stream.fill_unnoticed(&mut self.buffer[self.filled..]);
        self.received(received, each)
    }

    fn received<E: From<LinkError>>(
        &mut self,
        received: io::Result<usize>,
        mut each: impl FnMut(FromHost) -> Result<(), E>,
    ) -> Result<(), E> {
        match received {
            Ok(0) => return Err(LinkError::Closed.into()),
            Ok(bytes) => self.filled += bytes,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(LinkError::Socket(error).into()),
        }
        let mut taken = 0;
        while let Some(length) = self.next_length(taken)? {
            let body = taken + LENGTH_FIELD;
            let Some(frame) = self.buffer[..self.filled].get(body..body + length) else {
                self.make_room(LENGTH_FIELD + length);
                break;
            };
            each(decode(frame)?)?;
            taken = body + length;
        }
        self.buffer.copy_within(taken..self.filled, 0);
        self.buffer[self.filled - taken..self.filled].zeroize();
        self.filled -= taken;
        Ok(())
    }

    fn next_length(&self, start: usize) -> Result<Option<usize>, LinkError> {
        let Some((length, _)) = self.buffer[start..self.filled].split_first_chunk::<LENGTH_FIELD>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*length) as usize;
        if length > MAX_FRAME { Err(LinkError::Garbage) } else { Ok(Some(length)) }
    }

    /// A larger buffer is a new one: growing in place would leave a copy behind.
    fn make_room(&mut self, frame: usize) {
        if frame > self.buffer.len() {
            let mut larger = Zeroizing::new(vec![0; LENGTH_FIELD + MAX_FRAME]);
            larger[..self.filled].copy_from_slice(&self.buffer[..self.filled]);
            self.buffer = larger;
        }
    }
}

fn decode(frame: &[u8]) -> Result<FromHost, LinkError> {
    match postcard::take_from_bytes(frame) {
        Ok((message, [])) => Ok(message),
        _ => Err(LinkError::Garbage),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use countersign_base::messages::token_host::Passphrase;

    async fn received(chunks: &[&[u8]]) -> (Vec<FromHost>, Option<LinkError>, Inbound) {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let [ours, theirs] = [ours, theirs].map(|end| Stream::new(end).expect("registered"));
        let (mut inbound, mut messages) = (Inbound::new(), Vec::new());
        for chunk in chunks.iter().flat_map(|chunk| chunk.chunks(50_000)) {
            assert_eq!(theirs.try_write(chunk).expect("there is room"), chunk.len());
            ours.readable().await.expect("readable");
            for _ in 0..2 {
                let read = inbound.read(&ours, |message| {
                    messages.push(message);
                    Ok::<_, LinkError>(())
                });
                if let Err(error) = read {
                    return (messages, Some(error), inbound);
                }
            }
        }
        (messages, None, inbound)
    }

    fn signed(id: u64, length: usize) -> FromHost {
        let passphrase = Some(Passphrase(Zeroizing::new("a passphrase".into())));
        FromHost::Signed { id, signature: vec![7; length], passphrase }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn frames_are_cut_wherever_the_reads_end_and_nothing_stays_behind() {
        let mut bytes = Vec::new();
        for (id, length) in [(1, 64), (2, 100_000), (3, 0)] {
            assert!(append(&signed(id, length), &mut bytes));
        }
        for cut in [1, 3, 4, 70, 90, 5000, bytes.len()] {
            let (messages, error, inbound) = received(&[&bytes[..cut], &bytes[cut..]]).await;
            assert!(error.is_none(), "{error:?}");
            let lengths: Vec<_> = messages
                .iter()
                .map(|message| match message {
                    FromHost::Signed { id, signature, .. } => (*id, signature.len()),
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(lengths, [(1, 64), (2, 100_000), (3, 0)]);
            assert!(inbound.buffer.iter().all(|byte| *byte == 0), "wiped");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_is_no_message_is_refused() {
        let mut trailing = Vec::new();
        append_frame(
            &[postcard::to_stdvec(&FromHost::SelfTested { id: 1 }).expect("encodes"), vec![0]].concat(),
            &mut trailing,
        );
        for bytes in [&[0xff; 4][..], &[0, 0, 0, 0], &[1, 0, 0, 0, 99], &[2, 0, 0, 0, 4, 0xff], &trailing] {
            let (messages, error, _) = received(&[bytes]).await;
            assert!(messages.is_empty() && matches!(error, Some(LinkError::Garbage)), "{bytes:?}: {error:?}");
        }
    }

    #[test]
    fn a_message_longer_than_a_frame_is_not_sent() {
        let mut outbound = Vec::new();
        assert!(!append_frame(&vec![0; MAX_FRAME + 1], &mut outbound) && outbound.is_empty());
    }
}
