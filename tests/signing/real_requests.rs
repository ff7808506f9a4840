//! Real requests that the agent finishes, and that software other than the agent's checks.

use std::process::Command;
use std::thread;
use std::time::Duration;

use countersign_core::algorithm::Algorithm;
use countersign_core::refusal::Code;
use countersign_core::scope::{Scope, Scopes};
use countersign_core::wire::admin::{NewKey, Register};
use data_encoding::{BASE64, HEXLOWER};
use hmac::{Hmac, Mac};
use rustix::process::Signal;
use sha2::{Digest, Sha256, Sha512};

use crate::harness::agent::{API_KEY, Agent, BOT, ORDER, SECRET, call, code};

fn hmac_sha256(secret: &[u8], message: &[u8]) -> Vec<u8> {
    Hmac::<Sha256>::new_from_slice(secret)
        .expect("any length")
        .chain_update(message)
        .finalize()
        .into_bytes()
        .to_vec()
}

#[test]
fn a_binance_order_is_signed_and_recorded() {
    let agent = Agent::with_binance(BOT);
    let reply = agent.sign("binance-mm", "POST", "/api/v3/order", ORDER).expect("signed");
    let body = reply.body.as_deref().expect("a body");
    let (payload, signature) = body.rsplit_once("&signature=").expect("signed last");
    assert_eq!(signature, HEXLOWER.encode(&hmac_sha256(SECRET.as_bytes(), payload.as_bytes())));
    assert!(payload.ends_with("&quantity=0.01&price=30000&recvWindow=10000"), "{payload}");
    assert_eq!(reply.url, "https://api.binance.com/api/v3/order");
    assert!(reply.headers.contains(&("X-MBX-APIKEY".to_owned(), API_KEY.to_owned())));
    assert_eq!(reply.effective_scopes, [Scope::Trade].into_iter().collect());
    let journal = agent.journal();
    let of_request = |line: &&str| line.contains(&reply.request_id);
    let [signed] = journal.lines().filter(of_request).collect::<Vec<_>>()[..] else {
        panic!("one record of the request: {journal}")
    };
    assert!(signed.contains("\"kind\":\"signed\"") && signed.contains("BTCUSDT"), "{signed}");
    assert!(signed.contains(&HEXLOWER.encode(&Sha256::digest(payload.as_bytes()))));
    assert_eq!(reply.record.hash, HEXLOWER.encode(&Sha256::digest(signed.as_bytes())));
}

/// The same order as a frame of the WebSocket API, for a client that may log in there as well.
#[test]
fn a_binance_order_is_a_frame_for_who_may_log_in() {
    let frame = |agent: &Agent| {
        let mut call = call("binance-mm", "POST", "/api/v3/order", ORDER);
        call.params_in = Some("ws-api".to_owned());
        agent.client().sign(&call)
    };
    let agent = Agent::with_binance(BOT);
    assert_eq!(code(frame(&agent)), Err(Code::PolicyEffectiveScope));
    drop(agent);
    let agent = Agent::with_binance(&BOT.replace("\"trade\"", "\"trade\", \"session\""));
    let reply = frame(&agent).expect("signed");
    assert_eq!(reply.url, "wss://ws-api.binance.com:443/ws-api/v3");
    assert!(
        reply.headers.is_empty()
            && reply.effective_scopes == [Scope::Trade, Scope::Session].into_iter().collect()
    );
    let frame: serde_json::Value =
        serde_json::from_str(reply.body.as_deref().expect("a frame")).expect("JSON");
    let params = frame["params"].as_object().expect("an object");
    let text =
        |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let mut signed: Vec<_> = params.iter().filter(|(name, _)| *name != "signature").collect();
    signed.sort_by_key(|(name, _)| *name);
    let signed: Vec<_> =
        signed.into_iter().map(|(name, value)| format!("{name}={}", text(value))).collect();
    let signature = HEXLOWER.encode(&hmac_sha256(SECRET.as_bytes(), signed.join("&").as_bytes()));
    assert_eq!(
        (frame["method"].as_str(), text(&params["signature"])),
        (Some("order.place"), signature)
    );
    assert!(
        signed[0] == format!("apiKey={API_KEY}")
            && frame["id"].as_str().is_some_and(|id| id.len() == 32)
    );
}

