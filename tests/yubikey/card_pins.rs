//! The PIN of a YubiKey, typed by a person (`pin = { prompt = true }`) or wrong: it is asked for
//! once and tried once.

use std::os::fd::BorrowedFd;

use countersign::Error;
use countersign_core::algorithm::Algorithm;
use countersign_core::scope::Scope;
use countersign_core::wire::admin::{DoneReply, Register};
use rustix::process::Signal;
use virtual_yubikey::Firmware;

use crate::harness::agent::{Agent, Launch};
use crate::harness::softhsm::SoftHsm;
use crate::harness::timing::repetitions;
use crate::harness::touch_agent::{
    BOT, TouchAgent, cold_key, inside, public_key_of, token_with, write_pin,
};
use crate::harness::typist::Typist;
use crate::harness::yubikey_desk::{Desk, PIN};

/// Starts an agent that asks at the typist's terminal, and waits for nothing.
fn asking(desk: Desk, typist: &Typist) -> TouchAgent {
    let wrapper = [vec!["setsid".to_owned(), "--ctty".to_owned()], inside(&desk)].concat();
    let launch =
        Launch { wrapper, terminal: Some(typist.terminal().to_owned()), ..Launch::default() };
    let mut agent = Agent::start_with(SoftHsm::new(), launch, BOT, "");
    agent.stop(Signal::TERM);
    agent.configure(BOT, &token_with(&desk, "{ prompt = true }", ""));
    agent.begin_at(typist.terminal());
    TouchAgent { agent, desk, public_key: None }
}

impl TouchAgent {
    fn generate_at(&self, terminal: BorrowedFd<'_>) -> Result<DoneReply, Error> {
        let new = cold_key(Algorithm::Ed25519, &[Scope::Read, Scope::Withdraw]);
        self.agent.admin().add(&Register::Generate(new), terminal)
    }

    fn wait_for(&self, state: &str) {
        self.agent.wait_until(state, |agent| {
            let status =
                countersign::Admin::open(&agent.sockets()).and_then(|mut admin| admin.status());
            let is = |status: countersign_core::wire::StatusReply| {
                status.tokens.iter().any(|token| token.name == "yk" && token.state == state)
            };
            status.is_ok_and(is)
        });
    }
}

#[test]
fn it_is_asked_for_at_the_agents_terminal_and_at_the_operators() {
    let [at_start, at_generation, at_activation] = [(); 3].map(|()| Typist::of(PIN));
    let mut this = asking(Desk::new(Firmware::V5_7_1), &at_start);
    this.wait_for("healthy");
    assert!(at_start.was_asked());
    let made = this.generate_at(at_generation.device()).expect("made");
    assert!(at_generation.was_asked());
    this.public_key = Some(public_key_of(Algorithm::Ed25519, &made));
    let activate =
        Register::Activate { v: 1, name: "cold".to_owned(), api_key: "theid".to_owned() };
    this.agent.admin().add(&activate, at_activation.device()).expect("active");
    assert!(at_activation.was_asked());
    this.touched();
    this.touched();
}

#[test]
fn a_wrong_one_is_tried_once_and_nobody_is_asked_again() {
    let typist = Typist::of("999999");
    let mut this = asking(Desk::new(Firmware::V5_4_3), &typist);
    this.wait_for("down");
    assert!(typist.was_asked());
    let verifies = this.desk.card.status().counts.verifies;
    assert_eq!((verifies, this.desk.card.status().pin_tries), (1, 2));
    let next = Typist::of("999999");
    this.agent.stop(Signal::TERM);
    this.agent.begin_at(next.terminal());
    this.wait_for("down");
    assert!(!next.was_asked());
    assert_eq!(this.desk.card.status().counts.verifies, verifies);
}

#[test]
fn a_wrong_pin_costs_one_try_however_often_the_agent_starts() {
    let desk = Desk::new(Firmware::V5_4_3);
    let mut this = TouchAgent::with(desk, PIN, "");
    let before = this.desk.card.status().counts.verifies;
    write_pin(&this.desk, "999999");
    for _ in 0..repetitions(5, 1_000) {
        this.agent.stop(Signal::TERM);
        this.agent.begin();
        this.agent.wait_until("it is down", |agent| {
            let status =
                countersign::Admin::open(&agent.sockets()).and_then(|mut admin| admin.status());
            status.is_ok_and(|status| {
                status.tokens.iter().any(|token| token.name == "yk" && token.state == "down")
            })
        });
    }
    let status = this.desk.card.status();
    assert_eq!((status.counts.verifies - before, status.pin_tries), (1, 2));
    write_pin(&this.desk, PIN);
    this.agent.signal(Signal::HUP);
    this.agent.wait_until("it is healthy", |_| this.state("yk") == "healthy");
    assert_eq!(this.desk.card.status().pin_tries, 3);
}
