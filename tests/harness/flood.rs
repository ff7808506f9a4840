//! The flood is one thread of the lowest priority that keeps many connections full. A bare server
//! under the same flood shows the delay that the machine causes.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Uid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::attacker::{Act, Attacker};
use super::byte_client::{ByteClient, framed};
use super::served::in_runtime;
use super::timing::{percentile_99, timed};

const FAILURE: u8 = 5;
/// Longest message that the bare server reads.
const LONGEST: u32 = 256 * 1024;
const FIRST_UID: u32 = 61_001;

/// The uid of a client that floods; `None` unless the tests run as root.
pub(crate) fn uid_of(client: usize) -> Option<u32> {
    rustix::process::getuid().is_root().then_some(FIRST_UID + client as u32)
}

/// A flood that goes on until it is dropped.
pub(crate) struct Flood {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicU64>,
    thread: Option<thread::JoinHandle<()>>,
}

struct Connection {
    stream: UnixStream,
    /// The part of the message that is written, in bytes.
    written: usize,
}

impl Flood {
    /// Returns when every connection is full.
    pub(crate) fn start(
        socket: &Path,
        uid: Option<u32>,
        connections: usize,
        message: &[u8],
    ) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (full, is_full) = mpsc::channel();
        let thread = {
            let (socket, message) = (socket.to_owned(), message.to_owned());
            let (stop, answered) = (Arc::clone(&stop), Arc::clone(&answered));
            thread::spawn(move || {
                rustix::process::nice(19).expect("nobody needs a right to be nice");
                if let Some(uid) = uid.map(Uid::from_raw) {
                    // This sets the uid of this thread only, not of the process.
                    rustix::thread::set_thread_res_uid(uid, uid, uid).expect("root may");
                }
                let mut connections: Vec<_> =
                    (0..connections).map(|_| Connection::open(&socket)).collect();
                let mut rounds = 0;
                while !stop.load(Ordering::Relaxed) {
                    answered.fetch_add(press(&mut connections, &message), Ordering::Relaxed);
                    rounds += 1;
                    if rounds == 3 {
                        full.send(()).expect("somebody waits");
                    }
                }
            })
        };
        is_full.recv().expect("it floods");
        Self { stop, answered, thread: Some(thread) }
    }

    /// The number of reads that brought an answer.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(thread::JoinHandle::join);
        if !thread::panicking() {
            ended.expect("joined once").expect("the flood does not panic");
        }
    }
}

impl Connection {
    fn open(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("it listens");
        stream.set_nonblocking(true).expect("a socket");
        Self { stream, written: 0 }
    }

    fn fill(&mut self, message: &[u8]) {
        while let Ok(written) = self.stream.write(&message[self.written..]) {
            self.written = (self.written + written) % message.len();
        }
    }
}

/// Reads and writes as much as it can; returns the number of reads that brought something.
fn press(connections: &mut [Connection], message: &[u8]) -> u64 {
    let both = PollFlags::IN | PollFlags::OUT;
    let mut polled: Vec<_> = connections
        .iter()
        .map(|connection| PollFd::from_borrowed_fd(connection.stream.as_fd(), both))
        .collect();
    let patience = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };
    if poll(&mut polled, Some(&patience)).is_err() {
        return 0; // interrupted
    }
    let ready: Vec<_> = polled.iter().map(PollFd::revents).collect();
    drop(polled);
    let mut answers = [0; 64 * 1024];
    let mut answered = 0;
    for (connection, events) in connections.iter_mut().zip(ready) {
        if events.contains(PollFlags::IN) {
            answered +=
                u64::from(connection.stream.read(&mut answers).is_ok_and(|bytes| bytes > 0));
        }
        if events.contains(PollFlags::OUT) {
            connection.fill(message);
        }
    }
    answered
}

/// A server that answers every message with a failure and judges nothing, until it is dropped.
pub(crate) struct Echo {
    directory: tempfile::TempDir,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
}

impl Echo {
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o711)).expect("ours");
        let (stop, stopped) = tokio::sync::oneshot::channel();
        let (ready, is_ready) = mpsc::channel();
        let socket = directory.path().join("echo.sock");
        thread::spawn(move || {
            in_runtime(async move {
                let listener = tokio::net::UnixListener::bind(&socket).expect("a socket");
                fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).expect("ours");
                tokio::task::spawn_local(async move {
                    while let Ok((stream, _)) = listener.accept().await {
                        tokio::task::spawn_local(echo(stream));
                    }
                });
                ready.send(()).expect("somebody waits");
                let _ = stopped.await;
            });
        });
        is_ready.recv().expect("it starts");
        Self { directory, stop: Some(stop) }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("echo.sock")
    }

    pub(crate) fn flood(&self, client: usize, connections: usize, message: &[u8]) -> Flood {
        Flood::start(&self.socket(), uid_of(client), connections, message)
    }

    pub(crate) fn attack(&self, client: usize, connections: usize, act: Act) -> Attacker {
        Attacker::start(&self.socket(), uid_of(client), connections, act)
    }

    /// Asks for little over a connection of its own.
    pub(crate) fn asked_anew(&self) -> Option<String> {
        let mut client = ByteClient::connect(&self.socket());
        client.send(&framed(&[11]));
        client.answer()
    }

    /// The p99 of a client that asks for little.
    pub(crate) fn quiet(&self, requests: usize) -> Duration {
        let mut client = ByteClient::connect(&self.socket());
        let message = framed(&[11]);
        percentile_99(&timed(requests, || {
            client.send(&message);
            assert_eq!(client.answer().as_deref(), Some("FAILURE"));
        }))
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.take();
    }
}

async fn echo(mut stream: tokio::net::UnixStream) {
    let mut message = Vec::new();
    while let Ok(length @ 1..=LONGEST) = stream.read_u32().await {
        message.resize(length as usize, 0);
        let read = stream.read_exact(&mut message).await;
        if read.is_err() || stream.write_all(&framed(&[FAILURE])).await.is_err() {
            return;
        }
    }
}
