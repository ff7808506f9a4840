//! Sockets from the service manager: the agent serves them as they are and never removes them. It
//! refuses sockets that are not configured.

use std::fs::{self, Permissions};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use countersign::{AgentClient, Sockets};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::agent::{Agent, BOT};
use crate::harness::processes::children_of;
use crate::harness::softhsm::AGENT;

/// An agent's files, and the sockets that a service manager holds for it.
struct Managed {
    agent: Agent,
    sockets: Vec<UnixListener>,
    names: &'static str,
}

/// Passes its standard descriptors on as the first three, then becomes the agent.
const HAND_OVER: &str = "exec 3<&0 4<&1 5<&2 0</dev/null 1>/dev/null 2>>\"$LOG\"; [ \
                         \"$LISTEN_FDS\" = 3 ] || exec 5<&-; \
    exec env LISTEN_PID=$$ \"$@\"";

impl Managed {
    fn new() -> Self {
        let mut agent = Agent::with_binance(BOT);
        assert_eq!(agent.stop(Signal::TERM), Some(0));
        let mut managed = Self { agent, sockets: Vec::new(), names: "agent:admin" };
        managed.listen("agent.sock", 0o666);
        managed.listen("admin.sock", 0o600);
        managed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.agent.path().join(name)
    }

    fn listen(&mut self, name: &str, mode: u32) {
        self.sockets.push(UnixListener::bind(self.path(name)).expect("binds"));
        fs::set_permissions(self.path(name), Permissions::from_mode(mode)).expect("ours");
    }

    fn begin(&self) -> Running {
        let give = |number: usize| {
            let socket = self
                .sockets
                .get(number)
                .map(|socket| OwnedFd::from(socket.try_clone().expect("copied")));
            socket.map_or_else(Stdio::null, Stdio::from)
        };
        let mut command = Command::new("bash");
        command
            .args(["-c", HAND_OVER, "bash", AGENT, "run", "--config"])
            .arg(self.agent.config_file());
        command.env("LOG", self.agent.path().join("log"));
        command.env("LISTEN_FDS", self.sockets.len().to_string()).env("LISTEN_FDNAMES", self.names);
        Running(command.stdin(give(0)).stdout(give(1)).stderr(give(2)).spawn().expect("starts"))
    }

    fn start(&self) -> Running {
        let running = self.begin();
        self.agent.wait_until("the token is healthy", |agent| agent.tokens_are("healthy"));
        running
    }

    fn reload(&self, running: &Running, says: &str) {
        let before = self.agent.log().matches(says).count();
        running.signal(Signal::HUP);
        self.agent.wait_until(says, |agent| agent.log().matches(says).count() > before);
    }
}

struct Running(Child);

impl Running {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.0.id() as i32).expect("a pid"), signal).expect("it runs");
    }

    fn stop(mut self) -> Option<i32> {
        self.signal(Signal::TERM);
        self.0.wait().expect("ends").code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn inode(path: &Path) -> u64 {
    fs::symlink_metadata(path).expect("there").ino()
}

#[test]
fn nothing_is_lost_while_the_agent_restarts() {
    let managed = Managed::new();
    let sockets = [managed.path("agent.sock"), managed.path("admin.sock")];
    let before = sockets.each_ref().map(|path| inode(path));
    for _ in 0..2 {
        // Nobody serves it yet: the request waits in the socket's backlog.
        std::thread::scope(|scope| {
            let early =
                scope.spawn(|| managed.agent.sign("binance-mm", "GET", "/api/v3/account", "{}"));
            std::thread::sleep(Duration::from_millis(200));
            assert!(!early.is_finished());
            let running = managed.start();
            let answer = early.join().expect("answered");
            // The token may not have been ready yet. A refusal shows too that the connection was
            // served.
            assert!(
                answer.is_ok() || matches!(answer, Err(countersign::Error::Refused(_))),
                "{answer:?}"
            );
            managed.agent.sign("binance-mm", "GET", "/api/v3/account", "{}").expect("signed");
            assert_eq!(running.stop(), Some(0));
        });
        assert_eq!(
            sockets.each_ref().map(|path| inode(path)),
            before,
            "neither removed nor replaced"
        );
    }
}

#[test]
fn what_the_agent_starts_inherits_no_socket_of_the_service_manager() {
    let managed = Managed::new();
    let running = managed.start();
    let spawner = children_of(running.0.id() as i32);
    let hosts: Vec<_> = spawner.iter().flat_map(|spawner| children_of(*spawner)).collect();
    assert!(!hosts.is_empty());
    for process in spawner.iter().chain(&hosts) {
        let links = fs::read_dir(format!("/proc/{process}/fd")).expect("readable").flatten();
        let open: Vec<_> = links.filter_map(|link| fs::read_link(link.path()).ok()).collect();
        for socket in &managed.sockets {
            let ours = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(socket));
            assert!(!open.contains(&fs::read_link(ours).expect("open")), "{open:?}");
        }
    }
}

#[test]
fn what_is_not_configured_is_refused() {
    let refused = |change: &dyn Fn(&mut Managed), says: &str| {
        let mut managed = Managed::new();
        change(&mut managed);
        let mut running = managed.begin();
        assert_eq!(
            running.0.wait().expect("ends").code(),
            Some(78),
            "{says}: {}",
            managed.agent.log()
        );
        let log = managed.agent.log();
        assert!(log.lines().last().is_some_and(|line| line.contains(says)), "{says}\n{log}");
    };
    refused(&|managed| managed.names = "agent", "a socket named \"\"");
    refused(&|managed| managed.names = "agent:agent", "two sockets named agent");
    refused(&|managed| managed.names = "agent:client-bot", "a socket named \"client-bot\"");
    refused(&|managed| managed.names = "admin:agent", "the service manager's socket");
    let exposed = |managed: &mut Managed| {
        fs::set_permissions(managed.path("admin.sock"), Permissions::from_mode(0o666))
            .expect("ours");
    };
    refused(&exposed, "SocketMode=0600");
}

#[test]
fn a_clients_own_socket_may_come_from_either_side() {
    let mut managed = Managed::new();
    managed.agent.configure(&format!("{BOT}socket = \"DIR/bot.sock\"\n"), "");
    let running = managed.start();
    let bot = Sockets::at(managed.path("bot.sock"));
    AgentClient::open(&bot).expect("the agent opened it itself");
    assert_eq!(running.stop(), Some(0));
    assert!(!managed.path("bot.sock").exists() && managed.path("agent.sock").exists());

    managed.listen("bot.sock", 0o666);
    managed.names = "agent:admin:client-bot";
    let running = managed.start();
    AgentClient::open(&bot).expect("served").status().expect("answered");
    managed.agent.configure(BOT, "");
    managed.reload(&running, "a socket named \"client-bot\", which agent.toml has not");
    AgentClient::open(&bot).expect("served").status().expect("the configuration in force stays");
    assert_eq!(running.stop(), Some(0));
    assert!(managed.path("bot.sock").exists());
}
