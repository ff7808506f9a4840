//! Keys that are made in a YubiKey are attested, and take one touch for each signature.

use std::fs;
use std::os::fd::AsFd;

use countersign_core::algorithm::Algorithm;
use countersign_core::attestation::Root;
use countersign_core::key::Tier;
use countersign_core::refusal::Code;
use countersign_core::scope::Scope;
use countersign_core::wire::KeyState;
use countersign_core::wire::admin::Register;
use countersign_token::token::public_key::PublicKey;
use virtual_yubikey::Firmware;
use yubikey::piv::AlgorithmId;
use yubikey::{PinPolicy, TouchPolicy};

use crate::harness::agent::{API_KEY, SECRET, code};
use crate::harness::touch_agent::{TouchAgent, cold_key, der, public_key_of};
use crate::harness::yubikey_desk::LONG;

#[test]
fn a_key_is_born_in_the_yubikey_attested_and_signs_with_one_touch_each() {
    for (firmware, algorithm) in
        [(Firmware::V5_7_1, Algorithm::Ed25519), (Firmware::V5_4_3, Algorithm::RsaPkcs1v15Sha256)]
    {
        let mut this = TouchAgent::start(firmware, "");
        let made =
            this.generate(algorithm, &[Scope::Read, Scope::Withdraw], None, false).expect("made");
        this.public_key = Some(public_key_of(algorithm, &made));
        let key = made.key.expect("described");
        assert_eq!((key.tier, key.rung, key.state), (Tier::Device, 1, KeyState::AwaitingApiKey));
        assert_eq!((key.touch_attested_by, key.slot.as_deref()), (Some(Root::Other), Some("9a")));
        assert!(made.public_key.expect("for the exchange").contains("BEGIN PUBLIC KEY"));
        assert_eq!(this.desk.card.status().blinks, 0, "making a key takes no touch");
        this.activate();
        let reply = this.touched();
        assert!(reply.url.contains("signature="), "{}", reply.url);
        assert!(
            reply.headers.iter().any(|(name, value)| name == "X-MBX-APIKEY" && value == "theid")
        );
        this.agent.restart();
        this.touched();
        // The agent signs with the HSM's keys while the YubiKey blinks.
        this.agent.add("hot", "binance", API_KEY, SECRET, None).expect("enrolled");
        std::thread::scope(|scope| {
            let asking = scope.spawn(|| this.ask());
            assert!(this.desk.card.wait_blink(LONG));
            this.agent.sign("hot", "GET", "/api/v3/account", "{}").expect("signed meanwhile");
            let second = this.ask().expect_err("one touch at a time");
            assert!(second.to_string().contains("touch of another request"), "{second}");
            assert!(this.desk.card.press());
            asking.join().expect("no panic").expect("signed");
        });
    }
}

#[test]
fn long_rsa_keys_are_born_where_the_firmware_makes_them() {
    let mut this = TouchAgent::start(Firmware::V5_7_1, "");
    for bits in [3072, 4096] {
        let made = this.generate_rsa(bits).expect("made");
        this.public_key = made.public_key.and_then(|pem| {
            let der = der(&pem);
            // The modulus is nearly all of it.
            assert!(
                (bits as usize / 8..bits as usize / 8 + 64).contains(&der.len()),
                "{bits}: {} bytes",
                der.len()
            );
            PublicKey::from_der(Algorithm::RsaPkcs1v15Sha256, &der)
        });
        this.activate();
        this.touched();
        let removed =
            this.agent.admin().register(&Register::Remove { v: 1, name: "cold".to_owned() });
        removed.expect("its name is free");
    }
    let odd = this.generate_rsa(1024).expect_err("too short").to_string();
    assert!(odd.contains("2048, 3072 or 4096"), "{odd}");
}

