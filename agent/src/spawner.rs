//! The spawner: a small process that starts token hosts and other children for the front.
//!
//! Before the front reads a client's first byte, it gives up the right to start programs, and many
//! rights that a token needs. But a host that died must be started again. So this process is
//! started first, and only it starts children. It holds no secret and gets no byte of a client. The
//! front tells it which of a few kinds of child to start, and hands over the child's descriptors.
//! Program, arguments and environment are fixed here. The front itself tells the child its task.
//! When the front is gone, the spawner lets its children end by themselves, kills those that are
//! left after a few seconds, and ends.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use countersign_base::messages::confinement::Demand;
use countersign_base::messages::spawner::{
    ChildKind, FromSpawner, ToKeeper, ToSpawner, receive, send,
};
use countersign_base::system::confine::{self, Calls};
use countersign_base::system::{log, sys};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The program, and its arguments for each kind of child.
#[derive(Clone, Debug)]
pub struct Programs {
    pub program: PathBuf,
    pub configuration: Vec<OsString>,
    pub enrol: Vec<OsString>,
    pub host: Vec<OsString>,
    pub keeper: Vec<OsString>,
    pub vault: Vec<OsString>,
}

impl Programs {
    /// This very program, even if its file has been replaced since it started.
    ///
    /// The front can write to `front_writes`; no child loads a file from there.
    ///
    /// `credentials` is the directory in which systemd put PINs, for children that read the
    /// configuration themselves.
    pub fn of_agent(
        config_file: &Path,
        front_writes: &[PathBuf],
        credentials: Option<&Path>,
    ) -> Self {
        let credentials =
            credentials.into_iter().flat_map(|path| ["--credentials".into(), path.into()]);
        let reads = ["--config".into(), config_file.into()].into_iter().chain(credentials);
        let reads: Vec<OsString> = reads.collect();
        let wary = |kind: &str| {
            let each = front_writes
                .iter()
                .flat_map(|path| ["--front-writes".into(), path.clone().into_os_string()]);
            [kind.into()].into_iter().chain(each).collect()
        };
        Self {
            program: "/proc/self/exe".into(),
            configuration: vec!["configuration".into(), "--config".into(), config_file.into()],
            enrol: [wary("enrol"), reads.clone()].concat(),
            host: wary("host"),
            keeper: vec!["keeper".into()],
            vault: [wary("vault-host"), reads].concat(),
        }
    }
}

/// Time that children have to end by themselves once the front is gone. A child may be inside
/// C_Login, and a software token that is cut off while it rewrites its files is lost. A child that
/// hangs is killed after this time.
const PARTING: Duration = Duration::from_secs(3);

/// Starts children for the front at the other end of `control` until the front is gone, and then
/// ends them.
///
/// Children inherit the limits of a process. So the spawner has no limit that would disturb
/// pinentry, or a module before its login. It keeps its files and its network, and the children
/// give them up themselves.
///
/// With `only_vaults` it runs as the vaults' own user, and starts only processes that open vaults.
pub fn run(
    control: OwnedFd,
    programs: Programs,
    demand: Demand,
    only_vaults: bool,
) -> anyhow::Result<()> {
    confine::hide_memory()?;
    // The front decides when its processes end, not a key pressed at its terminal or a signal to
    // the whole service.
    sys::outlive_termination_signals()?;
    let limits = confine::enter(demand, None, Calls::Spawner)?;
    log::begin();
    let mut process = Process { control, programs, only_vaults, children: BTreeMap::new() };
    let result = match process.tell(&FromSpawner::Ready(limits)).and_then(|()| process.serve()) {
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset
            ) =>
        {
            Ok(())
        }
        result => result,
    };
    process.part();
    Ok(result?)
}

struct Process {
    control: OwnedFd,
    programs: Programs,
    only_vaults: bool,
    children: BTreeMap<u64, Running>,
}

struct Running {
    child: Child,
    /// For a keeper: the socket on which it gets its ends of connections to hosts.
    door: Option<OwnedFd>,
    /// Readable once the child has ended.
    pidfd: OwnedFd,
}

impl Process {
    fn serve(&mut self) -> io::Result<()> {
        loop {
            let (asked, ended) = self.wait()?;
            for id in ended {
                self.reap(id)?;
            }
            if !asked {
                continue;
            }
            match receive(&self.control)? {
                None => return Ok(()),
                Some((ToSpawner::Kill { id }, _)) => {
                    if let Some(running) = self.children.get_mut(&id) {
                        let _ = running.child.kill(); // fails where it has ended already
                    }
                }
                Some((ToSpawner::Start { id, kind, keeper }, descriptors)) => {
                    self.start(id, kind, keeper, descriptors)?;
                }
            }
        }
    }

