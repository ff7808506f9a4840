//! An operator adds a key at a terminal. The secret is not shown, and echo always comes back.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Child, Command};

use countersign_base::messages::enrol_child::{
    EnrolError, EnrolReply, EnrolRequest, SecretEncoding,
};
use countersign_base::messages::frame::{self, Frames};
use countersign_base::messages::settings::TokenSettings;
use countersign_core::algorithm::Algorithm;
use countersign_core::exchange::PassphraseKind;
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, tcgetattr};

use crate::harness::softhsm::{AGENT, SoftHsm};
use crate::harness::token_process::{RunningHost, adding};

/// An operator at a pseudo terminal, and an enrol child that asks.
struct Desk {
    person: File,
    device: OwnedFd,
    front: UnixStream,
    child: Child,
    seen: String,
}

impl Desk {
    fn start(settings: &TokenSettings, request: &EnrolRequest) -> Self {
        let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
            .expect("a terminal");
        grantpt(&person).expect("granted");
        unlockpt(&person).expect("unlocked");
        let name = ptsname(&person, Vec::new()).expect("has a name");
        let flags =
            rustix::fs::OFlags::RDWR | rustix::fs::OFlags::NOCTTY | rustix::fs::OFlags::CLOEXEC;
        let device = rustix::fs::open(name, flags, rustix::fs::Mode::empty()).expect("opens");
        let (mut front, theirs) = UnixStream::pair().expect("a pair");
        let child = Command::new(AGENT)
            .arg("enrol")
            .env_clear()
            .stdin(OwnedFd::from(theirs))
            .stdout(device.try_clone().expect("copied"))
            .spawn()
            .expect("the agent runs");
        frame::send(&mut front, settings).expect("sent");
        frame::send(&mut front, request).expect("sent");
        Self { person: person.into(), device, front, child, seen: String::new() }
    }

    fn wait_for(&mut self, question: &str) {
        self.wait_for_one_of(&[question]);
    }

    fn wait_for_one_of(&mut self, questions: &[&str]) {
        while !questions.iter().any(|question| self.seen.ends_with(question)) {
            let mut bytes = [0; 256];
            let read = self.person.read(&mut bytes).expect("readable");
            self.seen += std::str::from_utf8(&bytes[..read]).expect("text");
        }
    }

    fn answer(&mut self, question: &str, answer: &str) {
        self.wait_for(question);
        self.person.write_all(format!("{answer}\n").as_bytes()).expect("typed");
    }

    fn echoes(&self) -> bool {
        tcgetattr(self.device.as_fd()).expect("a terminal").local_modes.contains(LocalModes::ECHO)
    }

    fn reply(&mut self) -> EnrolReply {
        Frames::default().receive(&mut self.front).expect("a reply")
    }
}

#[test]
fn secret_and_passphrase_are_asked_for_unseen() {
    let token = SoftHsm::new();
    let request =
        adding("okx", Algorithm::HmacSha256, SecretEncoding::Ascii, PassphraseKind::Plain);
    let mut desk = Desk::start(&token.settings(), &request);
    desk.answer("API key of okx (test): ", "the-id");
    desk.answer("API secret (not shown): ", "hunter2hunter2");
    desk.answer("Passphrase (not shown): ", "open sesame");
    assert!(matches!(desk.reply(), EnrolReply::Done { facts } if facts.has_passphrase));
    assert!(desk.child.wait().expect("ends").success());
    assert!(desk.echoes());
    assert!(desk.seen.contains("the-id"));
    assert!(!desk.seen.contains("hunter2") && !desk.seen.contains("sesame"), "{}", desk.seen);
    let (_host, keys) = RunningHost::ready(&token.settings());
    assert_eq!(keys[0].api_key.as_deref(), Some("the-id"));
}

#[test]
fn a_private_key_is_pasted_line_by_line() {
    let token = SoftHsm::new();
    let key = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
    let pem = ed25519_dalek::pkcs8::EncodePrivateKey::to_pkcs8_pem(&key, Default::default())
        .expect("encodes");
    let request = adding("ed", Algorithm::Ed25519, SecretEncoding::Ascii, PassphraseKind::None);
    let mut desk = Desk::start(&token.settings(), &request);
    desk.answer("API key of ed (test): ", "the-id");
    desk.answer("Private key, from -----BEGIN to -----END (not shown):\r\n", pem.trim_end());
    assert!(matches!(desk.reply(), EnrolReply::Done { .. }));
    assert!(!desk.seen.contains("PRIVATE KEY-----"), "{}", desk.seen);
}

#[test]
fn echo_comes_back_when_the_child_is_told_to_end_or_the_front_is_gone() {
    let token = SoftHsm::new();
    let request = adding("mm", Algorithm::HmacSha256, SecretEncoding::Ascii, PassphraseKind::None);
    for signal in [Some(Signal::TERM), Some(Signal::INT), Some(Signal::HUP), None] {
        let mut desk = Desk::start(&token.settings(), &request);
        desk.answer("API key of mm (test): ", "the-id");
        desk.wait_for("API secret (not shown): ");
        assert!(!desk.echoes());
        match signal {
            Some(signal) => {
                kill_process(Pid::from_child(&desk.child), signal).expect("sent");
                let reply = desk.reply();
                assert!(
                    matches!(reply, EnrolReply::Refused { reason: EnrolError::Cancelled }),
                    "{reply:?}"
                );
            }
            None => desk.front.shutdown(std::net::Shutdown::Both).expect("closed"),
        }
        desk.child.wait().expect("ends");
        assert!(desk.echoes(), "{signal:?}");
    }
    let (_host, keys) = RunningHost::ready(&token.settings());
    assert!(keys.is_empty());
}

