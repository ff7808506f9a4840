//! Each request that the policy refuses has its code and its record, and an explanation names the
//! rule.

use std::fs;

use countersign::Error;
use countersign_core::json::Value;
use countersign_core::refusal::Code;
use countersign_core::wire::admin::ExplainRequest;
use rustix::process::Signal;

use crate::harness::agent::{API_KEY, Agent, BOT, SECRET, code};
use crate::harness::byte_client::ByteClient;

const WITHDRAWAL: &str = r#"{"coin":"BTC","network":"BTC",
    "address":"bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq","amount":"1"}"#;

/// The parameters of a request for a deposit address. Another endpoint withdraws with the same
/// ones.
const HIDDEN_WITHDRAWAL: &str = r#"{"coin":"BTC","network":"LIGHTNING","amount":"1"}"#;

#[test]
fn refusals_have_their_code_and_their_record() {
    let agent = Agent::with_binance(BOT);
    let cases = [
        ("POST", "/sapi/v1/capital/withdraw/apply", WITHDRAWAL, Code::PolicyScope),
        ("GET", "/api/v3/account", WITHDRAWAL, Code::RequestForbiddenParameter),
        ("GET", "/sapi/v1/capital/deposit/address", HIDDEN_WITHDRAWAL, Code::PolicyEffectiveScope),
        ("GET", "/api/v3/account", r#"{"timestamp":1}"#, Code::RequestForbiddenParameter),
        ("GET", "/api/v3/account", r#"{"recvWindow":60000}"#, Code::RequestForbiddenParameter),
        ("GET", "/api/v3/nothing", "{}", Code::RequestUnknownEndpoint),
        ("GET", "/api/v3/account/", "{}", Code::RequestUnknownEndpoint),
        ("GET", "/api/v3/../v3/account", "{}", Code::RequestMalformed),
        ("GET", "/api/v3/openOrders", r#"{"SYMBOL":"X"}"#, Code::RequestAmbiguous),
    ];
    for (method, path, params, expected) in cases {
        let refused = agent.sign("binance-mm", method, path, params).expect_err(path);
        let Error::Refused(refused) = refused else { panic!("{path}: {refused}") };
        assert_eq!(refused.known_code(), Some(expected), "{path} {params}");
        let id = refused.request_id.expect("an id");
        assert!(
            agent.journal().contains(&format!("\"kind\":\"refused\",\"request_id\":\"{id}\"")),
            "{path}"
        );
    }
    assert_eq!(code(agent.sign("none", "GET", "/api/v3/account", "{}")), Err(Code::KeyUnknown));
}

#[test]
fn a_withdrawal_within_all_limits_still_waits_for_a_person() {
    let allowed = format!(
        "[[destination]]\nlabel = \"cold\"\nasset = \"BTC\"\nnetwork = \"BTC\"\naddress = \
         \"{}\"\n\n[transfer.BTC]\n\
         per_request = \"2\"\nper_day = \"2\"\n",
        "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq"
    );
    let bot = "keys = [\"binance-mm\"]\nscopes = [\"read\", \"withdraw\"]\n";
    let agent = Agent::start(bot, &allowed);
    agent.add("binance-mm", "binance", API_KEY, SECRET, None).expect("enrolled");
    let withdraw = |params: &str| {
        code(agent.sign("binance-mm", "POST", "/sapi/v1/capital/withdraw/apply", params))
    };
    assert_eq!(withdraw(WITHDRAWAL), Err(Code::ApprovalRequired));
    assert_eq!(withdraw(&WITHDRAWAL.replace("\"1\"", "\"3\"")), Err(Code::PolicyLimit));
    assert_eq!(
        withdraw(&WITHDRAWAL.replace("network\":\"BTC", "network\":\"BSC")),
        Err(Code::PolicyDestination)
    );
}

#[test]
fn an_explanation_names_the_rule_and_what_else_would_open() {
    let agent = Agent::with_binance(BOT);
    let ask = |path: &str, params: &str| {
        let request = ExplainRequest {
            v: 1,
            client: "bot".to_owned(),
            key: "binance-mm".to_owned(),
            method: "GET".to_owned(),
            path: path.to_owned(),
            params: Some(Value::parse(params).expect("JSON")),
            params_in: None,
            host: None,
        };
        agent.admin().explain(&request).expect("explained")
    };
    let hidden = ask("/sapi/v1/capital/deposit/address", HIDDEN_WITHDRAWAL);
    assert_eq!((hidden.decision.as_str(), hidden.code), ("deny", Some(Code::PolicyEffectiveScope)));
    assert!(
        hidden
            .neighbours
            .iter()
            .any(|other| other.path == "/sapi/v1/w3w/wallet/prediction/withdraw/apply")
    );
    assert!(hidden.transfers.iter().any(|transfer| transfer.asset.is_some()));
    assert!(!hidden.residual.is_empty());
    assert_eq!(ask("/api/v3/account", "{}").decision, "allow");
    let journal = agent.journal();
    let signs = ["\"kind\":\"intent\"", "\"kind\":\"signed\""];
    assert!(!signs.iter().any(|kind| journal.contains(kind)), "an explanation signs nothing");
}

/// An older agent may be started with the files of a newer one, which knows more exchanges.
#[test]
fn a_key_of_an_exchange_that_the_agent_does_not_know_is_a_fault_of_the_agent() {
    let mut agent = Agent::with_binance(BOT);
    agent.stop(Signal::TERM);
    let file = agent.state_dir().join("keys/binance-mm.json");
    let text = fs::read_to_string(&file).expect("a key file");
    let of_newer = text.replace("\"binance\"", "\"nowhere\"");
    assert_ne!(of_newer, text);
    fs::write(&file, of_newer).expect("written");
    agent.restart();
    let request = ExplainRequest {
        v: 1,
        client: "bot".to_owned(),
        key: "binance-mm".to_owned(),
        method: "GET".to_owned(),
        path: "/api/v3/account".to_owned(),
        params: None,
        params_in: None,
        host: None,
    };
    assert_eq!(code(agent.admin().explain(&request)), Err(Code::Internal));
    let signed = agent.sign("binance-mm", "GET", "/api/v3/account", "{}");
    assert_eq!(code(signed), Err(Code::TokenUnavailable), "nothing is signed");
}

/// A payload that is not of the exact form, for each kind of fault that the page names.
#[test]
fn each_kind_of_malformed_request_has_the_code_of_malformed_ones() {
    let agent = Agent::with_binance(BOT);
    let mut client = ByteClient::connect(&agent.path().join("agent.sock"));
    let of = |method: &str, rest: &str| {
        format!(
            r#"{{"v":1,"key":"binance-mm","method":"{method}","path":"/api/v3/account"{rest}}}"#
        )
    };
    for (fault, payload) in [
        ("JSON", of("GET", ",")),
        ("JSON", "not JSON".to_owned()),
        ("field", of("GET", r#","extra":1"#)),
        ("field", r#"{"v":1,"key":"binance-mm","method":"GET"}"#.to_owned()),
        ("method", of("get", "")),
        ("method", of("TRACE", "")),
        ("path", of("GET", "").replace("account", "../account")),
        ("number", of("GET", r#","params":{"limit":01}"#)),
        ("number", of("GET", r#","params":{"limit":+1}"#)),
        ("number", of("GET", r#","params":{"limit":NaN}"#)),
    ] {
        let answer = client.ask("sign@countersign", &payload);
        assert!(answer.contains(r#""code":"request.malformed""#), "{fault} {payload}: {answer}");
    }
    let good = client.ask("sign@countersign", &of("GET", ""));
    assert!(!good.contains(r#""error""#), "{good}");
}

/// A quantity above `max_quantity` is refused, and one that is not above it is signed.
#[test]
fn an_order_above_its_largest_quantity_is_refused_and_recorded() {
    let agent = Agent::with_binance(&format!("{BOT}max_quantity = {{ BTCUSDT = \"0.01\" }}\n"));
    let order = |quantity: &str| {
        let order = format!(
            r#"{{"symbol":"BTCUSDT","side":"BUY","type":"LIMIT","timeInForce":"GTC",
                "quantity":"{quantity}","price":"30000"}}"#
        );
        code(agent.sign("binance-mm", "POST", "/api/v3/order", &order))
    };
    assert_eq!(order("0.011"), Err(Code::PolicyLimit));
    assert!(agent.journal().contains(r#""code":"policy.limit""#), "{}", agent.journal());
    assert_eq!(order("0.01"), Ok(()));
}
