//! `audit`: verification from the files, records from the agent and from the files.

mod fake;

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use countersign::core::chain::{Chain, Hash};
use countersign::core::json::Value;
use countersign::core::record::{Carried, Locking, Record, SegmentHeader};
use fake::program::Program;
use fake::{Act, FakeAgent};

/// Writes a journal of two segments with five records each. Returns the state directory.
fn journal(program: &Program) -> PathBuf {
    let state = program.home().join("state");
    fs::create_dir_all(state.join("journal")).expect("makes");
    let mut chain = Chain::GENESIS;
    for segment in ["000001.jsonl", "000002.jsonl"] {
        let header = SegmentHeader {
            segment: Cow::Borrowed(segment),
            previous: None,
            carried: Carried::default(),
        };
        let mut bytes = Vec::new();
        chain
            .write(&mut bytes, 1_700_000_000_000, &Record::Segment(Box::new(header)))
            .expect("serialises");
        for uid in 1..5 {
            chain
                .write(&mut bytes, 1_700_000_000_000, &Record::Locked(Locking { uid }))
                .expect("serialises");
        }
        fs::write(state.join("journal").join(segment), bytes).expect("writes");
    }
    state
}

fn change(path: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(path).expect("there");
    assert!(text.contains(from));
    fs::write(path, text.replacen(from, to, 1)).expect("writes");
}

#[test]
fn a_sound_journal_verifies() {
    let program = Program::new(None);
    let state = journal(&program);
    for directory in [state.clone(), state.join("journal")] {
        let ran =
            program.run(&["audit", "verify", "--state-dir", directory.to_str().expect("UTF-8")]);
        assert_eq!((ran.exit, ran.err.as_str()), (0, ""), "{ran:?}");
        assert!(ran.out.starts_with("sound: 10 records, 1 to 10 in 2 segments"), "{ran:?}");
    }
    let json = program
        .run(&["audit", "verify", "--state-dir", state.to_str().expect("UTF-8"), "--json"])
        .json();
    assert_eq!(json.member("sound"), Some(&Value::Bool(true)));
    assert_eq!(json.member("last_seq").and_then(Value::scalar), Some("10"));
}

#[test]
fn a_changed_journal_does_not() {
    let program = Program::new(None);
    let state = journal(&program);
    let name = state.to_str().expect("UTF-8");
    change(&state.join("journal/000001.jsonl"), "\"uid\":2", "\"uid\":7");
    let ran = program.run(&["audit", "verify", "--state-dir", name]);
    assert_eq!(ran.exit, 5, "{ran:?}");
    assert!(ran.out.contains("NOT SOUND") && ran.out.contains("000001.jsonl line 4"), "{ran:?}");
    let json = program.run(&["audit", "verify", "--state-dir", name, "--json"]);
    assert_eq!((json.exit, json.error_code().as_str()), (5, "ledger.unavailable"));
    fs::remove_file(state.join("journal/000001.jsonl")).expect("removes");
    let rest = program.run(&["audit", "verify", "--state-dir", name]);
    assert!(rest.exit == 0 && rest.out.contains("older segments are gone"), "{rest:?}");
}

#[test]
fn a_journal_cut_off_at_its_end_does_not_hold_what_was_recorded() {
    let program = Program::new(None);
    let state = journal(&program);
    let name = state.to_str().expect("UTF-8");
    let segment = state.join("journal/000002.jsonl");
    let whole = fs::read_to_string(&segment).expect("there");
    let last = whole.lines().last().expect("a record");
    let named = format!("10:{}", Hash::of(last.as_bytes()));
    let verify =
        |record: &str| program.run(&["audit", "verify", "--state-dir", name, "--record", record]);
    assert_eq!(verify(&named).exit, 0);
    let other = verify(&format!("10:{}", Hash::of(b"")));
    assert!(other.exit == 5 && other.out.contains("record 10 has the hash"), "{other:?}");
    fs::write(&segment, whole.strip_suffix(&format!("{last}\n")).expect("the last line"))
        .expect("writes");
    assert_eq!(
        program.run(&["audit", "verify", "--state-dir", name]).exit,
        0,
        "the rest is a whole journal"
    );
    let cut = verify(&named);
    assert!(cut.exit == 5 && cut.out.contains("record 10 is missing"), "{cut:?}");
    for wrong in ["10", "x:00", "10:AB"] {
        assert_eq!(verify(wrong).exit, 2, "{wrong}");
    }
}

#[test]
fn a_running_agent_says_where_its_journal_is_and_where_it_ends() {
    let program = Program::new(None);
    let directory = journal(&program).join("journal");
    let text = fs::read_to_string(directory.join("000002.jsonl")).expect("there");
    let hash = Hash::of(text.lines().last().expect("a record").as_bytes());
    for (seq, exit) in [(10, 0), (11, 5)] {
        let status = format!(
            r#"{{"v":1,"version":"0","locked":false,"started_ms":1,"tokens":[],
                "ledger":{{"state":"healthy","directory":{:?},"last":{{"seq":{seq},
                "hash":"{hash}"}},"free_bytes":null}},"warnings":[]}}"#,
            directory
        );
        let fake = FakeAgent::start(move |_, _| Act::Json(status.clone()));
        let ran = Program::new(Some(fake.socket())).run(&["audit", "verify"]);
        assert_eq!(ran.exit, exit, "{ran:?}");
    }
}

