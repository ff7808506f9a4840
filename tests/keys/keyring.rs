//! Keys are enrolled, are shown, and are removed; a wrong request changes nothing.

use std::fs;
use std::os::fd::AsFd;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use countersign_core::algorithm::Algorithm;
use countersign_core::calendar::iso8601_ms;
use countersign_core::key::Tier;
use countersign_core::refusal::Code;
use countersign_core::wire::KeyState;
use countersign_core::wire::admin::Register;
use rustix::process::Signal;

use crate::harness::agent::{API_KEY, Agent, BOT, SECRET, code};

#[test]
fn a_key_is_listed_shown_with_its_tier_and_removed() {
    let agent = Agent::with_binance(BOT);
    let keys = agent.client().keys().expect("keys").keys;
    let key = keys.first().expect("one key");
    assert_eq!(
        (key.name.as_str(), key.tier, key.rung, key.state),
        ("binance-mm", Tier::Software, 3, KeyState::Active)
    );
    assert_eq!(key.api_key.as_deref(), Some(API_KEY));
    let remove = Register::Remove { v: 1, name: "binance-mm".to_owned() };
    agent.admin().register(&remove).expect("removed");
    assert_eq!(
        code(agent.sign("binance-mm", "GET", "/api/v3/account", "{}")),
        Err(Code::KeyUnknown)
    );
    assert_eq!(code(agent.admin().register(&remove)), Err(Code::KeyUnknown));
    agent.add("binance-mm", "binance", API_KEY, SECRET, None).expect("the name is free again");
    assert!(agent.sign("binance-mm", "GET", "/api/v3/account", "{}").is_ok());
}

#[test]
fn the_operator_is_told_before_a_key_expires_and_after() {
    const DAY_MS: u64 = 24 * 60 * 60 * 1000;
    let agent = Agent::start(BOT, "");
    let now_ms =
        SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as u64;
    let add = |name: &str, expires_ms| {
        let Register::Add(mut new) = agent.register(name, "binance", None) else { unreachable!() };
        new.expires_ms = Some(expires_ms);
        agent.enter(&Register::Add(new), API_KEY, SECRET, None).expect("enrolled");
    };
    add("later", now_ms + 15 * DAY_MS);
    add("soon", now_ms + 13 * DAY_MS);
    let warnings = agent.admin().status().expect("status").warnings;
    let of = |name: &str| {
        warnings.iter().filter(|warning| warning.contains(&format!("the key {name} "))).count()
    };
    assert_eq!((of("soon"), of("later")), (1, 0), "{warnings:?}");
    assert!(
        warnings.iter().any(|warning| warning.contains("enrol the next one before")),
        "{warnings:?}"
    );
}

#[test]
fn what_is_wrong_is_refused_and_changes_nothing() {
    let agent = Agent::with_binance(BOT);
    let before = agent.client().keys().expect("keys").keys.len();
    let cases = [
        ("binance-mm", "binance", "a", "b", None, "already"),
        ("../x", "binance", "a", "b", None, "a name is"),
        ("new", "nowhere", "a", "b", None, "is not one of"),
        ("new", "kraken", "a", "not base64!", None, "base64"),
        ("new", "okx", "a", "b", None, "passphrase"),
        ("new", "binance", "", "b", None, "API key"),
        ("new", "binance", "a", "", None, "secret"),
    ];
    for (name, exchange, api_key, secret, passphrase, expected) in cases {
        let error = agent.add(name, exchange, api_key, secret, passphrase).expect_err(expected);
        let text = error.to_string();
        assert!(text.contains(expected), "{expected}: {text}");
        assert_eq!(code::<()>(Err(error)), Err(Code::RequestMalformed), "{expected}");
        assert!(
            secret.is_empty() || secret == "b" || !text.contains(secret),
            "the secret is in the error"
        );
    }
    assert_eq!(agent.client().keys().expect("keys").keys.len(), before);
    assert!(
        agent.admin().register(&agent.register("new", "binance", None)).is_err(),
        "no pipe, no key"
    );
}

#[test]
fn a_command_that_dies_at_the_question_blocks_nothing() {
    let agent = Agent::with_binance(BOT);
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut dying = agent.admin();
    dying.connection().set_deadline(Duration::from_millis(1));
    let register = agent.register("new", "binance", None);
    dying
        .connection()
        .send_with_descriptor("register@countersign", &register, reader.as_fd())
        .expect("sent");
    agent.wait_until("the child asks", |agent| agent.children().len() == 2);
    assert!(agent.add("new", "binance", "a", "b", None).is_err(), "one change of a name at a time");
    agent.add("kraken", "kraken", "a", "YQ==", None).expect("another name does not wait");
    drop(dying);
    agent.wait_until("the child is gone", |agent| agent.children().len() == 1);
    agent.add("new", "binance", "a", "b", None).expect("the name is free");
    drop(writer);
}

