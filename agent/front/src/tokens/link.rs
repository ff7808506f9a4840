//! Writes frames for a token host into a buffer, and reads messages from the bytes that the host
//! sends.

use std::io;

use countersign_base::messages::frame::{self, Frames};
use countersign_base::messages::token_host::{FromHost, MAX_MESSAGE};
use serde::Serialize;

const USUAL_SIZE: usize = 64 * 1024;

/// Why nothing more can be read from a host: it broke the protocol, or the socket failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    #[error("the token host closed its socket")]
    Closed,
    #[error("the token host sent bytes that are not a message")]
    Garbage,
    #[error("the socket to the token host failed")]
    Socket(#[from] io::Error),
}

/// Appends `body` as one frame. False if it is too long for a frame; then nothing was appended.
pub(crate) fn append_frame(body: &[u8], outbound: &mut Vec<u8>) -> bool {
    if body.len() > MAX_MESSAGE {
        return false;
    }
    outbound.extend_from_slice(&(body.len() as u32).to_le_bytes());
    outbound.extend_from_slice(body);
    true
}

/// Does the same as [`append_frame`], for a message.
pub(crate) fn append(message: &impl Serialize, outbound: &mut Vec<u8>) -> bool {
    frame::encode(message, outbound).is_ok()
}

/// Collects the bytes that a host sends. They may hold a passphrase, so decoded bytes are wiped.
pub(crate) struct Inbound(Frames);

impl Inbound {
    pub(crate) fn new() -> Self {
        Self(Frames::with_room(USUAL_SIZE))
    }

    /// Reads the bytes that are there and gives each complete message to `each`, until it refuses
    /// one. `fill` is a method of `Stream` that reads.
    pub(crate) fn read<E: From<LinkError>>(
        &mut self,
        fill: impl FnOnce(&mut [u8]) -> io::Result<usize>,
        mut each: impl FnMut(FromHost) -> Result<(), E>,
    ) -> Result<(), E> {
        match fill(self.0.spare()) {
            Ok(0) => return Err(LinkError::Closed.into()),
            Ok(bytes) => self.0.advance(bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(LinkError::Socket(error).into()),
        }
        while let Some(message) = self.0.take().map_err(|_| LinkError::Garbage)? {
            each(message)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::sockets::stream::Stream;
    use countersign_base::messages::token_host::Passphrase;
    use zeroize::Zeroizing;

    async fn received(chunks: &[&[u8]]) -> (Vec<FromHost>, Option<LinkError>, Inbound) {
        let (ours, theirs) = UnixStream::pair().expect("a socket pair");
        let [ours, theirs] = [ours, theirs].map(|end| Stream::new(end).expect("registered"));
        let (mut inbound, mut messages) = (Inbound::new(), Vec::new());
        for chunk in chunks.iter().flat_map(|chunk| chunk.chunks(50_000)) {
            assert_eq!(theirs.try_write(chunk).expect("there is room"), chunk.len());
            ours.readable().await.expect("readable");
            for _ in 0..2 {
                let read = inbound.read(
                    |room| ours.fill(room),
                    |message| {
                        messages.push(message);
                        Ok::<_, LinkError>(())
                    },
                );
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
            assert!(inbound.0.buffer().iter().all(|byte| *byte == 0), "wiped");
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_is_no_message_is_refused() {
        let mut trailing = Vec::new();
        append_frame(
            &[postcard::to_stdvec(&FromHost::SelfTested { id: 1 }).expect("encodes"), vec![0]]
                .concat(),
            &mut trailing,
        );
        for bytes in
            [&[0xff; 4][..], &[0, 0, 0, 0], &[1, 0, 0, 0, 99], &[2, 0, 0, 0, 4, 0xff], &trailing]
        {
            let (messages, error, _) = received(&[bytes]).await;
            assert!(
                messages.is_empty() && matches!(error, Some(LinkError::Garbage)),
                "{bytes:?}: {error:?}"
            );
        }
    }

    #[test]
    fn a_message_longer_than_a_frame_is_not_sent() {
        let mut outbound = Vec::new();
        assert!(!append_frame(&vec![0; MAX_MESSAGE + 1], &mut outbound) && outbound.is_empty());
    }
}
