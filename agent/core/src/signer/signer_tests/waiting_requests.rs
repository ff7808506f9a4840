//! Requests that persons have to approve, from the intent to their end.

use super::*;
use crate::approval::approval_tests::Fido;
use crate::approval::{Approved, Collected};
use crate::policy::{Destination, TransferRule};
use crate::wire::FinishedReply;

const WITHDRAW: &str = r#"{"v":1,"key":"fake-key","method":"POST","path":"/withdraw",
    "params":{"coin":"BTC","amount":"0.5","address":"bc1q","network":"BTC"},"reason":"cold"}"#;

/// A policy under which one withdrawal to one place needs alice.
fn policy() -> Policy {
    let amount = crate::decimal::Amount::parse("2").ok();
    let rule = TransferRule { per_request: None, per_day: amount, approvers: Vec::new() };
    let destination = Destination {
        label: "cold storage".to_owned(),
        asset: "BTC".to_owned(),
        network: "BTC".to_owned(),
        address: "bc1q".to_owned(),
        memo: None,
    };
    Policy {
        transfers: [("BTC".to_owned(), rule)].into(),
        destinations: vec![destination],
        approvers: vec![Fido::new(1).approver("alice")],
        approval_timeout_ms: 120_000,
        sha256: "ab".repeat(32),
        ..Policy::default()
    }
}

type Begun = Result<Box<Waiting>, Code>;