#[test]
fn what_a_cut_off_enrolment_left_is_cleared_by_its_name() {
    let mut agent = Agent::with_binance(BOT);
    agent.stop(Signal::KILL);
    fs::remove_file(agent.state_dir().join("keys/binance-mm.json")).expect("a key file");
    agent.restart();
    let error =
        agent.add("binance-mm", "binance", API_KEY, SECRET, None).expect_err("the token has it");
    assert!(error.to_string().contains("already"), "{error}");
    let remove = Register::Remove { v: 1, name: "binance-mm".to_owned() };
    let done = agent.admin().register(&remove).expect("cleared").done;
    assert!(done.contains("never finished"), "{done}");
    agent.add("binance-mm", "binance", API_KEY, SECRET, None).expect("enrolled");
}

#[test]
fn keys_are_there_again_after_a_restart() {
    let mut agent = Agent::with_binance(BOT);
    let key = |agent: &Agent| agent.client().keys().expect("keys").keys.remove(0);
    let last_used = |agent: &Agent| key(agent).last_used_ms;
    assert_eq!(last_used(&agent), None);
    let new = key(&agent);
    assert_eq!((new.created, new.expires, new.last_used), (iso8601_ms(new.created_ms), None, None));
    agent.restart();
    assert!(agent.sign("binance-mm", "GET", "/api/v3/account", "{}").is_ok());
    assert_eq!(key(&agent).last_used, last_used(&agent).map(iso8601_ms));
    assert!(last_used(&agent).is_some());
    agent.restart();
    assert!(last_used(&agent).is_some(), "taken from the journal");
}

#[test]
fn the_key_says_which_it_is() {
    let agent = Agent::start("keys = [\"a\", \"b\", \"c\", \"d\"]\nscopes = [\"read\"]\n", "");
    let ed25519 = ed25519_dalek::SigningKey::from_bytes(&[1; 32]);
    let halves = data_encoding::BASE64
        .encode(&[ed25519.to_bytes(), ed25519.verifying_key().to_bytes()].concat());
    let pem = ed25519_dalek::pkcs8::EncodePrivateKey::to_pkcs8_pem(&ed25519, Default::default())
        .expect("encodes");
    for (name, exchange, secret, algorithm) in [
        ("a", "binance", pem.as_str(), Algorithm::Ed25519),
        ("b", "binance", SECRET, Algorithm::HmacSha256),
        ("c", "coinbase", &halves, Algorithm::Ed25519),
        ("d", "backpack", &halves, Algorithm::Ed25519),
    ] {
        let done = agent
            .add(name, exchange, "id", secret, None)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(done.key.expect("it is there").algorithm, algorithm, "{name}");
    }
    let path = "/api/v3/brokerage/accounts";
    assert!(agent.sign("c", "GET", path, "{}").is_ok());
    let error = agent.add("e", "bybit", "id", &pem, None).expect_err("not at Bybit").to_string();
    assert!(
        error.contains("for ed25519") && error.contains("hmac-sha256, rsa-pkcs1v15-sha256"),
        "{error}"
    );
}

#[test]
fn the_file_of_coinbases_portal_is_enrolled_as_it_is() {
    let agent = Agent::start("keys = [\"cb\"]\nscopes = [\"read\"]\n", "");
    let pem = p256::SecretKey::from_slice(&[3; 32])
        .expect("a scalar")
        .to_sec1_pem(Default::default())
        .expect("encodes");
    let file = serde_json::json!({
        "name": "organizations/o/apiKeys/k", "privateKey": *pem, "keyType": "TRADING_KEY",
    });
    let (reader, mut writer) = std::io::pipe().expect("a pipe");
    std::io::Write::write_all(&mut writer, file.to_string().as_bytes()).expect("a small text");
    drop(writer);
    let done = agent
        .admin()
        .add(&agent.register("cb", "coinbase", None), reader.as_fd())
        .expect("enrolled");
    let key = done.key.expect("it is there");
    assert_eq!(
        (key.api_key.as_deref(), key.algorithm),
        (Some("organizations/o/apiKeys/k"), Algorithm::EcdsaP256Sha256)
    );
    assert!(agent.sign("cb", "GET", "/api/v3/brokerage/accounts", "{}").is_ok());
}
