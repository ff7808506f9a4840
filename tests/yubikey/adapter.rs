//! The adapter for one YubiKey by PC/SC, and every way in which the YubiKey can be lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use countersign_base::messages::yubikey::Slot;
use countersign_core::algorithm::Algorithm;
use countersign_token::yubikey::error::AttemptsLeft;
use countersign_token::yubikey::{CardError, SlotTouchPolicy as Touch, YubiKey};
use virtual_yubikey::Firmware;
use yubikey::piv::AlgorithmId;
use yubikey::{PinPolicy, TouchPolicy};

use crate::harness::yubikey_desk::{Desk, LONG, PIN, SERIAL};

const SLOT: Slot = Slot::AUTHENTICATION;
const P256: Algorithm = Algorithm::EcdsaP256Sha256;

fn with_p256(pin: PinPolicy) -> Desk {
    let desk = Desk::new(Firmware::V5_4_3);
    desk.generate(0x9a, AlgorithmId::EccP256, pin, TouchPolicy::Always);
    desk
}

/// Signs once while a finger is on the card. Checks the signature, and that it took one blink and
/// one VERIFY.
fn signs(desk: &Desk, slot: Slot, algorithm: Algorithm, message: &[u8]) {
    let (yubikey, pin) = (desk.yubikey(), desk.pin(PIN, 0));
    let before = desk.card.status();
    desk.card.set_auto(true);
    let blinks = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&blinks);
    desk.inside(|| {
        let key = yubikey.keys(vec![slot]).expect("asked").pop().expect("a key");
        let on_blink = Box::new(move || {
            counted.fetch_add(1, Ordering::Relaxed);
        });
        let signature = yubikey.sign(slot, algorithm, message, &pin, on_blink).expect("signed");
        assert!(
            key.public_key.verifies(message, &signature),
            "{algorithm} over {} bytes",
            message.len()
        );
    });
    desk.card.set_auto(false);
    let after = desk.card.status();
    assert_eq!(blinks.load(Ordering::Relaxed), 1);
    assert_eq!(after.blinks - before.blinks, 1);
    assert_eq!(after.counts.signatures - before.counts.signatures, 1);
    assert_eq!(after.counts.verifies - before.counts.verifies, 1);
}

#[test]
fn every_algorithm_signs_with_one_blink() {
    let desk = Desk::new(Firmware::V5_7_1);
    let made = [
        (0x9a, AlgorithmId::EccP256, P256),
        (0x82, AlgorithmId::Ed25519, Algorithm::Ed25519),
        (0x83, AlgorithmId::Rsa2048, Algorithm::RsaPkcs1v15Sha256),
        (0x84, AlgorithmId::Rsa3072, Algorithm::RsaPkcs1v15Sha256),
        (0x85, AlgorithmId::Rsa4096, Algorithm::RsaPkcs1v15Sha256),
    ];
    for (slot, kind, algorithm) in made {
        desk.generate(slot, kind, PinPolicy::Always, TouchPolicy::Always);
        let slot = Slot::parse(&format!("{slot:02x}")).expect("a slot");
        // The yubikey crate panics at 255 bytes for Ed25519, and 1.5 KB do not fit its buffer.
        for length in [0, 100, 254, 255, 256, 1_500, 3_000] {
            signs(&desk, slot, algorithm, &vec![b'm'; length]);
        }
    }
    let (yubikey, pin, slot) =
        (desk.yubikey(), desk.pin(PIN, 0), Slot::parse("82").expect("a slot"));
    desk.inside(|| {
        let sign = |algorithm, length| {
            yubikey.sign(slot, algorithm, &vec![0; length], &pin, Box::new(|| ()))
        };
        let long = sign(Algorithm::Ed25519, 3_001).expect_err("too long");
        assert!(matches!(long, CardError::MessageTooLong { bytes: 3_001, .. }), "{long}");
        assert!(matches!(sign(P256, 3), Err(CardError::OtherKey { .. })));
    });
}

