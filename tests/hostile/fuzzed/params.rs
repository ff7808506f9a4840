//! Parameters, from their text to what every exchange would be sent. The input is `METHOD PATH
//! PARAMS_IN`, a newline, JSON.

use countersign_core::draft::Draft;
use countersign_core::exchange::classify::{Classified, check_managed, classify};
use countersign_core::exchange::{ALL, Exchange, worth};
use countersign_core::instrument::is_foreign;
use countersign_core::json::Value;
use countersign_core::key::{Environment, Key, KeyName, NonceUnit, Tier};
use countersign_core::policy::RECEIVE_WINDOW_CAP_MS;
use countersign_core::request::{Method, Params, ParamsIn, Path, Request};
use countersign_core::scope::Scope;
use countersign_core::stamp::Stamp;
use secrecy::SecretString;

const STAMP: Stamp =
    Stamp { now_ms: 1_700_000_000_000, nonce: 9, random: [0; 16], receive_window_ms: Some(10_000) };

pub fn seeds() -> Vec<Vec<u8>> {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or("-").to_owned();
    let vectors = super::requests().into_iter().map(|request| {
        let line =
            [&request["method"], &request["path"], &request["params_in"]].map(text).join(" ");
        format!("{line}\n{}", request["params"])
    });
    let openings = ALL.iter().flat_map(|exchange| {
        exchange.table().openings().iter().step_by(4).map(|opening| {
            let row = exchange.table().endpoint(opening);
            let names = opening
                .required
                .iter()
                .copied()
                .chain(opening.roles.iter().filter_map(|(_, source)| source.parameter()));
            let members: Vec<_> = names.map(|name| format!(r#""{name}":"1""#)).collect();
            format!("{} {} -\n{{{}}}", row.method, row.path, members.join(","))
        })
    });
    vectors.chain(openings).map(String::into_bytes).collect()
}

/// See [`drafts`].
pub fn check(bytes: &[u8]) {
    drafts(bytes);
}

/// Checks that nothing panics, that one more parameter never opens less, and that a draft says what
/// was judged. Returns the number of drafts.
pub fn drafts(bytes: &[u8]) -> usize {
    let Ok(text) = std::str::from_utf8(bytes) else { return 0 };
    let (line, json) = text.split_once('\n').unwrap_or(("", text));
    let Ok(params) = Value::parse(json).and_then(Params::new) else { return 0 };
    let drafts = |exchange: &&'static dyn Exchange| {
        check_exchange(*exchange, &request(*exchange, line, params.clone()))
    };
    ALL.iter().filter_map(drafts).sum()
}

/// The endpoint that the line names. A fuzzer seldom finds a path, so any other line chooses one of
/// the table.
fn request(exchange: &dyn Exchange, line: &str, params: Params) -> Request {
    let mut words = line.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let params_in = words.next().and_then(|word| ParamsIn::parse(word).ok());
    if let (Ok(method), Ok(path)) = (Method::parse(method), Path::parse(path))
        && exchange.table().find(method, path.as_str()).is_some()
    {
        return Request { method, path, params, params_in, host: None };
    }
    let rows = exchange.table().endpoints();
    let chosen =
        line.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let row = &rows[chosen % rows.len()];
    let path = Path::parse(&row.path.replace(['{', '}'], "")).expect("a row's path is plain");
    Request { method: row.method, path, params, params_in, host: None }
}

/// Checks a request in the order in which the agent does; `None` if it is refused.
fn check_exchange(exchange: &'static dyn Exchange, request: &Request) -> Option<usize> {
    check_managed(exchange, &request.params, RECEIVE_WINDOW_CAP_MS).ok()?;
    let host = exchange.host(request, Environment::Production).ok()?;
    let classified = classify(exchange, exchange.facts().algorithms[0], request).ok()?;
    assert!(classified.effective.contains(classified.scope));
    for order in classified.orders.iter().flatten() {
        let _ = (worth::size(exchange, order), worth::notional(exchange, order));
    }
    check_fewer(exchange, request, &classified);
    let keys = exchange.facts().algorithms.iter().map(|algorithm| key(exchange, *algorithm));
    let drafts = keys.filter_map(|key| exchange.draft(request, &key, host, &STAMP).ok());
    Some(drafts.inspect(|draft| check_draft(exchange, draft, request, host)).count())
}

/// Checks that with one parameter less a signature opens nothing more. Only the first parameter
/// that says anything may take a scope away: without parameters an endpoint cannot be told from all
/// others.
fn check_fewer(exchange: &dyn Exchange, request: &Request, whole: &Classified<'_>) {
    let members = request.params.members();
    for index in 0..members.len().min(24) {
        let mut fewer = members.to_vec();
        let (name, _) = fewer.remove(index);
        let table = exchange.table();
        if table.tells(&name) && !fewer.iter().any(|(name, _)| table.tells(name)) {
            continue;
        }
        let params = Params::new(Value::Object(fewer)).expect("less of what was taken");
        let fewer = Request { params, ..request.clone() };
        let fewer = classify(exchange, exchange.facts().algorithms[0], &fewer)
            .expect("less of what was taken");
        let lost = fewer.effective.without(whole.effective);
        assert!(lost.is_empty(), "{name} took {lost} away");
    }
}

/// Checks that the request as sent has the parameters that were judged and those of the agent, with
/// their values, and that the signed bytes are the bytes sent.
fn check_draft(exchange: &dyn Exchange, draft: &Draft, request: &Request, host: &str) {
    let sent = draft
        .clone()
        .finish(&[0xfb; 32], Some(&SecretString::from("pass")))
        .expect("the passphrase is there");
    let origin = format!("https://{host}{}", request.path);
    let query = sent.url.strip_prefix(&origin).expect("the host and path that were judged");
    let body = sent.body.as_deref().unwrap_or_default();
    match query.strip_prefix('?') {
        Some(query) => check_form(exchange, query, request),
        None => assert_eq!(query, ""),
    }
    // Kraken Futures takes a batch of orders as JSON in a form.
    let body = body.strip_prefix("json=").unwrap_or(body);
    match body.as_bytes().first() {
        Some(b'{' | b'[') => check_json(exchange, body, request),
        Some(_) => check_form(exchange, body, request),
        None => {}
    }
    let clean = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    // Some exchanges want the letters of an instrument's name unescaped, in any script.
    assert!(
        sent.url.chars().all(|character| character.is_ascii_graphic() || is_foreign(character)),
        "{}",
        sent.url
    );
    // `Authorization` has a scheme before its credentials.
    assert!(
        sent.headers
            .iter()
            .all(|(_, value)| value.split(' ').all(|word| !word.is_empty() && clean(word))),
        "{:?}",
        sent.headers
    );
    let Ok(message) = std::str::from_utf8(&draft.message) else { return };
    if let Some(signed) = message.strip_prefix("timestamp=") {
        let end = format!("timestamp={signed}&signature=");
        assert!(query.strip_prefix('?').unwrap_or(body).starts_with(&end), "{message}");
    }
}

fn set_by_the_agent(exchange: &dyn Exchange, name: &str) -> bool {
    let facts = exchange.facts();
    // Bitstamp takes no empty body, so the agent sends a pair that means nothing.
    (facts.name, name) == ("bitstamp", "foo")
        || facts.set_by_agent().any(|set| set == name)
        || facts.receive_window.is_some_and(|window| window.name == name)
}

fn check_form(exchange: &dyn Exchange, text: &str, request: &Request) {
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').expect("a name and a value");
        let (name, value) = (decoded(name), decoded(value));
        let outer = name.split('[').next().unwrap_or_default();
        let known =
            request.params.members().iter().find(|(known, _)| known.eq_ignore_ascii_case(outer));
        match known {
            // A text that Bybit has escaped itself goes back as it came.
            Some((_, given))
                if exchange.facts().name == "bybit"
                    && given.scalar().is_some_and(|text| text.contains('%')) =>
            {
                assert_eq!(given.scalar().map(decoded), Some(value));
            }
            Some((_, given)) if given.scalar().is_some() => check_value(given, &value, request),
            Some(_) => {}
            None => {
                assert!(set_by_the_agent(exchange, outer), "{name:?} was never asked for: {text}")
            }
        }
    }
}

