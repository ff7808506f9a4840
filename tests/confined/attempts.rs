//! The things that the processes of a running agent cannot do, each tried from inside the process
//! in question.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use countersign_base::messages::confinement::Demand;
use rustix::io::Errno;
use rustix::process::Signal;

use crate::harness::agent::{self, Agent, Launch};
use crate::harness::other_users::{assert_cannot_be_looked_into, without_rights};
use crate::harness::shim::Shim;
use crate::harness::softhsm::SoftHsm;
use crate::harness::token_process::RunningHost;
use crate::harness::typist::Typist;

/// Attempts that every process can still make.
const ORDINARY: [&str; 2] = ["map_memory", "new_thread"];
const REFUSALS: [Errno; 3] = [Errno::PERM, Errno::ACCESS, Errno::NOSYS];
/// The same for the reaches above `own-files`, which have sockets.
const SERVICES: [&str; 3] = ["map_memory", "new_thread", "unix_socket"];
const NETWORK: [&str; 6] = ["map_memory", "netlink", "new_thread", "tcp", "udp", "unix_socket"];

/// The error of each attempt; 0 means none.
#[derive(Debug)]
struct Attempts(BTreeMap<String, i32>);

impl Attempts {
    fn read(results: &Path) -> Self {
        let text = fs::read_to_string(results).expect("results");
        let results = text.lines().map(|line| line.split_once(' ').expect("a name and a number"));
        let attempts: BTreeMap<_, _> = results
            .map(|(name, error)| (name.to_owned(), error.parse().expect("a number")))
            .collect();
        assert!(attempts.contains_key("done"), "{text}");
        Self(attempts)
    }

    /// Checks that exactly these were not refused.
    fn assert_possible(mut self, possible: &[&str]) {
        self.0.remove("done");
        assert!(self.0.len() > 40, "{self:?}");
        let is_refused =
            |error: i32| REFUSALS.iter().any(|refusal| refusal.raw_os_error() == error);
        let done: Vec<_> = self
            .0
            .iter()
            .filter(|(_, error)| !is_refused(**error))
            .map(|(name, _)| name.as_str())
            .collect();
        assert_eq!(done, possible, "{self:?}");
    }

    /// Checks that no attempt is refused for another reason. Without confinement an attempt fails
    /// in another way or not at all.
    fn assert_unconfined(mut self) {
        // Some kernels do not have these, and some refuse them even to root.
        for name in [
            "done",
            "bpf",
            "io_uring",
            "keys",
            "kernel_module",
            "page_faults",
            "performance",
            "raise_core_limit",
            "terminal_input",
        ] {
            self.0.remove(name);
        }
        let refused: Vec<_> = self
            .0
            .iter()
            .filter(|(_, error)| REFUSALS.iter().any(|refusal| refusal.raw_os_error() == **error))
            .collect();
        assert_eq!(refused, Vec::<(&String, &i32)>::new());
    }
}

/// Builds the library of the attempts, and makes a directory that no process of the agent may open.
fn prepare(directory: &Path) {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/attempts.c");
    let mut compiler = Command::new("cc");
    compiler
        .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", source, "-o"])
        .arg(directory.join("attempts.so"));
    assert!(compiler.status().expect("a C compiler").success());
    fs::create_dir_all(directory.join("outside/directory")).expect("made");
    for (name, text) in [("outside/file", "untouched"), ("plan", ""), ("results", "")] {
        fs::write(directory.join(name), text).expect("written");
    }
}

fn attempts_of_front(confinement: &str) -> (Agent, Attempts) {
    let directory = tempfile::tempdir().expect("a directory");
    prepare(directory.path());
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let environment = vec![
        ("LD_PRELOAD".to_owned(), text(&directory.path().join("attempts.so"))),
        ("ATTEMPTS".to_owned(), text(directory.path())),
        ("SECRET".to_owned(), "not-for-children".to_owned()),
    ];
    let launch = Launch { environment, confinement: confinement.to_owned(), ..Launch::default() };
    let agent = Agent::start_with(SoftHsm::new(), launch, agent::BOT, "");
    fs::write(directory.path().join("plan"), "try").expect("written");
    agent.add("binance-mm", "binance", agent::API_KEY, agent::SECRET, None).expect("enrolled");
    agent.sign("binance-mm", "GET", "/api/v3/account", "{}").expect("signed");
    let attempts = Attempts::read(&directory.path().join("results"));
    if confinement != "off" {
        assert_eq!(
            fs::read_to_string(directory.path().join("outside/file")).expect("there"),
            "untouched"
        );
    }
    (agent, attempts)
}

fn attempts_of_host(reach: &str, confinement: Demand) -> Attempts {
    let token = SoftHsm::new();
    let shim = Shim::of(token.module());
    let outside = tempfile::tempdir().expect("a directory");
    prepare(outside.path());
    fs::copy(outside.path().join("attempts.so"), shim.file("attempts.so")).expect("copied");
    fs::write(shim.file("outside"), outside.path().join("outside").to_str().expect("UTF-8"))
        .expect("written");
    fs::write(shim.file("results"), "").expect("written");
    let profile = include_str!("../../pkcs11-profiles/softhsm.toml");
    let profile = profile.replace("reach = \"own-files\"", &format!("reach = \"{reach}\""));
    let profile_file = token.another_file("profile.toml", &profile);
    shim.plan("C_SignInit try times=1");
    let mut settings = token.settings();
    settings.profile = profile_file.to_str().expect("UTF-8").to_owned();
    settings.module = Some(shim.module());
    settings.confinement = confinement;
    let (host, _) = RunningHost::ready(&settings);
    host.stop();
    Attempts::read(&shim.file("results"))
}

