//! Asks the spawner to start and kill children, and learns of their ends and of the spawner's own.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::rc::Rc;

use countersign_base::messages::confinement::ConfinementReport;
use countersign_base::messages::spawner::{ChildKind, FromSpawner, ToSpawner, receive, send};
use rustix::net::{AddressFamily, Shutdown, SocketFlags, SocketType, shutdown, socketpair};
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::sync::{Notify, oneshot, watch};

use crate::shutdown::{Stop, Stopper};

/// A spawner that was started. It cannot be asked anything yet.
#[derive(Debug)]
pub struct Launched {
    process: std::process::Child,
    socket: OwnedFd,
}

impl Launched {
    /// Starts `program` as the spawner. Its standard input is the connection to the front. Call
    /// this in a thread that lives as long as the front: the spawner ends when that thread ends.
    pub fn launch(
        program: &Path,
        arguments: impl IntoIterator<Item = impl AsRef<OsStr>>,
    ) -> io::Result<Self> {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?;
        let process = Command::new(program)
            .args(arguments)
            .env_clear()
            .current_dir("/")
            .stdin(theirs)
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self { process, socket: ours })
    }

    /// Opens the conversation with the spawner. Call this inside a `LocalRuntime`.
    pub fn connect(self) -> io::Result<Spawner> {
        // Tokio has no type for a socket of packets. Its stream can wait for any Unix socket.
        let socket = std::os::unix::net::UnixStream::from(self.socket);
        socket.set_nonblocking(true)?;
        Spawner::over(socket, Some(self.process))
    }
}

/// Starts children, and knows when the spawner itself is gone.
#[derive(Clone, Debug)]
pub struct Spawner(Rc<SpawnerLink>);

#[derive(Debug)]
struct SpawnerLink {
    socket: UnixStream,
    /// `None` for a spawner that the front did not start.
    process: RefCell<Option<std::process::Child>>,
    outbound: RefCell<VecDeque<(ToSpawner, Vec<OwnedFd>)>>,
    /// There is something to send.
    wake: Notify,
    next: Cell<u64>,
    children: RefCell<BTreeMap<u64, Expected>>,
    gone: (Stopper, Stop),
    limits: RefCell<ConfinementReport>,
}

/// The reports about a child that have not come yet.
#[derive(Debug)]
struct Expected {
    started: Option<oneshot::Sender<io::Result<u32>>>,
    ended: watch::Sender<Option<ChildExit>>,
}

/// The way in which a child ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ChildExit {
    Code(i32),
    Signal(i32),
    /// The spawner is gone, and the child with it.
    Unknown,
}

/// A child of the spawner. It is killed when this is dropped.
#[derive(Debug)]
pub struct Child {
    id: u64,
    pid: u32,
    ended: watch::Receiver<Option<ChildExit>>,
    spawner: Spawner,
}

impl Spawner {
    /// Connects to a spawner that runs as another user. Call this inside a `LocalRuntime`.
    pub fn at(path: &Path) -> io::Result<Self> {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket =
            rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)?;
        rustix::net::connect(&socket, &rustix::net::SocketAddrUnix::new(path)?)?;
        Self::over(socket.into(), None)
    }

    fn over(
        socket: std::os::unix::net::UnixStream,
        process: Option<std::process::Child>,
    ) -> io::Result<Self> {
        let link = Rc::new(SpawnerLink {
            socket: UnixStream::from_std(socket)?,
            process: RefCell::new(process),
            outbound: RefCell::default(),
            wake: Notify::new(),
            next: Cell::new(0),
            children: RefCell::default(),
            gone: Stopper::new(),
            limits: RefCell::default(),
        });
        tokio::task::spawn_local(Rc::clone(&link).converse());
        Ok(Self(link))
    }

    pub fn is_gone(&self) -> bool {
        self.0.gone.1.is_requested()
    }
    /// Starts a child and returns the connection to it. `operator` becomes the child's standard
    /// output.
    pub async fn start(
        &self,
        kind: ChildKind,
        operator: Option<OwnedFd>,
    ) -> io::Result<(Child, UnixStream)> {
        self.begin(kind, operator, None).await
    }

    /// Starts a host that gets its PIN from `keeper`.
    pub async fn start_host(&self, keeper: &Child) -> io::Result<(Child, UnixStream)> {
        self.begin(ChildKind::Host, None, Some(keeper.id)).await
    }

    async fn begin(
        &self,
        kind: ChildKind,
        operator: Option<OwnedFd>,
        keeper: Option<u64>,
    ) -> io::Result<(Child, UnixStream)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let stream = UnixStream::from_std(ours)?;
        let link = &self.0;
        let gone = || io::Error::other("the spawner is gone");
        if link.gone.1.is_requested() {
            return Err(gone()); // nobody would answer
        }
        let id = link.next.replace(link.next.get() + 1);
        let (started, pid) = oneshot::channel();
        let (ended, end) = watch::channel(None);
        link.children.borrow_mut().insert(id, Expected { started: Some(started), ended });
        let mut child = Child { id, pid: 0, ended: end, spawner: self.clone() };
        let descriptors = [OwnedFd::from(theirs)].into_iter().chain(operator).collect();
        link.ask(ToSpawner::Start { id, kind, keeper }, descriptors);
        child.pid = pid.await.unwrap_or_else(|_| Err(gone()))?;
        Ok((child, stream))
    }

    /// The limits that the spawner has put on itself.
    pub fn limits(&self) -> ConfinementReport {
        self.0.limits.borrow().clone()
    }

    /// Waits until the spawner is gone. After that nothing can be started any more.
    pub async fn gone(&self) {
        self.0.gone.1.clone().requested().await;
    }

    /// Ends the spawner and the children that it still has. Returns the spawner's exit status.
    pub fn end(&self) -> io::Result<ExitStatus> {
        let _ = shutdown(&self.0.socket, Shutdown::Both); // fails if it is gone already
        self.0
            .process
            .borrow_mut()
            .as_mut()
            .map_or_else(|| Ok(ExitStatus::default()), std::process::Child::wait)
    }
}

