//! The spawner: a small process of its own that starts token hosts and enrol children for the
//! front.
//!
//! The front gives up starting programs, and much of what a token needs, before it reads a client's
//! first byte; yet a host that died has to be started again. So this process is started first and
//! does that alone. It holds no secret and gets no client's byte: the front tells it which of a few
//! kinds of child to start and hands over the descriptors the child is to have. Program, arguments
//! and environment are fixed here; what a child is to do, the front tells the child itself. When
//! the front is gone, the spawner lets its children end by themselves, kills what is left after a
//! few seconds, and ends.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use countersign_base::messages::confinement::Demand;
use countersign_base::messages::spawner::{FromSpawner, Kind, ToKeeper, ToSpawner, receive, send};
use countersign_base::system::confine::{self, Calls};
use countersign_base::system::{log, sys};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// What is started for each kind of child.
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
    /// This very program, even where its file has been replaced since it started.
    ///
    /// The front writes to `front_writes`; nothing that lies there is loaded.
    ///
    /// `credentials` is where systemd put PINs, for children that read the configuration
    /// themselves.
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

/// How long children may take to end by themselves once the front is gone: some are inside C_Login,
/// and a software token that is cut off there, while it rewrites its files, is lost. What hangs is
/// killed then.
const PARTING: Duration = Duration::from_secs(3);

/// Starts children for the front at the other end of `control` until the front is gone, then sees
/// to it that they end.
///
/// Limits go over to whatever a process starts. So this one can have none that a module would feel
/// before its login, or pinentry: it keeps its files and its network, and the children take those
/// from themselves.
///
/// With `only_vaults` it starts nothing but what opens vaults: it then runs as their own user.
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
    /// Of a keeper: where it is handed its ends of connections to hosts.
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

    /// Waits for children that see the front's end of their connection closed, and kills what is
    /// left.
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
            // An interrupted wait is only a shorter one.
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

    /// Whether the front has something to say, and the children that have ended.
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
        kind: Kind,
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

    /// The child finds its connection to the front as standard input, and as standard output its
    /// operator, or what connects host and keeper; of ours, only standard error is open in it.
    fn spawn(
        &self,
        kind: Kind,
        keeper: Option<u64>,
        descriptors: Vec<OwnedFd>,
    ) -> io::Result<Running> {
        if self.only_vaults && !matches!(kind, Kind::Enrol | Kind::Vault) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut descriptors = descriptors.into_iter();
        let connection = descriptors.next().ok_or(io::ErrorKind::InvalidInput)?;
        let (door, output) = match (kind, keeper) {
            (Kind::Keeper, None) => {
                let (ours, theirs) = packets()?;
                // a keeper that stands still keeps nobody else waiting
                rustix::io::ioctl_fionbio(&ours, true)?;
                (Some(ours), Some(theirs))
            }
            (Kind::Host, Some(keeper)) => (None, Some(self.visit(keeper)?)),
            (_, None) => (None, descriptors.next()),
            (_, Some(_)) => return Err(io::ErrorKind::InvalidInput.into()),
        };
        let arguments = match kind {
            Kind::Configuration => &self.programs.configuration,
            Kind::Enrol => &self.programs.enrol,
            Kind::Host => &self.programs.host,
            Kind::Keeper => &self.programs.keeper,
            Kind::Vault => &self.programs.vault,
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

    /// The host's end of a connection to a keeper that has been given the other one.
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
