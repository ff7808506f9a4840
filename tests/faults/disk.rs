//! Disks that are full or broken: nothing more is signed and status goes on; room, or a restart,
//! goes on where it stopped.

use rustix::io::Errno;
use rustix::process::Signal;

use super::*;
use crate::agent;

/// An agent whose front's writes, syncs and clock are at the mercy of a plan.
pub(super) struct Mercy {
    pub(super) agent: Agent,
    directory: tempfile::TempDir,
}

impl Mercy {
    pub(super) fn new(bot: &str) -> Self {
        Self::with_rest(bot, "")
    }

    pub(super) fn with_rest(bot: &str, rest: &str) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let library = directory.path().join("process-faults.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/process-faults.c");
        let mut compiler = std::process::Command::new("cc");
        let compiler = compiler
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-Werror", source, "-o"])
            .arg(&library);
        assert!(compiler.status().expect("a C compiler").success());
        fs::write(directory.path().join("plan"), "").expect("written");
        let variable =
            |name: &str, path: &Path| (name.to_owned(), path.to_str().expect("UTF-8").to_owned());
        let environment = vec![
            variable("LD_PRELOAD", &library),
            variable("PROCESS_FAULTS", &directory.path().join("plan")),
        ];
        let agent = Agent::start_with(
            SoftHsm::new(),
            Launch { environment, ..Launch::default() },
            bot,
            rest,
        );
        agent.add("binance-mm", "binance", API_KEY, SECRET, None).expect("enrolled");
        Self { agent, directory }
    }

    pub(super) fn plan(&self, plan: &str) {
        write_plan(&self.directory.path().join("plan"), plan);
    }

    fn read(&self) -> Option<Code> {
        agent::code(self.agent.sign("binance-mm", "GET", "/api/v3/account", "{}"))
    }
}

/// What moves money waits for the disk: where the sync of its intent fails, the token is not asked,
/// and a later sync that succeeds proves nothing.
#[test]
fn a_sync_that_fails_keeps_a_transfer_from_the_token() {
    let bot = "keys = [\"binance-mm\"]\nscopes = [\"read\", \"transfer\"]\n";
    let mercy = Mercy::with_rest(bot, "[transfer.BTC]\nper_request = \"1\"\nper_day = \"1\"\n");
    let transfer = || {
        let params = r#"{"type":"MAIN_UMFUTURE","asset":"BTC","amount":"0.1"}"#;
        agent::code(mercy.agent.sign("binance-mm", "POST", "/sapi/v1/asset/transfer", params))
    };
    assert_eq!(transfer(), None);
    mercy.plan(&format!("sync {}", Errno::IO.raw_os_error()));
    assert_eq!(transfer(), Some(Code::LedgerUnavailable));
    mercy.plan("");
    assert_eq!([(); 5].map(|()| transfer()), [Some(Code::LedgerUnavailable); 5]);
    let results = mercy.agent.journal().matches("\"kind\":\"result\"").count();
    assert_eq!(results, 1, "only the first reached the token");
}

#[test]
fn a_disk_that_fails_ends_signing_until_a_restart_and_nothing_else() {
    let broken = Errno::IO.raw_os_error();
    for plan in [format!("write {broken}"), format!("sync {broken}")] {
        let mut mercy = Mercy::new(agent::BOT);
        assert_eq!(mercy.read(), None);
        mercy.plan(&plan);
        let failing = Instant::now();
        // A failed group sync is known 50 ms after the write.
        while mercy.read().is_none() {
            assert!(failing.elapsed() < Duration::from_secs(1), "{plan}: goes on signing");
        }
        mercy.plan("");
        for _ in 0..20 {
            assert_eq!(mercy.read(), Some(Code::LedgerUnavailable), "{plan}");
        }
        let status = mercy.agent.admin().status().expect("status goes on");
        assert_eq!(status.ledger.expect("a ledger").state, "unavailable", "{plan}");
        assert!(
            status.warnings.iter().any(|warning| warning.contains("journal")),
            "{:?}",
            status.warnings
        );
        assert_eq!(mercy.agent.client().keys().expect("a list").keys.len(), 1);
        mercy.agent.stop(Signal::TERM);
        mercy.agent.begin();
        mercy.agent.wait_until("the agent is back", |agent| agent.tokens_are("healthy"));
        assert_eq!(mercy.read(), None, "{plan}; log:\n{}", mercy.agent.log());
        killed::assert_verified(&mercy.agent.state_dir());
    }
}

/// Write and sync fail for want of room, in turns, and nobody restarts anything.
#[test]
fn a_disk_without_room_ends_signing_until_there_is_some() {
    let mercy = Mercy::new(agent::BOT);
    for (cycle, call) in ["write", "sync", "write", "sync"].into_iter().enumerate() {
        for error in [Errno::NOSPC, Errno::DQUOT] {
            assert_eq!(mercy.read(), None);
            mercy.plan(&format!("{call} {}", error.raw_os_error()));
            let failing = Instant::now();
            while mercy.read().is_none() {
                assert!(
                    failing.elapsed() < Duration::from_secs(1),
                    "{call}, {error}: goes on signing"
                );
            }
            assert_eq!(mercy.read(), Some(Code::LedgerUnavailable), "{call}, {error}");
            assert!(
                mercy.agent.admin().lock().is_ok(),
                "{call}, {error}: locked; log:\n{}",
                mercy.agent.log()
            );
            mercy.plan("");
            mercy.agent.wait_until("unlocked", |agent| agent.admin().unlock().is_ok());
            mercy.agent.wait_until("it signs again", |_| mercy.read().is_none());
            killed::assert_verified(&mercy.agent.state_dir());
        }
        let locks = mercy.agent.journal().matches("\"kind\":\"locked\"").count();
        assert_eq!(locks, 2 * (cycle + 1), "every lock is on record");
    }
}

/// On a disk that is broken or read-only a lock holds, although its record cannot be written.
#[test]
fn a_lock_holds_on_a_disk_that_fails_and_says_what_is_missing() {
    for error in [Errno::IO, Errno::ROFS] {
        let mut mercy = Mercy::new(agent::BOT);
        mercy.plan(&format!("write {}", error.raw_os_error()));
        let Err(Error::Refused(refused)) = mercy.agent.admin().lock() else {
            panic!("it cannot be recorded")
        };
        assert_eq!(refused.known_code(), Some(Code::LedgerUnavailable), "{error}");
        assert!(
            refused.message.starts_with("locked: nothing is signed until"),
            "{}",
            refused.message
        );
        assert!(refused.message.contains("it is not on record"), "{}", refused.message);
        mercy.plan("");
        assert_eq!(mercy.read(), Some(Code::LedgerUnavailable), "{error}");
        mercy.agent.stop(Signal::TERM);
        mercy.agent.begin();
        mercy.agent.wait_until("the agent is back", |agent| agent.tokens_are("healthy"));
        assert_eq!(mercy.read(), Some(Code::AgentLocked), "{error}: also after a restart");
        mercy.agent.admin().unlock().expect("unlocked");
        assert_eq!(mercy.read(), None, "{error}");
        killed::assert_verified(&mercy.agent.state_dir());
    }
}