/// Checks that a value is sent as it was given. Only the spelling of a boolean may differ: some
/// exchanges take Python's.
fn check_value(given: &Value, sent: &str, request: &Request) {
    let same = given.scalar() == Some(sent)
        || matches!(given, Value::Bool(_))
            && sent.eq_ignore_ascii_case(given.scalar().unwrap_or_default());
    assert!(same, "{given:?} was sent as {sent:?} to {}", request.path);
}

fn check_json(exchange: &dyn Exchange, text: &str, request: &Request) {
    let sent = Value::parse(text).expect("the body is JSON");
    let (Some(members), Some(asked)) = (sent.members(), request.params.value().members()) else {
        return assert_eq!(&sent, request.params.value());
    };
    let asked_for = |(name, _): &&(String, Value)| {
        !set_by_the_agent(exchange, name) || request.params.get(name).is_some()
    };
    let mut sent: Vec<_> = members.iter().filter(asked_for).collect();
    // Crypto.com wants the path's end and the parameters in an envelope.
    if let [(method, path), (params, inner)] = sent[..]
        && (method.as_str(), params.as_str()) == ("method", "params")
    {
        assert!(path.scalar().is_some_and(|path| request.path.as_str().ends_with(path)), "{text}");
        return assert_eq!(inner, request.params.value());
    }
    // Some exchanges sort the names.
    let mut asked: Vec<_> = asked.iter().collect();
    sent.sort_by(|one, other| one.0.cmp(&other.0));
    asked.sort_by(|one, other| one.0.cmp(&other.0));
    assert_eq!(sent, asked);
}

/// Reads a text as in a form: `+` is a space.
fn decoded(text: &str) -> String {
    let (mut out, mut bytes) = (Vec::new(), text.bytes());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'%' => {
                let digits = [bytes.next(), bytes.next()]
                    .map(|digit| char::from(digit.expect("two digits")).to_digit(16));
                digits.into_iter().fold(0, |sum, digit| sum << 4 | digit.expect("two digits") as u8)
            }
            b'+' => b' ',
            byte => byte,
        });
    }
    String::from_utf8(out).expect("UTF-8")
}

fn key(exchange: &dyn Exchange, algorithm: countersign_core::algorithm::Algorithm) -> Key {
    Key {
        name: KeyName::parse("k").expect("plain"),
        exchange: exchange.facts().name,
        environment: Environment::Production,
        algorithm,
        api_key: "id".to_owned(),
        scopes: Scope::ALL.into_iter().collect(),
        tier: Tier::Software,
        token: "none".to_owned(),
        nonce_unit: NonceUnit::Milliseconds,
        in_vault: false,
    }
}
