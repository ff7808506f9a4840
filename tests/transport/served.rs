//! A server with a handler made for tests, in a thread of this process or in a process of its own.

use std::io::{BufRead, BufReader, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::Duration;

use countersign_base::config::endpoint::{Endpoint, ListenerKind};
use countersign_front::sockets::activation::GivenSockets;
use countersign_front::sockets::connection::{ConnectionLimits, Handler};
use countersign_front::sockets::frame::{Answer, Incoming};
use countersign_front::sockets::listener::Limits;
use countersign_front::sockets::peer::Peer;
use countersign_front::sockets::server::Server;
use countersign_front::sockets::turns::looked_at_sockets;
use rustix::io::retry_on_intr;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tokio::sync::oneshot;

use crate::machine;

const CHILD_DIRECTORY: &str = "TRANSPORT_TEST_DIRECTORY";
const CHILD_DESCRIPTORS: &str = "TRANSPORT_TEST_DESCRIPTORS";

/// Answers each extension by what its name says.
pub(crate) struct ByName;

impl Handler for ByName {
    async fn handle(&self, peer: &Peer, incoming: Incoming) -> Answer {
        let (name, payload, descriptor) = match incoming {
            Incoming::RequestIdentities => return Answer::identities(vec![]),
            Incoming::Refused(_) => return Answer::failure(),
            Incoming::Oversized { name, .. } => {
                return Answer::error(&name, "request.malformed", "too long");
            }
            Incoming::Extension { name, payload, descriptor } => (name, payload, descriptor),
        };
        let number = || String::from_utf8_lossy(&payload).parse().expect("the payload is a number");
        match name.as_str() {
            "echo@countersign" => Answer::extension(&name, &payload),
            "length@countersign" => Answer::extension(&name, &vec![b'x'; number() as usize]),
            "sleep@countersign" => {
                tokio::time::sleep(Duration::from_millis(number())).await;
                Answer::extension(&name, &payload)
            }
            "who@countersign" => {
                let who = format!("{:?} {:?} {:?}", peer.uid, peer.listener, descriptor.is_some());
                Answer::extension(&name, who.as_bytes())
            }
            "until-gone@countersign" => {
                peer.gone().await;
                std::fs::write(String::from_utf8_lossy(&payload).as_ref(), b"gone")
                    .expect("the file is written");
                Answer::failure()
            }
            "write@countersign" => {
                let written = descriptor
                    .map(|descriptor| std::fs::File::from(descriptor).write_all(&payload).is_ok());
                Answer::extension(&name, format!("{written:?}").as_bytes())
            }
            _ => Answer::failure(),
        }
    }
}

/// Short deadlines, so that tests of deadlines are short.
pub(crate) fn quick() -> Limits {
    let connection = ConnectionLimits {
        half_frame: Duration::from_millis(400),
        not_reading: Duration::from_millis(400),
        ..ConnectionLimits::default()
    };
    Limits { connection, ..Limits::default() }
}

/// A running server, stopped on drop.
pub(crate) struct Served {
    pub(crate) directory: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Served {
    pub(crate) fn start(limits: Limits) -> Self {
        machine::share();
        let directory = tempfile::tempdir().expect("a directory");
        let (stop, stopped) = oneshot::channel();
        let (ready, is_ready) = std::sync::mpsc::channel();
        let path = directory.path().to_owned();
        let thread = std::thread::spawn(move || {
            serve(&path, limits, async move {
                ready.send(()).expect("the test waits");
                let _ = stopped.await;
            });
        });
        is_ready.recv().expect("the server starts");
        Self { directory, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(&self.path("agent.sock"))
    }

    /// Asks the server to stop, as a signal would; [`Served::finish`] waits for it.
    pub(crate) fn stop(&mut self) {
        self.stop.take();
    }

    pub(crate) fn finish(&mut self) {
        self.stop();
        self.thread.take().expect("finished once").join().expect("the server does not panic");
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop();
    }
}

pub(crate) fn endpoints(directory: &Path) -> Vec<Endpoint> {
    let endpoint = |name: &str, kind| Endpoint { path: directory.join(name), kind };
    vec![
        endpoint("admin.sock", ListenerKind::Admin),
        endpoint("agent.sock", ListenerKind::Agent),
        endpoint("bot.sock", ListenerKind::Client("bot".into())),
    ]
}

pub(crate) fn in_runtime(future: impl Future<Output = ()>) {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime =
        runtime.enable_all().on_thread_unpark(looked_at_sockets).build_local(Default::default());
    runtime.expect("a runtime").block_on(future);
}

fn serve(directory: &Path, limits: Limits, until: impl Future<Output = ()>) {
    in_runtime(async {
        let mut server =
            Server::new(Rc::new(ByName), limits, GivenSockets::default()).expect("threads");
        server.listen(endpoints(directory)).expect("the sockets open");
        until.await;
        server.close(Duration::from_secs(5)).await;
    });
}

/// A server in a process of its own, for what concerns a whole process: memory and descriptors.
pub(crate) struct ServedApart {
    directory: tempfile::TempDir,
    process: Child,
}

impl ServedApart {
    /// `descriptors` is the most the process may have open.
    pub(crate) fn start(descriptors: u64) -> Self {
        machine::share();
        let directory = tempfile::tempdir().expect("a directory");
        let mut process = Command::new(std::env::current_exe().expect("the test program"))
            .args(["transport::served::as_a_process", "--exact", "--ignored", "--nocapture"])
            .env(CHILD_DIRECTORY, directory.path())
            .env(CHILD_DESCRIPTORS, descriptors.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test program runs");
        let output = BufReader::new(process.stdout.take().expect("piped"));
        let ready = output.lines().map_while(Result::ok).any(|line| line.ends_with("serving"));
        assert!(ready, "the server starts");
        Self { directory, process }
    }

    pub(crate) fn connect(&self) -> Client {
        Client::connect(&self.directory.path().join("agent.sock"))
    }

    /// Resident memory of the serving process, in bytes.
    pub(crate) fn resident(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))
            .expect("the server lives");
        let line =
            text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a resident size");
        let kilobytes: u64 = line.trim_end_matches("kB").trim().parse().expect("a number");
        kilobytes * 1024
    }
}

impl Drop for ServedApart {
    fn drop(&mut self) {
        self.process.kill().expect("ours to kill");
        self.process.wait().expect("ours to wait for");
    }
}

#[test]
#[ignore = "the server that ServedApart starts"]
#[allow(clippy::print_stdout)]
fn as_a_process() {
    let directory =
        PathBuf::from(std::env::var_os(CHILD_DIRECTORY).expect("started by ServedApart"));
    let descriptors = std::env::var(CHILD_DESCRIPTORS).expect("started by ServedApart");
    limit_descriptors(descriptors.parse().expect("a number"));
    let limits = Limits { connections: 20_000, connections_per_uid: 20_000, ..quick() };
    serve(&directory, limits, async {
        println!("serving");
        std::future::pending().await
    });
}

/// For tests that have many: as many as the hard limit allows, since all tests of a process share
/// them.
pub(crate) fn raise_descriptors() {
    countersign_front::sockets::server::raise_descriptor_limit();
}

/// How many connections another process can have: a server holds a descriptor of the socket and one
/// of the peer's process for each, and not even root may take more than the hard limit everywhere.
pub(crate) fn most_connections() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    limit.map_or(usize::MAX, |limit| limit.saturating_sub(OTHER_DESCRIPTORS) as usize / 2)
}

/// Of a process that serves so many connections.
pub(crate) fn descriptors(connections: usize) -> u64 {
    connections as u64 * 2 + OTHER_DESCRIPTORS
}

const OTHER_DESCRIPTORS: u64 = 1_000;

fn limit_descriptors(soft: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // More than the hard limit is for root to take.
    let maximum = getrlimit(Resource::Nofile).maximum.map(|maximum| maximum.max(soft));
    setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum })
        .expect("below the hard limit, or root");
}

