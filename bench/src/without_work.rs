//! The agent without work: a relay and a signing host. They make the system calls that the agent
//! makes for an order, have a token sign, and do nothing else. So they show the least time that a
//! front and a host can take.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use anyhow::ensure;
use rustix::buffer::spare_capacity;
use rustix::event::{PollFd, PollFlags, epoll, poll};

use crate::echo::{self, INNER};
use crate::load::Load;
use crate::peers::{self, Server};
use crate::worker::{KeyInUse, TokenKey, TokenWorker};

/// Bytes that the journal gets for an order, in one record.
const RECORDS: usize = 632;
/// The file starts anew at this size.
const LARGEST_JOURNAL: usize = 64 * 1024 * 1024;
const BUFFER: usize = 16 * 1024;

/// In place of the front: waits, reads, asks the host, waits, reads, writes to a file, answers.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Relay {
    #[arg(long)]
    pub(crate) socket: PathBuf,
    #[arg(long)]
    pub(crate) request: usize,
    #[arg(long)]
    pub(crate) answer: usize,
    /// The socket of the signing host
    #[arg(long)]
    pub(crate) host: PathBuf,
    #[arg(long)]
    pub(crate) journal: PathBuf,
}

/// In place of the token host: waits, reads, signs, answers.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct SigningHost {
    #[command(flatten)]
    token: TokenWorker,
    #[arg(long)]
    socket: PathBuf,
}

impl Relay {
    pub(crate) fn serve(&self) -> anyhow::Result<()> {
        let listener = UnixListener::bind(&self.socket)?;
        let mut host = UnixStream::connect(&self.host)?;
        let mut journal = Journal::create(&self.journal)?;
        loop {
            let (client, _) = listener.accept()?;
            // A connection that ends gives an error on its read.
            let _ = self.serve_one(client, &mut host, &mut journal);
        }
    }

    fn serve_one(
        &self,
        mut client: UnixStream,
        host: &mut UnixStream,
        journal: &mut Journal,
    ) -> anyhow::Result<()> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let readable = epoll::EventFlags::IN | epoll::EventFlags::ET;
        for socket in [&client, &*host] {
            epoll::add(&epoll, socket, epoll::EventData::new_u64(0), readable)?;
        }
        let mut events = Vec::with_capacity(64);
        let mut wait = || {
            events.clear();
            epoll::wait(&epoll, spare_capacity(&mut events), None)
        };
        let mut buffer = [0; BUFFER];
        let answer = echo::empty_answer(self.answer);
        loop {
            wait()?;
            read_once(&mut client, &mut buffer, self.request)?;
            host.write_all(&[0; INNER.0])?;
            wait()?;
            read_once(host, &mut buffer, INNER.1)?;
            journal.append()?;
            client.write_all(&answer)?;
        }
    }
}

impl SigningHost {
    pub(crate) fn serve(self) -> anyhow::Result<()> {
        let mut key = self.token.key_in_use()?;
        let listener = UnixListener::bind(&self.socket)?;
        loop {
            let (relay, _) = listener.accept()?;
            // A connection that ends gives an error on its read.
            let _ = serve_relay(relay, &mut key);
        }
    }
}

fn serve_relay(mut relay: UnixStream, key: &mut KeyInUse) -> anyhow::Result<()> {
    let mut buffer = [0; BUFFER];
    loop {
        poll(&mut [PollFd::new(&relay, PollFlags::IN)], None)?;
        read_once(&mut relay, &mut buffer, INNER.0)?;
        key.use_once()?;
        relay.write_all(&[0; INNER.1])?;
    }
}

/// Reads a whole frame with one call. The other end writes it with one call.
fn read_once(socket: &mut UnixStream, buffer: &mut [u8], length: usize) -> anyhow::Result<()> {
    let read = socket.read(buffer)?;
    ensure!(read == length, "{read} bytes instead of {length}");
    Ok(())
}

/// A file that gets as many bytes as the journal.
struct Journal {
    file: File,
    size: usize,
}

impl Journal {
    fn create(path: &Path) -> std::io::Result<Self> {
        Ok(Self { file: File::options().append(true).create_new(true).open(path)?, size: 0 })
    }

    fn append(&mut self) -> std::io::Result<()> {
        if self.size > LARGEST_JOURNAL {
            self.file.set_len(0)?;
            self.size = 0;
        }
        self.file.write_all(&[b'x'; RECORDS])?;
        self.size += RECORDS;
        Ok(())
    }
}

/// Starts relay and host. Their sockets and their token are named by `label`. The agent's request
/// and answer have `sizes`.
pub(crate) fn start(
    name: &str,
    program: &Path,
    (directory, label): (&Path, &str),
    sizes: (usize, usize),
    servers: &mut Vec<Server>,
) -> anyhow::Result<Load> {
    let [host, socket, journal] =
        ["host", "sock", "journal"].map(|extension| directory.join(format!("{label}.{extension}")));
    let token = (label, TokenKey::Copy);
    let mut command = peers::with_own_token("signing-host", program, directory, token)?;
    let host_server = Server::start(command.arg("--socket").arg(&host), &host)?;
    let mut command = echo::server("relay", &socket, echo::with_lengths(sizes))?;
    command.arg("--host").arg(&host).arg("--journal").arg(journal);
    let relay_server = Server::start(&mut command, &socket)?;
    let processes = vec![relay_server.process("relay"), host_server.process("host")];
    servers.extend([host_server, relay_server]);
    echo::load(name, &socket, sizes, processes)
}
