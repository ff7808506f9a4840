//! Tests the drafts of recipes. Every byte of a draft comes from the request or from the agent, and
//! the draft sends exactly the parameters of the request.

mod asked;

use asked::{STAMP, algorithms, draft, filled, places, request};
use countersign_core::algorithm::Algorithm;
use countersign_core::draft::Draft;
use countersign_core::exchange::table::{Endpoint, Opening, Role, WHOLE_BODY};
use countersign_core::exchange::{ALL, Exchange};
use countersign_core::json::Value;
use countersign_core::request::{Method, Params, Request};
use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use percent_encoding::percent_decode_str;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use secrecy::SecretString;
use sha2::{Digest, Sha256, Sha512};

/// Every part of a draft that leaves the agent or is signed. Encoded and hashed parts are taken
/// apart.
struct Written {
    url: String,
    headers: Vec<String>,
    body: String,
    message: Vec<u8>,
}

impl Written {
    fn of(draft: Draft) -> Self {
        let message = draft.message.clone();
        let passphrase = SecretString::from("passphrase");
        let finished = draft.finish(&[7; 32], Some(&passphrase)).expect("a signature fits");
        Self {
            url: finished.url,
            headers: finished.headers.into_iter().map(|(_, value)| value).collect(),
            body: finished.body.unwrap_or_default(),
            message,
        }
    }

    fn query(&self) -> &str {
        self.url.split_once('?').map_or("", |(_, query)| query)
    }

    /// All parts as text. Percent-encoded parts stay encoded.
    fn texts(&self) -> Vec<String> {
        let sent = [&self.url, &self.body].into_iter().chain(&self.headers).map(String::as_str);
        let mut texts: Vec<_> = sent.flat_map(plain).collect();
        texts.extend(self.signed());
        texts
    }

    /// The signed text. If a digest is signed, it must be the digest of a text that is sent.
    fn signed(&self) -> Vec<String> {
        if let Ok(text) = std::str::from_utf8(&self.message) {
            return plain(text);
        }
        let nonce = STAMP.nonce;
        let sent = if self.body.is_empty() { self.query() } else { &self.body };
        let path = self
            .url
            .split_once("://")
            .and_then(|(_, rest)| rest.find('/').map(|at| &rest[at..]))
            .expect("a path");
        let path = path.split('?').next().unwrap_or_default();
        let kraken = [path.as_bytes(), &Sha256::digest(format!("{nonce}{sent}"))[..]].concat();
        let bare = path.strip_prefix("/derivatives").unwrap_or(path);
        let futures = Sha256::digest(format!("{sent}{nonce}{bare}")).to_vec();
        assert!(
            [kraken, futures].contains(&self.message),
            "what is signed is no text and no digest of what is sent"
        );
        vec![format!("{nonce}")]
    }
}

/// A text, with tokens and payloads of base64 decoded.
fn plain(text: &str) -> Vec<String> {
    let opened = |part: &str| {
        let bytes = BASE64URL_NOPAD
            .decode(part.as_bytes())
            .or_else(|_| BASE64.decode(part.as_bytes()))
            .ok()?;
        String::from_utf8(bytes).ok().filter(|text| text.starts_with('{') && text.ends_with('}'))
    };
    let bearer = text.strip_prefix("Bearer ").unwrap_or(text);
    let parts: Vec<_> = bearer.split('.').filter_map(opened).collect();
    if parts.is_empty() { vec![text.to_owned()] } else { parts }
}

fn decoded(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// The texts of a request: its names and its values, at every depth.
fn pieces(value: &Value, into: &mut Vec<String>) {
    match value {
        // Kraken's forms number the items of a list.
        Value::Array(items) => items.iter().enumerate().for_each(|(index, item)| {
            into.push(index.to_string());
            pieces(item, into);
        }),
        Value::Object(members) => members.iter().for_each(|(name, value)| {
            into.push(name.clone());
            pieces(value, into);
        }),
        // Some clients in Python use this spelling, and some exchanges want it.
        Value::Bool(true) => into.extend(["true".to_owned(), "True".to_owned()]),
        Value::Bool(false) => into.extend(["false".to_owned(), "False".to_owned()]),
        Value::Null => into.push("null".to_owned()),
        Value::Number(text) => into.push(text.clone()),
        Value::String(text) => {
            into.extend([text.clone(), decoded(text), value.to_json(), decoded(&value.to_json())])
        }
    }
}

/// The words of a text.
fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|byte: char| !byte.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_owned)
}

