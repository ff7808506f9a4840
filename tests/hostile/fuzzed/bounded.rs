//! Runs the checks for a few seconds in every test run, on good inputs and on spoilt ones.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use proptest::test_runner::TestRunner;

use super::{config_text, files, frames, host_frames, journal, json, params, paths, payloads};
use crate::harness::machine;

#[derive(Clone, Debug)]
enum Change {
    Cut(Index, usize),
    Flip(Index, u8),
    Insert(Index, Vec<u8>),
    /// Bytes of another seed: its index, the place in it, the place in this input, and the number.
    Splice(Index, Index, Index, usize),
}

/// Pieces that break parsers: delimiters, other spellings of names and numbers, lengths, bytes that
/// are no text.
const PIECES: &[&[u8]] = &[
    b"\"",
    b"\\",
    b"\\u0061",
    b"\\ud800",
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b"\n",
    b"\r\n",
    b"\0",
    b" ",
    b"&",
    b"=",
    b"%",
    b"%26",
    b"+",
    b";",
    b"#",
    b"?",
    b"/",
    b"//",
    b"/../",
    b"/.",
    b"%2e",
    b"=1&amount=9",
    b"1e3",
    b"-0",
    b"1E400",
    b"null",
    b"true",
    b"[[[[[[[[[[[[[[[[[[",
    b"18446744073709551615",
    b"\xff",
    b"\xc3",
    b"\xef\xbb\xbf",
    "é".as_bytes(),
    "\u{ff11}".as_bytes(),
    "\u{202e}".as_bytes(),
    b"\0\0\0\0",
    b"\xff\xff\xff\xff",
    b"\0\x04\0\0",
    b"\0\0\0\x01",
    b"\"timestamp\":1,",
    b"\"signature\":\"0\",",
    b"\"recvWindow\":9,",
    b"\"amount\":\"9\",\"address\":\"T\",\"coin\":\"BTC\",",
    b"\"batchOrders\":[{\"symbol\":\"X\",\"quantity\":\"1\"}],",
    b"\"orderIdList\":[1,\"2\"],",
    b"\"Symbol\":1,",
];

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        (any::<Index>(), 1..30_usize).prop_map(|(at, length)| Change::Cut(at, length)),
        (any::<Index>(), 0..8_u8).prop_map(|(at, bit)| Change::Flip(at, bit)),
        (any::<Index>(), select(PIECES)).prop_map(|(at, piece)| Change::Insert(at, piece.to_vec())),
        (any::<Index>(), vec(any::<u8>(), 1..6)).prop_map(|(at, piece)| Change::Insert(at, piece)),
        (any::<Index>(), any::<Index>(), any::<Index>(), 1..60_usize)
            .prop_map(|(seed, from, to, length)| Change::Splice(seed, from, to, length)),
    ]
}

fn apply(mut bytes: Vec<u8>, change: &Change, seeds: &[Vec<u8>]) -> Vec<u8> {
    let place = |index: &Index, length: usize| index.index(length + 1);
    let length = bytes.len();
    match change {
        Change::Cut(at, count) => {
            drop(bytes.drain(place(at, length)..(place(at, length) + count).min(length)))
        }
        Change::Flip(at, bit) if length > 0 => bytes[at.index(length)] ^= 1 << bit,
        Change::Flip(..) => {}
        Change::Insert(at, piece) => {
            drop(bytes.splice(place(at, length)..place(at, length), piece.iter().copied()))
        }
        Change::Splice(seed, from, to, count) => {
            let seed = &seeds[seed.index(seeds.len())];
            let from = place(from, seed.len());
            let piece = &seed[from..(from + count).min(seed.len())];
            drop(bytes.splice(place(to, length)..place(to, length), piece.iter().copied()));
        }
    }
    bytes
}

/// Checks the seeds and old cases as they are, then this number of spoilt ones.
fn run(name: &str, cases: u32, seeds: &[Vec<u8>], check: fn(&[u8])) {
    machine::share();
    seeds
        .iter()
        .chain(&files(&format!("hostile/fuzzed/cases/{name}"), |_| true))
        .for_each(|seed| check(seed));
    let spoilt = (any::<Index>(), vec(change(), 1..5)).prop_map(|(seed, changes)| {
        let seed = seeds[seed.index(seeds.len())].clone();
        Spoilt(changes.iter().fold(seed, |bytes, change| apply(bytes, change, seeds)))
    });
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let outcome = TestRunner::new(config).run(&spoilt, |Spoilt(bytes)| {
        check(&bytes);
        Ok(())
    });
    outcome.unwrap_or_else(|error| panic!("{error}"));
}

/// A spoilt input, shown as a byte string so that it can become a case.
struct Spoilt(Vec<u8>);

impl std::fmt::Debug for Spoilt {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "b\"{}\"", self.0.escape_ascii())
    }
}

#[test]
fn configurations() {
    run("config_text", 1000, &config_text::seeds(), config_text::check);
}

#[test]
fn frames_of_the_agent_protocol() {
    run("frames", 20000, &frames::seeds(), frames::check);
}

#[test]
fn frames_of_a_token_host() {
    run("host_frames", 20000, &host_frames::seeds(), host_frames::check);
}

#[test]
fn journals() {
    run("journal", 6000, &journal::seeds(), journal::check);
}

#[test]
fn json_documents() {
    run("json", 20000, &json::seeds(), json::check);
}

#[test]
fn parameters() {
    let seeds = params::seeds();
    assert!(
        seeds.iter().map(|seed| params::drafts(seed)).sum::<usize>() > 100,
        "the seeds reach the recipes"
    );
    run("params", 20000, &seeds, params::check);
}

#[test]
fn paths_in_every_table() {
    run("paths", 20000, &paths::seeds(), paths::check);
}

#[test]
fn payloads_of_extensions() {
    run("payloads", 20000, &payloads::seeds(), payloads::check);
}
