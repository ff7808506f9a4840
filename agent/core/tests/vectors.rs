//! Tests every vector of the exchanges, byte for byte, with the code of the `recipe` example.
#![allow(clippy::disallowed_methods)] // a test reads the vectors

#[path = "../examples/recipe/case.rs"]
mod case;
#[path = "../examples/recipe/software.rs"]
mod software;

use countersign_core::algorithm::Algorithm;
use countersign_core::exchange::ALL;
use p256::ecdsa::signature::Verifier;
use serde_json::Value;

macro_rules! vectors {
    ($name:literal) => {
        include_str!(concat!("../../../tests/vectors/", $name, ".jsonl"))
    };
}

/// Files that hold no requests to sign. Each has a test of its own.
const OTHERS: [&str; 3] = ["attacks", "official", "ws"];

/// Every file of requests, `name.jsonl`. A new file in the directory is tried too.
fn requests() -> Vec<(String, String)> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/vectors");
    let files = std::fs::read_dir(directory)
        .expect("the vectors are there")
        .map(|entry| entry.expect("readable").path());
    let named =
        files.map(|path| (path.file_stem().expect("a name").to_string_lossy().into_owned(), path));
    let requests = named.filter(|(name, _)| !OTHERS.contains(&name.as_str()));
    requests.map(|(name, path)| (name, std::fs::read_to_string(path).expect("text"))).collect()
}

/// Cases whose endpoint can do more than the case says. Its row in the table has the scope that the
/// endpoint really needs.
const STRICTER: &[(&str, &str)] = &[
    // Shows the secrets of the account's keys.
    ("bitmex-003", "admin"),
    // Shows the secrets of the account's keys.
    ("deribit-003", "admin"),
    // The money goes to another user.
    ("deribit-008", "withdraw"),
];

/// Each case with the answer to it.
fn answered(lines: &str) -> Vec<(Value, Value)> {
    let parse = |text: &str| serde_json::from_str::<Value>(text).expect("a line is JSON");
    lines.lines().map(|line| (parse(line), parse(&case::answer(line)))).collect()
}

/// Headers with lower-case names, sorted. Headers that the case lists as not signed are left out.
fn headers(pairs: impl Iterator<Item = (String, String)>, case: &Value) -> Vec<(String, String)> {
    let ignored: Vec<String> = case["expect"]["headers_not_signed"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|name| Some(name.as_str()?.to_ascii_lowercase()))
        .collect();
    let mut headers: Vec<_> = pairs
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .filter(|(name, _)| !ignored.contains(name))
        .map(|(name, value)| {
            (name, if signed_anew(case) { without_signature(value) } else { value })
        })
        .collect();
    headers.sort();
    headers
}

/// True for ECDSA, which draws a random number for each signature, so that no two are alike.
fn signed_anew(case: &Value) -> bool {
    case["auth"]["alg"] == "jwt-es256"
}

/// A token up to its signature.
fn without_signature(token: String) -> String {
    token.rsplit_once('.').map_or(token.clone(), |(signed, _)| signed.to_owned())
}

/// If the signature differs each time, verifies it with the case's public key.
fn verify(case: &Value, answer: &Value) {
    if !signed_anew(case) {
        return;
    }
    let headers = answer["headers"].as_array().expect("headers").iter();
    let token = headers
        .map(|pair| text(&pair[1]))
        .find(|value| value.starts_with("Bearer "))
        .expect("a token");
    let (signed, signature) = token["Bearer ".len()..].rsplit_once('.').expect("three parts");
    let signature = data_encoding::BASE64URL_NOPAD.decode(signature.as_bytes()).expect("base64url");
    let signature = p256::ecdsa::Signature::from_slice(&signature).expect("64 bytes");
    let key: p256::PublicKey = text(&case["auth"]["public_key_pem"]).parse().expect("PEM");
    p256::ecdsa::VerifyingKey::from(key)
        .verify(signed.as_bytes(), &signature)
        .expect("a signature of this key");
}

fn text(value: &Value) -> String {
    value.as_str().expect("a string").to_owned()
}

/// The signed messages, sorted by purpose. Those of partners are left out: partners sign for
/// themselves.
fn messages(list: &Value) -> Vec<[String; 3]> {
    let messages = list.as_array().expect("a list").iter();
    let parts =
        messages.map(|message| ["purpose", "alg", "message_hex"].map(|part| text(&message[part])));
    let mut messages: Vec<_> =
        parts.filter(|[purpose, ..]| !purpose.starts_with("partner")).collect();
    messages.sort();
    messages
}

