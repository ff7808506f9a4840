//! Bare sockets, which show the cost of frames of the same sizes without any work on them.

use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::fleet::ONE_HOP;
use crate::load::{LENGTH_FIELD, Load, frame};
use crate::peers::Server;
use crate::process::Process;

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
        let (mut request, answer) = (vec![0; self.request], empty_answer(self.answer));
        let (inner_request, mut inner_answer) = ([0; INNER.0], [0; INNER.1]);
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

/// Starts both echoes. One hop is from the client to an echo and back; two hops are from the client
/// to a relay, from there to an echo, and back. The agent's request and answer have `sizes`.
pub(crate) fn echoes(
    directory: &Path,
    sizes: (usize, usize),
    servers: &mut Vec<Server>,
) -> anyhow::Result<[Load; 2]> {
    let [one, last, relay] = ["one", "last", "relay"].map(|name| directory.join(name));
    let one_server = Server::start(&mut server("echo", &one, with_lengths(sizes))?, &one)?;
    let last_server = Server::start(&mut server("echo", &last, INNER)?, &last)?;
    let mut command = server("echo", &relay, with_lengths(sizes))?;
    let relay_server = Server::start(command.arg("--next").arg(&last), &relay)?;
    let two = vec![relay_server.process("relay"), last_server.process("echo")];
    let loads = [
        load(ONE_HOP, &one, sizes, vec![one_server.process("echo")])?,
        load("socket echo, two hops", &relay, sizes, two)?,
    ];
    servers.extend([one_server, last_server, relay_server]);
    Ok(loads)
}

/// This program as a server of frames without content.
pub(crate) fn server(
    role: &str,
    socket: &Path,
    (request, answer): (usize, usize),
) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(role).arg("--socket").arg(socket);
    command.args(["--request", &request.to_string(), "--answer", &answer.to_string()]);
    Ok(command)
}

/// A load of frames without content.
pub(crate) fn load(
    name: &str,
    socket: &Path,
    (request, _): (usize, usize),
    processes: Vec<Process>,
) -> anyhow::Result<Load> {
    let request = frame(0, &[&vec![0; request - 1]]);
    Load::new(name, socket, (1, 1), request, move || processes.clone(), |_| true)
}

/// Sizes of frames with their length fields.
pub(crate) const fn with_lengths((request, answer): (usize, usize)) -> (usize, usize) {
    (LENGTH_FIELD + request, LENGTH_FIELD + answer)
}

/// An answer of this many bytes, with a true length field.
pub(crate) fn empty_answer(bytes: usize) -> Vec<u8> {
    frame(0, &[&vec![0; bytes - LENGTH_FIELD - 1]])
}