/// A desk at which the API key of an exchange with these algorithms has been entered.
fn asked(token: &SoftHsm, name: &str, algorithms: &[Algorithm]) -> Desk {
    let mut request =
        adding(name, Algorithm::HmacSha256, SecretEncoding::Ascii, PassphraseKind::None);
    let EnrolRequest::Add { algorithms: asked, .. } = &mut request else { unreachable!() };
    *asked = algorithms.to_vec();
    let mut desk = Desk::start(&token.settings(), &request);
    desk.answer(&format!("API key of {name} (test): "), "the-id");
    desk.wait_for_one_of(&["(not shown): ", "(not shown):\r\n"]);
    desk
}

const COINBASE: [Algorithm; 3] =
    [Algorithm::EcdsaP256Sha256, Algorithm::Ed25519, Algorithm::HmacSha256];
const BINANCE: [Algorithm; 3] =
    [Algorithm::HmacSha256, Algorithm::Ed25519, Algorithm::RsaPkcs1v15Sha256];

/// Checks that nothing of a paste is left for the shell that reads the terminal next.
fn leaves_nothing(desk: &Desk) {
    assert_eq!(rustix::io::ioctl_fionread(&desk.device).expect("a terminal"), 0);
    assert!(desk.echoes());
}

#[test]
fn every_form_that_a_pipe_takes_can_be_entered() {
    let token = SoftHsm::new();
    let ed25519 = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
    let halves = data_encoding::BASE64
        .encode(&[ed25519.to_bytes(), ed25519.verifying_key().to_bytes()].concat());
    let seed = data_encoding::BASE64.encode(&ed25519.to_bytes());
    let ed25519 =
        ed25519_dalek::pkcs8::EncodePrivateKey::to_pkcs8_pem(&ed25519, Default::default())
            .expect("encodes");
    let p256 = p256::SecretKey::from_slice(&[3; 32])
        .expect("a scalar")
        .to_sec1_pem(Default::default())
        .expect("encodes");
    let parameters =
        "-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n";
    for (name, algorithms, secret, algorithm) in [
        ("halves", &COINBASE[..], halves.clone(), Algorithm::Ed25519),
        ("halves-asked", &COINBASE[1..2], halves.clone(), Algorithm::Ed25519),
        ("seed", &COINBASE[1..2], seed, Algorithm::Ed25519),
        ("p256", &COINBASE, p256.to_string(), Algorithm::EcdsaP256Sha256),
        (
            "p256-behind-parameters",
            &COINBASE,
            format!("{parameters}{}", *p256),
            Algorithm::EcdsaP256Sha256,
        ),
        ("p256-in-one-line", &COINBASE, p256.replace('\n', "\\n"), Algorithm::EcdsaP256Sha256),
        ("ed25519", &BINANCE, ed25519.to_string(), Algorithm::Ed25519),
        ("hmac", &BINANCE, "h".repeat(64), Algorithm::HmacSha256),
        ("hmac-at-coinbase", &COINBASE, "h".repeat(32), Algorithm::HmacSha256),
    ] {
        let mut desk = asked(&token, name, algorithms);
        desk.person.write_all(format!("{}\n", secret.trim_end()).as_bytes()).expect("typed");
        let reply = desk.reply();
        assert!(
            matches!(&reply, EnrolReply::Done { facts } if facts.algorithm == algorithm),
            "{name}: {reply:?}"
        );
        assert!(!desk.seen.contains(&secret[..20]), "{name}");
        leaves_nothing(&desk);
    }
}

#[test]
fn a_paste_that_is_not_complete_ends_with_a_reason() {
    let token = SoftHsm::new();
    let pem = "-----BEGIN EC PRIVATE KEY-----\nMHcCAQEEIAMDAwMDAwMDAwMDAwMDAwMDAwMDAwMD\n";
    let not_complete = "it has no -----END EC PRIVATE KEY-----";
    for (what, typed, says) in [
        ("an empty line", format!("{pem}\n"), not_complete),
        ("an end by a person", format!("{pem}\u{4}"), not_complete),
        ("an end within a line", format!("{pem}AwMD\u{4}\u{4}\u{4}"), not_complete),
        ("nothing more", pem.to_owned(), "it is not complete: nothing more came for 10 s"),
        ("nothing at all", "\n".to_owned(), "empty"),
        ("an end instead of it", "\u{4}".to_owned(), "cancelled"),
        (
            "half of two halves",
            "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n".to_owned(),
            "--algorithm ed25519",
        ),
        (
            "an encrypted key",
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMHc\n\nmore\nand more\n".to_owned(),
            "openssl pkey",
        ),
    ] {
        let mut desk = asked(&token, "mm", &COINBASE);
        desk.person.write_all(typed.as_bytes()).expect("typed");
        let EnrolReply::Refused { reason } = desk.reply() else { panic!("{what}") };
        assert!(reason.to_string().contains(says), "{what}: {reason}");
        assert!(desk.child.wait().expect("ends").success(), "{what}");
        leaves_nothing(&desk);
    }
    let (_host, keys) = RunningHost::ready(&token.settings());
    assert!(keys.is_empty());
}