    /// Waits for the children, which end by themselves because the front has closed its end of
    /// their connections. Then kills those that are left.
    fn part(&mut self) {
        let end = Instant::now() + PARTING;
        while let Some(left) =
            end.checked_duration_since(Instant::now()).filter(|_| !self.children.is_empty())
        {
            let mut polled: Vec<_> = self
                .children
                .values()
                .map(|running| PollFd::new(&running.pidfd, PollFlags::IN))
                .collect();
            let timeout = Timespec::try_from(left).ok();
            // An interrupted wait is only a shorter wait.
            if !matches!(poll(&mut polled, timeout.as_ref()), Ok(_) | Err(rustix::io::Errno::INTR))
            {
                break;
            }
            self.children.retain(|_, running| !matches!(running.child.try_wait(), Ok(Some(_))));
        }
        for running in self.children.values_mut() {
            let _ = running.child.kill(); // fails where it has ended already
        }
    }

    /// Waits for an event. Returns true if the front has sent a message or is gone, and the
    /// children that have ended.
    fn wait(&self) -> io::Result<(bool, Vec<u64>)> {
        let mut polled = vec![PollFd::new(&self.control, PollFlags::IN)];
        polled.extend(
            self.children.values().map(|running| PollFd::new(&running.pidfd, PollFlags::IN)),
        );
        rustix::io::retry_on_intr(|| poll(&mut polled, None))?;
        let ready = |polled: &PollFd<'_>| !polled.revents().is_empty();
        let ended = self
            .children
            .keys()
            .zip(&polled[1..])
            .filter(|(_, polled)| ready(polled))
            .map(|(id, _)| *id);
        Ok((ready(&polled[0]), ended.collect()))
    }

    fn start(
        &mut self,
        id: u64,
        kind: ChildKind,
        keeper: Option<u64>,
        descriptors: Vec<OwnedFd>,
    ) -> io::Result<()> {
        let report = match self.spawn(kind, keeper, descriptors) {
            Ok(running) => {
                let pid = running.child.id();
                self.children.insert(id, running);
                FromSpawner::Started { id, pid }
            }
            Err(error) => FromSpawner::NotStarted {
                id,
                error: error.raw_os_error().unwrap_or(Errno::IO.raw_os_error()),
            },
        };
        self.tell(&report)
    }

    /// Starts a child. Its standard input is its connection to the front. Its standard output is
    /// its operator, or the connection between host and keeper. Of the spawner's own descriptors
    /// only standard error is open in it.
    fn spawn(
        &self,
        kind: ChildKind,
        keeper: Option<u64>,
        descriptors: Vec<OwnedFd>,
    ) -> io::Result<Running> {
        if self.only_vaults && !matches!(kind, ChildKind::Enrol | ChildKind::Vault) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut descriptors = descriptors.into_iter();
        let connection = descriptors.next().ok_or(io::ErrorKind::InvalidInput)?;
        let (door, output) = match (kind, keeper) {
            (ChildKind::Keeper, None) => {
                let (ours, theirs) = packets()?;
                // a keeper that hangs must not keep others waiting
                rustix::io::ioctl_fionbio(&ours, true)?;
                (Some(ours), Some(theirs))
            }
            (ChildKind::Host, Some(keeper)) => (None, Some(self.visit(keeper)?)),
            (_, None) => (None, descriptors.next()),
            (_, Some(_)) => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let arguments = match kind {
            ChildKind::Configuration => &self.programs.configuration,
            ChildKind::Enrol => &self.programs.enrol,
            ChildKind::Host => &self.programs.host,
            ChildKind::Keeper => &self.programs.keeper,
            ChildKind::Vault => &self.programs.vault,
        };
        let mut child = Command::new(&self.programs.program)
            .args(arguments)
            .env_clear()
            .current_dir("/")
            .stdin(connection)
            .stdout(output.map_or_else(Stdio::null, Stdio::from))
            .spawn()?;
        match pidfd_open(Pid::from_child(&child), PidfdFlags::empty()) {
            Ok(pidfd) => Ok(Running { child, door, pidfd }),
            Err(error) => {
                let _ = child.kill();
                child.wait()?;
                Err(error.into())
            }
        }
    }

    /// Connects a host to a keeper: sends the keeper its end, and returns the host's end.
    fn visit(&self, keeper: u64) -> io::Result<OwnedFd> {
        let door = self.children.get(&keeper).and_then(|running| running.door.as_ref());
        let (hosts, keepers) = packets()?;
        send(door.ok_or(io::ErrorKind::NotFound)?, &ToKeeper::Visit, &[keepers.as_fd()])?;
        Ok(hosts)
    }

    fn reap(&mut self, id: u64) -> io::Result<()> {
        let Some(mut running) = self.children.remove(&id) else { return Ok(()) };
        let status = running.child.wait()?;
        self.tell(&FromSpawner::Ended { id, code: status.code(), signal: status.signal() })
    }

    fn tell(&self, report: &FromSpawner) -> io::Result<()> {
        send(self.control.as_fd(), report, &[])
    }
}

fn packets() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)?)
}
