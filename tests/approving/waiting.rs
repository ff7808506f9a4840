//! Requests that wait for an approver: each can be seen, and each ends.

use std::fs;
use std::time::{Duration, Instant};

use countersign::Error;
use countersign_core::refusal::Code;
use countersign_core::wire::SignReply;
use rustix::process::Signal;

use crate::harness::agent::{API_KEY, SECRET, call, code};
use crate::harness::person::Person;
use crate::harness::withdrawing::{ADDRESS, PATH, agent_with, approve, ask, result, withdrawal};

/// A client with large requests hides nobody else's. A request that has no room in the list is
/// named there, and can be seen alone.
#[test]
fn whatever_waits_can_be_seen_and_approved() {
    let alice = Person::new("alice", 1);
    let mut agent = agent_with(&[&alice], "");
    // One request of each key may wait, up to the length that a person can be shown.
    let keys: Vec<String> = (0..56).map(|number| format!("key-{number}")).collect();
    for key in &keys {
        agent.add(key, "binance", API_KEY, SECRET, None).expect("enrolled");
    }
    let config = fs::read_to_string(agent.config_file()).expect("a configuration");
    let all_keys = format!(
        "keys = [\"binance-mm\", {}]",
        keys.iter().map(|key| format!("{key:?}")).collect::<Vec<_>>().join(", ")
    );
    fs::write(agent.config_file(), config.replace("keys = [\"binance-mm\"]", &all_keys))
        .expect("written");
    agent.stop(Signal::TERM);
    fs::remove_file(agent.state_dir().join("accepted.toml")).expect("as at a first start");
    agent.restart();
    let mut client = agent.client();
    let params = |name: String| {
        format!(
            r#"{{"coin":"BTC","network":"BTC","address":"{ADDRESS}","amount":"0.01",
                "name":"{name}"}}"#
        )
    };
    let mut waits = |key: &str, params: &str| match client.sign(&call(key, "POST", PATH, params)) {
        Err(Error::Waits(waits)) => waits.pending.id,
        other => panic!("it does not wait: {other:?}"),
    };
    let large = keys
        .iter()
        .enumerate()
        .map(|(number, key)| waits(key, &params("n".repeat(3_900 + number))));
    let mut all: std::collections::BTreeSet<String> = large.collect();
    let small = waits("binance-mm", &params("mine".to_owned()));
    all.insert(small.clone());
    let listed = agent.admin().pending().expect("answered");
    assert!(listed.pending.iter().any(|entry| entry.id == small), "the small one is listed");
    assert!(
        !listed.unlisted.is_empty() && listed.pending.len() > 20,
        "{} listed",
        listed.pending.len()
    );
    let named =
        listed.pending.iter().map(|entry| entry.id.clone()).chain(listed.unlisted.iter().cloned());
    assert_eq!(named.collect::<Vec<_>>().len(), all.len(), "each is named once");
    assert!(listed.unlisted.iter().all(|id| all.contains(id)));
    let hidden = &listed.unlisted[0];
    let one = agent.admin().pending_request(hidden).expect("answered");
    assert_eq!((one.pending.len(), one.unlisted.len(), &one.pending[0].id), (1, 0, hidden));
    agent.admin().approve(hidden, &alice.approve(&one.pending[0].statement, 1)).expect("approved");
    assert!(result(&mut client, hidden).is_ok());
    approve(&agent, &alice, &small).expect("approved");
}

