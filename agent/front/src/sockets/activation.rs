//! Takes sockets that the service manager listens on and hands over, so that no connection is lost
//! while the agent restarts: `sd_listen_fds(3)`,
//! <https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html>.
//!
//! Each socket that is handed over must be one that `agent.toml` names: a socket that is served by
//! mistake lets in somebody whom nobody decided to let in.

use std::collections::BTreeMap;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};

use countersign_base::config::listener::{ListenerConfig, ListenerKind};
use countersign_base::system::sys;
use rustix::net::{AddressFamily, SocketType, sockopt};
use tokio::net::UnixListener;

use super::socket::{self, GivenError, SocketError};

const FIRST_DESCRIPTOR: RawFd = 3;
/// Most sockets that are taken. A larger number than this is a mistake.
const MOST_GIVEN_SOCKETS: RawFd = 4096;

/// The sockets that were handed over, by their names. The agent opens the other sockets itself.
#[derive(Debug, Default)]
pub struct GivenSockets(BTreeMap<String, Given>);

#[derive(Debug)]
struct Given {
    path: PathBuf,
    /// `None` once the agent serves the socket.
    listener: Option<StdListener>,
}

impl GivenSockets {
    /// Takes the sockets that this process was started with. The processes that it starts do not
    /// inherit them.
    pub fn of_this_process() -> Result<Self, GivenError> {
        Self::named_by(
            |name| std::env::var(name).ok(),
            |number| sys::duplicate_descriptor(number).ok(),
        )
    }