#[test]
fn an_okx_request_carries_its_passphrase() {
    let agent = Agent::start(BOT, "");
    agent.add("okx", "okx", "id", "a-secret", Some("Pass \"phrase\" 1!")).expect("enrolled");
    let reply = agent
        .sign("okx", "GET", "/api/v5/account/balance", r#"{"ccy":"BTC,ETH"}"#)
        .expect("signed");
    let header = |wanted: &str| {
        reply.headers.iter().find(|(name, _)| name == wanted).expect(wanted).1.clone()
    };
    assert_eq!(header("OK-ACCESS-PASSPHRASE"), "Pass \"phrase\" 1!");
    let message =
        format!("{}GET/api/v5/account/balance?ccy=BTC%2CETH", header("OK-ACCESS-TIMESTAMP"));
    assert_eq!(
        header("OK-ACCESS-SIGN"),
        BASE64.encode(&hmac_sha256(b"a-secret", message.as_bytes()))
    );
    let everything = agent.journal() + &agent.log();
    assert!(!everything.contains("phrase"), "a passphrase was written down");
    assert_eq!(
        code(agent.client().session("okx", "ws")),
        Err(Code::PolicyScope),
        "a session is a scope of its own"
    );
}

#[test]
fn kraken_nonces_only_grow_also_over_a_kill() {
    let mut agent = Agent::start(BOT, "");
    let secret = BASE64.encode(&[9; 64]);
    agent.add("kraken", "kraken", "id", &secret, None).expect("enrolled");
    let mut last = 0;
    for round in 0..3 {
        let calls: Vec<_> =
            (0..50).map(|_| call("kraken", "POST", "/0/private/Balance", "{}")).collect();
        for reply in agent.client().sign_all(&calls).expect("answers") {
            let reply = reply.expect("signed");
            let body = reply.body.expect("a body");
            let nonce = body.strip_prefix("nonce=").expect("a nonce");
            let digest = Sha256::digest(format!("{nonce}{body}"));
            let message = [b"/0/private/Balance".as_slice(), &digest].concat();
            let mac = Hmac::<Sha512>::new_from_slice(&[9; 64])
                .expect("any length")
                .chain_update(message)
                .finalize();
            assert_eq!(reply.signature, BASE64.encode(&mac.into_bytes()));
            let nonce: u64 = nonce.parse().expect("a number");
            assert!(nonce > last, "round {round}: {nonce} after {last}");
            last = nonce;
        }
        agent.stop(if round == 1 { Signal::KILL } else { Signal::TERM });
        agent.restart();
    }
}

#[test]
fn a_key_born_on_the_token_signs_once_its_id_is_known() {
    let agent = Agent::start(BOT, "");
    for (name, algorithm) in
        [("born", Algorithm::Ed25519), ("binance-mm", Algorithm::RsaPkcs1v15Sha256)]
    {
        let new = NewKey::plain(name, "binance", "hsm", Scopes::only(Scope::Read));
        let generate = Register::Generate(NewKey { algorithm: Some(algorithm), ..new });
        let pem =
            agent.admin().register(&generate).expect("generated").public_key.expect("a public key");
        assert_eq!(
            code(agent.sign(name, "GET", "/api/v3/account", "{}")),
            Err(Code::TokenUnavailable)
        );
        let activate =
            Register::Activate { v: 1, name: name.to_owned(), api_key: "the-id".to_owned() };
        agent.admin().register(&activate).expect("activated");
        let reply = agent.sign(name, "GET", "/api/v3/account", "{}").expect("signed");
        let query = reply.url.split_once('?').expect("a query").1;
        let message = query.split_once("&signature=").expect("signed last").0;
        let signature = BASE64.decode(reply.signature.as_bytes()).expect("base64");
        verify(algorithm, &pem, message.as_bytes(), &signature);
    }
    let listed = Command::new("ssh-add")
        .arg("-l")
        .env("SSH_AUTH_SOCK", agent.path().join("agent.sock"))
        .output();
    let listed = String::from_utf8(listed.expect("ssh-add runs").stdout).expect("text");
    assert!(listed.contains("born (ED25519)") && listed.contains("binance-mm (RSA)"), "{listed}");
}

fn verify(algorithm: Algorithm, pem: &str, message: &[u8], signature: &[u8]) {
    use ed25519_dalek::Verifier;
    use ed25519_dalek::pkcs8::DecodePublicKey;
    if algorithm == Algorithm::Ed25519 {
        let key = ed25519_dalek::VerifyingKey::from_public_key_pem(pem).expect("a key");
        let signature = ed25519_dalek::Signature::from_slice(signature).expect("64 bytes");
        return key.verify(message, &signature).expect("a good signature");
    }
    let key = rsa::RsaPublicKey::from_public_key_pem(pem).expect("a key");
    let key = rsa::pkcs1v15::VerifyingKey::<rsa::sha2::Sha256>::new(key);
    let signature = rsa::pkcs1v15::Signature::try_from(signature).expect("a signature");
    rsa::signature::Verifier::verify(&key, message, &signature).expect("a good signature");
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let agent = Agent::with_binance(BOT);
    let calls: Vec<_> = (0..200)
        .map(|number| {
            let path = if number % 3 == 0 { "/api/v3/none" } else { "/api/v3/order" };
            call(
                "binance-mm",
                "GET",
                path,
                &format!(r#"{{"symbol":"BTCUSDT","orderId":"{number}"}}"#),
            )
        })
        .collect();
    for (number, reply) in agent.client().sign_all(&calls).expect("answers").into_iter().enumerate()
    {
        match number % 3 {
            0 => assert_eq!(code(reply), Err(Code::RequestUnknownEndpoint)),
            _ => assert!(reply.expect("signed").url.contains(&format!("&orderId={number}&"))),
        }
    }
}

#[test]
fn events_are_the_journal() {
    let agent = Agent::with_binance(BOT);
    let seen = agent.admin().events(0, Duration::ZERO).expect("events");
    let kinds: Vec<_> =
        seen.records.iter().filter_map(|record| record.member("kind")?.scalar()).collect();
    assert_eq!(kinds.first(), Some(&"segment"), "{kinds:?}");
    assert!(kinds.contains(&"key_added") && kinds.contains(&"opened"), "{kinds:?}");
    let later = thread::scope(|scope| {
        let waiting = scope
            .spawn(|| agent.admin().events(seen.last, Duration::from_secs(10)).expect("events"));
        thread::sleep(Duration::from_millis(100));
        agent.sign("binance-mm", "GET", "/api/v3/account", "{}").expect("signed");
        waiting.join().expect("ends")
    });
    assert_eq!(
        later.records.first().and_then(|record| record.member("kind")?.scalar()),
        Some("signed")
    );
}