#[test]
fn what_is_not_approved_ends_and_is_free_again() {
    let (alice, bob) = (Person::new("alice", 1), Person::new("bob", 2));
    let agent = agent_with(&[&alice, &bob], "approval_timeout_s = 1\n");
    let mut client = agent.client();
    let late = ask(&mut client, "1");
    assert_eq!(code(result(&mut client, &late.id)), Err(Code::ApprovalExpired));
    assert_eq!(code(agent.admin().approve(&late.id, "late")), Err(Code::RequestMalformed));
    let cancelled = ask(&mut client, "1");
    client.cancel(&cancelled.id).expect("cancelled");
    assert_eq!(code(result(&mut client, &cancelled.id)), Err(Code::ApprovalCancelled));
    let left = ask(&mut client, "1");
    drop(client);
    agent.wait_until("the request of a client that is gone ends", |agent| {
        agent.admin().pending().is_ok_and(|reply| reply.pending.is_empty())
    });
    let mut client = agent.client();
    assert_eq!(code(result(&mut client, &left.id)), Err(Code::ApprovalCancelled));
    let locked = ask(&mut client, "1");
    agent.admin().lock().expect("locked");
    assert_eq!(code(result(&mut client, &locked.id)), Err(Code::ApprovalCancelled));
    agent.admin().unlock().expect("asked for");
    let change = agent.admin().pending().expect("answered").changes.remove(0);
    agent.admin().approve(&change.id, &alice.approve(&change.statement, 1)).expect("unlocked");
    // None of these was signed, so the whole limit of the day is left.
    ask(&mut client, "2");
    assert_eq!(agent.journal().matches("\"kind\":\"returned\"").count(), 4);
}

#[test]
fn who_does_not_ask_for_the_result_has_lost_interest() {
    let agent = agent_with(&[&Person::new("alice", 1)], "");
    let mut client = agent.client();
    let (asked, begun) = (ask(&mut client, "1"), Instant::now());
    // The time counts from the end of a call for the result.
    std::thread::sleep(Duration::from_secs(2));
    assert!(matches!(
        client.result::<SignReply>(&asked.id, Duration::from_secs(1)),
        Err(Error::Waits(_))
    ));
    while agent.admin().pending().is_ok_and(|reply| !reply.pending.is_empty()) {
        assert!(begun.elapsed() < Duration::from_secs(60), "it waits on");
        std::thread::sleep(Duration::from_millis(200));
    }
    assert!(begun.elapsed() > Duration::from_secs(32), "{:?}", begun.elapsed());
    let ended = result(&mut client, &asked.id).expect_err("it was given up");
    assert!(ended.to_string().contains("has not asked for the result"), "{ended}");
    assert_eq!(code(Err::<SignReply, _>(ended)), Err(Code::ApprovalCancelled));
}

#[test]
fn a_key_asks_persons_thirty_times_within_an_hour() {
    let agent = agent_with(&[&Person::new("alice", 1)], "");
    let mut client = agent.client();
    for _ in 0..30 {
        let asked = ask(&mut client, "0.1");
        client.cancel(&asked.id).expect("cancelled");
        assert_eq!(code(result(&mut client, &asked.id)), Err(Code::ApprovalCancelled));
    }
    let refused = client.sign(&withdrawal("0.1")).expect_err("too often");
    assert!(refused.to_string().contains("within an hour"), "{refused}");
    assert_eq!(code(Err::<SignReply, _>(refused)), Err(Code::PolicyRate));
    assert_eq!(agent.admin().pending().expect("answered").pending.len(), 0);
}

#[test]
fn half_the_limit_waits_and_the_rest_cannot_be_spent_twice() {
    let alice = Person::new("alice", 1);
    let mut agent = agent_with(&[&alice], "");
    let mut client = agent.client();
    let first = ask(&mut client, "1");
    approve(&agent, &alice, &first.id).expect("approved");
    result(&mut client, &first.id).expect("signed");
    let second = ask(&mut client, "1");
    // If the agent is killed while a request waits, the request counts and nothing is signed.
    agent.stop(Signal::KILL);
    agent.restart();
    let mut client = agent.client();
    assert_eq!(code(result(&mut client, &second.id)), Err(Code::RequestMalformed));
    assert_eq!(code(client.sign(&withdrawal("0.1"))), Err(Code::PolicyLimit));
    assert_eq!(agent.journal().matches("\"outcome\":\"signed\"").count(), 1);
}