impl SpawnerLink {
    fn ask(&self, message: ToSpawner, descriptors: Vec<OwnedFd>) {
        if self.gone.1.is_requested() {
            return;
        }
        self.outbound.borrow_mut().push_back((message, descriptors));
        self.wake.notify_one();
    }

    async fn converse(self: Rc<Self>) {
        if let Err(error) = self.exchange().await {
            tracing::error!(%error, "the spawner is gone");
        }
        self.gone.0.stop();
        self.outbound.borrow_mut().clear();
        for (_, expected) in std::mem::take(&mut *self.children.borrow_mut()) {
            expected.ended.send_replace(Some(ChildExit::Unknown));
        }
    }

    /// Sends and receives until the spawner closes its end.
    async fn exchange(&self) -> io::Result<()> {
        loop {
            let waiting = !self.outbound.borrow().is_empty();
            tokio::select! {
                ready = self.socket.readable() => {
                    ready?;
                    match self.socket.try_io(Interest::READABLE, || receive(&self.socket)) {
                        Ok(Some((report, _))) => self.note(report),
                        Ok(None) => return Ok(()),
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error),
                    }
                }
                ready = self.socket.writable(), if waiting => {
                    ready?;
                    match self.socket.try_io(Interest::WRITABLE, || self.send_first()) {
                        Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                            return Err(error);
                        }
                        _ => {}
                    }
                }
                () = self.wake.notified() => {}
            }
        }
    }

    fn send_first(&self) -> io::Result<()> {
        let mut outbound = self.outbound.borrow_mut();
        let Some((message, descriptors)) = outbound.front() else { return Ok(()) };
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        send(&self.socket, message, &descriptors)?;
        outbound.pop_front();
        Ok(())
    }

    fn note(&self, report: FromSpawner) {
        let mut children = self.children.borrow_mut();
        match report {
            FromSpawner::Started { id, pid } => {
                if let Some(started) =
                    children.get_mut(&id).and_then(|expected| expected.started.take())
                {
                    let _ = started.send(Ok(pid)); // fails if the caller gave up
                }
            }
            FromSpawner::NotStarted { id, error } => {
                if let Some(started) = children.remove(&id).and_then(|expected| expected.started) {
                    let _ = started.send(Err(io::Error::from_raw_os_error(error))); // as above
                }
            }
            FromSpawner::Ready(limits) => drop(self.limits.replace(limits)),
            FromSpawner::Ended { id, code, signal } => {
                let exit = match (code, signal) {
                    (Some(code), _) => ChildExit::Code(code),
                    (None, Some(signal)) => ChildExit::Signal(signal),
                    (None, None) => ChildExit::Unknown,
                };
                if let Some(expected) = children.remove(&id) {
                    expected.ended.send_replace(Some(exit));
                }
            }
        }
    }
}

impl Child {
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    pub fn has_ended(&self) -> bool {
        self.ended.borrow().is_some()
    }

    /// Asks the spawner to kill the child. Nothing happens if it has ended already.
    pub fn kill(&self) {
        self.spawner.0.ask(ToSpawner::Kill { id: self.id }, Vec::new());
    }

    /// Waits for the child's end.
    pub async fn wait(&mut self) -> ChildExit {
        self.ended
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|exit| *exit)
            .unwrap_or(ChildExit::Unknown)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.ended.borrow().is_none() {
            self.kill();
        }
    }
}
