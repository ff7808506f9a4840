//! A small disk for a test: a file system of its own for the state directory of an agent.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::Duration;

use countersign::{AgentClient, Error};
use countersign_core::refusal::Code;
use countersign_core::wire::SignReply;

use super::agent::{self, API_KEY, Agent, Launch, SECRET, call};
use super::softhsm::SoftHsm;

/// Holds the mount namespace in which the agents of a test see a state directory on a file system
/// of its own.
pub(crate) struct Namespace {
    holder: Child,
    size: &'static str,
}

/// Mounts the file system, unless it is mounted, beside the configuration that is the agent's last
/// argument.
const MOUNT: &str = "size=$1; shift; state=$(dirname \"$4\")/state; \
    mountpoint -q \"$state\" || mount -t tmpfs -o \"$size,mode=700\" tmpfs \"$state\"; exec \"$@\"";

impl Namespace {
    /// A test that cannot have it fails; it is not skipped. A user namespace does not help: there
    /// `/` belongs to an unknown user, and the agent refuses to start.
    pub(crate) fn new(size: &'static str) -> Self {
        assert!(
            rustix::process::geteuid().is_root(),
            "only root can mount a file system for this test: run the tests as root"
        );
        let mut holder = Command::new("unshare");
        holder.args(["--mount", "--propagation", "private", "sleep", "600"]).process_group(0);
        Self { holder: holder.spawn().expect("util-linux"), size }
    }

    pub(crate) fn launch(&self) -> Launch {
        let holder = self.holder.id().to_string();
        let enter = ["nsenter", "--mount", "--target", &holder, "sh", "-c", MOUNT, "sh", self.size];
        Launch { wrapper: enter.map(str::to_owned).to_vec(), ..Launch::default() }
    }

    /// The state directory as the agent sees it.
    pub(crate) fn state_dir(&self, agent: &Agent) -> PathBuf {
        let state = agent.state_dir();
        Path::new(&format!("/proc/{}/root", self.holder.id()))
            .join(state.strip_prefix("/").expect("absolute"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

pub(crate) fn read(client: &mut AgentClient) -> Result<SignReply, Error> {
    client.sign(&call("binance-mm", "GET", "/api/v3/account", "{}"))
}

pub(crate) fn started(namespace: &Namespace) -> (Agent, PathBuf) {
    let agent = Agent::start_with(SoftHsm::new(), namespace.launch(), agent::BOT, "");
    agent.add("binance-mm", "binance", API_KEY, SECRET, None).expect("enrolled");
    let state_dir = namespace.state_dir(&agent);
    (agent, state_dir)
}

/// Writes into a file of another program until nothing more fits.
pub(crate) fn fill(file: &Path) {
    use std::io::Write;
    let mut filler = fs::File::create(file).expect("a file");
    while filler.write_all(&[7; 512]).is_ok() {}
}

/// Asks until a request is refused with `ledger.unavailable`; keeps the ids of what was signed.
pub(crate) fn ask_until_full(client: &mut AgentClient, signed: &mut Vec<String>) {
    for _ in 0..20_000 {
        match read(client) {
            Ok(reply) => signed.push(reply.request_id),
            refused => match agent::code(refused) {
                Err(Code::LedgerUnavailable) => return,
                Err(Code::PolicyRate) => thread::sleep(Duration::from_millis(5)),
                other => panic!("{other:?}"),
            },
        }
    }
    panic!("the disk should be full");
}