#[test]
fn an_agreement_takes_a_touch_and_gives_what_software_gives() {
    let desk = Desk::new(Firmware::V5_4_3);
    desk.generate(0x9d, AlgorithmId::EccP256, PinPolicy::Always, TouchPolicy::Always);
    let (yubikey, pin, slot) = (desk.yubikey(), desk.pin(PIN, 0), Slot::KEY_MANAGEMENT);
    let secret = p256_14::SecretKey::from_slice(&[7; 32]).expect("a scalar");
    let point: [u8; 65] = secret.public_key().to_sec1_bytes()[..].try_into().expect("uncompressed");
    desk.card.set_auto(true);
    let (shared, theirs) = desk.inside(|| {
        let theirs = yubikey
            .keys(vec![slot])
            .expect("asked")
            .pop()
            .expect("a key")
            .public_key
            .to_der()
            .expect("DER");
        (yubikey.agree(slot, point, &pin, Box::new(|| ())).expect("agreed"), theirs)
    });
    let theirs =
        <p256_14::PublicKey as p256_14::pkcs8::DecodePublicKey>::from_public_key_der(&theirs)
            .expect("P-256");
    let expected = p256_14::ecdh::diffie_hellman(secret.to_nonzero_scalar(), theirs.as_affine());
    assert_eq!(shared[..], expected.raw_secret_bytes()[..]);
    let status = desk.card.status();
    assert_eq!((status.blinks, status.counts.agreements), (1, 1));
}

#[test]
fn a_touch_that_does_not_come_is_told_from_a_missing_pin() {
    for pin_policy in [PinPolicy::Once, PinPolicy::Always] {
        let desk = with_p256(pin_policy);
        desk.card.set_timeout(Duration::from_millis(300));
        let (yubikey, pin) = (desk.yubikey(), desk.pin(PIN, 0));
        let error = desk.inside(|| yubikey.sign(SLOT, P256, b"m", &pin, Box::new(|| ())));
        assert!(matches!(error, Err(CardError::TouchTooLate { .. })), "{error:?}");
        assert!(!desk.card.press(), "a late press reaches nothing");
        assert_eq!(desk.card.status().counts.signatures, 0);
        signs(&desk, SLOT, P256, b"the next");
    }
}

#[test]
fn keys_that_need_no_touch_for_each_signature_are_refused() {
    let desk = Desk::new(Firmware::V5_4_3);
    desk.card.set_auto(true);
    for (policy, shown) in
        [(TouchPolicy::Never, Touch::Never), (TouchPolicy::Cached, Touch::Cached)]
    {
        desk.generate(0x9a, AlgorithmId::EccP256, PinPolicy::Once, policy);
        let (yubikey, pin) = (desk.yubikey(), desk.pin(PIN, 0));
        let error = desk
            .inside(|| yubikey.sign(SLOT, P256, b"m", &pin, Box::new(|| ())))
            .expect_err("refused");
        assert_eq!(error, CardError::TouchUnproven { slot: SLOT, touch: shown });
        let error = desk
            .inside(|| yubikey.agree(SLOT, [4; 65], &pin, Box::new(|| ())))
            .expect_err("refused");
        assert_eq!(error, CardError::TouchUnproven { slot: SLOT, touch: shown });
    }
    let status = desk.card.status();
    assert_eq!((status.counts.signatures, status.counts.verifies, status.blinks), (0, 0, 0));
}

#[test]
fn a_wrong_pin_is_tried_once_whatever_comes() {
    let desk = with_p256(PinPolicy::Once);
    let (yubikey, wrong) = (desk.yubikey(), desk.pin("000000", 1));
    desk.inside(|| {
        let error = yubikey.check_pin(&wrong).expect_err("wrong");
        assert_eq!(error, CardError::PinWrong { left: AttemptsLeft(2) });
        for _ in 0..5 {
            let again = yubikey.sign(SLOT, P256, b"m", &desk.pin("000000", 1), Box::new(|| ()));
            assert!(matches!(again, Err(CardError::PinBlocked(_))), "{again:?}");
        }
    });
    assert_eq!((desk.card.status().counts.verifies, desk.card.status().pin_tries), (1, 2));
    signs(&desk, SLOT, P256, b"a right PIN from elsewhere");
    assert_eq!(desk.card.status().pin_tries, 3);
}

#[test]
fn the_pin_is_forgotten_before_others_reach_the_card() {
    let desk = with_p256(PinPolicy::Once);
    signs(&desk, SLOT, P256, b"m");
    desk.card.set_auto(true);
    let error = desk.inside(|| {
        let mut other = yubikey::YubiKey::open_by_serial(SERIAL.into()).expect("the card");
        let slot = yubikey::piv::SlotId::Authentication;
        yubikey::piv::sign_data(&mut other, &[7; 32], AlgorithmId::EccP256, slot).err()
    });
    assert_eq!(error, Some(yubikey::Error::AuthenticationError));
}

