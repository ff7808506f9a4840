//! A server with a handler made for tests, in a thread of this process or in a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use countersign_base::config::listener::{ListenerConfig, ListenerKind};
use countersign_front::sockets::activation::GivenSockets;
use countersign_front::sockets::connection::{ConnectionLimits, Handler};
use countersign_front::sockets::frame::{Answer, Incoming};
use countersign_front::sockets::listener::ServerLimits;
use countersign_front::sockets::peer::Peer;
use countersign_front::sockets::server::Server;
use countersign_front::sockets::turns::looked_at_sockets;
use tokio::sync::oneshot;

use super::byte_client::ByteClient;
use super::machine;

const CHILD_DIRECTORY: &str = "TRANSPORT_TEST_DIRECTORY";
const CHILD_DESCRIPTORS: &str = "TRANSPORT_TEST_DESCRIPTORS";

/// Answers each extension as its name says.
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
pub(crate) fn quick() -> ServerLimits {
    let connection = ConnectionLimits {
        half_frame: Duration::from_millis(400),
        not_reading: Duration::from_millis(400),
        ..ConnectionLimits::default()
    };
    ServerLimits { connection, ..ServerLimits::default() }
}

/// A running server, stopped on drop.
pub(crate) struct Served {
    pub(crate) directory: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Served {
    pub(crate) fn start(limits: ServerLimits) -> Self {
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

    pub(crate) fn connect(&self) -> ByteClient {
        ByteClient::connect(&self.path("agent.sock"))
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

pub(crate) fn endpoints(directory: &Path) -> Vec<ListenerConfig> {
    let endpoint = |name: &str, kind| ListenerConfig { path: directory.join(name), kind };
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

fn serve(directory: &Path, limits: ServerLimits, until: impl Future<Output = ()>) {
    in_runtime(async {
        let mut server =
            Server::new(Rc::new(ByName), limits, GivenSockets::default()).expect("threads");
        server.listen(endpoints(directory)).expect("the sockets open");
        until.await;
        server.close(Duration::from_secs(5)).await;
    });
}

/// A server in a process of its own, for tests of a whole process: its memory and its descriptors.
pub(crate) struct ServedApart {
    directory: tempfile::TempDir,
    process: Child,
}

impl ServedApart {
    /// The process may have `descriptors` open at most.
    pub(crate) fn start(descriptors: u64) -> Self {
        machine::share();
        let directory = tempfile::tempdir().expect("a directory");
        let mut process = Command::new(std::env::current_exe().expect("the test program"))
            .args(["harness::served::as_a_process", "--exact", "--ignored", "--nocapture"])
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

    pub(crate) fn connect(&self) -> ByteClient {
        ByteClient::connect(&self.directory.path().join("agent.sock"))
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
    let limits = ServerLimits { connections: 20_000, connections_per_uid: 20_000, ..quick() };
    serve(&directory, limits, async {
        println!("serving");
        std::future::pending().await
    });
}

/// Raises the limit of this process to the hard limit. All tests of the process share it.
pub(crate) fn raise_descriptors() {
    countersign_front::sockets::server::raise_descriptor_limit();
}

/// The most connections that another process can have. A server holds two descriptors for each: the
/// socket, and one of the peer's process. On some machines not even root may go beyond the hard
/// limit.
pub(crate) fn most_connections() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum;
    limit.map_or(usize::MAX, |limit| limit.saturating_sub(OTHER_DESCRIPTORS) as usize / 2)
}

/// The descriptors of a process that serves this number of connections.
pub(crate) fn descriptors(connections: usize) -> u64 {
    connections as u64 * 2 + OTHER_DESCRIPTORS
}

const OTHER_DESCRIPTORS: u64 = 1_000;

fn limit_descriptors(soft: u64) {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    // Only root may go beyond the hard limit.
    let maximum = getrlimit(Resource::Nofile).maximum.map(|maximum| maximum.max(soft));
    setrlimit(Resource::Nofile, Rlimit { current: Some(soft), maximum })
        .expect("below the hard limit, or root");
}

pub(crate) fn eventually(condition: impl FnMut() -> bool) {
    let mut condition = condition;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "it never happened");
        std::thread::sleep(Duration::from_millis(20));
    }
}
