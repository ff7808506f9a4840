//! Tests that the largest hostile payloads cost little time, so that none keeps the front's thread
//! busy for long.
//!
//! It measures the CPU time of this thread, to which a busy machine adds little.
#![allow(clippy::disallowed_methods)] // a test reads the tables

mod asked;

use std::collections::BTreeMap;
use std::time::Duration;

use asked::{algorithms, filled};
use countersign_core::exchange::classify::{check_managed, classify};
use countersign_core::exchange::{ALL, Exchange};
use countersign_core::json::MAX_VALUES;
use countersign_core::policy::RECEIVE_WINDOW_CAP_MS;
use countersign_core::refusal::Refusal;
use countersign_core::wire::SignRequest;
use rustix::time::{ClockId, clock_gettime};

/// The limit for a release build. A test build has less optimisation and may take longer.
const MOST: Duration =
    if cfg!(debug_assertions) { Duration::from_millis(4) } else { Duration::from_millis(1) };
const SIZE: usize = 51_000;

fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.cast_unsigned(), time.tv_nsec.try_into().expect("below a second"))
}

/// The shortest of five runs, because other work of the machine only adds time.
fn cost<T>(act: impl Fn() -> T) -> Duration {
    let times = (0..5).map(|_| {
        let start = cpu_time();
        let result = act();
        let passed = cpu_time() - start;
        drop(result);
        passed
    });
    times.min().expect("five")
}

/// The names that make the agent look at rows, each once.
fn known_names(exchange: &dyn Exchange) -> Vec<String> {
    let file =
        format!("{}/src/exchange/{}.params", env!("CARGO_MANIFEST_DIR"), exchange.facts().name);
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let words =
        text.split(|letter: char| !letter.is_ascii_alphanumeric() && !"_-.".contains(letter));
    let known =
        words.filter(|word| !word.is_empty() && word.len() <= 64 && exchange.table().tells(word));
    known
        .map(|word| (word.to_ascii_lowercase(), word.to_owned()))
        .collect::<BTreeMap<_, _>>()
        .into_values()
        .collect()
}

/// Parameters of nearly the longest payload, each with the name of the thing that it holds many of.
fn bodies(exchange: &dyn Exchange) -> Vec<(&'static str, String)> {
    let names = |count: usize, value: &str| {
        let members: Vec<_> = (0..count).map(|number| format!("\"n{number}\":{value}")).collect();
        format!("{{{}}}", members.join(","))
    };
    let nested = |depth: usize, inside: &str| {
        format!("{{\"a\":{}{inside}{}}}", "[".repeat(depth), "]".repeat(depth))
    };
    let text = |length: usize| format!("\"{}\"", "x".repeat(length));
    let known: Vec<_> =
        known_names(exchange).iter().map(|name| format!("\"{name}\":{}", text(8))).collect();
    let order = "{\"a\":1,\"b\":\"2\",\"c\":{\"d\":\"x\"}}";
    vec![
        ("one text", format!("{{\"a\":{}}}", text(SIZE))),
        ("names", names(MAX_VALUES, &text(SIZE / MAX_VALUES - 12))),
        ("too many names", names(SIZE / 10, "1")),
        ("known names", format!("{{{}}}", known[..known.len().min(MAX_VALUES)].join(","))),
        ("values", format!("{{\"a\":[{}]}}", vec!["\"x\""; MAX_VALUES - 1].join(","))),
        ("too many values", format!("{{\"a\":[{}]}}", vec!["1"; SIZE / 2].join(","))),
        ("objects", format!("{{\"a\":[{}]}}", vec![order; (MAX_VALUES - 1) / 5].join(","))),
        ("depth", nested(7, &text(SIZE))),
        ("too deep", nested(SIZE / 2, "")),
        ("escapes", format!("{{\"a\":\"{}\"}}", "\\n".repeat(SIZE / 2))),
        ("a name twice", format!("{{{},\"n0\":1}}", &names(SIZE / 12, "1")[1..SIZE / 2])),
    ]
}

fn judged(exchange: &dyn Exchange, payload: &[u8]) -> Result<(), Refusal> {
    let asked = SignRequest::parse(payload)?;
    check_managed(exchange, &asked.request.params, RECEIVE_WINDOW_CAP_MS)?;
    algorithms(exchange)
        .take(1)
        .try_for_each(|algorithm| classify(exchange, algorithm, &asked.request).map(drop))
}

#[test]
fn the_largest_payload_is_judged_within_a_millisecond() {
    let (mut longest, mut missed) = ((Duration::ZERO, String::new()), Vec::new());
    for exchange in ALL {
        // A few rows, and a path that is no endpoint.
        let mut rows: Vec<_> = exchange.table().endpoints().iter().collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row.path.len()));
        let rows = rows.into_iter().step_by(97).map(|row| (row.method.name(), filled(row.path)));
        let bodies = bodies(*exchange);
        for (method, path) in rows.chain([("POST", "/no/endpoint".to_owned())]) {
            for (what, params) in &bodies {
                let payload = format!(
                    r#"{{"v":1,"key":"k","method":"{method}","path":"{path}","params":{params}}}"#
                );
                let cost = cost(|| judged(*exchange, payload.as_bytes()));
                let said = format!("{}: {what} to {method} {path}", exchange.facts().name);
                if cost > MOST {
                    missed.push(format!("{said}: {cost:?}"));
                }
                longest = longest.max((cost, said));
            }
        }
    }
    eprintln!("the longest took {:?}: {}", longest.0, longest.1);
    assert!(missed.is_empty(), "{missed:#?}");
}
