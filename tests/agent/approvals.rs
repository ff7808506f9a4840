//! Withdrawals that persons approve: with a FIDO key in software behind an ssh-agent of the test,
//! where a touch is a flag.

mod openssh;
pub(crate) mod person;

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::ssh_agent::{ApproverError, SshAgent};
use countersign_core::audit;
use countersign_core::key::Tier;
use countersign_core::wire::PendingRequest;
use countersign_front::ledger::segment::SegmentDir;
use countersign_front::ledger::storage::Disk;

use super::*;
use crate::faults::Shim;
use person::Person;

const PATH: &str = "/sapi/v1/capital/withdraw/apply";
const ADDRESS: &str = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq";

/// An agent whose one client may withdraw up to 2 BTC a day to one place, with alice and bob as
/// approvers.
fn agent_with(approvers: &[&Person], agent_fields: &str) -> Agent {
    agent_on(SoftHsm::new(), Launch::default(), &keys_of(approvers), agent_fields)
}

/// Names and public keys, as they stand in `agent.toml`.
pub(crate) fn keys_of(persons: &[&Person]) -> Vec<(&'static str, String)> {
    persons.iter().map(|person| (person.name, person.public_key())).collect()
}

pub(crate) fn agent_on(
    token: SoftHsm,
    launch: Launch,
    approvers: &[(&str, String)],
    agent_fields: &str,
) -> Agent {
    let mut agent = Agent::start_with(token, launch, "keys = []\nscopes = [\"read\"]\n", "");
    agent.add("binance-mm", "binance", API_KEY, SECRET, None).expect("enrolled");
    let mut rest = format!(
        "[[destination]]\nlabel = \"cold storage\"\nasset = \"BTC\"\nnetwork = \"BTC\"\naddress = \
         \"{ADDRESS}\"\n\n\
         [transfer.BTC]\nper_day = \"2\"\napprovers = [{{ above = \"0\", count = 1 }}, {{ above = \
         \"1\", count = 2 }}]\n\n"
    );
    for (name, public_key) in approvers {
        rest.push_str(&format!("[approver.{name}]\nssh_key = \"{public_key}\"\n\n"));
    }
    agent.configure("keys = [\"binance-mm\"]\nscopes = [\"read\", \"withdraw\"]\n", &rest);
    let text = fs::read_to_string(agent.config_file()).expect("a configuration");
    fs::write(
        agent.config_file(),
        text.replacen("[agent]\n", &format!("[agent]\n{agent_fields}"), 1),
    )
    .expect("written");
    agent.restart();
    agent
}

