//! One case: a request to sign with a test key, a WebSocket login, or an attack to judge.

use std::collections::BTreeMap;

use countersign_core::algorithm::Algorithm;
use countersign_core::draft::Encoding;
use countersign_core::exchange::classify::{Classified, check_managed, classify};
use countersign_core::exchange::login::{SessionLogin, WS};
use countersign_core::exchange::{self, Exchange, Nonce, PassphraseKind, text::base64};
use countersign_core::json::Value;
use countersign_core::key::{Environment, Key, KeyName, NonceUnit, Tier};
use countersign_core::policy::{
    Client, Decision, Destination, Policy, RECEIVE_WINDOW_CAP_MS, Release, TransferRule,
};
use countersign_core::refusal::{Code, Refusal};
use countersign_core::request::{Method, Params, ParamsIn, Path, Request};
use countersign_core::scope::{Scope, Scopes};
use countersign_core::stamp::Stamp;
use secrecy::SecretString;
use serde_json::json;

use crate::software;

/// Answers one line with one line.
pub(crate) fn answer(line: &str) -> String {
    match Value::parse(line) {
        Ok(case) if case.member("caller_allowed").is_some() => judge(&case),
        Ok(case) => outcome(
            text(&case, "id"),
            if case.member("request").is_some() { sign(&case) } else { login(&case) },
        ),
        Err(refusal) => unreadable(line, &refusal),
    }
    .to_string()
}

/// The answer to a case that the strict parser refuses. An attack then counts as refused.
fn unreadable(line: &str, refusal: &Refusal) -> serde_json::Value {
    let loose: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
    if loose.get("caller_allowed").is_some() {
        return json!({"id": loose["id"], "verdict": "refuse", "code": refusal.code});
    }
    json!({"id": loose["id"], "error": {"code": refusal.code, "message": refusal.message}})
}

fn outcome(id: &str, outcome: Result<serde_json::Value, Refusal>) -> serde_json::Value {
    match outcome {
        Ok(mut answer) => {
            answer["id"] = json!(id);
            answer
        }
        Err(refusal) => {
            json!({"id": id, "error": {"code": refusal.code, "message": refusal.message}})
        }
    }
}

fn sign(case: &Value) -> Result<serde_json::Value, Refusal> {
    let exchange = exchange_of(case)?;
    let auth = member(case, "auth")?;
    let request = request(member(case, "request")?)?;
    let key = key(exchange, auth)?;
    let host = exchange.host(&request, key.environment)?;
    let classified = classify(exchange, key.algorithm, &request)?;
    let draft = exchange.draft(&request, &key, host, &stamp(exchange, auth)?)?;
    let signature = software::sign(draft.algorithm, secret(auth)?, &draft.message)?;
    let mut messages = vec![message("request", draft.algorithm, &draft.message)];
    let passphrase = passphrase(exchange, &key, auth, &mut messages)?;
    let finished = draft.finish(&signature, passphrase.as_ref())?;
    Ok(json!({
        "scope": classified.scope,
        "effective_scopes": classified.effective,
        "messages": messages,
        "url": finished.url,
        "headers": finished.headers,
        "body": finished.body,
    }))
}

fn login(case: &Value) -> Result<serde_json::Value, Refusal> {
    let exchange = exchange_of(case)?;
    let auth = member(case, "auth")?;
    let key = key(exchange, auth)?;
    let login = login_of(case)?;
    let draft = exchange.session(&key, &login, &stamp(exchange, auth)?)?;
    let signature = software::sign(draft.algorithm, secret(auth)?, &draft.message)?;
    let mut messages = vec![message("request", draft.algorithm, &draft.message)];
    let passphrase = passphrase(exchange, &key, auth, &mut messages)?;
    let finished = draft.finish(&signature, passphrase.as_ref())?;
    let frame = match finished.frame {
        Some(frame) => serde_json::from_str::<serde_json::Value>(&frame).expect("a frame is JSON"),
        // If a login has only headers, cases show them in place of the frame.
        None => finished.headers.iter().map(|(name, value)| (name.clone(), json!(value))).collect(),
    };
    let mut shown = json!({
        "scope": Scope::Session,
        "effective_scopes": exchange.session_scopes(exchange.session_grants(key.algorithm, &login)),
        "messages": messages,
        "headers": finished.headers,
        "url": finished.url,
        "frame": frame,
    });
    if let Some(body) = finished.body {
        shown["body"] = json!(body);
    }
    Ok(shown)
}