/// Words that recipes write only if a request has parameters: the type of a body, Kraken Futures'
/// form `json={…}`, Upbit's hash.
const FORMAT: &[&str] =
    &["SHA512", "alg", "application", "form", "hash", "json", "query", "urlencoded", "www", "x"];

/// True if a text is a sequence of these pieces and of punctuation.
fn covered(text: &str, pieces: &[String]) -> bool {
    let bytes = text.as_bytes();
    let mut reached = vec![false; bytes.len() + 1];
    reached[0] = true;
    for at in 0..bytes.len() {
        if !reached[at] {
            continue;
        }
        if bytes[at].is_ascii_punctuation() || bytes[at].is_ascii_whitespace() {
            reached[at + 1] = true;
        }
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            if bytes[at..].starts_with(piece.as_bytes()) {
                reached[at + piece.len()] = true;
            }
        }
    }
    reached[bytes.len()]
}

/// The words that the agent writes for a request without parameters to this row. If the agent
/// refuses that request, another row is asked.
fn own_words(exchange: &dyn Exchange, algorithm: Algorithm, asked: &Request) -> Vec<String> {
    let rows = exchange.table().endpoints().iter().filter(|row| row.method == asked.method);
    let paths = std::iter::once(asked.path.to_string()).chain(rows.map(|row| filled(row.path)));
    let empty = [Value::Object(Vec::new()), Value::Array(Vec::new())];
    let drafts =
        paths.flat_map(|path| empty.clone().map(|params| request(asked.method, &path, params)));
    let in_its_place = |mut empty: Request| {
        empty.params_in = asked.params_in.filter(|_| empty.path == asked.path);
        draft(exchange, algorithm, &empty).ok()
    };
    let first = drafts.flatten().find_map(in_its_place).expect("some row takes nothing");
    let written = Written::of(first);
    let own =
        written.texts().into_iter().flat_map(|text| words(&decoded(&text)).collect::<Vec<_>>());
    own.chain(words(asked.path.as_str()))
        .chain(FORMAT.iter().map(|word| (*word).to_owned()))
        .collect()
}

/// Digests that may stand in a text: of the body, and of the parameters as a query.
fn digests(written: &Written, asked: &Request) -> Vec<String> {
    let pairs = asked
        .params
        .members()
        .iter()
        .map(|(name, value)| format!("{name}={}", value.scalar().unwrap_or_default()));
    let query = pairs.collect::<Vec<_>>().join("&");
    [written.body.as_str(), "", &query]
        .map(|hashed| HEXLOWER.encode(&Sha512::digest(hashed)))
        .into()
}

/// The first text of a draft with a part that comes neither from the request nor from the agent.
fn foreign(
    exchange: &dyn Exchange,
    algorithm: Algorithm,
    asked: &Request,
    drafted: Draft,
) -> Option<String> {
    let written = Written::of(drafted);
    let mut known = own_words(exchange, algorithm, asked);
    pieces(asked.params.value(), &mut known);
    known.extend(digests(&written, asked));
    written
        .texts()
        .into_iter()
        .find(|text| !covered(text, &known) && !covered(&decoded(text), &known))
}

/// The names in an opening, and those that its roles read.
fn names(opening: &Opening) -> impl Iterator<Item = &'static str> {
    let roles = opening.roles.iter().filter_map(|(_, source)| source.parameter());
    opening.required.iter().chain(&opening.optional).copied().chain(roles)
}

/// A request as a bot would send it to this row: every name of its line, each with a value of its
/// own.
fn ordinary(exchange: &dyn Exchange, index: usize, row: &Endpoint) -> Request {
    let opening =
        exchange.table().openings_of(index).find(|opening| names(opening).next().is_some());
    let mut members: Vec<(String, Value)> = Vec::new();
    for (at, name) in opening.map(names).into_iter().flatten().enumerate() {
        if name != WHOLE_BODY && !members.iter().any(|(known, _)| known.eq_ignore_ascii_case(name))
        {
            let value = Value::String(format!("v{at}alue"));
            let value = if of_ids(row, name) { Value::Array(vec![value]) } else { value };
            members.push((name.to_owned(), value));
        }
    }
    let params = match opening.and_then(|opening| opening.name_of(Role::List)) {
        Some(WHOLE_BODY) => Value::Array(vec![Value::Object(members)]),
        Some(list) => {
            members.iter_mut().filter(|(name, _)| name == list).for_each(|(_, value)| {
                *value = Value::Array(vec![Value::object([("within", "w1thin".into())])]);
            });
            Value::Object(members)
        }
        None => Value::Object(members),
    };
    request(row.method, &filled(row.path), params).expect("a row's names are plain")
}

