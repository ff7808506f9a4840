//! The library against an agent that answers well, badly, late and not at all.

mod fake;

use std::io::{Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use countersign::core::scope::{Scope, Scopes};
use countersign::core::wire::SignReply;
use countersign::core::wire::admin::{NewKey, Register};
use countersign::{
    Admin, AgentClient, AnswerFrameError, Connection, Error, MAX_FRAME, SignCall, Sockets,
};
use fake::{Act, FakeAgent};

const SIGNED: &str = r#"{"v":1,"request_id":"0192","scope":"trade","effective_scopes":["trade"],
    "method":"POST",
    "url":"https://api.binance.com/api/v3/order","headers":[["X-MBX-APIKEY","id"]],"body":"a=1",
    "signature":"s",
    "timestamp_ms":1700000000000,"record":{"seq":17,"hash":"ab"},"field_of_tomorrow":1}"#;

fn client(fake: &FakeAgent) -> AgentClient {
    let mut client = AgentClient::open(&Sockets::at(fake.socket())).expect("connects");
    client.connection().set_deadline(Duration::from_millis(400));
    client
}

fn order() -> SignCall {
    SignCall::new("k", "POST", "/api/v3/order")
}

fn answered(act: Act) -> Error {
    let fake = FakeAgent::start(move |_, _| act.clone());
    client(&fake).sign(&order()).expect_err("no good answer")
}

#[test]
fn a_signed_request_comes_back_whole() {
    let fake = FakeAgent::answering(SIGNED);
    let mut call = order();
    call.params_in = Some("form".to_owned());
    let reply = client(&fake).sign(&call).expect("signed");
    assert_eq!((reply.record.seq, reply.body.as_deref()), (17, Some("a=1")));
    let seen = fake.seen();
    assert_eq!((seen[0].socket, seen[0].extension.as_str()), ("agent", "sign@countersign"));
    assert_eq!(
        seen[0].payload,
        r#"{"v":1,"key":"k","method":"POST","path":"/api/v3/order","params_in":"form"}"#
    );
}

#[test]
fn requests_sent_ahead_are_answered_in_order() {
    let fake =
        FakeAgent::start(|_, payload| {
            if payload.contains("/refused") {
                return Act::Json(
                    r#"{"v":1,"error":{"code":"policy.scope","message":"no"}}"#.to_owned(),
                );
            }
            Act::Json(SIGNED.replace(
                "0192",
                payload.split("\"/").nth(1).expect("a path").trim_end_matches("\"}"),
            ))
        });
    let mut calls: Vec<_> =
        (0..200).map(|number| SignCall::new("k", "GET", format!("/{number}"))).collect();
    calls[77].path = "/refused".to_owned();
    calls[78].reason = Some("x".repeat(70_000));
    let answers = client(&fake).sign_all(&calls).expect("the connection lasts");
    assert_eq!(answers.len(), calls.len());
    for (number, answer) in answers.iter().enumerate() {
        match number {
            77 => assert!(
                matches!(answer, Err(Error::Refused(refused)) if refused.code == "policy.scope")
            ),
            78 => assert!(matches!(answer, Err(Error::TooLong { .. }))),
            number => assert_eq!(answer.as_ref().expect("signed").request_id, number.to_string()),
        }
    }
    assert_eq!(fake.seen().len(), 199, "what is too long is not sent");
}

#[test]
fn a_refusal_keeps_its_code_and_the_connection() {
    let fake = FakeAgent::start(|_, payload| {
        let refused =
            r#"{"v":1,"error":{"code":"policy.of_tomorrow","message":"no","request_id":"7"}}"#;
        Act::Json(if payload.contains("POST") { refused } else { SIGNED }.to_owned())
    });
    let mut client = client(&fake);
    let Err(Error::Refused(refused)) = client.sign(&order()) else { panic!("not refused") };
    assert_eq!(
        (refused.code.as_str(), refused.request_id.as_deref()),
        ("policy.of_tomorrow", Some("7"))
    );
    assert!(client.sign(&SignCall::new("k", "GET", "/x")).is_ok());
}

