//! Tells the service manager, usually systemd, that the agent is ready, reloads, stops or lives,
//! and its state in one line.
//!
//! The protocol is `sd_notify(3)`,
//! <https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html>: one datagram of
//! `NAME=value` lines to the socket that the environment names. If a message cannot be sent, the
//! agent only logs that: the service manager notices the silence.

use std::cell::RefCell;
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The service manager of this process, if there is one.
#[derive(Debug, Default)]
pub struct ServiceManager {
    socket: Option<UnixDatagram>,
    watchdog: Option<Duration>,
    /// The line that the service manager was told last.
    status: RefCell<String>,
}

impl ServiceManager {
    /// Finds the service manager that the environment names. The socket is connected now, because a
    /// confined process cannot connect one later.
    pub fn of_this_process() -> Self {
        let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
        Self::named_by(variable).unwrap_or_else(|error| {
            tracing::warn!(%error, "the service manager cannot be told anything");
            Self::default()
        })
    }

    fn named_by(variable: impl Fn(&str) -> Option<OsString>) -> io::Result<Self> {
        let Some(address) = variable("NOTIFY_SOCKET") else { return Ok(Self::default()) };
        let socket = UnixDatagram::unbound()?;
        socket.connect_addr(&parse_address(address.as_bytes())?)?;
        // A manager that does not read must not delay the agent.
        socket.set_nonblocking(true)?;
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        let ours = number("WATCHDOG_PID").is_none_or(|pid| pid == u64::from(std::process::id()));
        let watchdog =
            number("WATCHDOG_USEC").filter(|limit| ours && *limit > 0).map(Duration::from_micros);
        Ok(Self { socket: Some(socket), watchdog, status: RefCell::default() })
    }

    /// Pause between two signs of life: half the time after which the manager kills the agent.
    /// `None` if the manager does not watch.
    pub fn sign_of_life_every(&self) -> Option<Duration> {
        Some(self.watchdog? / 2)
    }

    pub fn ready(&self, status: &str) {
        self.status.replace(status.to_owned());
        self.send(&format!("READY=1\nSTATUS={status}"));
    }

    /// Says that a reload has begun. [`Self::ready`] ends it, with any outcome.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    pub fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping");
    }

    pub fn alive(&self) {
        self.send("WATCHDOG=1");
    }

    /// Sends one line for people, if it differs from the last one.
    pub fn status(&self, status: &str) {
        if self.status.borrow().as_str() != status {
            self.status.replace(status.to_owned());
            self.send(&format!("STATUS={status}"));
        }
    }

    fn send(&self, message: &str) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = socket.send(message.as_bytes()) {
            tracing::warn!(%error, "the service manager could not be told");
        }
    }
}

/// Parses a path, or a name in the abstract namespace if it begins with `@`.
fn parse_address(address: &[u8]) -> io::Result<SocketAddr> {
    match address {
        [b'/', ..] => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(address)),
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => Err(io::Error::other("$NOTIFY_SOCKET is neither a path nor an abstract name")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manager(variables: &[(&str, &str)]) -> io::Result<ServiceManager> {
        ServiceManager::named_by(|name| {
            variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
        })
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut message = [0; 512];
        let length = socket.recv(&mut message).expect("a message");
        String::from_utf8(message[..length].to_vec()).expect("text")
    }

    #[test]
    fn messages_reach_a_path_and_an_abstract_name() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notify");
        let name = format!("countersign-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).expect("a name");
        let sockets = [
            (path.to_str().expect("UTF-8").to_owned(), UnixDatagram::bind(&path).expect("binds")),
            (format!("@{name}"), UnixDatagram::bind_addr(&abstract_address).expect("binds")),
        ];
        for (address, socket) in sockets {
            let manager = manager(&[("NOTIFY_SOCKET", &address)]).expect("connects");
            manager.ready("2 of 2 tokens healthy");
            assert_eq!(received(&socket), "READY=1\nSTATUS=2 of 2 tokens healthy");
            manager.status("2 of 2 tokens healthy");
            manager.status("1 of 2 tokens healthy");
            assert_eq!(received(&socket), "STATUS=1 of 2 tokens healthy", "no news is not sent");
            manager.alive();
            assert_eq!(received(&socket), "WATCHDOG=1");
            manager.reloading();
            assert!(received(&socket).starts_with("RELOADING=1\nMONOTONIC_USEC="));
            manager.stopping();
            assert_eq!(received(&socket), "STOPPING=1\nSTATUS=stopping");
        }
    }

    #[test]
    fn a_manager_that_does_not_read_holds_up_nobody() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notify");
        let _deaf = UnixDatagram::bind(&path).expect("binds");
        let manager =
            manager(&[("NOTIFY_SOCKET", path.to_str().expect("UTF-8"))]).expect("connects");
        (0..10_000).for_each(|_| manager.alive());
    }

    #[test]
    fn the_watchdog_is_ours_only_where_it_says_so() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("notify");
        let _socket = UnixDatagram::bind(&path).expect("binds");
        let own = std::process::id().to_string();
        let every = |variables: &[(&str, &str)]| {
            let socket = ("NOTIFY_SOCKET", path.to_str().expect("UTF-8"));
            manager(&[&[socket], variables].concat()).expect("connects").sign_of_life_every()
        };
        assert_eq!(every(&[("WATCHDOG_USEC", "30000000")]), Some(Duration::from_secs(15)));
        assert_eq!(
            every(&[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", &own)]),
            Some(Duration::from_secs(15))
        );
        for none in [
            &[("WATCHDOG_USEC", "30000000"), ("WATCHDOG_PID", "1")][..],
            &[("WATCHDOG_USEC", "0")],
            &[],
        ] {
            assert_eq!(every(none), None, "{none:?}");
        }
    }

    #[test]
    fn without_a_manager_nothing_is_sent_and_a_wrong_address_is_an_error() {
        manager(&[]).expect("none").ready("x");
        for wrong in ["relative", "vsock:2:1234", "/nowhere/at/all"] {
            assert!(manager(&[("NOTIFY_SOCKET", wrong)]).is_err(), "{wrong}");
        }
    }
}