#[test]
fn requests_are_byte_identical() {
    let files = requests();
    let cases = files.iter().map(|(_, lines)| lines.lines().count()).sum::<usize>();
    assert!(cases >= 190, "{cases}");
    for exchange in ALL {
        let name = exchange.facts().name;
        assert!(
            files.iter().any(|(file, lines)| file == name && lines.lines().count() > 3),
            "{name} has no vectors"
        );
    }
    for (_, lines) in files {
        for (case, answer) in answered(&lines) {
            let (id, expect) = (&case["id"], &case["expect"]);
            assert_eq!(answer["error"], Value::Null, "{id}");
            let stricter = STRICTER.iter().find(|(stricter, _)| id == stricter);
            assert_eq!(
                answer["scope"],
                stricter.map_or(case["scope"].clone(), |(_, scope)| (*scope).into()),
                "{id}"
            );
            assert_eq!(messages(&answer["messages"]), messages(&expect["signing"]), "{id}");
            verify(&case, &answer);
            assert_eq!(answer["url"], expect["url"], "{id}");
            assert_eq!(answer["body"], expect["body"], "{id}");
            let ours = answer["headers"].as_array().expect("headers").iter();
            let ours = headers(ours.map(|pair| (text(&pair[0]), text(&pair[1]))), &case);
            let theirs = expect["headers"].as_object().expect("headers").iter();
            assert_eq!(
                ours,
                headers(theirs.map(|(name, value)| (name.clone(), text(value))), &case),
                "{id}"
            );
        }
    }
}

#[test]
fn logins_are_identical() {
    let cases = answered(vectors!("ws"));
    assert_eq!(cases.len(), 26);
    for (case, answer) in cases {
        let id = &case["id"];
        assert_eq!(answer["error"], Value::Null, "{id}");
        assert_eq!(answer["scope"], case["scope"], "{id}");
        assert_eq!(answer["frame"], case["frame"], "{id}");
        assert_eq!(answer["messages"][0]["message_hex"], case["expect"]["message_hex"], "{id}");
    }
}

#[test]
fn attacks_are_refused() {
    let cases = answered(vectors!("attacks"));
    assert_eq!(cases.len(), 43);
    for (case, answer) in cases {
        // The case expects a refusal, or a scope that the caller does not hold.
        assert!(
            case["expect"] == "refuse" || case["expect"]["min_scope"].is_string(),
            "{}",
            case["id"]
        );
        assert_eq!(answer["verdict"], "refuse", "{}: {}", case["id"], case["why"]);
        assert_eq!(answer["code"], case["code"], "{}: {}", case["id"], answer["message"]);
    }
}

#[test]
fn examples_of_the_exchanges_own_pages_verify() {
    for line in vectors!("official").lines() {
        let case: Value = serde_json::from_str(line).expect("a line is JSON");
        let algorithm = Algorithm::from_name(&text(&case["alg"])).expect("a known algorithm");
        let secret = text(&case["secret"]);
        let secret = match case["secret_encoding"].as_str() {
            Some("ascii") => software::Secret::Bytes(secret.into_bytes()),
            Some("base64") => software::Secret::Bytes(
                data_encoding::BASE64.decode(secret.as_bytes()).expect("base64"),
            ),
            _ => software::Secret::Pem(&secret),
        };
        let message =
            data_encoding::HEXLOWER.decode(text(&case["message_hex"]).as_bytes()).expect("hex");
        let signature = software::sign(algorithm, secret, &message).expect("a test key");
        let written = match case["encoding"].as_str() {
            Some("hex") => data_encoding::HEXLOWER.encode(&signature),
            _ => data_encoding::BASE64.encode(&signature),
        };
        assert_eq!(case["signature"], written.as_str(), "{}", case["title"]);
    }
}