#[test]
fn no_journal_is_not_a_sound_one() {
    let program = Program::new(None);
    for directory in [program.home(), Path::new("/nowhere/at/all")] {
        let ran =
            program.run(&["audit", "verify", "--state-dir", directory.to_str().expect("UTF-8")]);
        assert_eq!(ran.exit, 5, "{ran:?}");
    }
    let unnamed = program.run(&["audit", "verify"]);
    assert!(unnamed.exit == 2 && unnamed.err.contains("--state-dir"), "{unnamed:?}");
}

#[test]
fn a_record_is_shown_from_the_files() {
    let program = Program::new(None);
    let state = journal(&program);
    let name = state.to_str().expect("UTF-8");
    let ran = program.run(&["audit", "show", "7", "--state-dir", name]);
    assert!(ran.exit == 0 && ran.out.contains("time  2023-11-14T22:13:20.000Z\n"), "{ran:?}");
    let json = program.run(&["audit", "show", "7", "--state-dir", name, "--json"]).json();
    let seq = json.member("record").and_then(|record| record.member("seq")).and_then(Value::scalar);
    assert_eq!(seq, Some("7"));
    for absent in ["0", "11"] {
        let ran = program.run(&["audit", "show", absent, "--state-dir", name, "--json"]);
        assert_eq!((ran.exit, ran.error_code().as_str()), (2, "record.unknown"));
    }
}

/// An agent whose journal has `newest` records. It returns two at a time.
fn agent_with_records(newest: u64) -> FakeAgent {
    FakeAgent::start(move |extension, payload| {
        if extension == "status@countersign" {
            return Act::Json(format!(
                r#"{{"v":1,"version":"0","locked":false,"started_ms":1,"tokens":[],
                    "ledger":{{"state":"healthy","directory":"/nowhere","last":{{"seq":{newest},
                    "hash":"ab"}},"free_bytes":null}},"warnings":[]}}"#
            ));
        }
        let asked = Value::parse(payload).expect("JSON");
        let after: u64 = asked
            .member("after")
            .and_then(Value::scalar)
            .expect("a number")
            .parse()
            .expect("a number");
        if after >= newest {
            return Act::Silence;
        }
        let last = newest.min(after + 2);
        let records: Vec<_> = (after + 1..=last)
            .map(|seq| format!(r#"{{"seq":{seq},"time_ms":1,"kind":"closed","prev":"00"}}"#))
            .collect();
        Act::Json(format!(r#"{{"v":1,"records":[{}],"last":{last}}}"#, records.join(",")))
    })
}

#[test]
fn the_tail_is_the_newest_records_however_many_come_at_once() {
    let fake = agent_with_records(9);
    let program = Program::new(Some(fake.socket()));
    let ran = program.run(&["audit", "tail", "-n", "5"]);
    let seqs: Vec<_> =
        ran.out.lines().map(|line| line.split_whitespace().next().expect("a number")).collect();
    assert_eq!(seqs, ["5", "6", "7", "8", "9"], "{ran:?}");
    let json = program.run(&["audit", "tail", "--json"]).json();
    assert_eq!(json.member("last").and_then(Value::scalar), Some("9"));
}

#[test]
fn following_ends_with_its_reader_also_where_nothing_new_comes() {
    let nothing_new = |extension: &str, _: &str| {
        std::thread::sleep(Duration::from_millis(if extension == "events@countersign" {
            200
        } else {
            0
        }));
        Act::Json(
            match extension {
                "status@countersign" => {
                    r#"{"v":1,"version":"0","locked":false,"started_ms":1,"tokens":[],
                        "warnings":[]}"#
                }
                _ => r#"{"v":1,"records":[],"last":0}"#,
            }
            .to_owned(),
        )
    };
    for json in [&[][..], &["--json"]] {
        let fake = FakeAgent::start(nothing_new);
        let program = Program::new(Some(fake.socket()));
        let (reader, writer) = std::io::pipe().expect("a pipe");
        let mut command = program.command(&[&["audit", "tail", "--follow"], json].concat());
        let mut child = command.stdout(writer).spawn().expect("starts");
        drop(command);
        std::thread::sleep(Duration::from_millis(500));
        assert!(child.try_wait().expect("a child").is_none(), "it goes on");
        drop(reader);
        let left = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("a child") {
                break status;
            }
            assert!(left.elapsed() < Duration::from_secs(3), "it follows for nobody");
            std::thread::sleep(Duration::from_millis(20));
        };
        assert_eq!(status.code(), Some(0));
    }
}

#[test]
fn following_waits_for_more() {
    let fake = agent_with_records(3);
    let program = Program::new(Some(fake.socket()));
    let mut child = program.command(&["audit", "tail", "--follow"]).spawn().expect("starts");
    let asked = |fake: &FakeAgent| {
        fake.seen().iter().any(|seen| seen.payload == r#"{"v":1,"after":3,"wait_ms":5000}"#)
    };
    for _ in 0..500 {
        if asked(&fake) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert!(asked(&fake), "{:?}", fake.seen());
    assert!(child.try_wait().expect("a child").is_none(), "it goes on");
    child.kill().expect("ends");
    let ran = child.wait_with_output().expect("ended");
    assert_eq!(String::from_utf8_lossy(&ran.stdout).lines().count(), 3);
}