#[test]
fn the_card_is_chosen_by_its_serial_and_its_absence_said() {
    let desk = with_p256(PinPolicy::Once);
    let other = desk.rig.insert_at(1, Firmware::V5_7_1, 87_654_321).expect("a second card");
    desk.inside(|| {
        assert_eq!(YubiKey::new(87_654_321).facts().expect("there").firmware, [5, 7, 1]);
        assert_eq!(YubiKey::new(SERIAL).facts().expect("there").firmware, [5, 4, 3]);
        let Err(CardError::NoSuchYubiKey { wanted: 7, mut found }) = YubiKey::new(7).facts() else {
            panic!("absent")
        };
        found.sort_unstable();
        assert_eq!(found, [SERIAL, 87_654_321]);
    });
    drop(other);
    desk.card.unplug();
    let error = desk.inside(|| desk.yubikey().facts()).expect_err("unplugged");
    assert!(matches!(error, CardError::NoSuchYubiKey { .. }), "{error}");
    desk.card.plug();
    signs(&desk, SLOT, P256, b"there again");
}

#[test]
fn another_programs_transaction_is_not_waited_for_for_ever() {
    let desk = with_p256(PinPolicy::Once);
    let yubikey = desk.yubikey();
    let context = desk.inside(|| pcsc::Context::establish(pcsc::Scope::System)).expect("a pcscd");
    let reader = context.list_readers_owned().expect("readers").remove(0);
    let mut card =
        context.connect(&reader, pcsc::ShareMode::Shared, pcsc::Protocols::ANY).expect("the card");
    let transaction = card.transaction().expect("free");
    for _ in 0..6 {
        let begun = Instant::now();
        assert_eq!(desk.inside(|| yubikey.facts()).expect_err("held"), CardError::Held);
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    drop(transaction);
    drop(card);
    let begun = Instant::now();
    while desk.inside(|| yubikey.facts()).is_err() {
        assert!(begun.elapsed() < LONG, "it is free again");
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(
        desk.card.status().counts.verifies,
        0,
        "an attempt that was given up does nothing later"
    );
    signs(&desk, SLOT, P256, b"free again");
    // An attempt that was given up before may still hold the card for a moment.
    let begun = Instant::now();
    let _exclusive = loop {
        match context.connect(&reader, pcsc::ShareMode::Exclusive, pcsc::Protocols::ANY) {
            Err(pcsc::Error::SharingViolation) if begun.elapsed() < LONG => {
                std::thread::sleep(Duration::from_millis(20));
            }
            connected => break connected.expect("alone"),
        }
    };
    assert_eq!(desk.inside(|| yubikey.facts()).expect_err("held"), CardError::Held);
}

#[test]
fn a_card_that_is_lost_while_it_blinks_is_an_error_and_the_next_signs() {
    let mut desk = with_p256(PinPolicy::Always);
    let yubikey = desk.yubikey();
    let lost = |desk: &Desk, act: &mut dyn FnMut()| {
        let pin = desk.pin(PIN, 0);
        let error = std::thread::scope(|scope| {
            let signing = scope
                .spawn(|| desk.inside(|| yubikey.sign(SLOT, P256, b"m", &pin, Box::new(|| ()))));
            assert!(desk.card.wait_blink(LONG));
            act();
            signing.join().expect("no panic").expect_err("lost")
        });
        assert_eq!(desk.card.status().counts.signatures, 0);
        error
    };
    let error = lost(&desk, &mut || desk.card.unplug());
    assert_eq!(error, CardError::Unplugged);
    desk.card.plug();
    let pid = desk.rig.pcscd().expect("it runs");
    let kill = || {
        rustix::process::kill_process(
            rustix::process::Pid::from_raw(pid as i32).expect("a pid"),
            rustix::process::Signal::KILL,
        )
    };
    let error = lost(&desk, &mut || kill().expect("ours"));
    assert_eq!(error, CardError::NoService);
    assert_eq!(desk.inside(|| yubikey.facts()).expect_err("no pcscd"), CardError::NoService);
    desk.rig.kill_pcscd().expect("reaped");
    desk.rig.start_pcscd().expect("started");
    desk.card.plug();
    signs(&desk, SLOT, P256, b"again");
}