#[test]
fn the_front_serves_and_can_do_nothing_else() {
    let (agent, attempts) = attempts_of_front("required");
    attempts.assert_possible(&SERVICES);
    let confinement = agent.admin().status().expect("a status").confinement;
    let processes: Vec<_> = confinement.iter().map(|entry| entry.process.as_str()).collect();
    assert_eq!(processes, ["front", "spawner", "host hsm"]);
    assert!(
        confinement.iter().all(|entry| entry.missing.is_empty() && entry.on.len() == 4),
        "{confinement:?}"
    );
    assert!(
        agent.client().status().expect("a status").confinement.is_empty(),
        "for the operator alone"
    );
}

#[test]
fn a_host_can_do_what_its_profile_says_and_nothing_else() {
    attempts_of_host("own-files", Demand::Required).assert_possible(&ORDINARY);
    attempts_of_host("services", Demand::Required).assert_possible(&SERVICES);
    attempts_of_host("network", Demand::Required).assert_possible(&NETWORK);
}

#[test]
fn without_confinement_it_can_all_be_done_and_status_warns() {
    assert!(
        rustix::process::geteuid().is_root(),
        "the system itself refuses some of it to others: run the tests as root"
    );
    attempts_of_host("own-files", Demand::Off).assert_unconfined();
    let (agent, attempts) = attempts_of_front("off");
    attempts.assert_unconfined();
    let status = agent.admin().status().expect("a status");
    assert!(
        status.warnings.iter().any(|warning| warning.contains("not confined: front")),
        "{:?}",
        status.warnings
    );
}

#[test]
fn every_process_shows_its_limits_and_nothing_of_its_environment() {
    let environment = vec![("SECRET".to_owned(), "not-for-children".to_owned())];
    let launch = Launch { environment, wrapper: without_rights(), ..Launch::default() };
    let agent = Agent::start_with(SoftHsm::new(), launch, agent::BOT, "");
    let mut processes = vec![agent.pid() as i32, agent.spawner().expect("a spawner")];
    processes.extend(agent.children());
    assert_eq!(processes.len(), 3);
    for process in processes {
        let read =
            |name: &str| fs::read(format!("/proc/{process}/{name}")).expect("readable for root");
        let status = String::from_utf8(read("status")).expect("text");
        for line in ["NoNewPrivs:\t1", "Seccomp:\t2"] {
            assert!(status.contains(line), "{line} not in {status}");
        }
        if rustix::process::geteuid().is_root() {
            let environment = read("environ");
            assert!(
                environment.iter().all(|byte| *byte == 0),
                "{}",
                String::from_utf8_lossy(&environment)
            );
        }
        let limits = String::from_utf8(read("limits")).expect("text");
        let core =
            limits.lines().find(|line| line.starts_with("Max core file size")).expect("has one");
        assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"]);
        assert_cannot_be_looked_into(process);
    }
}

#[test]
fn hosts_are_told_by_the_spawner_where_the_front_writes() {
    let agent = Agent::start(agent::BOT, "");
    let host = *agent.children().first().expect("a host");
    let arguments = fs::read(format!("/proc/{host}/cmdline")).expect("readable");
    let arguments: Vec<_> =
        arguments.split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    let (sockets, state) =
        (agent.path().display().to_string(), agent.state_dir().display().to_string());
    assert_eq!(arguments[1..6], ["host", "--front-writes", &sockets, "--front-writes", &state]);
}

#[test]
fn a_reload_reads_what_the_front_no_longer_can() {
    let agent = Agent::with_binance(agent::BOT);
    let user = "\n[client.named]\nuser = \"nobody\"\nsocket = \"DIR/named.sock\"\nkeys = \
                [\"binance-mm\"]\nscopes = [\"read\"]\n";
    agent.configure(agent::BOT, user);
    agent.signal(Signal::HUP);
    // The reload reads the name of a user and a file that was written again, and opens a new
    // socket.
    agent.wait_until("the reload", |agent| agent.path().join("named.sock").exists());
    agent.configure(agent::BOT, &user.replace("DIR/named", "/tmp/countersign-elsewhere"));
    agent.signal(Signal::HUP);
    let refusal = "a directory that was not in use at the start needs a restart";
    agent.wait_until("the refused reload", |agent| agent.log().contains(refusal));
    agent.sign("binance-mm", "GET", "/api/v3/account", "{}").expect("the one in force stays");
}

/// Pinentry asks if it is installed, else the host itself. Confinement keeps neither from it.
#[test]
fn a_pin_is_asked_for_at_the_agents_terminal() {
    let token = SoftHsm::new();
    let pin = token.pin();
    let typist = Typist::of(&pin);
    let wrapper = ["setsid", "--ctty"].map(str::to_owned).to_vec();
    let terminal = Some(typist.terminal().to_owned());
    let launch = Launch { wrapper, terminal, asks_for_hsm: true, ..Launch::default() };
    let agent = Agent::start_with(token, launch, agent::BOT, "");
    assert!(typist.was_asked());
    assert!(agent.tokens_are("healthy"), "logged in with what was typed");
}

#[test]
fn the_end_is_in_order_with_all_limits() {
    let mut agent = Agent::with_binance(agent::BOT);
    assert_eq!(agent.stop(Signal::TERM), Some(0), "log:\n{}", agent.log());
    assert!(!agent.path().join("agent.sock").exists());
}
