//! Keys come, are shown, and go; what is wrong changes nothing.

use countersign_core::key::Tier;
use countersign_core::wire::KeyState;

use super::*;

#[test]
fn a_key_is_listed_shown_with_its_tier_and_removed() {
    let agent = Agent::with_binance(BOT);
    let keys = agent.client().keys().expect("keys").keys;
    let key = keys.first().expect("one key");
    assert_eq!((key.name.as_str(), key.tier, key.rung, key.state), ("binance-mm", Tier::Software, 3, KeyState::Active));
    assert_eq!(key.api_key.as_deref(), Some(API_KEY));
    let remove = Register::Remove { v: 1, name: "binance-mm".to_owned() };
    agent.admin().register(&remove).expect("removed");
    assert_eq!(code(agent.sign("binance-mm", "GET", "/api/v3/account", "{}")), Some(Code::KeyUnknown));
    assert_eq!(code(agent.admin().register(&remove)), Some(Code::KeyUnknown));
    agent.add("binance-mm", "binance", API_KEY, SECRET, None).expect("the name is free again");
    assert!(agent.sign("binance-mm", "GET", "/api/v3/account", "{}").is_ok());
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
        assert!(secret.is_empty() || secret == "b" || !text.contains(secret), "the secret is in the error");
    }
    assert_eq!(agent.client().keys().expect("keys").keys.len(), before);
    assert!(agent.admin().register(&agent.register("new", "binance", None)).is_err(), "no pipe, no key");
}

#[test]
fn keys_are_there_again_after_a_restart() {
    let mut agent = Agent::with_binance(BOT);
    let last_used = |agent: &Agent| agent.client().keys().expect("keys").keys[0].last_used_ms;
    assert_eq!(last_used(&agent), None);
    agent.restart();
    assert!(agent.sign("binance-mm", "GET", "/api/v3/account", "{}").is_ok());
    assert!(last_used(&agent).is_some());
    agent.restart();
    assert!(last_used(&agent).is_some(), "taken from the journal");
}

#[test]
fn only_the_operator_is_served_on_the_admin_socket() {
    let agent = Agent::with_binance(BOT);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(agent.path().join("admin.sock")).expect("a socket").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    assert!(agent.admin().pending().is_ok());
    // The client's socket knows no operator's message.
    let sockets = Sockets { agent: agent.path().join("agent.sock"), admin: agent.path().join("agent.sock") };
    assert!(Admin::open(&sockets).expect("connects").lock().is_err());
}