    fn named_by(
        variable: impl Fn(&str) -> Option<String>,
        descriptor: impl Fn(RawFd) -> Option<OwnedFd>,
    ) -> Result<Self, GivenError> {
        let for_us =
            variable("LISTEN_PID").is_some_and(|pid| pid == std::process::id().to_string());
        let Some(count) = variable("LISTEN_FDS").filter(|_| for_us) else {
            return Ok(Self::default());
        };
        let count = count
            .parse()
            .ok()
            .filter(|count| (0..=MOST_GIVEN_SOCKETS).contains(count))
            .ok_or(GivenError::Count)?;
        let names = variable("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut given = BTreeMap::new();
        for number in 0..count {
            let name = names.next().unwrap_or_default().to_owned();
            let found = descriptor(FIRST_DESCRIPTOR + number).and_then(listening);
            let found = found.ok_or_else(|| GivenError::NotListening(name.clone()))?;
            if given.insert(name.clone(), found).is_some() {
                return Err(GivenError::Twice(name));
            }
        }
        Ok(Self(given))
    }

    /// Checks that each of them is a socket of the configuration. Call this before a configuration
    /// is loaded.
    pub fn check(&self, endpoints: &[ListenerConfig]) -> Result<(), SocketError> {
        for (name, given) in &self.0 {
            let endpoint = endpoints.iter().find(|endpoint| name_of(&endpoint.kind) == *name);
            let endpoint = endpoint.ok_or_else(|| GivenError::Unknown(name.clone()))?;
            if !is_same_path(&given.path, &endpoint.path) {
                let (name, given, configured) =
                    (name.clone(), given.path.clone(), endpoint.path.clone());
                return Err(GivenError::OtherPath { name, given, configured }.into());
            }
        }
        Ok(())
    }

    /// The listener for this socket, if it was handed over. The socket's file belongs to the
    /// service manager.
    pub fn take(&mut self, endpoint: &ListenerConfig) -> Result<Option<UnixListener>, SocketError> {
        let Some(given) = self.0.get_mut(&name_of(&endpoint.kind)) else { return Ok(None) };
        let Some(listener) = given.listener.take() else { return Ok(None) };
        let mode = socket::check_socket_path(&endpoint.path)?;
        if endpoint.kind == ListenerKind::Admin && mode & 0o077 != 0 {
            return Err(GivenError::Exposed(endpoint.path.clone()).into());
        }
        let listener =
            listener.set_nonblocking(true).and_then(|()| UnixListener::from_std(listener));
        listener.map(Some).map_err(socket::failed("listen on", &endpoint.path))
    }
}

fn listening(descriptor: OwnedFd) -> Option<Given> {
    let is_ours = sockopt::socket_domain(&descriptor) == Ok(AddressFamily::UNIX)
        && sockopt::socket_type(&descriptor) == Ok(SocketType::STREAM)
        && sockopt::socket_acceptconn(&descriptor) == Ok(true);
    let listener = StdListener::from(descriptor);
    let path =
        is_ours.then(|| listener.local_addr().ok()?.as_pathname().map(Path::to_owned)).flatten()?;
    Some(Given { path, listener: Some(listener) })
}

/// The value of `FileDescriptorName=` in the unit of this socket.
fn name_of(kind: &ListenerKind) -> String {
    match kind {
        ListenerKind::Admin => "admin".to_owned(),
        ListenerKind::Agent => "agent".to_owned(),
        ListenerKind::Client(name) => format!("client-{name}"),
    }
}

/// True if both paths lead to the same file, as `/var/run` and `/run` do.
fn is_same_path(one: &Path, other: &Path) -> bool {
    let directory = |path: &Path| path.parent()?.canonicalize().ok();
    one == other
        || (one.file_name() == other.file_name()
            && directory(one).is_some_and(|one| directory(other) == Some(one)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram, UnixStream};

    fn given(names: &str, descriptors: Vec<OwnedFd>) -> Result<GivenSockets, GivenError> {
        let own = std::process::id().to_string();
        let variable = |name: &str| match name {
            "LISTEN_PID" => Some(own.clone()),
            "LISTEN_FDS" => Some(descriptors.len().to_string()),
            _ => Some(names.to_owned()),
        };
        GivenSockets::named_by(variable, |number| {
            descriptors[(number - FIRST_DESCRIPTOR) as usize].try_clone().ok()
        })
    }

    fn endpoint(path: &Path, kind: ListenerKind) -> ListenerConfig {
        ListenerConfig { path: path.to_owned(), kind }
    }

    #[test]
    fn only_listening_unix_stream_sockets_with_a_path_are_taken() {
        let directory = tempfile::tempdir().expect("a directory");
        let listening = StdListener::bind(directory.path().join("agent.sock")).expect("binds");
        assert!(given("agent", vec![listening.into()]).is_ok());
        let unlistened =
            rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).expect("a socket");
        let address = SocketAddr::from_abstract_name(format!("c{}", std::process::id()));
        let wrong: Vec<OwnedFd> = vec![
            UnixDatagram::bind(directory.path().join("datagram")).expect("binds").into(),
            UnixStream::pair().expect("a pair").0.into(),
            std::net::TcpListener::bind("127.0.0.1:0").expect("binds").into(),
            std::fs::File::open("/dev/null").expect("opens").into(),
            StdListener::bind_addr(&address.expect("a name")).expect("binds").into(),
            unlistened,
        ];
        for descriptor in wrong {
            let refused = given("agent", vec![descriptor]).expect_err("refused");
            assert!(
                matches!(&refused, GivenError::NotListening(name) if name == "agent"),
                "{refused}"
            );
        }
    }

    #[test]
    fn what_was_meant_for_another_process_is_not_ours() {
        let of = |pid: &'static str, count: &'static str| {
            let variable = move |name: &str| match name {
                "LISTEN_PID" => {
                    Some(if pid == "own" { std::process::id().to_string() } else { pid.to_owned() })
                }
                "LISTEN_FDS" => Some(count.to_owned()),
                _ => None,
            };
            GivenSockets::named_by(variable, |_| None)
        };
        assert!(of("1", "2").expect("none").0.is_empty());
        assert!(of("own", "0").expect("none").0.is_empty());
        for wrong in ["-1", "x", "99999999"] {
            assert!(matches!(of("own", wrong), Err(GivenError::Count)), "{wrong}");
        }
        assert!(matches!(of("own", "1"), Err(GivenError::NotListening(_))), "a closed descriptor");
    }

    #[tokio::test(flavor = "current_thread")]
    async fn every_socket_has_its_place_in_the_configuration() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = |name: &str| directory.path().join(name);
        let bind = |name: &str| OwnedFd::from(StdListener::bind(path(name)).expect("binds"));
        let endpoints = [
            endpoint(&path("agent.sock"), ListenerKind::Agent),
            endpoint(&path("admin.sock"), ListenerKind::Admin),
            endpoint(&path("bot.sock"), ListenerKind::Client("bot".into())),
        ];
        let three = vec![bind("bot.sock"), bind("admin.sock"), bind("agent.sock")];
        let mut sockets = given("client-bot:admin:agent", three).expect("three sockets");
        sockets.check(&endpoints).expect("as configured");
        assert!(sockets.take(&endpoints[0]).expect("usable").is_some());
        assert!(sockets.take(&endpoints[0]).expect("usable").is_none(), "once");
        let exposed = sockets.take(&endpoints[1]).expect_err("anybody can connect");
        assert!(matches!(exposed, SocketError::Given(GivenError::Exposed(_))), "{exposed}");
        let removed = sockets.check(&endpoints[..2]).expect_err("a socket that nothing serves");
        assert!(removed.to_string().contains("client-bot"), "{removed}");

        for (names, expected) in [
            ("other", "\"other\""),
            ("", "\"\""),
            ("client-agent", "client-agent"),
            ("admin", "is on"),
        ] {
            let name = format!("{}.sock", uuid::Uuid::new_v4());
            let refused = given(names, vec![bind(&name)])
                .expect("a socket")
                .check(&endpoints)
                .expect_err("refused");
            assert!(refused.to_string().contains(expected), "{names}: {refused}");
        }
        let twice =
            given("agent:agent", vec![bind("1.sock"), bind("2.sock")]).expect_err("refused");
        assert!(matches!(twice, GivenError::Twice(_)), "{twice}");
    }

    #[test]
    fn a_directory_by_another_name_is_the_same_place() {
        let directory = tempfile::tempdir().expect("a directory");
        let (real, other) = (directory.path().join("run"), directory.path().join("var-run"));
        std::fs::create_dir(&real).expect("made");
        std::os::unix::fs::symlink(&real, &other).expect("linked");
        assert!(is_same_path(&real.join("a.sock"), &other.join("a.sock")));
        assert!(!is_same_path(&real.join("a.sock"), &other.join("b.sock")));
        assert!(!is_same_path(Path::new("/nowhere/a.sock"), Path::new("/nowhere/else/a.sock")));
    }
}
