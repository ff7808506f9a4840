//! A log that can be made to take nothing more: full, gone or blocked.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{MemfdFlags, OFlags, SealFlags, fcntl_add_seals, fcntl_setfl, memfd_create};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::agent::open_terminal;

/// Longest time that an order to stop may take.
pub(crate) const STOP: Duration = Duration::from_secs(2);

/// A kind of log, and the state in which it takes nothing more.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    BlockedPipe,
    BlockedSocket,
    BlockedTerminal,
    ClosedTerminal,
    FullDevice,
    FullFile,
    GonePipe,
    GoneSocket,
}

/// The two ends of a log.
#[derive(Debug)]
pub(crate) struct Sink {
    kind: Kind,
    /// The end to which the agent's processes write.
    pub(crate) agents: OwnedFd,
    /// The end from which the log is read; a file has none.
    pub(crate) reader: Option<OwnedFd>,
    /// The path of a terminal.
    pub(crate) path: Option<PathBuf>,
}

impl Sink {
    pub(crate) fn new(kind: Kind) -> Self {
        let mut path = None;
        let (agents, reader) = match kind {
            Kind::BlockedPipe | Kind::GonePipe => {
                let (reader, writer) = std::io::pipe().expect("a pipe");
                (OwnedFd::from(writer), Some(reader.into()))
            }
            Kind::BlockedSocket | Kind::GoneSocket => {
                let (ours, theirs) = UnixStream::pair().expect("a pair");
                (theirs.into(), Some(ours.into()))
            }
            Kind::BlockedTerminal | Kind::ClosedTerminal => {
                let (person, terminal, name) = terminal();
                path = Some(name);
                (terminal, Some(person))
            }
            Kind::FullDevice => {
                (File::options().write(true).open("/dev/full").expect("Linux").into(), None)
            }
            Kind::FullFile => {
                let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
                (memfd_create("log", flags).expect("a file"), None)
            }
        };
        Self { kind, agents, reader, path }
    }

    /// After this nothing more can be written to it.
    pub(crate) fn spoil(&mut self) {
        match self.kind {
            Kind::BlockedPipe | Kind::BlockedSocket => fill(&self.agents),
            Kind::BlockedTerminal => {
                rustix::termios::tcflow(&self.agents, rustix::termios::Action::OOff)
                    .expect("stopped");
            }
            Kind::FullFile => fcntl_add_seals(&self.agents, SealFlags::GROW).expect("sealed"),
            Kind::ClosedTerminal | Kind::FullDevice | Kind::GonePipe | Kind::GoneSocket => {
                self.reader = None
            }
        }
    }
}

fn terminal() -> (OwnedFd, OwnedFd, PathBuf) {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
        .expect("a pseudo terminal");
    grantpt(&person).expect("granted");
    unlockpt(&person).expect("unlocked");
    let name = PathBuf::from(
        ptsname(&person, Vec::new()).expect("has a name").into_string().expect("UTF-8"),
    );
    let terminal = open_terminal(&name).into();
    (person, terminal, name)
}

/// Fills it until it takes no more. Its writers wait, as before.
fn fill(writer: &OwnedFd) {
    fcntl_setfl(writer, OFlags::NONBLOCK).expect("set");
    for length in [4096, 1] {
        while rustix::io::write(writer, &[b'.'; 4096][..length]).is_ok() {}
    }
    fcntl_setfl(writer, OFlags::empty()).expect("set");
}