#[test]
fn bad_answers_are_errors_of_their_own() {
    let long = (MAX_FRAME as u32 + 1).to_be_bytes().to_vec();
    assert!(matches!(
        answered(Act::Bytes(long)),
        Error::Frame { source: AnswerFrameError::TooLong(_), .. }
    ));
    let huge = (600u32 << 20).to_be_bytes().to_vec();
    assert!(matches!(
        answered(Act::Bytes(huge)),
        Error::Frame { source: AnswerFrameError::TooLong(_), .. }
    ));
    assert!(matches!(
        answered(Act::Bytes(vec![0; 4])),
        Error::Frame { source: AnswerFrameError::Empty, .. }
    ));
    assert!(matches!(
        answered(Act::Bytes(vec![0, 0, 0, 1, 6])),
        Error::Frame { source: AnswerFrameError::Type(6), .. }
    ));
    assert!(matches!(
        answered(Act::Failure),
        Error::Unsupported { extension: "sign@countersign", .. }
    ));
    let other = fake::answer("keys@countersign", SIGNED.as_bytes());
    assert!(matches!(answered(Act::Bytes(other)), Error::Answer { .. }));
    for json in
        ["", "{", "[]", "{}", r#"{"v":2}"#, r#"{"v":1}"#, r#"{"v":1,"error":{}}"#, "\u{feff}{}"]
    {
        assert!(matches!(answered(Act::Json(json.to_owned())), Error::Answer { .. }), "{json}");
    }
    let not_text = fake::answer("sign@countersign", b"\xff");
    assert!(matches!(answered(Act::Bytes(not_text)), Error::Answer { .. }));
}

#[test]
fn a_largest_frame_is_taken() {
    let padding = MAX_FRAME - 1 - 8 - "sign@countersign".len() - SIGNED.len();
    let json = format!("{SIGNED}{}", " ".repeat(padding));
    let fake = FakeAgent::start(move |_, _| Act::Json(json.clone()));
    let mut client = client(&fake);
    client.connection().set_deadline(Duration::from_secs(10));
    assert!(client.sign(&order()).is_ok());
}

#[test]
fn silence_and_dripping_end_at_the_deadline() {
    let drip =
        Act::Drip(fake::answer("sign@countersign", SIGNED.as_bytes()), Duration::from_millis(20));
    for act in [Act::Silence, drip] {
        let start = Instant::now();
        let error = answered(act.clone());
        let took = start.elapsed();
        assert!(matches!(error, Error::TimedOut { .. }), "{act:?}: {error}");
        assert!(took >= Duration::from_millis(400) && took < Duration::from_secs(3), "{took:?}");
    }
}

#[test]
fn after_a_late_answer_the_connection_is_over() {
    let fake = FakeAgent::start(|_, payload| {
        if payload.contains("POST") { Act::Silence } else { Act::Json(SIGNED.to_owned()) }
    });
    let mut client = client(&fake);
    assert!(matches!(client.sign(&order()), Err(Error::TimedOut { .. })));
    assert!(matches!(client.sign(&SignCall::new("k", "GET", "/x")), Err(Error::Closed { .. })));
}

#[test]
fn a_closed_connection_and_an_absent_agent_differ() {
    assert!(matches!(answered(Act::Close), Error::Closed { .. }));
    let directory = fake::Directory::new();
    let nowhere = directory.path().join("agent.sock");
    assert!(matches!(Connection::open(&nowhere), Err(Error::Absent { .. })));
    drop(std::os::unix::net::UnixListener::bind(&nowhere).expect("binds"));
    assert!(
        matches!(Connection::open(&nowhere), Err(Error::Absent { .. })),
        "left over by a dead agent"
    );
    assert!(matches!(
        Connection::open(&directory.path().join("x".repeat(200))),
        Err(Error::Io { .. })
    ));
}

#[test]
fn a_file_system_that_forbids_is_said() {
    let fake = FakeAgent::answering(SIGNED);
    std::fs::set_permissions(fake.socket(), std::fs::Permissions::from_mode(0o000))
        .expect("changes");
    let opened = Connection::open(&fake.socket());
    // The superuser may connect all the same.
    if rustix::process::geteuid().is_root() {
        assert!(opened.is_ok());
    } else {
        assert!(matches!(opened, Err(Error::Forbidden { .. })));
    }
}

#[test]
fn an_enrolment_carries_a_descriptor_and_no_secret() {
    let fake = FakeAgent::start(|_, _| Act::ReadDescriptor(r#"{"v":1,"done":"added"}"#.to_owned()));
    let mut file = std::fs::File::options()
        .create_new(true)
        .read(true)
        .write(true)
        .open(fake.directory.path().join("document"))
        .expect("a new file");
    file.write_all(b"what only the agent reads").expect("writes");
    file.rewind().expect("seeks");
    let change = Register::Add(NewKey::plain("k", "binance", "hsm", Scopes::only(Scope::Read)));
    let mut admin = Admin::open(&Sockets::at(fake.socket())).expect("connects");
    assert_eq!(admin.add(&change, file.as_fd()).expect("added").done, "added");
    let seen = fake.seen();
    assert_eq!((seen[0].socket, seen[0].extension.as_str()), ("admin", "register@countersign"));
    assert_eq!(seen[0].read.as_deref(), Some("what only the agent reads"));
    assert!(!seen[0].payload.contains("what only"));
}

#[test]
fn long_polling_waits_longer_than_other_calls() {
    let fake = FakeAgent::start(|_, payload| {
        assert_eq!(payload, r#"{"v":1,"after":3,"wait_ms":1500}"#);
        std::thread::sleep(Duration::from_millis(1400));
        Act::Json(r#"{"v":1,"records":[{"seq":4,"n":1.50}],"last":4}"#.to_owned())
    });
    let mut admin = Admin::open(&Sockets::at(fake.socket())).expect("connects");
    admin.connection().set_deadline(Duration::from_millis(100));
    let reply = admin.events(3, Duration::from_millis(1500)).expect("records");
    assert_eq!((reply.last, reply.records[0].to_json().as_str()), (4, r#"{"seq":4,"n":1.50}"#));
}

/// A request that waits until `expires_ms`. Questions for its outcome get `outcomes` in turn.
fn waiting(expires_ms: i64, outcomes: &'static [&'static str]) -> FakeAgent {
    let asked = AtomicUsize::new(0);
    FakeAgent::start(move |extension, _| {
        Act::Json(match extension {
            "sign@countersign" => format!(
                r#"{{"v":1,"progress":"waiting","pending":{{"id":"7","expires_ms":{expires_ms},
                    "approvals_needed":1,"approvals":0}}}}"#
            ),
            _ => outcomes[asked.fetch_add(1, Ordering::Relaxed).min(outcomes.len() - 1)].to_owned(),
        })
    })
}

const TOO_OFTEN: &str =
    r#"{"v":1,"error":{"code":"policy.rate","message":"more than 200 requests in 1000 ms"}}"#;

#[test]
fn a_question_that_came_too_often_ends_no_wait() {
    const OWN_END: &str =
        r#"{"v":1,"error":{"code":"policy.rate","message":"no","request_id":"7"}}"#;
    type Case = (&'static str, i64, &'static [&'static str], Option<&'static str>, usize, Duration);
    let cases: [Case; 4] = [
        ("the question", 60_000, &[TOO_OFTEN, TOO_OFTEN, SIGNED], None, 3, Duration::from_secs(3)),
        ("the request", 60_000, &[OWN_END], Some("policy.rate"), 1, Duration::ZERO),
        ("long expired", -60_000, &[TOO_OFTEN], Some("policy.rate"), 1, Duration::ZERO),
        ("soon expired", -29_500, &[TOO_OFTEN], Some("policy.rate"), 2, Duration::ZERO),
    ];
    for (name, expires_in_ms, outcomes, refused, asked, least) in cases {
        let now =
            SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as i64;
        let fake = waiting(now + expires_in_ms, outcomes);
        let mut client = client(&fake);
        let Err(Error::Waits(waits)) = client.sign(&order()) else { panic!("{name}: it waits") };
        let (began, mut shown) = (Instant::now(), 0);
        let outcome = client.outcome::<SignReply>(*waits, Duration::from_secs(1), |_| shown += 1);
        let took = began.elapsed();
        let code = outcome.err().map(|error| match error {
            Error::Refused(refused) => refused.code,
            error => error.to_string(),
        });
        assert_eq!(
            (code.as_deref(), fake.seen().len() - 1, shown),
            (refused, asked, asked),
            "{name}"
        );
        assert!(took >= least && took < least + Duration::from_secs(2), "{name}: {took:?}");
    }
}
