//! A rate counts every request that a client sends, but the client may always take a request back.

use countersign_core::refusal::Code;

use crate::harness::agent::{Agent, call, code};
use crate::harness::byte_client::ByteClient;

#[test]
fn a_rate_is_kept() {
    let agent =
        Agent::with_binance("keys = [\"binance-mm\"]\nscopes = [\"read\"]\nrate = \"5/min\"\n");
    let calls: Vec<_> =
        (0..20).map(|_| call("binance-mm", "GET", "/api/v3/account", "{}")).collect();
    let replies = agent.client().sign_all(&calls).expect("answers");
    let (signed, refused): (Vec<_>, Vec<_>) = replies.into_iter().partition(Result::is_ok);
    assert_eq!(signed.len(), 5);
    assert!(refused.into_iter().all(|reply| code(reply) == Err(Code::PolicyRate)));
}

/// A request counts before the agent reads it: malformed requests cannot make the agent work for
/// nothing.
#[test]
fn what_cannot_be_parsed_counts_against_the_rate_too() {
    for (name, good) in [
        (
            "sign@countersign",
            r#"{"v":1,"key":"binance-mm","method":"GET","path":"/api/v3/account","params":{}}"#,
        ),
        ("session@countersign", r#"{"v":1,"key":"binance-mm","purpose":"ws"}"#),
    ] {
        let agent =
            Agent::with_binance("keys = [\"binance-mm\"]\nscopes = [\"read\"]\nrate = \"5/min\"\n");
        let mut client = ByteClient::connect(&agent.path().join("agent.sock"));
        for bad in [
            "{",
            "",
            "[]",
            r#"{"v":1,"key":"binance-mm"}"#,
            r#"{"v":1,"key":{"a":[[[[[[[[[[1]]]]]]]]]]}}"#,
        ] {
            let answer = client.ask(name, bad);
            assert!(answer.contains("\"request."), "{name} {bad}: {answer}");
        }
        for payload in ["{", good] {
            let answer = client.ask(name, payload);
            assert!(answer.contains("\"policy.rate\""), "{name} {payload}: {answer}");
        }
    }
}

/// A bot that asks for too much can still take back its requests.
#[test]
fn to_cancel_is_never_refused_for_want_of_a_budget() {
    let agent =
        Agent::with_binance("keys = [\"binance-mm\"]\nscopes = [\"read\"]\nrate = \"5/min\"\n");
    let mut client = ByteClient::connect(&agent.path().join("agent.sock"));
    let mut asked = |name: &str, payload: &str| client.ask(name, payload);
    while !asked("sign@countersign", "{").contains("\"policy.rate\"") {}
    // The budget of everything else: 200 a second.
    let refused = (0..3_000).map(|_| asked("status@countersign", r#"{"v":1}"#));
    let refused = refused.filter(|answer| answer.contains("\"policy.rate\"")).count();
    assert!(refused > 0, "it is used up");
    for _ in 0..300 {
        let answer =
            asked("cancel@countersign", r#"{"v":1,"id":"01920000-0000-7000-8000-000000000000"}"#);
        assert!(answer.contains("approval.unknown") || answer.contains("request."), "{answer}");
        assert!(!answer.contains("policy.rate"), "{answer}");
    }
}
