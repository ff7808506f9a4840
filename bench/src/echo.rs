//! Bare sockets, which show the cost of frames of the same sizes without any work on them.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;

/// Answers every request of `request` bytes with `answer` bytes; asks `next` in between if there is
/// one.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Echo {
    #[arg(long)]
    pub(crate) socket: PathBuf,
    #[arg(long)]
    pub(crate) request: usize,
    #[arg(long)]
    pub(crate) answer: usize,
    /// A second hop, as from the front to a token host
    #[arg(long)]
    pub(crate) next: Option<PathBuf>,
}

/// Sizes of the frames between front and token host for a Binance order, with their length fields.
pub(crate) const INNER: (usize, usize) = (170, 43);

impl Echo {
    pub(crate) fn serve(&self) -> anyhow::Result<()> {
        let listener = UnixListener::bind(&self.socket)?;
        let mut next = self.next.as_ref().map(UnixStream::connect).transpose()?;
        loop {
            let (client, _) = listener.accept()?;
            // A connection that ends gives an error on its read.
            let _ = self.serve_one(client, next.as_mut());
        }
    }

    fn serve_one(
        &self,
        mut client: UnixStream,
        mut next: Option<&mut UnixStream>,
    ) -> std::io::Result<()> {
        let (mut request, mut answer) = (vec![0; self.request], vec![0; self.answer]);
        let (inner_request, mut inner_answer) = ([0; INNER.0], [0; INNER.1]);
        let length = (self.answer - 4) as u32;
        answer[..4].copy_from_slice(&length.to_be_bytes());
        loop {
            client.read_exact(&mut request)?;
            if let Some(next) = &mut next {
                next.write_all(&inner_request)?;
                next.read_exact(&mut inner_answer)?;
            }
            client.write_all(&answer)?;
        }
    }
}
