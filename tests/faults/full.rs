//! A disk that is really full: a small file system of its own for the state directory.

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command};

use rustix::process::Signal;

use super::*;
use crate::agent;

/// Holds the mount namespace in which the agents of a test see a state directory of one mebibyte.
struct Namespace(Child);

/// Mounts the file system where it is not yet, beside the configuration that is the agent's last argument.
const MOUNT: &str = "state=$(dirname \"$4\")/state; \
    mountpoint -q \"$state\" || mount -t tmpfs -o size=1m,mode=700 tmpfs \"$state\"; exec \"$@\"";

impl Namespace {
    fn new() -> Self {
        let mut holder = Command::new("unshare");
        holder.args(["--mount", "--propagation", "private", "sleep", "600"]).process_group(0);
        Self(holder.spawn().expect("util-linux"))
    }

    fn launch(&self) -> Launch {
        let enter = ["nsenter", "--mount", "--target", &self.0.id().to_string(), "sh", "-c", MOUNT, "sh"];
        Launch { wrapper: enter.map(str::to_owned).to_vec(), ..Launch::default() }
    }

    /// The state directory as the agent sees it.
    fn state_dir(&self, agent: &Agent) -> PathBuf {
        let state = agent.state_dir();
        Path::new(&format!("/proc/{}/root", self.0.id())).join(state.strip_prefix("/").expect("absolute"))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_full_disk_ends_signing_and_with_room_a_restart_goes_on() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("not root: no file system of its own can be mounted; the failing disk above stands for it");
        return;
    }
    let namespace = Namespace::new();
    let mut agent = Agent::start_with(SoftHsm::new(), namespace.launch(), agent::BOT, "");
    agent.add("binance-mm", "binance", API_KEY, SECRET, None).expect("enrolled");
    let state_dir = namespace.state_dir(&agent);
    let filler = state_dir.join("filler");
    fs::write(&filler, vec![0; 900 * 1024]).expect("room for it");
    let read = |agent: &Agent| agent.sign("binance-mm", "GET", "/api/v3/account", "{}");
    let mut signed = Vec::new();
    let refused = loop {
        match read(&agent) {
            Ok(reply) => signed.push(reply.request_id),
            refused => break agent::code(refused),
        }
        assert!(signed.len() < 2_000, "the disk should be full");
    };
    assert_eq!(refused, Some(Code::LedgerUnavailable));
    assert!(signed.len() > 10, "{}", signed.len());
    fs::remove_file(&filler).expect("removed");
    assert_eq!(agent::code(read(&agent)), Some(Code::LedgerUnavailable), "room alone proves nothing");
    let status = agent.admin().status().expect("status goes on");
    assert_eq!(status.ledger.expect("a ledger").state, "unavailable");
    assert!(status.warnings.iter().any(|warning| warning.contains("journal")), "{:?}", status.warnings);
    agent.stop(Signal::TERM);
    agent.begin();
    agent.wait_until("the agent is back", |agent| agent.tokens_are("healthy"));
    assert!(read(&agent).is_ok(), "log:\n{}", agent.log());
    killed::assert_verified(&state_dir);
    let journal = killed::Journal::below(&state_dir);
    assert!(signed.iter().all(|id| journal.signed.contains(id) && journal.intents.contains(id)));
}
