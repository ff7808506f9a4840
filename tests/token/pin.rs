//! A wrong PIN is tried once, however often a host starts; a corrected one works; a damaged record
//! stops everything.

use countersign_base::messages::settings::PinSource;
use countersign_base::messages::token_host::HostError;
use countersign_token::token::pin_attempts as pin_try;

use super::running::RunningHost;
use crate::softhsm::SoftHsm;

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
    // A right PIN clears the flag: were any of the next starts to log in, it would be raised again.
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
    assert!(pin_try::reset(&token.state_dir(), "hsm").expect("removable"));
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