/// As many as the kernel lets one message carry.
pub(crate) const MOST_DESCRIPTORS: usize = 253;

/// A client that speaks in bytes.
pub(crate) struct Client(pub(crate) UnixStream);

impl Client {
    pub(crate) fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("the server listens");
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        stream.set_write_timeout(Some(Duration::from_secs(20))).expect("a timeout");
        Self(stream)
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).expect("the server reads");
    }

    /// Sends `bytes` in one message, with so many descriptors beside it.
    pub(crate) fn send_with(&mut self, bytes: &[u8], descriptors: usize) {
        let passed = vec![self.0.as_fd(); descriptors];
        assert_eq!(
            self.pass(bytes, &passed, SendFlags::empty()).expect("the server reads"),
            bytes.len()
        );
    }

    /// Sends `bytes` in one message, with these descriptors beside it.
    pub(crate) fn pass(
        &self,
        bytes: &[u8],
        passed: &[BorrowedFd<'_>],
        flags: SendFlags,
    ) -> std::io::Result<usize> {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
        let mut ancillary = SendAncillaryBuffer::new(&mut space);
        assert!(
            ancillary.push(SendAncillaryMessage::ScmRights(passed)),
            "no more than the kernel lets one message carry"
        );
        let sent =
            retry_on_intr(|| sendmsg(&self.0, &[IoSlice::new(bytes)], &mut ancillary, flags));
        Ok(sent?)
    }

    pub(crate) fn ask(&mut self, name: &str, payload: &str) -> String {
        self.send(&extension(name, payload));
        self.answer().expect("an answer")
    }

    /// Reads once. A signal, such as the end of another test's child, interrupts a read that has a
    /// timeout.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        loop {
            match self.0.read(buffer) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                other => return other,
            }
        }
    }

    /// The payload of the next answer, `FAILURE`, or nothing where the server has closed the
    /// connection.
    pub(crate) fn answer(&mut self) -> Option<String> {
        let mut length = [0; 4];
        match self.read(&mut length[..1]) {
            Ok(0) => return None,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
            other => other.expect("an answer in time"),
        };
        self.0.read_exact(&mut length[1..]).expect("a whole length");
        let mut message = vec![0; u32::from_be_bytes(length) as usize];
        self.0.read_exact(&mut message).expect("a whole frame");
        match message[0] {
            5 => Some("FAILURE".into()),
            12 => Some("IDENTITIES".into()),
            29 => {
                let name =
                    u32::from_be_bytes(message[1..5].try_into().expect("four bytes")) as usize;
                Some(String::from_utf8(message.split_off(1 + 4 + name + 4)).expect("text"))
            }
            other => panic!("an answer of type {other}"),
        }
    }
}

pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u32).to_be_bytes(), message].concat()
}

pub(crate) fn extension(name: &str, payload: &str) -> Vec<u8> {
    framed(&[&[27], &framed(name.as_bytes())[..], &framed(payload.as_bytes())].concat())
}