/// True for the rows of Binance that cancel several orders by lists of their numbers.
fn of_ids(row: &Endpoint, name: &str) -> bool {
    row.method == Method::Delete && row.path.ends_with("/batchOrders") && name != "symbol"
}

#[test]
fn every_row_is_written_with_nothing_of_others() {
    for exchange in ALL {
        for algorithm in algorithms(*exchange) {
            for (index, row) in exchange.table().endpoints().iter().enumerate() {
                let asked = ordinary(*exchange, index, row);
                let written = draft(*exchange, algorithm, &asked).expect(row.path);
                let foreign = foreign(*exchange, algorithm, &asked, written);
                assert_eq!(foreign, None, "{} {} {}", exchange.facts().name, row.method, row.path);
            }
        }
    }
}

/// Exchanges on which the agent's time, expiry or nonce follows a client's value or path without a
/// separator. Digits can then be moved from one to the other. The threat model says what an
/// attacker gains by that, and borders.rs tests it on every row. (Kraken Futures' message is a
/// digest. It belongs to them as well.)
const RUN_ON: &[&str] = &["bitfinex", "bitmex", "coinex", "cryptocom", "phemex"];

#[test]
fn the_agents_numbers_run_on_at_these_exchanges_only() {
    let digits = |text: &str| {
        let runs = text.split(|byte: char| !byte.is_ascii_digit()).filter(|run| run.len() > 9);
        runs.map(str::to_owned).collect::<Vec<_>>()
    };
    let numbers = |drafted: Draft| {
        Written::of(drafted).signed().iter().flat_map(|text| digits(text)).collect::<Vec<_>>()
    };
    let mut run_on = Vec::new();
    for (exchange, row) in ALL
        .iter()
        .flat_map(|exchange| exchange.table().endpoints().iter().map(|row| (*exchange, row)))
    {
        let algorithm = exchange.facts().algorithms[0];
        let placed = row
            .path
            .split('/')
            .map(|part| if part.contains('{') { "9" } else { part })
            .collect::<Vec<_>>()
            .join("/");
        let members =
            ["9before", "after9"].map(|name| (name.to_owned(), Value::Number("9".to_owned())));
        let plain = |path: &str, params| {
            draft(exchange, algorithm, &request(row.method, path, params).expect("plain"))
        };
        let Ok(own) = plain(&filled(row.path), Value::Object(Vec::new())).map(numbers) else {
            continue;
        };
        for params in [Vec::new(), members[..1].to_vec(), members[1..].to_vec()] {
            let Ok(beside) = plain(&placed, Value::Object(params)).map(numbers) else { continue };
            let often = |numbers: &[String], one: &String| {
                numbers.iter().filter(|number| *number == one).count()
            };
            run_on.extend(
                own.iter()
                    .any(|one| often(&own, one) > often(&beside, one))
                    .then_some(exchange.facts().name),
            );
        }
    }
    run_on.dedup();
    assert_eq!(run_on, RUN_ON);
}

/// The names and texts in a request that is sent, wherever they stand.
fn sent(written: &Written) -> Vec<(String, String)> {
    let bodies =
        [written.body.as_str()].into_iter().chain(written.headers.iter().map(String::as_str));
    let mut sent = pairs(written.query());
    for text in bodies.flat_map(plain) {
        match Value::parse(&text) {
            Ok(Value::Object(members)) => {
                members.iter().for_each(|(name, value)| listed(name, value, &mut sent))
            }
            _ if text == written.body => sent.extend(pairs(&written.body)),
            _ => {}
        }
    }
    // Kraken Futures takes a form that holds JSON.
    let json = sent.iter().find_map(|(name, text)| Some(text).filter(|_| name == "json"));
    if let Some(Ok(form)) = json.map(|text| Value::parse(text)) {
        listed("json", &form, &mut sent);
    }
    sent
}

fn pairs(query: &str) -> Vec<(String, String)> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

/// Lists the scalars of a value, also inside objects: Crypto.com's parameters are an object in the
/// body.
fn listed(name: &str, value: &Value, into: &mut Vec<(String, String)>) {
    match value {
        Value::Object(members) => {
            members.iter().for_each(|(name, value)| listed(name, value, into))
        }
        value => into.extend(value.scalar().map(|text| (name.to_owned(), text.to_owned()))),
    }
}

