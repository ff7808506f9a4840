//! An agent with a quiet client and eight that are hostile, and the time that the others wait.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use countersign::{Admin, AgentClient, SignCall, Sockets};

use super::agent::{self, API_KEY, Agent, SECRET};
use super::byte_client::extension;
use super::flood::{self, Flood};
use super::timing::{percentile_99, timed};

/// The number of clients that flood. Each has a uid of its own if the tests run as root.
pub(crate) const HOSTILE: usize = 8;
/// The most connections that one uid may have on one socket.
pub(crate) const CONNECTIONS: usize = 256;
/// Connections of each of eight clients. Together they leave some for others.
pub(crate) const CONNECTIONS_OF_EIGHT: usize = 80;
/// Longest delay of other clients beside one that floods, without the delay of the echo server.
pub(crate) const BESIDE_ONE: Duration = Duration::from_millis(20);
pub(crate) const BESIDE_EIGHT: Duration = Duration::from_millis(50);
pub(crate) const LOCKED: Duration = Duration::from_millis(200);

pub(crate) struct Town {
    pub(crate) agent: Agent,
    started: Vec<u64>,
}

impl Town {
    pub(crate) fn new() -> Self {
        let own = rustix::process::getuid().as_raw();
        let fields = "keys = [\"binance-mm\"]\nscopes = [\"read\"]\nsocket = \"DIR/NAME.sock\"\n";
        let client = |name: &str, uid: u32, rest: &str| {
            format!("\n[client.{name}]\nuser = {uid}\n{}{rest}", fields.replace("NAME", name))
        };
        let hostile = (0..HOSTILE).map(|number| {
            let uid = flood::uid_of(number).unwrap_or(own);
            // The first has a rate, which does not help it.
            client(
                &format!("hostile{number}"),
                uid,
                if number == 0 { "rate = \"1/s\"\n" } else { "" },
            )
        });
        let rest: String = hostile.chain([client("quiet", own, "")]).collect();
        let agent = Agent::start(agent::BOT, &rest);
        fs::set_permissions(agent.path(), fs::Permissions::from_mode(0o711)).expect("ours");
        agent.add("binance-mm", "binance", API_KEY, SECRET, None).expect("enrolled");
        let started = Self::hosts(&agent);
        Self { agent, started }
    }

    /// The time of the last change of each token.
    fn hosts(agent: &Agent) -> Vec<u64> {
        agent
            .admin()
            .status()
            .expect("a status")
            .tokens
            .iter()
            .map(|token| token.since_ms)
            .collect()
    }

    pub(crate) fn socket(&self, client: &str) -> PathBuf {
        self.agent.path().join(format!("{client}.sock"))
    }

    pub(crate) fn flood(&self, client: usize, connections: usize, message: &[u8]) -> Flood {
        Flood::start(
            &self.socket(&format!("hostile{client}")),
            flood::uid_of(client),
            connections,
            message,
        )
    }

    /// The quiet client's p99, over a connection of its own.
    pub(crate) fn quiet(&self, requests: usize) -> Duration {
        let mut client = AgentClient::open(&Sockets::at(self.socket("quiet"))).expect("it listens");
        percentile_99(&timed(requests, || {
            drop(client.sign(&read()).expect("the quiet client is served"))
        }))
    }

    /// The longest `lock`, each over a connection of its own.
    pub(crate) fn lock(&self) -> Duration {
        let times = timed(5, || {
            Admin::open(&self.agent.sockets()).and_then(|mut admin| admin.lock()).expect("locked");
        });
        self.agent.admin().unlock().expect("unlocked");
        times.into_iter().max().expect("five")
    }

    pub(crate) fn assert_no_host_was_restarted(&self) {
        assert_eq!(Self::hosts(&self.agent), self.started, "log:\n{}", self.agent.log());
        assert!(!self.agent.log().contains("token host ended"), "{}", self.agent.log());
    }
}

pub(crate) fn read() -> SignCall {
    agent::call("binance-mm", "GET", "/api/v3/account", "{}")
}

pub(crate) fn load() -> String {
    fs::read_to_string("/proc/loadavg").expect("Linux").trim().to_owned()
}

pub(crate) fn sign(key: &str, params: &str) -> Vec<u8> {
    let payload = format!(
        r#"{{"v":1,"key":"{key}","method":"POST","path":"/api/v3/order","params":{params}}}"#
    );
    extension("sign@countersign", &payload)
}

pub(crate) fn names(count: usize, value: &str) -> String {
    let members: Vec<_> = (0..count).map(|number| format!("\"n{number}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}
