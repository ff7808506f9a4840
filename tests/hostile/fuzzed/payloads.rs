//! Payloads of the extension messages.

use std::collections::BTreeMap;

use countersign_core::json::Value;
use countersign_core::key::KeyName;
use countersign_core::request::{Method, Params, Path};
use countersign_core::wire::admin::{EventsRequest, ExplainRequest, Register};
use countersign_core::wire::{self, MAX_PAYLOAD, PlainRequest, SessionRequest, SignRequest};
use serde::Serialize;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

pub fn seeds() -> Vec<Vec<u8>> {
    let sign = super::requests().into_iter().map(|request| {
        serde_json::json!({
            "v": 1, "key": "k", "method": request["method"], "path": request["path"],
            "params": request["params"], "params_in": request["params_in"],
            "host": request["host"], "reason": "r",
        })
        .to_string()
    });
    let others = [
        r#"{"v":1}"#,
        r#"{"v":1,"after":3,"wait_ms":1000}"#,
        r#"{"v":1,"key":"k","purpose":"ws"}"#,
        r#"{"v":1,"client":"c","key":"k","method":"GET","path":"/a","params":{"a":[1.0]},
            "host":"h"}"#,
        r#"{"operation":"add","v":1,"name":"k","exchange":"okx","token":"t","scopes":["read"],
            "algorithm":"hmac-sha256","environment":"testnet","expires_ms":9,
            "nonce_unit":"milliseconds"}"#,
        r#"{"operation":"activate","v":1,"name":"k","api_key":"id"}"#,
        r#"{"operation":"remove","v":1,"name":"k"}"#,
        r#"[1,"k","GET","/a"]"#,
    ];
    sign.chain(others.map(str::to_owned)).map(String::into_bytes).collect()
}

/// Checks that a payload that is taken is one JSON object without a name twice, and that its parts
/// are as strict as their own parsers.
pub fn check(bytes: &[u8]) {
    sign(bytes);
    other::<EventsRequest>(bytes);
    other::<ExplainRequest>(bytes);
    other::<PlainRequest>(bytes);
    other::<Register>(bytes);
    other::<SessionRequest>(bytes);
}

fn sign(bytes: &[u8]) {
    let Ok(parsed) = SignRequest::parse(bytes) else { return };
    let object = object(bytes);
    let text = |name: &str| object[name].as_str().expect("a string");
    let request = &parsed.request;
    assert_eq!(KeyName::parse(text("key")), Ok(parsed.key));
    assert_eq!(Method::parse(text("method")).as_ref(), Ok(&request.method));
    assert_eq!(Path::parse(text("path")).as_ref(), Ok(&request.path));
    assert_eq!(object["host"].as_str(), request.host.as_deref());
    assert_eq!(object["params_in"].is_string(), request.params_in.is_some());
    assert!(
        parsed
            .reason
            .is_none_or(|reason| reason.len() <= 256 && !reason.contains(char::is_control))
    );
    let again = Value::parse(&request.params.value().to_json()).and_then(Params::new);
    assert_eq!(again.as_ref(), Ok(&request.params));
}

fn other<T: DeserializeOwned + Serialize>(bytes: &[u8]) {
    let Ok(parsed) = wire::parse::<T>(bytes) else { return };
    object(bytes);
    let written = serde_json::to_string(&parsed).expect("can be written");
    let Ok(again) = wire::parse::<T>(written.as_bytes()) else {
        return assert!(written.len() > MAX_PAYLOAD);
    };
    assert_eq!(serde_json::to_string(&again).expect("can be written"), written);
}

/// The payload by another parser; a member that it cannot hold, such as the number `1e999`, is
/// null.
fn object(bytes: &[u8]) -> serde_json::Value {
    assert!(bytes.len() <= MAX_PAYLOAD);
    let text = std::str::from_utf8(bytes).expect("UTF-8");
    match serde_json::from_str::<BTreeMap<String, &RawValue>>(text) {
        Ok(members) => members
            .into_iter()
            .map(|(name, raw)| (name, serde_json::from_str(raw.get()).unwrap_or_default()))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Err(error) => panic!("{text:?} was taken and is no object: {error}"),
    }
}
