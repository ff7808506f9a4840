//! A touch of an approver signs one request. The approver has a FIDO key in software behind an
//! ssh-agent of the test, where a touch is a flag.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use countersign::Error;
use countersign::ssh_agent::{ApproverError, SshAgent};
use countersign_core::audit;
use countersign_core::refusal::Code;
use countersign_core::scope::Scope;
use countersign_core::wire::SignReply;
use countersign_front::ledger::segment::SegmentDir;
use countersign_front::ledger::storage::Disk;

use crate::harness::agent::{Launch, call, code};
use crate::harness::person::Person;
use crate::harness::shim::Shim;
use crate::harness::softhsm::SoftHsm;
use crate::harness::withdrawing::{
    ADDRESS, PATH, agent_on, agent_with, approve, ask, keys_of, result, withdrawal,
};

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
    // One approval is for one signature: this one is used up.
    assert_eq!(code(agent.admin().approve(&pending.id, "again")), Err(Code::RequestMalformed));
    let journal = agent.journal();
    assert_eq!(journal.matches("\"kind\":\"approval\"").count(), 1);
    let segments = SegmentDir::new(Arc::new(Disk), &agent.state_dir());
    let report = audit::verify(&segments, None, &mut |_, _| {}).expect("read");
    assert_eq!(report.problems, []);
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
            Err(Code::ApprovalRequired),
            "{sshsig}"
        );
    }
    // Only one request of each key waits at a time.
    assert_eq!(code(agent.client().sign(&withdrawal("0.1"))), Err(Code::PolicyRate));
    admin.deny(&first.id).expect("denied");
    assert_eq!(code(result(&mut client, &first.id)), Err(Code::ApprovalDenied));
    // The approval of one request does not approve the next.
    let second = ask(&mut client, "0.5");
    let replayed = admin.approve(&second.id, &alice.approve(&statement, 1));
    assert_eq!(code(replayed), Err(Code::ApprovalRequired));
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
    assert_eq!(code(approve(&agent, &alice, &pending.id)), Err(Code::ApprovalRequired));
    let still = client.result::<SignReply>(&pending.id, Duration::ZERO);
    let Err(Error::Waits(still)) = still else { panic!("{still:?}") };
    assert_eq!(still.pending.approvals, 1);
    approve(&agent, &bob, &pending.id).expect("the second");
    result(&mut client, &pending.id).expect("signed");
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
    // With two keys of one person, a request that takes two persons does not even wait.
    let agent = with_spare(&[&alice]);
    assert_eq!(code(agent.client().sign(&withdrawal("1.5"))), Err(Code::ApprovalRequired));
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
    assert_eq!(code(outcome), Err(Code::TokenTooLate));
    assert_eq!((kinds.as_str(), signatures), ("intent approval thrown_away thrown_away result", 2));
    // Each of the two requests counts once.
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