#[test]
fn what_must_not_be_enrolled_is_refused() {
    let this = TouchAgent::start(Firmware::V5_4_3, "");
    let rsa = Algorithm::RsaPkcs1v15Sha256;
    let both = this.generate(rsa, &[Scope::Trade, Scope::Withdraw], None, false);
    assert_eq!(code(both), Err(Code::PolicyScope));
    let newer = this
        .generate(Algorithm::Ed25519, &[Scope::Withdraw], None, false)
        .expect_err("firmware 5.4");
    assert!(newer.to_string().contains("firmware 5.7"), "{newer}");
    for slot in ["f9", "9b", "xx"] {
        assert_eq!(
            code(this.generate(rsa, &[Scope::Withdraw], Some(slot), false)),
            Err(Code::RequestMalformed)
        );
    }
    for bits in [3072, 4096] {
        let newer = this.generate_rsa(bits).expect_err("firmware 5.4").to_string();
        assert!(newer.contains("firmware 5.7, and this is 5.4.3"), "{newer}");
    }
    let imported = this.agent.admin().add(
        &Register::Add(cold_key(rsa, &[Scope::Read])),
        fs::File::open("/dev/null").expect("a device").as_fd(),
    );
    assert!(imported.expect_err("nothing is imported").to_string().contains("key generate"));
    // Another program's key is in the slot that the agent would take.
    this.desk.generate(0x9a, AlgorithmId::EccP256, PinPolicy::Once, TouchPolicy::Never);
    let taken = this.generate(rsa, &[Scope::Withdraw], Some("9a"), false).expect_err("taken");
    assert!(taken.to_string().contains("--overwrite"), "{taken}");
    let made = this.generate(rsa, &[Scope::Withdraw], None, false).expect("a free slot");
    assert_eq!(made.key.expect("described").slot.as_deref(), Some("82"));
}

#[test]
fn a_key_in_the_way_is_replaced_where_that_is_asked_for() {
    let mut this = TouchAgent::start(Firmware::V5_7_1, "");
    this.desk.generate(0x9a, AlgorithmId::EccP256, PinPolicy::Once, TouchPolicy::Never);
    let scopes = [Scope::Read, Scope::Withdraw];
    this.generate(Algorithm::Ed25519, &scopes, Some("9a"), false).expect_err("in the way");
    let made = this.generate(Algorithm::Ed25519, &scopes, Some("9a"), true).expect("replaced");
    this.public_key = Some(public_key_of(Algorithm::Ed25519, &made));
    assert_eq!(made.key.expect("described").slot.as_deref(), Some("9a"));
    this.activate();
    this.touched();
}

#[test]
fn an_attestation_of_an_unknown_root_proves_nothing() {
    let mut this = TouchAgent::start(Firmware::V5_4_3, "");
    let text = fs::read_to_string(this.agent.config_file()).expect("a configuration");
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("attestation_root")).collect();
    fs::write(this.agent.config_file(), lines.join("\n")).expect("written");
    this.agent.restart();
    let unproven = this.generate(Algorithm::RsaPkcs1v15Sha256, &[Scope::Withdraw], None, false);
    let unproven = unproven.expect_err("not Yubico's").to_string();
    assert!(unproven.contains("not proven") && unproven.contains("root"), "{unproven}");
    assert_eq!(fs::read_dir(this.agent.state_dir().join("keys")).expect("there").count(), 0);
}

#[test]
fn a_key_that_was_replaced_by_another_is_not_signed_with() {
    let mut this = TouchAgent::with_cold_key(Firmware::V5_7_1, Algorithm::Ed25519, "");
    this.desk.generate(0x9a, AlgorithmId::Ed25519, PinPolicy::Always, TouchPolicy::Always);
    this.desk.card.set_auto(true);
    let error = this.ask().expect_err("another key");
    assert!(error.to_string().contains("another key"), "{error}");
    this.agent.restart();
    assert_eq!(code(this.ask()), Err(Code::TokenUnavailable));
    assert_eq!((this.desk.card.status().blinks, this.desk.card.status().counts.signatures), (0, 0));
}