fn withdrawal(amount: &str) -> SignCall {
    let params =
        format!(r#"{{"coin":"BTC","network":"BTC","address":"{ADDRESS}","amount":"{amount}"}}"#);
    call("binance-mm", "POST", PATH, &params)
}

/// Asks, and says which place the request got.
pub(crate) fn ask(client: &mut Client, amount: &str) -> PendingRequest {
    match client.sign(&withdrawal(amount)) {
        Err(Error::Waits(waits)) => waits.pending,
        other => panic!("it does not wait: {other:?}"),
    }
}

pub(crate) fn approve(agent: &Agent, person: &Person, id: &str) -> Result<DoneReply, Error> {
    let mut admin = agent.admin();
    let pending = admin.pending().expect("answered").pending;
    let entry = pending.iter().find(|entry| entry.id == id).expect("it waits");
    admin.approve(id, &person.approve(&entry.statement, 1))
}

pub(crate) fn result(client: &mut Client, id: &str) -> Result<SignReply, Error> {
    client.result(id, Duration::from_secs(10))
}

#[test]
fn a_touch_signs_one_withdrawal_and_stands_in_the_journal() {
    let alice = Person::new("alice", 1);
    let agent = agent_with(&[&alice], "");
    let mut client = agent.client();
    let pending = ask(&mut client, "0.5");
    assert_eq!((pending.approvals_needed, pending.approvals), (1, 0));
    let shown = agent.admin().pending().expect("answered").pending.remove(0);
    assert_eq!(shown.destinations, [Some("cold storage".to_owned())]);
    assert_eq!((shown.rung, shown.limits[0].used.to_string().as_str()), (3, "0.5"));
    assert_eq!(shown.caller.pid, Some(std::process::id()));
    assert!(!shown.caller.processes.is_empty());
    assert!(matches!(
        client.result::<SignReply>(&pending.id, Duration::ZERO),
        Err(Error::Waits(_))
    ));
    let done = approve(&agent, &alice, &pending.id).expect("approved");
    assert!(done.done.contains("approved by alice, 1 of 1"), "{}", done.done);
    let reply = result(&mut client, &pending.id).expect("signed");
    assert_eq!((reply.request_id.as_str(), reply.scope), (pending.id.as_str(), Scope::Withdraw));
    assert!(reply.body.as_deref().is_some_and(|body| body.contains(ADDRESS)), "{reply:?}");
    // One approval, one signature: it is used up.
    assert_eq!(code(agent.admin().approve(&pending.id, "again")), Some(Code::RequestMalformed));
    let journal = agent.journal();
    assert_eq!(journal.matches("\"kind\":\"approval\"").count(), 1);
    let segments = SegmentDir::new(Arc::new(Disk), &agent.state_dir());
    let report = audit::verify(&segments, None, &mut |_, _| {}).expect("read");
    assert_eq!(report.problems, []);
}

/// A client that asks for much hides nobody else's request: what has no room in the list is named,
/// and seen alone.
#[test]
fn whatever_waits_can_be_seen_and_approved() {
    let alice = Person::new("alice", 1);
    let mut agent = agent_with(&[&alice], "");
    // One request of each key may wait, as long as a person can be shown.
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
fn what_does_not_approve_changes_nothing() {
    let (alice, mallory) = (Person::new("alice", 1), Person::new("mallory", 3));
    let agent = agent_with(&[&alice], "");
    let mut client = agent.client();
    let first = ask(&mut client, "0.5");
    let mut admin = agent.admin();
    let statement = admin.pending().expect("answered").pending.remove(0).statement;
    let mut other_agent = statement.clone();
    other_agent.agent = "another".to_owned();
    for sshsig in [
        "nonsense".to_owned(),
        alice.approve(&statement, 0),
        mallory.approve(&statement, 1),
        alice.approve(&other_agent, 1),
        alice.sign("file", &statement.bytes(), 1),
    ] {
        assert_eq!(
            code(admin.approve(&first.id, &sshsig)),
            Some(Code::ApprovalRequired),
            "{sshsig}"
        );
    }
    // One at a time for each key.
    assert_eq!(code(agent.client().sign(&withdrawal("0.1"))), Some(Code::PolicyRate));
    admin.deny(&first.id).expect("denied");
    assert_eq!(code(result(&mut client, &first.id)), Some(Code::ApprovalDenied));
    // The approval of one request is none of the next.
    let second = ask(&mut client, "0.5");
    let replayed = admin.approve(&second.id, &alice.approve(&statement, 1));
    assert_eq!(code(replayed), Some(Code::ApprovalRequired));
    assert_eq!(agent.journal().matches("\"kind\":\"approval\"").count(), 0);
    assert_eq!(agent.journal().matches("\"outcome\":\"signed\"").count(), 0);
}

#[test]
fn large_amounts_need_two_persons() {
    let (alice, bob) = (Person::new("alice", 1), Person::new("bob", 2));
    let agent = agent_with(&[&alice, &bob], "");
    let mut client = agent.client();
    let pending = ask(&mut client, "1.5");
    assert_eq!(pending.approvals_needed, 2);
    approve(&agent, &alice, &pending.id).expect("the first");
    assert_eq!(code(approve(&agent, &alice, &pending.id)), Some(Code::ApprovalRequired));
    let still = client.result::<SignReply>(&pending.id, Duration::ZERO);
    let Err(Error::Waits(still)) = still else { panic!("{still:?}") };
    assert_eq!(still.pending.approvals, 1);
    approve(&agent, &bob, &pending.id).expect("the second");
    result(&mut client, &pending.id).expect("signed");
}

#[test]
fn what_is_not_approved_ends_and_is_free_again() {
    let (alice, bob) = (Person::new("alice", 1), Person::new("bob", 2));
    let agent = agent_with(&[&alice, &bob], "approval_timeout_s = 1\n");
    let mut client = agent.client();
    let late = ask(&mut client, "1");
    assert_eq!(code(result(&mut client, &late.id)), Some(Code::ApprovalExpired));
    assert_eq!(code(agent.admin().approve(&late.id, "late")), Some(Code::RequestMalformed));
    let cancelled = ask(&mut client, "1");
    client.cancel(&cancelled.id).expect("cancelled");
    assert_eq!(code(result(&mut client, &cancelled.id)), Some(Code::ApprovalCancelled));
    let left = ask(&mut client, "1");
    drop(client);
    agent.wait_until("the request of a client that is gone ends", |agent| {
        agent.admin().pending().is_ok_and(|reply| reply.pending.is_empty())
    });
    let mut client = agent.client();
    assert_eq!(code(result(&mut client, &left.id)), Some(Code::ApprovalCancelled));
    let locked = ask(&mut client, "1");
    agent.admin().lock().expect("locked");
    assert_eq!(code(result(&mut client, &locked.id)), Some(Code::ApprovalCancelled));
    agent.admin().unlock().expect("asked for");
    let change = agent.admin().pending().expect("answered").changes.remove(0);
    agent.admin().approve(&change.id, &alice.approve(&change.statement, 1)).expect("unlocked");
    // Nothing of all that was signed, so the whole day's limit is there.
    ask(&mut client, "2");
    assert_eq!(agent.journal().matches("\"kind\":\"returned\"").count(), 4);
}

#[test]
fn who_does_not_ask_for_the_result_has_lost_interest() {
    let agent = agent_with(&[&Person::new("alice", 1)], "");
    let mut client = agent.client();
    let (asked, begun) = (ask(&mut client, "1"), Instant::now());
    // A call for the result counts from its end.
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
    assert_eq!(code(Err::<SignReply, _>(ended)), Some(Code::ApprovalCancelled));
}

#[test]
fn a_key_asks_persons_thirty_times_within_an_hour() {
    let agent = agent_with(&[&Person::new("alice", 1)], "");
    let mut client = agent.client();
    for _ in 0..30 {
        let asked = ask(&mut client, "0.1");
        client.cancel(&asked.id).expect("cancelled");
        assert_eq!(code(result(&mut client, &asked.id)), Some(Code::ApprovalCancelled));
    }
    let refused = client.sign(&withdrawal("0.1")).expect_err("too often");
    assert!(refused.to_string().contains("within an hour"), "{refused}");
    assert_eq!(code(Err::<SignReply, _>(refused)), Some(Code::PolicyRate));
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
    // A kill while it waits: it counts on, nothing is signed.
    agent.stop(Signal::KILL);
    agent.restart();
    let mut client = agent.client();
    assert_eq!(code(result(&mut client, &second.id)), Some(Code::RequestMalformed));
    assert_eq!(code(client.sign(&withdrawal("0.1"))), Some(Code::PolicyLimit));
    assert_eq!(agent.journal().matches("\"outcome\":\"signed\"").count(), 1);
}

#[test]
fn two_keys_of_one_person_are_not_two_persons() {
    let (alice, spare, bob) =
        (Person::new("alice", 1), Person::new("spare", 2), Person::new("bob", 3));
    let spare_key =
        format!("[approver.spare]\nssh_key = \"{}\"\nperson = \"alice\"\n", spare.public_key());
    let with_spare = |approvers: &[&Person]| {
        let mut agent = agent_with(approvers, "");
        let text = fs::read_to_string(agent.config_file()).expect("a configuration");
        fs::remove_file(agent.state_dir().join("accepted.toml")).expect("as on the first start");
        fs::write(agent.config_file(), text + &spare_key).expect("written");
        agent.restart();
        agent
    };
    let agent = with_spare(&[&alice, &bob]);
    let mut client = agent.client();
    let pending = ask(&mut client, "1.5");
    let by_spare = agent.admin().pending().expect("answered").approvers;
    assert!(
        by_spare.iter().any(|entry| (entry.name.as_str(), entry.person()) == ("spare", "alice")),
        "{by_spare:?}"
    );
    approve(&agent, &spare, &pending.id).expect("the first");
    let again = approve(&agent, &alice, &pending.id).expect_err("the same person").to_string();
    assert!(again.contains("alice has approved already"), "{again}");
    approve(&agent, &bob, &pending.id).expect("another person");
    result(&mut client, &pending.id).expect("signed");
    assert_eq!(agent.journal().matches("\"person\":\"alice\"").count(), 1);
    // Two keys and one person: what takes two persons does not even wait.
    let agent = with_spare(&[&alice]);
    assert_eq!(code(agent.client().sign(&withdrawal("1.5"))), Some(Code::ApprovalRequired));
}

#[test]
fn what_a_slow_token_signs_too_late_is_signed_again_under_the_same_approval() {
    let alice = Person::new("alice", 1);
    let token = SoftHsm::new();
    let shim = Shim::of(token.module());
    let launch = Launch { module: Some(shim.module()), ..Launch::default() };
    let agent = agent_on(token, launch, &keys_of(&[&alice]), "");
    let mut client = agent.client();
    let mut sign = |plan: &str| {
        let signatures = shim.calls("C_Sign");
        let params = format!(
            r#"{{"coin":"BTC","network":"BTC","address":"{ADDRESS}","amount":"0.5",
                "recvWindow":600}}"#
        );
        let waits = client.sign(&call("binance-mm", "POST", PATH, &params)).expect_err("it waits");
        let Error::Waits(waits) = waits else { panic!("{waits}") };
        let id = waits.pending.id;
        shim.plan(plan);
        approve(&agent, &alice, &id).expect("approved");
        let outcome = result(&mut client, &id);
        shim.plan("");
        let of_request: Vec<_> =
            agent.journal().lines().filter(|line| line.contains(&id)).map(str::to_owned).collect();
        let kinds = of_request.iter().map(|line| line.split("\"kind\":\"").nth(1).expect("a kind"));
        let kinds: Vec<_> =
            kinds.map(|rest| rest.split('"').next().expect("its end").to_owned()).collect();
        (outcome, kinds.join(" "), shim.calls("C_Sign") - signatures, of_request)
    };
    let now_ms = || std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_millis() as u64;
    let begun_ms = now_ms();
    let (outcome, kinds, signatures, records) = sign("C_Sign sleep 900 times=1");
    let reply = outcome.expect("signed in time");
    assert_eq!((kinds.as_str(), signatures), ("intent approval thrown_away result", 2));
    let hash =
        |line: &str| line.split("message_sha256\":\"").nth(1).map(|rest| rest[..64].to_owned());
    assert_ne!(hash(&records[2]), hash(&records[3]), "another stamp");
    assert!((begun_ms + 900..=now_ms()).contains(&reply.timestamp_ms), "stamped for the second");
    let (outcome, kinds, signatures, _) = sign("C_Sign sleep 900");
    assert_eq!(code(outcome), Some(Code::TokenTooLate));
    assert_eq!((kinds.as_str(), signatures), ("intent approval thrown_away thrown_away result", 2));
    // Each of the two counts once.
    ask(&mut client, "1");
    let used = agent.admin().pending().expect("answered").pending[0].limits[0].used;
    assert_eq!(used.to_string(), "2.0");
}

#[test]
fn the_approvers_own_ssh_agent_signs() {
    let (alice, bob) = (Person::new("alice", 1), Person::new("bob", 2));
    let agent = agent_with(&[&alice, &bob], "");
    let mut client = agent.client();
    let pending = ask(&mut client, "0.5");
    let reply = agent.admin().pending().expect("answered");
    let mut ssh_agent = SshAgent::at(&bob.serve(agent.path())).expect("connects");
    let candidate = ssh_agent.candidate(&reply.approvers).expect("bob's key");
    assert!(
        candidate.describe().starts_with("bob, sk-ssh-ed25519@openssh.com SHA256:"),
        "{}",
        candidate.describe()
    );
    let sshsig = ssh_agent.approve(&candidate, &reply.pending[0].statement).expect("signs");
    agent.admin().approve(&pending.id, &sshsig).expect("approved");
    result(&mut client, &pending.id).expect("signed");
    let others: Vec<_> =
        reply.approvers.into_iter().filter(|approver| approver.name == "alice").collect();
    assert!(matches!(ssh_agent.candidate(&others), Err(ApproverError::NoKey(_))));
}
