//! A withdrawal with a key that was made in the YubiKey takes a person's approval first, then one
//! touch for one signature.

use std::time::{Duration, Instant};

use countersign::{AgentClient, Error};
use countersign_core::algorithm::Algorithm;
use countersign_core::key::Tier;
use countersign_core::refusal::Code;
use countersign_core::scope::Scope;
use countersign_core::wire::SignReply;
use virtual_yubikey::Firmware;

use crate::harness::agent::{call, code};
use crate::harness::person::Person;
use crate::harness::touch_agent::TouchAgent;
use crate::harness::yubikey_desk::LONG;

const PATH: &str = "/sapi/v1/capital/withdraw/apply";
const ADDRESS: &str = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq";

/// Asks for half a bitcoin, and returns the id under which the request waits.
fn ask(client: &mut AgentClient) -> String {
    let params =
        format!(r#"{{"coin":"BTC","network":"BTC","address":"{ADDRESS}","amount":"0.5"}}"#);
    match client.sign(&call("cold", "POST", PATH, &params)) {
        Err(Error::Waits(waits)) => waits.pending.id,
        other => panic!("it does not wait: {other:?}"),
    }
}

fn approve(this: &TouchAgent, alice: &Person, id: &str) {
    let pending = this.agent.admin().pending().expect("answered").pending;
    let entry = pending.iter().find(|entry| entry.id == id).expect("it waits");
    assert_eq!((entry.rung, entry.tier, entry.token.as_str()), (1, Tier::Device, "yk"));
    this.agent.admin().approve(id, &alice.approve(&entry.statement, 1)).expect("approved");
}

/// The outcome of a request, after its announcements.
fn outcome(client: &mut AgentClient, id: &str) -> Result<SignReply, Error> {
    let until = Instant::now() + LONG;
    loop {
        match client.result(id, Duration::from_secs(5)) {
            Err(Error::Waits(_)) if Instant::now() < until => {}
            outcome => return outcome,
        }
    }
}

#[test]
fn an_approved_withdrawal_is_one_blink_and_none_is_signed_without_a_press() {
    let alice = Person::new("alice", 1);
    let rest = format!(
        "[[destination]]\nlabel = \"cold storage\"\nasset = \"BTC\"\nnetwork = \"BTC\"\naddress = \
         \"{ADDRESS}\"\n\n\
         [transfer.BTC]\nper_day = \"2\"\n\n[approver.alice]\nssh_key = \"{}\"\n",
        alice.public_key()
    );
    let this = TouchAgent::with_cold_key(Firmware::V5_7_1, Algorithm::Ed25519, &rest);
    let (card, mut client) = (&this.desk.card, this.agent.client());

    // The withdrawal is approved, and nobody touches the YubiKey.
    card.set_timeout(Duration::from_secs(1));
    let unpressed = ask(&mut client);
    approve(&this, &alice, &unpressed);
    assert!(card.wait_blink(LONG), "it blinks; log:\n{}", this.agent.log());
    let refused = outcome(&mut client, &unpressed).expect_err("not pressed");
    assert!(matches!(refused, Error::Refused(_)), "{refused}");
    assert_eq!(card.status().counts.signatures, 0);

    // The withdrawal is not approved, and somebody touches the YubiKey.
    card.set_auto(true);
    let (denied, before) = (ask(&mut client), card.status().blinks);
    std::thread::sleep(Duration::from_millis(500));
    this.agent.admin().deny(&denied).expect("denied");
    assert_eq!(code(outcome(&mut client, &denied)), Err(Code::ApprovalDenied));
    assert_eq!((card.status().blinks, card.status().counts.signatures), (before, 0));

    // The withdrawal is approved, and somebody touches the YubiKey.
    card.set_auto(false);
    card.set_timeout(LONG);
    let pressed = ask(&mut client);
    approve(&this, &alice, &pressed);
    assert!(card.wait_blink(LONG), "it blinks; log:\n{}", this.agent.log());
    assert!(card.press());
    let reply = outcome(&mut client, &pressed)
        .unwrap_or_else(|error| panic!("{error}; log:\n{}", this.agent.log()));
    assert_eq!(reply.scope, Scope::Withdraw);
    assert_eq!((card.status().blinks - before, card.status().counts.signatures), (1, 1));
    let journal = this.agent.journal();
    let count = |text: &str| journal.matches(text).count();
    assert_eq!((count("\"kind\":\"approval\""), count("\"outcome\":\"signed\"")), (2, 1));
}