/// The arguments of the login. A case names them itself, or only as part of the expected frame.
fn login_of(case: &Value) -> Result<SessionLogin, Refusal> {
    let given = |names: &[&str]| {
        let places = [Some(case), case.member("request"), case.member("frame")];
        let found = places
            .into_iter()
            .flatten()
            .flat_map(|place| names.iter().map(|name| place.member(name)));
        found.flatten().find_map(Value::scalar).map(str::to_owned)
    };
    let symbols: Vec<String> = match case.member("symbols") {
        Some(Value::Array(symbols)) => {
            symbols.iter().filter_map(Value::scalar).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    };
    let (purpose, channel) = (given(&["purpose"]), given(&["channel"]));
    let challenge = given(&["challenge", "original_challenge"]);
    SessionLogin::parse(
        purpose.as_deref().unwrap_or(WS),
        channel.as_deref(),
        challenge.as_deref(),
        &symbols,
    )
}

/// Judges an attack as the agent would for a client that holds `caller_allowed`.
fn judge(case: &Value) -> serde_json::Value {
    let id = text(case, "id");
    match attempt(case) {
        Ok(effective) => json!({"id": id, "verdict": "sign", "effective_scopes": effective}),
        Err(refusal) => {
            json!({"id": id, "verdict": "refuse", "code": refusal.code, "message": refusal.message})
        }
    }
}

fn attempt(case: &Value) -> Result<Scopes, Refusal> {
    let exchange = exchange_of(case)?;
    let Some(Value::Array(allowed)) = case.member("caller_allowed") else {
        return Err(Refusal::malformed("caller_allowed is not a list"));
    };
    let allowed = allowed.iter().filter_map(|scope| Scope::from_name(scope.scalar()?)).collect();
    let asked = member(case, "request")?;
    no_more_than(asked, &["host", "method", "note", "params", "params_in", "path", "scheme"])?;
    let request = request(asked)?;
    check_managed(exchange, &request.params, RECEIVE_WINDOW_CAP_MS)?;
    let key = plain_key(exchange, exchange.facts().algorithms[0], "test");
    let host = exchange.host(&request, key.environment)?;
    let classified = classify(exchange, key.algorithm, &request)?;
    match lenient(&classified).decide(&client(&key, allowed), &key, exchange, &classified) {
        // A request that needs approval counts as signed: a person could approve it.
        Decision::Allow { .. } | Decision::Ask { .. } => {}
        Decision::Deny(denied) => return Err(denied.refusal),
    }
    let stamp = Stamp {
        now_ms: 1_700_000_000_000,
        nonce: 1,
        random: [0; 16],
        receive_window_ms: Some(5_000),
    };
    exchange.draft(&request, &key, host, &stamp)?;
    Ok(classified.effective)
}

/// Refuses any other field in a request, such as an expiry or a passphrase. The agent sets these,
/// and its protocol has no field for them.
fn no_more_than(request: &Value, known: &[&str]) -> Result<(), Refusal> {
    let more = request
        .members()
        .unwrap_or_default()
        .iter()
        .find(|(name, _)| !known.contains(&name.as_str()));
    match more {
        Some((name, _)) => Err(Refusal::malformed(format!("the request has a field {name:?}"))),
        None => Ok(()),
    }
}

/// A client whose only limits are its scopes.
fn client(key: &Key, scopes: Scopes) -> Client {
    Client {
        name: "case".to_owned(),
        uid: 1,
        keys: [key.name.clone()].into(),
        scopes,
        symbols: None,
        max_quantity: BTreeMap::new(),
        limits: BTreeMap::new(),
        rate: None,
        unbound: Release::Signature,
    }
}

/// A policy that allows exactly the transfers of this request, so that no request is refused only
/// because `agent.toml` lacks a line.
fn lenient(classified: &Classified<'_>) -> Policy {
    let assets = classified.transfers.iter().filter_map(|transfer| transfer.asset.clone());
    let destinations = classified.transfers.iter().filter_map(|transfer| {
        Some(Destination {
            label: "case".to_owned(),
            asset: transfer.asset.clone()?,
            network: transfer.network.clone()?,
            address: transfer.address.clone().or_else(|| transfer.to.clone())?,
            memo: transfer.memo.clone(),
        })
    });
    Policy {
        clients: Vec::new(),
        destinations: destinations.collect(),
        transfers: assets.map(|asset| (asset, TransferRule::default())).collect(),
        ..Policy::default()
    }
}

/// The exchange of a case. `binance_rsa` and `binanceusdm` are Binance: they differ in the key's
/// algorithm or in the host.
fn exchange_of(case: &Value) -> Result<&'static dyn Exchange, Refusal> {
    let name = text(case, "exchange");
    let family = name.split('_').next().unwrap_or(name);
    let family = if family.starts_with("binance") { "binance" } else { family };
    let unknown = || Refusal::new(Code::RequestUnknownEndpoint, format!("no recipe for {name}"));
    exchange::named(name).or_else(|| exchange::named(family)).ok_or_else(unknown)
}

fn request(request: &Value) -> Result<Request, Refusal> {
    Ok(Request {
        method: Method::parse(text(request, "method"))?,
        path: Path::parse(text(request, "path"))?,
        params: request
            .member("params")
            .map_or_else(|| Ok(Params::empty()), |params| Params::new(params.clone()))?,
        params_in: request
            .member("params_in")
            .and_then(Value::scalar)
            .map(ParamsIn::parse)
            .transpose()?,
        host: request.member("host").and_then(Value::scalar).map(str::to_owned),
    })
}

