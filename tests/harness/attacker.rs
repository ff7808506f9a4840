//! An attacker is one thread of the lowest priority, under a uid of its own. It goes round its
//! connections and does the same to each. It opens a connection again that the agent has ended.

use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
};
use rustix::process::Uid;

use super::byte_client::ByteClient;

/// One step of an attack on one connection.
pub(crate) type Act = fn(&mut Hostile);

/// An attack that goes on until it is dropped.
pub(crate) struct Attacker {
    stop: Arc<AtomicBool>,
    done: Done,
    thread: Option<thread::JoinHandle<()>>,
}

/// The deeds of an attacker so far, on all its connections.
#[derive(Clone, Default)]
struct Done {
    opened: Arc<AtomicU64>,
    /// Those of an attack that were not refused: writes, passed descriptors, ends.
    steps: Arc<AtomicU64>,
}

/// One connection of an attacker.
pub(crate) struct Hostile {
    socket: PathBuf,
    stream: Option<ByteClient>,
    /// The number of bytes written on this connection.
    pub(crate) written: usize,
    done: Done,
}

impl Attacker {
    /// Returns when every connection has had its share of the attack.
    pub(crate) fn start(socket: &Path, uid: Option<u32>, connections: usize, act: Act) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Done::default());
        let (begun, has_begun) = std::sync::mpsc::channel();
        let thread = {
            let (socket, stop, done) = (socket.to_owned(), Arc::clone(&stop), done.clone());
            thread::spawn(move || {
                rustix::process::nice(19).expect("nobody needs a right to be nice");
                if let Some(uid) = uid.map(Uid::from_raw) {
                    // The uid of this thread alone.
                    rustix::thread::set_thread_res_uid(uid, uid, uid).expect("root may");
                }
                let mut connections: Vec<_> =
                    (0..connections).map(|_| Hostile::new(&socket, done.clone())).collect();
                for round in 1.. {
                    if stop.load(Ordering::Relaxed) {
                        return;
                    }
                    open_again(&mut connections);
                    connections
                        .iter_mut()
                        .filter(|connection| connection.stream.is_some())
                        .for_each(act);
                    if round == 3 {
                        begun.send(()).expect("somebody waits");
                    }
                }
            })
        };
        has_begun.recv().expect("it attacks");
        Self { stop, done, thread: Some(thread) }
    }

    /// The number of connections that it has opened so far.
    pub(crate) fn opened(&self) -> u64 {
        self.done.opened.load(Ordering::Relaxed)
    }

    /// The number of steps of the attack so far that were not refused.
    pub(crate) fn steps(&self) -> u64 {
        self.done.steps.load(Ordering::Relaxed)
    }
}

impl Drop for Attacker {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let ended = self.thread.take().map(thread::JoinHandle::join);
        if !thread::panicking() {
            ended.expect("joined once").expect("an attacker does not panic");
        }
    }
}

/// Drops connections that the other side has ended, and connects again as long as the socket has
/// room.
fn open_again(connections: &mut [Hostile]) {
    let open = |connection: &&mut Hostile| connection.stream.is_some();
    let mut open: Vec<_> = connections.iter_mut().filter(open).collect();
    let mut polled: Vec<_> = open
        .iter()
        .filter_map(|connection| connection.stream.as_ref())
        .map(|client| PollFd::from_borrowed_fd(client.0.as_fd(), PollFlags::empty()))
        .collect();
    // Mostly there is no event. The short wait keeps the attacker from taking a whole processor.
    let moment = Timespec { tv_sec: 0, tv_nsec: 200_000 };
    let _ = poll(&mut polled, Some(&moment));
    let ended: Vec<_> = polled.iter().map(|polled| !polled.revents().is_empty()).collect();
    drop(polled);
    for (connection, _) in open.iter_mut().zip(ended).filter(|(_, ended)| *ended) {
        connection.close();
    }
    connections.iter_mut().filter(|connection| connection.stream.is_none()).for_each(Hostile::open);
}

impl Hostile {
    fn new(socket: &Path, done: Done) -> Self {
        Self { socket: socket.to_owned(), stream: None, written: 0, done }
    }

    fn open(&mut self) {
        let address = SocketAddrUnix::new(&self.socket).expect("a short path");
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket =
            socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("a socket");
        if connect(&socket, &address).is_ok() {
            self.stream = Some(ByteClient(socket.into()));
            self.written = 0;
            self.done.opened.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn client(&self) -> &ByteClient {
        self.stream.as_ref().expect("only open ones come round")
    }

    fn stream(&self) -> &UnixStream {
        &self.client().0
    }

    pub(crate) fn close(&mut self) {
        self.stream = None;
    }

    pub(crate) fn leave(&mut self) {
        self.close();
        self.count(true);
    }

    fn count(&self, is_done: bool) {
        self.done.steps.fetch_add(u64::from(is_done), Ordering::Relaxed);
    }

    /// Writes the message again and again, as long as there is room.
    pub(crate) fn fill(&mut self, message: &[u8]) {
        while self.some(&message[self.written % message.len()..]) {}
    }

    /// Writes these bytes once, and nothing after them.
    pub(crate) fn once(&mut self, bytes: &[u8]) {
        while self.written < bytes.len() && self.some(&bytes[self.written..]) {}
    }

    /// Writes one more byte of the message.
    pub(crate) fn one_byte(&mut self, message: &[u8]) {
        self.some(&message[self.written % message.len()..][..1]);
    }

    fn some(&mut self, bytes: &[u8]) -> bool {
        let written = self.stream().write(bytes).unwrap_or(0);
        self.written += written;
        self.count(written > 0);
        written > 0
    }

    /// Reads up to `most` bytes.
    pub(crate) fn read(&mut self, most: usize) {
        let _ = self.stream().read(&mut vec![0; most]);
    }

    pub(crate) fn finish_writing(&mut self) {
        self.count(self.stream().shutdown(std::net::Shutdown::Write).is_ok());
    }

    /// Not every kernel has these.
    pub(crate) fn urgent_byte(&mut self) {
        let _ = rustix::net::send(self.stream(), b"!", SendFlags::OOB);
    }

    /// Sends `most` bytes of the rest of the message at most, with `count` descriptors beside them.
    pub(crate) fn pass(&mut self, message: &[u8], most: usize, count: usize) {
        let rest = &message[self.written % message.len()..];
        let null = std::fs::File::open("/dev/null").expect("there is always one");
        let passed = vec![null.as_fd(); count];
        let written =
            self.client().pass(&rest[..rest.len().min(most)], &passed, SendFlags::empty());
        let written = written.unwrap_or(0);
        self.written += written;
        self.count(written > 0);
    }
}
