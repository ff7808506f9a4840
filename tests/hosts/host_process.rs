//! The token host as a process: requests sent ahead, the secrets that it keeps, its end, and the
//! next one after it.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::{Duration, Instant};

use countersign_base::messages::enrol_child::SecretEncoding;
use countersign_base::messages::frame;
use countersign_base::messages::token_host::{Bytes, FromHost, HostError, ToHost};
use countersign_core::algorithm::Algorithm;

use crate::harness::softhsm::SoftHsm;
use crate::harness::token_process::{RunningHost, add};

fn token_with_key() -> SoftHsm {
    let token = SoftHsm::new();
    add(&token.settings(), "mac", Algorithm::HmacSha256, SecretEncoding::Ascii, &"s".repeat(64));
    token
}

fn sign(id: u64, key: &str, algorithm: Algorithm) -> ToHost<'_> {
    ToHost::Sign { id, key, algorithm, message: Bytes(b"message") }
}

#[test]
fn requests_written_at_once_are_all_answered() {
    let token = token_with_key();
    let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).expect("made");
    let pem =
        rsa::pkcs8::EncodePrivateKey::to_pkcs8_pem(&key, Default::default()).expect("encodes");
    add(&token.settings(), "rsa", Algorithm::RsaPkcs1v15Sha256, SecretEncoding::Ascii, &pem);
    let (mut host, _) = RunningHost::ready(&token.settings());
    let mut burst = Vec::new();
    for id in 0..300 {
        let message = match id % 3 {
            0 => sign(id, "rsa", Algorithm::RsaPkcs1v15Sha256),
            1 => sign(id, "mac", Algorithm::HmacSha256),
            _ => ToHost::SelfTest { id },
        };
        frame::encode(&message, &mut burst).expect("encodes");
    }
    host.stream.write_all(&burst).expect("sent");
    let mut answered = BTreeSet::new();
    let mut macs = Vec::new();
    while answered.len() < 300 {
        match host.receive() {
            FromHost::Signed { id, signature, .. } => {
                assert_eq!(signature.len(), if id % 3 == 0 { 256 } else { 32 });
                assert!(answered.insert(id));
                macs.extend((id % 3 == 1).then_some(id));
            }
            FromHost::SelfTested { id } => assert!(id % 3 == 2 && answered.insert(id)),
            other => panic!("{other:?}"),
        }
    }
    assert!(macs.is_sorted(), "MACs are answered in order");
    host.stop();
}

#[test]
fn what_cannot_be_signed_fails_and_the_host_goes_on() {
    let token = token_with_key();
    let (mut host, _) = RunningHost::ready(&token.settings());
    host.send(&sign(1, "nobody", Algorithm::HmacSha256));
    assert!(matches!(host.receive(), FromHost::Failed { id: 1, error: HostError::KeyUnknown(_) }));
    host.send(&sign(2, "mac", Algorithm::HmacSha512));
    assert!(matches!(
        host.receive(),
        FromHost::Failed { id: 2, error: HostError::Unsupported { .. } }
    ));
    host.send(&sign(3, "mac", Algorithm::HmacSha256));
    assert!(matches!(host.receive(), FromHost::Signed { id: 3, .. }));
    host.stop();
}

#[test]
fn a_host_dumps_no_core_and_believes_its_settings_not_its_environment() {
    let token = token_with_key();
    let environment =
        [("LD_DEBUG_OUTPUT", "/tmp/x"), ("SECRET", "918273645"), ("SOFTHSM2_CONF", "/nonexistent")];
    let mut host = RunningHost::start_with_environment(&token.settings(), &environment);
    assert!(matches!(host.receive(), FromHost::Ready { .. }), "its own configuration wins");
    let proc = format!("/proc/{}", host.child.id());
    let limits = std::fs::read_to_string(format!("{proc}/limits")).expect("readable");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("has one");
    assert_eq!(core.split_whitespace().collect::<Vec<_>>()[4..6], ["0", "0"]);
    host.stop();
}

#[test]
fn a_host_ends_when_its_front_is_gone() {
    let token = token_with_key();
    let (mut host, _) = RunningHost::ready(&token.settings());
    host.stream.shutdown(std::net::Shutdown::Both).expect("closed");
    let deadline = Instant::now() + Duration::from_secs(5);
    while host.child.try_wait().expect("waits").is_none() {
        assert!(Instant::now() < deadline, "still running");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_token_that_vanished_is_reported_and_a_new_process_heals() {
    let token = token_with_key();
    let (mut host, _) = RunningHost::ready(&token.settings());
    let away = token.tokens().with_file_name("away");
    std::fs::rename(token.tokens(), &away).expect("moved");
    host.send(&ToHost::SelfTest { id: 1 });
    assert!(matches!(host.receive(), FromHost::Failed { id: 1, error: HostError::Token(_) }));
    assert!(matches!(host.receive(), FromHost::Broken(HostError::Token(_))));
    assert_eq!(host.child.wait().expect("ends").code(), Some(5));
    let (error, _) = RunningHost::failure(&token.settings());
    assert!(matches!(error, HostError::TokenAbsent(_) | HostError::Token(_)), "{error:?}");
    std::fs::rename(&away, token.tokens()).expect("moved back");
    let (mut host, keys) = RunningHost::ready(&token.settings());
    assert_eq!(keys.len(), 1);
    host.send(&ToHost::SelfTest { id: 2 });
    assert!(matches!(host.receive(), FromHost::SelfTested { id: 2 }));
    host.stop();
}

#[test]
fn software_tokens_foreign_variables_and_unknown_tokens_are_refused() {
    let token = SoftHsm::new();
    let mut settings = token.settings();
    settings.allow_software_tokens = false;
    assert!(matches!(RunningHost::failure(&settings).0, HostError::Refused(_)));
    let mut settings = token.settings();
    settings.environment.push(("LD_PRELOAD".to_owned(), "/tmp/x.so".to_owned()));
    assert!(matches!(RunningHost::failure(&settings).0, HostError::Refused(_)));
    let mut settings = token.settings();
    settings.label = Some("another".to_owned());
    assert!(matches!(RunningHost::failure(&settings).0, HostError::TokenAbsent(_)));
    let mut settings = token.settings();
    settings.module = Some("/nonexistent/module.so".into());
    let (error, status) = RunningHost::failure(&settings);
    assert!(matches!(error, HostError::Module(_)));
    assert_eq!(status.code(), Some(78));
}

#[test]
fn frames_that_are_none_end_the_host() {
    let token = token_with_key();
    let (mut host, _) = RunningHost::ready(&token.settings());
    host.stream.write_all(&u32::MAX.to_le_bytes()).expect("sent");
    assert!(matches!(host.receive(), FromHost::Broken(HostError::Token(_))));
    assert!(!host.child.wait().expect("ends").success());
}