fn key(exchange: &dyn Exchange, auth: &Value) -> Result<Key, Refusal> {
    let named = auth.member("alg").and_then(Value::scalar).map(|name| {
        // The name that a token has for its algorithm.
        let name = match name {
            "jwt-eddsa" => "ed25519",
            "jwt-es256" => "ecdsa-p256-sha256",
            "jwt-hs256" => "hmac-sha256",
            other => other,
        };
        Algorithm::from_name(name)
            .ok_or_else(|| Refusal::malformed(format!("the algorithm {name} is not known")))
    });
    let algorithm = named.unwrap_or(Ok(exchange.facts().algorithms[0]))?;
    Ok(plain_key(exchange, algorithm, text(auth, "api_key")))
}

fn plain_key(exchange: &dyn Exchange, algorithm: Algorithm, api_key: &str) -> Key {
    Key {
        name: KeyName::parse("case").expect("a plain name"),
        exchange: exchange.facts().name,
        environment: Environment::Production,
        algorithm,
        api_key: api_key.to_owned(),
        scopes: Scope::ALL.into_iter().collect(),
        tier: Tier::Software,
        token: "none".to_owned(),
        nonce_unit: NonceUnit::Milliseconds,
        in_vault: false,
    }
}

fn stamp(exchange: &dyn Exchange, auth: &Value) -> Result<Stamp, Refusal> {
    let number =
        |name| auth.member(name).and_then(Value::scalar).and_then(|text| text.parse::<u64>().ok());
    let now_ms = number("now_ms").ok_or_else(|| Refusal::malformed("auth has no now_ms"))?;
    let mut random = [0; 16];
    let given = match exchange.facts().nonce {
        Nonce::Uuid => ["nonce_uuid", "uuid", "nonce"]
            .map(|name| text(auth, name))
            .into_iter()
            .find(|uuid| !uuid.is_empty()),
        _ => Some(text(auth, "random16_hex")),
    };
    let given = given.unwrap_or_default().replace('-', "");
    if let Ok(bytes) = data_encoding::HEXLOWER_PERMISSIVE.decode(given.as_bytes()) {
        let length = bytes.len().min(16);
        random[..length].copy_from_slice(&bytes[..length]);
    }
    // A case without a nonce is for an exchange that can do without one.
    let nonce = if auth.member("nonce") == Some(&Value::Null) { Some(0) } else { number("nonce") };
    Ok(Stamp {
        now_ms,
        nonce: nonce.unwrap_or(now_ms),
        random,
        receive_window_ms: number("recv_window"),
    })
}

fn secret(auth: &Value) -> Result<software::Secret<'_>, Refusal> {
    let text = text(auth, "secret");
    Ok(match auth.member("secret_encoding").and_then(Value::scalar).unwrap_or("ascii") {
        "ascii" => software::Secret::Bytes(text.as_bytes().to_vec()),
        "base64" => software::Secret::Bytes(
            data_encoding::BASE64
                .decode(text.as_bytes())
                .map_err(|_| Refusal::malformed("the secret is not base64"))?,
        ),
        "base64(seed32)" | "base64(seed32||pub32)" => software::Secret::Seed(
            data_encoding::BASE64
                .decode(text.as_bytes())
                .map_err(|_| Refusal::malformed("the seed is not base64"))?,
        ),
        "pem-pkcs8" | "pem-sec1" => software::Secret::Pem(text),
        other => return Err(Refusal::malformed(format!("secret_encoding {other} is not known"))),
    })
}

/// The passphrase to send. If it is a MAC, the message of the MAC is one of the case's messages
/// too.
fn passphrase(
    exchange: &dyn Exchange,
    key: &Key,
    auth: &Value,
    messages: &mut Vec<serde_json::Value>,
) -> Result<Option<SecretString>, Refusal> {
    let Some(text) = auth.member("passphrase").and_then(Value::scalar) else { return Ok(None) };
    if exchange.facts().passphrase != PassphraseKind::Mac {
        return Ok(Some(text.to_owned().into()));
    }
    messages.push(message("passphrase", key.algorithm, text.as_bytes()));
    Ok(Some(base64(software::sign(key.algorithm, secret(auth)?, text.as_bytes())?).into()))
}

fn message(purpose: &str, algorithm: Algorithm, message: &[u8]) -> serde_json::Value {
    json!({
        "purpose": purpose,
        "alg": algorithm.name(),
        "message_hex": Encoding::Hex.encode(message),
    })
}

fn member<'a>(value: &'a Value, name: &str) -> Result<&'a Value, Refusal> {
    value.member(name).ok_or_else(|| Refusal::malformed(format!("the case has no {name}")))
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.member(name).and_then(Value::scalar).unwrap_or_default()
}
