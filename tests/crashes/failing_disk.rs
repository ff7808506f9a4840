//! Disks on which writes or syncs fail: the agent signs nothing more and answers `status`. It signs
//! again when there is room, or after a restart.

use std::time::{Duration, Instant};

use countersign::Error;
use countersign_core::refusal::Code;
use rustix::io::Errno;
use rustix::process::Signal;

use crate::harness::agent;
use crate::harness::faulty_front::FaultyFront;
use crate::harness::recorded::assert_verified;

/// A request that moves money waits for the disk. If the sync of its intent fails, the token is not
/// asked, and a later sync that succeeds proves nothing.
#[test]
fn a_sync_that_fails_keeps_a_transfer_from_the_token() {
    let bot = "keys = [\"binance-mm\"]\nscopes = [\"read\", \"transfer\"]\n";
    let faulty =
        FaultyFront::with_rest(bot, "[transfer.BTC]\nper_request = \"1\"\nper_day = \"1\"\n");
    let transfer = || {
        let params = r#"{"type":"MAIN_UMFUTURE","asset":"BTC","amount":"0.1"}"#;
        agent::code(faulty.agent.sign("binance-mm", "POST", "/sapi/v1/asset/transfer", params))
    };
    assert_eq!(transfer(), Ok(()));
    faulty.plan(&format!("sync {}", Errno::IO.raw_os_error()));
    assert_eq!(transfer(), Err(Code::LedgerUnavailable));
    faulty.plan("");
    assert_eq!([(); 5].map(|()| transfer()), [Err(Code::LedgerUnavailable); 5]);
    let results = faulty.agent.journal().matches("\"kind\":\"result\"").count();
    assert_eq!(results, 1, "only the first reached the token");
}

#[test]
fn a_disk_that_fails_ends_signing_until_a_restart_and_nothing_else() {
    let broken = Errno::IO.raw_os_error();
    for plan in [format!("write {broken}"), format!("sync {broken}")] {
        let mut faulty = FaultyFront::new(agent::BOT);
        assert_eq!(faulty.read(), Ok(()));
        faulty.plan(&plan);
        let failing = Instant::now();
        // A failed group sync is known 50 ms after the write.
        while faulty.read().is_ok() {
            assert!(failing.elapsed() < Duration::from_secs(1), "{plan}: goes on signing");
        }
        faulty.plan("");
        for _ in 0..20 {
            assert_eq!(faulty.read(), Err(Code::LedgerUnavailable), "{plan}");
        }
        let status = faulty.agent.admin().status().expect("status goes on");
        assert_eq!(status.ledger.expect("a ledger").state, "unavailable", "{plan}");
        assert!(
            status.warnings.iter().any(|warning| warning.contains("journal")),
            "{:?}",
            status.warnings
        );
        assert_eq!(faulty.agent.client().keys().expect("a list").keys.len(), 1);
        faulty.agent.stop(Signal::TERM);
        faulty.agent.begin();
        faulty.agent.wait_until("the agent is back", |agent| agent.tokens_are("healthy"));
        assert_eq!(faulty.read(), Ok(()), "{plan}; log:\n{}", faulty.agent.log());
        assert_verified(&faulty.agent.state_dir());
    }
}

/// Writes and syncs fail in turns for want of room. Nobody restarts the agent.
#[test]
fn a_disk_without_room_ends_signing_until_there_is_some() {
    let faulty = FaultyFront::new(agent::BOT);
    for (cycle, call) in ["write", "sync", "write", "sync"].into_iter().enumerate() {
        for error in [Errno::NOSPC, Errno::DQUOT] {
            assert_eq!(faulty.read(), Ok(()));
            faulty.plan(&format!("{call} {}", error.raw_os_error()));
            let failing = Instant::now();
            while faulty.read().is_ok() {
                assert!(
                    failing.elapsed() < Duration::from_secs(1),
                    "{call}, {error}: goes on signing"
                );
            }
            assert_eq!(faulty.read(), Err(Code::LedgerUnavailable), "{call}, {error}");
            assert!(
                faulty.agent.admin().lock().is_ok(),
                "{call}, {error}: locked; log:\n{}",
                faulty.agent.log()
            );
            faulty.plan("");
            faulty.agent.wait_until("unlocked", |agent| agent.admin().unlock().is_ok());
            faulty.agent.wait_until("it signs again", |_| faulty.read().is_ok());
            assert_verified(&faulty.agent.state_dir());
        }
        let locks = faulty.agent.journal().matches("\"kind\":\"locked\"").count();
        assert_eq!(locks, 2 * (cycle + 1), "every lock is on record");
    }
}

/// On a disk that is broken or read-only a lock holds, although its record cannot be written.
#[test]
fn a_lock_holds_on_a_disk_that_fails_and_says_what_is_missing() {
    for error in [Errno::IO, Errno::ROFS] {
        let mut faulty = FaultyFront::new(agent::BOT);
        faulty.plan(&format!("write {}", error.raw_os_error()));
        let Err(Error::Refused(refused)) = faulty.agent.admin().lock() else {
            panic!("it cannot be recorded")
        };
        assert_eq!(refused.known_code(), Some(Code::LedgerUnavailable), "{error}");
        assert!(
            refused.message.starts_with("locked: nothing is signed until"),
            "{}",
            refused.message
        );
        assert!(refused.message.contains("it is not on record"), "{}", refused.message);
        faulty.plan("");
        assert_eq!(faulty.read(), Err(Code::LedgerUnavailable), "{error}");
        faulty.agent.stop(Signal::TERM);
        faulty.agent.begin();
        faulty.agent.wait_until("the agent is back", |agent| agent.tokens_are("healthy"));
        assert_eq!(faulty.read(), Err(Code::AgentLocked), "{error}: also after a restart");
        faulty.agent.admin().unlock().expect("unlocked");
        assert_eq!(faulty.read(), Ok(()), "{error}");
        assert_verified(&faulty.agent.state_dir());
    }
}