/// The worked example of <https://docs.kraken.com/api/docs/guides/spot-rest-auth>, through the
/// recipe.
#[test]
fn krakens_own_example_comes_out_of_the_recipe() {
    let line = vectors!("official")
        .lines()
        .find(|line| line.contains("AddOrder"))
        .expect("Kraken's example");
    let official: Value = serde_json::from_str(line).expect("a line is JSON");
    let case = serde_json::json!({
        "id": "official", "exchange": "kraken",
        "request": {"method": "POST", "path": "/0/private/AddOrder"},
        "auth": {"alg": "hmac-sha512", "api_key": "k", "secret": official["secret"],
                 "secret_encoding": "base64", "now_ms": 1_616_492_376_594_u64,
                 "nonce": official["nonce"]},
    });
    // Written out, because the order of the parameters counts.
    let params = r#""params":{"ordertype":"limit","pair":"XBTUSD","price":37500,"type":"buy",
        "volume":1.25},"path":"#;
    let answer: Value =
        serde_json::from_str(&case::answer(&case.to_string().replacen(r#""path":"#, params, 1)))
            .expect("JSON");
    assert_eq!(answer["body"], official["body"]);
    assert_eq!(answer["messages"][0]["message_hex"], official["message_hex"]);
    assert_eq!(answer["headers"][1][1], official["signature"]);
}

/// The worked example of
/// <https://developers.binance.com/docs/binance-spot-api-docs/web-socket-api/request-security>,
/// through the recipe.
#[test]
fn binances_own_example_of_its_socket_comes_out_of_the_recipe() {
    let line = vectors!("official")
        .lines()
        .find(|line| line.contains("order.place"))
        .expect("Binance's example");
    let official: Value = serde_json::from_str(line).expect("a line is JSON");
    let message =
        data_encoding::HEXLOWER.decode(text(&official["message_hex"]).as_bytes()).expect("hex");
    let message = String::from_utf8(message).expect("text");
    let said = |name: &str| {
        let pair = message.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
        pair.expect(name).to_owned()
    };
    let params: serde_json::Map<_, _> =
        ["symbol", "side", "type", "timeInForce", "quantity", "price", "recvWindow"]
            .map(|name| (name.to_owned(), Value::String(said(name))))
            .into_iter()
            .collect();
    let now: u64 = said("timestamp").parse().expect("a number");
    let case = serde_json::json!({
        "id": "official", "exchange": "binance",
        "request": {"method": "POST", "path": "/api/v3/order", "params": params,
                    "params_in": "ws-api"},
        "auth": {"alg": "hmac-sha256", "api_key": said("apiKey"), "secret": official["secret"],
                 "secret_encoding": "ascii", "now_ms": now},
    });
    let answer: Value = serde_json::from_str(&case::answer(&case.to_string())).expect("JSON");
    assert_eq!(answer["messages"][0]["message_hex"], official["message_hex"], "{answer}");
    let sent = (&answer["url"], &answer["headers"]);
    assert_eq!(sent, (&"wss://ws-api.binance.com:443/ws-api/v3".into(), &serde_json::json!([])));
    let frame: Value = serde_json::from_str(&text(&answer["body"])).expect("a frame is JSON");
    assert_eq!(
        (&frame["method"], &frame["params"]["signature"]),
        (&"order.place".into(), &official["signature"])
    );
    assert_eq!(
        (&frame["params"]["timestamp"], &frame["params"]["price"]),
        (&now.into(), &said("price").into())
    );
    assert_eq!(answer["effective_scopes"], serde_json::json!(["trade", "session"]));
}

#[test]
fn what_cannot_be_done_has_a_code() {
    for (line, code) in [
        ("{", "request.malformed"),
        (r#"{"id":"x","exchange":"nowhere","request":{},"auth":{}}"#, "request.unknown_endpoint"),
        (
            r#"{"id":"x","exchange":"bitso","kind":"ws-login","auth":{"now_ms":1,"secret":"",
                "api_key":"k"}}"#,
            "request.unknown_endpoint",
        ),
    ] {
        let answer: Value = serde_json::from_str(&case::answer(line)).expect("JSON");
        assert_eq!(answer["error"]["code"], code, "{line}");
    }
    let twice = r#"{"id":"x","exchange":"binance","caller_allowed":["read"],
        "request":{"method":"GET","path":"/api/v3/account","params":{"a":1,"a":2}}}"#;
    let answer: Value = serde_json::from_str(&case::answer(twice)).expect("JSON");
    assert_eq!(
        (&answer["verdict"], &answer["code"]),
        (&"refuse".into(), &"request.ambiguous".into())
    );
}
