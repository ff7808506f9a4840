//! A wrong PIN is tried once, however often a host starts; a corrected one works; a damaged record
//! stops everything.

use std::fs;
use std::process::{Command, Stdio};

use countersign_base::messages::settings::PinSource;
use countersign_base::messages::token_host::HostError;
use countersign_token::token::pin_attempts;
use rustix::process::Signal;

use crate::harness::agent::{Agent, BOT};
use crate::harness::scene::Scene;
use crate::harness::softhsm::{AGENT, SoftHsm};
use crate::harness::timing::repetitions;
use crate::harness::token_process::RunningHost;

/// SoftHSM raises this flag at the first wrong PIN and drops it at the next right one.
fn a_try_was_spent(token: &SoftHsm) -> bool {
    let slots = std::process::Command::new("pkcs11-tool")
        .env("SOFTHSM2_CONF", token.configuration())
        .arg("--module")
        .arg(token.module())
        .arg("--list-slots")
        .output()
        .expect("pkcs11-tool runs");
    let slots = String::from_utf8_lossy(&slots.stdout).into_owned();
    assert!(slots.contains(token.label()), "{slots}");
    slots.contains("user PIN count low")
}

#[test]
fn twenty_starts_with_a_wrong_pin_are_one_login() {
    let token = SoftHsm::new();
    let mut settings = token.settings();
    settings.pin = PinSource::File(token.another_pin_file("000000\n"));
    assert!(!a_try_was_spent(&token));
    let (error, status) = RunningHost::failure(&settings);
    assert!(
        matches!(&error, HostError::PinRefused(text) if text.contains("pin-reset hsm")),
        "{error:?}"
    );
    assert_eq!(status.code(), Some(78));
    assert!(a_try_was_spent(&token));
    // A right PIN clears the flag. If one of the next starts logged in, it would be raised again.
    assert!(token.pkcs11_tool(&["--list-objects"]).status.success());
    assert!(!a_try_was_spent(&token));
    for _ in 1..20 {
        let (error, status) = RunningHost::failure(&settings);
        assert!(
            matches!(&error, HostError::PinBlocked(text) if text.contains("pin-reset hsm")),
            "{error:?}"
        );
        assert_eq!(status.code(), Some(78));
    }
    assert!(!a_try_was_spent(&token));
}

#[test]
fn a_pin_corrected_in_the_same_file_works_without_a_reset() {
    let token = SoftHsm::new();
    let mut settings = token.settings();
    let path = token.another_pin_file("000000\n");
    settings.pin = PinSource::File(path.clone());
    assert!(matches!(RunningHost::failure(&settings).0, HostError::PinRefused(_)));
    std::fs::write(&path, token.pin()).expect("writable");
    RunningHost::ready(&settings).0.stop();
}

#[test]
fn a_file_rewritten_with_wrong_pins_is_tried_twice_at_most() {
    let token = SoftHsm::new();
    let mut settings = token.settings();
    let mut refused = 0;
    for attempt in 0..10 {
        settings.pin = PinSource::File(token.another_pin_file(&format!("00000{attempt}\n")));
        match RunningHost::failure(&settings).0 {
            HostError::PinRefused(_) => refused += 1,
            HostError::PinBlocked(_) => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(refused, 2);
    assert!(pin_attempts::reset(&token.state_dir(), "hsm").expect("removable"));
    RunningHost::ready(&token.settings()).0.stop();
}

#[test]
fn a_pin_that_cannot_be_right_costs_no_try() {
    let token = SoftHsm::new();
    let mut settings = token.settings();
    settings.pin = PinSource::File(token.another_pin_file("123\n"));
    let (error, status) = RunningHost::failure(&settings);
    assert!(matches!(error, HostError::PinUnavailable(_)), "{error:?}");
    assert_eq!(status.code(), Some(78));
    assert!(!a_try_was_spent(&token));
}

#[test]
fn a_record_that_is_damaged_stops_even_the_right_pin() {
    let token = SoftHsm::new();
    RunningHost::ready(&token.settings()).0.stop();
    std::fs::write(token.state_dir().join("pin-tries/hsm.json"), "{").expect("writable");
    let (error, _) = RunningHost::failure(&token.settings());
    assert!(matches!(error, HostError::PinBlocked(_)), "{error:?}");
}

#[test]
fn nobody_to_ask_is_said_at_once() {
    let token = SoftHsm::new();
    let mut settings = token.settings();
    settings.pin = PinSource::Credential("absent".to_owned());
    assert!(matches!(RunningHost::failure(&settings).0, HostError::PinUnavailable(_)));
}

#[test]
fn a_wrong_pin_is_tried_once_and_exits_with_78() {
    let mut agent = Agent::with_binance(BOT);
    agent.stop(Signal::TERM);
    let right = agent.token.pin();
    fs::write(agent.token.pin_file(), "wrong-pin").expect("written");
    for start in 0..5 {
        let run = agent.run_to_its_end();
        let text = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(78), "{text}");
        let said =
            if start == 0 { "the token refused the PIN" } else { "the PIN was refused before" };
        assert!(
            text.contains(said) && text.contains("countersign-agent pin-reset hsm --state-dir"),
            "{text}"
        );
        assert!(!text.contains("wrong-pin"));
    }
    fs::write(agent.token.pin_file(), right).expect("written");
    agent.restart();
    assert!(
        agent.sign("binance-mm", "GET", "/api/v3/account", "{}").is_ok(),
        "a corrected file is another source"
    );
}

#[test]
fn a_wrong_pin_is_tried_once_over_many_starts() {
    let mut scene = Scene::new();
    scene.agent.configure("keys = [\"binance-mm\"]\nscopes = [\"read\"]\n", "");
    scene.agent.stop(Signal::TERM);
    fs::write(scene.agent.token.pin_file(), "wrong-pin").expect("written");
    let logins = scene.shim.calls("C_Login");
    for start in 1..=repetitions(100, 1_000) {
        let mut run = Command::new(AGENT);
        let run =
            run.args(["run", "--config"]).arg(scene.agent.config_file()).stderr(Stdio::null());
        assert_eq!(run.status().expect("runs").code(), Some(78));
        if start % 100 == 0 {
            eprintln!(
                "{start} starts with a wrong PIN, {} tries of it",
                scene.shim.calls("C_Login") - logins
            );
        }
    }
    assert_eq!(scene.shim.calls("C_Login"), logins + 1);
}