/// Asks for the withdrawal under `policy`, and lets `then` go on with the signer.
fn ask<R>(
    world: &World,
    policy: &Policy,
    then: impl AsyncFnOnce(&Signer<'_, World, World, World, World>, Begun) -> R,
) -> R {
    ask_for(world, policy, WITHDRAW, then)
}

fn ask_for<R>(
    world: &World,
    policy: &Policy,
    payload: &str,
    then: impl AsyncFnOnce(&Signer<'_, World, World, World, World>, Begun) -> R,
) -> R {
    let client = Client {
        name: "bot".to_owned(),
        uid: 1,
        keys: [KeyName::parse("fake-key").expect("name")].into(),
        scopes: Scope::ALL.iter().copied().collect(),
        symbols: None,
        max_quantity: Default::default(),
        limits: Default::default(),
        rate: None,
        unbound: Default::default(),
    };
    let caller = Caller { client: "bot".to_owned(), uid: 1, pid: Some(7) };
    let rates = RefCell::default();
    let signer = Signer {
        clock: world,
        ledger: world,
        token: world,
        policy,
        rates: &rates,
        locked: &world.locked,
        client: &client,
        caller: &caller,
        approvals: world,
        agent_id: "agent-1",
    };
    now(async {
        let answered = signer.sign(world, payload.as_bytes()).await;
        let waiting =
            answered.outcome.map_err(|refusal| refusal.code).map(|progress| match progress {
                Progress::Waiting(waiting) => waiting,
                Progress::Finished(_) => panic!("a withdrawal without an approval"),
            });
        then(&signer, waiting).await
    })
}

fn approved(waiting: &Waiting) -> Approved {
    let alice = Fido::new(1);
    let mut collected = Collected::new(waiting.statement.clone(), waiting.approvals_needed);
    let judged = collected.judge(&[alice.approver("alice")], &alice.approve(&waiting.statement));
    collected.take(judged.expect("alice approves"));
    collected.approved().expect("one is enough")
}

#[test]
fn a_withdrawal_is_counted_and_synced_before_anybody_is_asked_and_signed_after() {
    let world = World::default();
    let reply = ask(&world, &policy(), async |signer, waiting| {
        let waiting = waiting.expect("waits");
        assert_eq!(world.steps.take(), ["intent synced", "written"]);
        assert_eq!((waiting.approvals_needed, waiting.reason()), (1, Some("cold")));
        let statement = &waiting.statement;
        assert_eq!(
            (statement.agent.as_str(), statement.expires_ms),
            ("agent-1", 1_700_000_120_000)
        );
        let proof = approved(&waiting);
        signer.sign_approved(&world, *waiting, proof).await
    });
    let FinishedReply::Request(reply) = reply.outcome.expect("signed") else { panic!("a session") };
    assert_eq!((reply.scope, reply.request_id.as_str()), (Scope::Withdraw, "id-1"));
    assert_eq!(world.steps.take(), ["may ask", "token", "signed", "written"]);
}

#[test]
fn without_enough_approvers_nothing_waits() {
    for policy in [Policy { approvers: Vec::new(), ..policy() }, two_of_one()] {
        let world = World::default();
        assert_eq!(
            ask(&world, &policy, async |_, waiting| waiting.err()),
            Some(Code::ApprovalRequired)
        );
        assert_eq!(world.steps.take(), ["refused", "written"]);
    }
}

fn two_of_one() -> Policy {
    let mut policy = policy();
    let step = crate::policy::ApproverStep { above: crate::decimal::Amount::ZERO, count: 2 };
    policy.transfers.get_mut("BTC").expect("a rule").approvers.push(step);
    policy
}

#[test]
fn a_second_request_of_the_key_counts_nothing() {
    let world = World::default();
    world.crowded.set(true);
    assert_eq!(ask(&world, &policy(), async |_, waiting| waiting.err()), Some(Code::PolicyRate));
    assert_eq!(world.steps.take(), ["refused", "written"]);
}

#[test]
fn what_is_given_up_is_free_again_and_on_record() {
    let world = World::default();
    let refusal = ask(&world, &policy(), async |signer, waiting| {
        world.steps.take();
        assert_eq!(world.used.get(), 1);
        let denied = Refusal::new(Code::ApprovalDenied, "no");
        signer.give_up::<FinishedReply>(*waiting.expect("waits"), denied).await.outcome.map(drop)
    });
    assert_eq!(refusal.map_err(|refusal| refusal.code), Err(Code::ApprovalDenied));
    assert_eq!(
        (world.steps.take(), world.used.get()),
        (vec!["failed".to_owned(), "written".to_owned()], 0)
    );
}

#[test]
fn an_approval_counts_only_while_everything_is_as_it_was_shown() {
    type Change = fn(&World, &mut Policy);
    let cases: [(&str, Change, Code); 4] = [
        ("locked", |world, _| world.locked.set(true), Code::ApprovalCancelled),
        ("late", |world, _| world.late.set(true), Code::ApprovalExpired),
        ("another policy", |_, policy| policy.sha256 = "cd".repeat(32), Code::ApprovalCancelled),
        ("another key", |world, _| world.rekeyed.set(true), Code::ApprovalCancelled),
    ];
    for (name, change, code) in cases {
        let world = World::default();
        let waiting = ask(&world, &policy(), async |_, waiting| waiting.expect("waits"));
        world.steps.take();
        let mut policy = policy();
        change(&world, &mut policy);
        let proof = approved(&waiting);
        let outcome = resumed(&world, &policy, *waiting, proof);
        assert_eq!(outcome, Err(code), "{name}");
        assert!(!world.steps.borrow().contains(&"token".to_owned()), "{name}");
    }
}

#[test]
fn what_nobody_can_read_is_not_shown_to_anybody() {
    let note = |length| {
        WITHDRAW.replace(r#""network""#, &format!(r#""name":"{}","network""#, "x".repeat(length)))
    };
    let asked = |world: &World, length| {
        ask_for(world, &policy(), &note(length), async |_, waiting| waiting.map(drop))
    };
    assert_eq!(asked(&World::default(), 3_900), Ok(()));
    let world = World::default();
    assert_eq!(asked(&world, 4_096), Err(Code::RequestMalformed));
    assert_eq!(
        (world.steps.take(), world.used.get()),
        (vec!["refused".to_owned(), "written".to_owned()], 0)
    );
}

#[test]
fn an_approval_serves_no_other_request() {
    let world = World::default();
    let waiting = ask(&world, &policy(), async |_, waiting| waiting.expect("waits"));
    let mut other = waiting.statement.clone();
    other.request_id = "id-2".to_owned();
    let alice = Fido::new(1);
    let mut collected = Collected::new(other.clone(), 1);
    collected.take(
        collected
            .judge(&[alice.approver("alice")], &alice.approve(&other))
            .expect("alice approves id-2"),
    );
    let proof = collected.approved().expect("one is enough");
    assert_eq!(resumed(&world, &policy(), *waiting, proof), Err(Code::Internal));
}

fn resumed(world: &World, policy: &Policy, waiting: Waiting, proof: Approved) -> Result<(), Code> {
    // The request that `ask` makes here is crowded out; only its signer is wanted.
    world.crowded.set(true);
    ask(world, policy, async |signer, _| signer.sign_approved(world, waiting, proof).await.outcome)
        .map(drop)
        .map_err(|refusal| refusal.code)
}

#[test]
fn an_approval_holds_for_the_signature_that_is_made_in_place_of_one_that_came_too_late() {
    let sign = |slow, touch, broken_ledger| {
        let world = World::default();
        world.slow.set(slow);
        world.touch.set(touch);
        world.broken_ledger.set(broken_ledger);
        let answered = ask(&world, &policy(), async |signer, waiting| {
            let waiting = waiting.expect("waits");
            world.steps.take();
            let proof = approved(&waiting);
            signer.sign_approved(&world, *waiting, proof).await
        });
        (answered.outcome.map(drop).map_err(|refusal| refusal.code), world.steps.take().join(", "))
    };
    let late = "may ask, token, thrown away";
    let too_late = Err(Code::TokenTooLate);
    assert_eq!(sign(1, false, None), (Ok(()), format!("{late}, may ask, token, signed, written")));
    assert_eq!(sign(9, false, None), (too_late, format!("{late}, {late}, failed, written")));
    assert_eq!(sign(9, true, None), (too_late, format!("{late}, failed, written")));
    // A signature that could not be put on record is not followed by another.
    let (outcome, steps) = sign(1, false, Some("thrown away"));
    assert_eq!(
        (outcome, steps),
        (Err(Code::LedgerUnavailable), format!("{late}, failed, written"))
    );
}