/// Says how the named values that a draft sends differ from those of the request and of the agent.
fn sent_otherwise(
    exchange: &dyn Exchange,
    algorithm: Algorithm,
    asked: &Request,
    drafted: Draft,
) -> Option<String> {
    let mut own = asked.clone();
    own.params = Params::empty();
    let own =
        draft(exchange, algorithm, &own).map(|own| sent(&Written::of(own))).unwrap_or_default();
    let sent = sent(&Written::of(drafted));
    // Some clients in Python use this spelling, and some exchanges want it.
    let same = |sent: &str, text: &str| {
        sent == text || matches!((sent, text), ("True", "true") | ("False", "false"))
    };
    let asked = asked.params.members();
    let lost = asked.iter().find(|(name, value)| {
        let text = value.scalar().expect("only scalars are asked for");
        !sent
            .iter()
            .any(|(known, sent)| known == name && (same(sent, text) || *sent == decoded(text)))
    });
    if let Some((name, _)) = lost {
        return Some(format!("{name} is lost or changed"));
    }
    let hash = |name: &str| matches!(name, "query_hash" | "query_hash_alg");
    let is_own = |name: &str| hash(name) || own.iter().any(|(known, _)| known == name);
    let known = |name: &str| is_own(name) || asked.iter().any(|(known, _)| known == name);
    sent.into_iter()
        .find(|(name, _)| !known(name))
        .map(|(name, _)| format!("{name} was not asked for"))
}

fn scalar() -> impl Strategy<Value = Value> {
    const NUMBERS: [&str; 6] = ["0", "7", "-1.50", "219.0", "1e-05", "98765432109876543210"];
    prop_oneof![
        "[A-Za-z0-9]{1,9}".prop_map(Value::String),
        "[ -~]{0,9}".prop_map(Value::String),
        "[é币\u{ff11}&=+,;/ a-c]{0,6}".prop_map(Value::String),
        select(&NUMBERS[..]).prop_map(|text| Value::Number(text.to_owned())),
        any::<bool>().prop_map(Value::Bool),
    ]
}

/// Any value, lists and objects too.
fn value() -> impl Strategy<Value = Value> {
    let members = || vec(("[a-z]{1,5}", scalar()), 0..3);
    prop_oneof![
        4 => scalar(),
        1 => Just(Value::Null),
        1 => vec(scalar(), 0..3).prop_map(Value::Array),
        1 => vec(members().prop_map(object), 0..3).prop_map(Value::Array),
        1 => members().prop_map(object),
    ]
}

fn object(members: Vec<(String, Value)>) -> Value {
    Value::Object(members)
}

/// A row of an exchange, a kind of key, and parameters. The names of the parameters are from this
/// row, from another row, or unknown.
fn asked(
    value: impl Strategy<Value = Value>,
) -> impl Strategy<Value = (usize, Algorithm, Request)> {
    let names = vec((any::<Index>(), any::<Index>(), any::<bool>(), value), 0..5);
    (0..ALL.len(), any::<[Index; 2]>(), names, select(places()), any::<bool>()).prop_filter_map(
        "a name stands twice",
        |(of, [row, algorithm], chosen, params_in, in_list)| {
            let (exchange, table) = (ALL[of], ALL[of].table());
            let index = row.index(table.endpoints().len());
            let own: Vec<_> = table.openings_of(index).flat_map(names_of).collect();
            let all: Vec<_> = table.openings().iter().flat_map(names_of).collect();
            let members = chosen.into_iter().map(|(name, at, is_own, value)| {
                let names = if is_own && !own.is_empty() { &own } else { &all };
                let unknown = at.index(8) == 0;
                (if unknown { "unknown".to_owned() } else { name.get(names).clone() }, value)
            });
            let members: Vec<_> = members.collect();
            let row = &table.endpoints()[index];
            let params = if in_list && row.path.contains("rder") {
                Value::Array(vec![Value::Object(members)])
            } else {
                Value::Object(members)
            };
            let mut request = request(row.method, &filled(row.path), params)?;
            request.params_in = params_in;
            Some((of, *algorithm.get(exchange.facts().algorithms), request))
        },
    )
}

fn names_of(opening: &Opening) -> Vec<String> {
    names(opening).filter(|name| *name != WHOLE_BODY).map(str::to_owned).collect()
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 8192,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_draft_holds_nothing_that_was_not_asked_for((of, algorithm, asked) in asked(value())) {
        if let Ok(drafted) = draft(ALL[of], algorithm, &asked) {
            prop_assert_eq!(foreign(ALL[of], algorithm, &asked, drafted), None);
        }
    }

    #[test]
    fn what_is_sent_is_what_was_asked_for((of, algorithm, asked) in asked(scalar())) {
        let scalars = asked.params.value().members().is_some();
        if let Some(drafted) = draft(ALL[of], algorithm, &asked).ok().filter(|_| scalars) {
            prop_assert_eq!(sent_otherwise(ALL[of], algorithm, &asked, drafted), None);
        }
    }
}
