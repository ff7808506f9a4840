//! A disk that becomes full during an enrolment, an approval, or the step from one segment to the
//! next.

use std::fs;
use std::path::Path;
use std::time::Duration;

use countersign::Error;
use countersign_core::refusal::Code;
use countersign_core::wire::SignReply;
use rustix::process::Signal;

use crate::harness::agent::{self, API_KEY, Agent, SECRET};
use crate::harness::person::Person;
use crate::harness::recorded::{Journal, assert_verified};
use crate::harness::small_disk::{Namespace, ask_until_full, fill, read, started};
use crate::harness::softhsm::SoftHsm;
use crate::harness::withdrawing::{agent_on, approve, ask, keys_of, result};

fn is_healthy(agent: &Agent) -> bool {
    agent
        .admin()
        .status()
        .is_ok_and(|status| status.ledger.is_some_and(|ledger| ledger.state == "healthy"))
}

/// The agent does not begin an enrolment that the journal cannot hold, and leaves nothing on the
/// token. The same enrolment works when there is room.
#[test]
fn an_enrolment_on_a_full_disk_leaves_nothing_behind() {
    let namespace = Namespace::new("size=2m");
    let (mut agent, state_dir) = started(&namespace);
    let filler = state_dir.join("filler");
    for (name, known) in [("okx", true), ("kraken", false)] {
        fill(&filler);
        if known {
            ask_until_full(&mut agent.client(), &mut Vec::new());
        }
        let add = |agent: &Agent| agent.add(name, "binance", API_KEY, SECRET, None);
        let refused = agent::code(add(&agent));
        let expected = if known { Code::LedgerUnavailable } else { Code::TokenUnavailable };
        assert_eq!(refused, Err(expected), "{name}; known: {known}");
        fs::remove_file(&filler).expect("removed");
        agent.wait_until("there is room", is_healthy);
        add(&agent)
            .unwrap_or_else(|error| panic!("{name}: nothing was left on the token: {error}"));
        let call = agent::call(name, "GET", "/api/v3/account", "{}");
        agent.client().sign(&call).expect("signed");
        assert_verified(&state_dir);
    }
    assert_eq!(agent.stop(Signal::TERM), Some(0), "{}", agent.log());
    let journal = agent_journal(&state_dir);
    assert_eq!(journal.matches("\"kind\":\"key_added\"").count(), 3, "{journal}");
}

fn agent_journal(state_dir: &Path) -> String {
    let mut files: Vec<_> = fs::read_dir(state_dir.join("journal"))
        .expect("a journal")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files.iter().map(|file| fs::read_to_string(file).expect("a segment")).collect()
}

#[test]
fn an_approval_on_a_full_disk_approves_nothing_until_there_is_room() {
    let namespace = Namespace::new("size=2m");
    let alice = Person::new("alice", 1);
    let agent = agent_on(SoftHsm::new(), namespace.launch(), &keys_of(&[&alice]), "");
    let state_dir = namespace.state_dir(&agent);
    let (mut client, filler) = (agent.client(), state_dir.join("filler"));
    for known in [false, true] {
        let pending = ask(&mut client, "0.5");
        fill(&filler);
        if known {
            ask_until_full(&mut agent.client(), &mut Vec::new());
        }
        let approved = approve(&agent, &alice, &pending.id);
        if known {
            assert_eq!(agent::code(approved), Err(Code::LedgerUnavailable));
            let waits = client.result::<SignReply>(&pending.id, Duration::from_millis(200));
            assert!(matches!(waits, Err(Error::Waits(_))), "{waits:?}");
        } else {
            approved.expect("the room that was set aside holds the record");
        }
        fs::remove_file(&filler).expect("removed");
        agent.wait_until("there is room", is_healthy);
        if known {
            approve(&agent, &alice, &pending.id).expect("it waited");
        }
        let signed = result(&mut client, &pending.id).expect("signed once");
        let journal = Journal::below(&state_dir);
        assert!(
            journal.intents.contains(&signed.request_id)
                && journal.signed.contains(&signed.request_id)
        );
        assert_verified(&state_dir);
    }
}

/// A segment of this small disk has 64 KiB. The test takes the last room at several points before
/// its end.
#[test]
fn a_disk_that_becomes_full_at_a_rotation_still_takes_a_lock() {
    let namespace = Namespace::new("size=2m");
    let (agent, state_dir) = started(&namespace);
    let (mut client, filler) = (agent.client(), state_dir.join("filler"));
    let newest = || {
        let files = fs::read_dir(state_dir.join("journal")).expect("a journal");
        let newest = files.map(|file| file.expect("an entry").path()).max().expect("a segment");
        fs::metadata(newest).expect("is there").len()
    };
    for before_the_end in [2_600, 1_700, 900, 400] {
        while newest() < 64 * 1024 - before_the_end {
            read(&mut client).expect("there is room");
        }
        fill(&filler);
        let _ = read(&mut client);
        let _ = read(&mut client);
        assert!(agent.admin().lock().is_ok(), "{before_the_end}: {}", agent.log());
        fs::remove_file(&filler).expect("removed");
        agent.wait_until("unlocked", |agent| agent.admin().unlock().is_ok());
        agent.wait_until("it signs", |_| read(&mut agent.client()).is_ok());
        assert_verified(&state_dir);
    }
}
