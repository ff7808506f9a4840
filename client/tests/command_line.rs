//! The command line against an agent that answers as it is told: payloads, replies, errors, exit
//! codes.

mod fake;

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};

use countersign::core::json::Value;
use fake::program::Program;
use fake::{Act, FakeAgent};

const SIGNED: &str = r#"{"v":1,"request_id":"0192","scope":"trade","effective_scopes":["trade"],
    "method":"POST","url":"https://api.binance.com/api/v3/order","headers":[["X-MBX-APIKEY","id"]],
    "body":"a=\"1\"\n","signature":"s","timestamp_ms":1700000000000,"record":{"seq":17,
    "hash":"ab"}}"#;
const KEY: &str = r#"{"name":"mm","exchange":"binance","environment":"production",
    "algorithm":"hmac-sha256","api_key":"id","scopes":["read","trade"],"tier":"software","rung":3,
    "token":"hsm","state":"active","created_ms":1700000000000,"expires_ms":null,"last_used_ms":null,
    "public_key":null}"#;

/// A good answer to every extension.
fn good(extension: &str) -> String {
    match extension {
        "sign@countersign" => SIGNED.to_owned(),
        "session@countersign" => SIGNED
            .replace("\"method\":\"POST\",", "\"grants\":[\"read\"],")
            .replace("\"body\":\"a=\\\"1\\\"\\n\"", "\"frame\":\"{}\""),
        "keys@countersign" => format!(r#"{{"v":1,"keys":[{KEY}]}}"#),
        "status@countersign" => r#"{"v":1,"version":"0.1.0","locked":false,"started_ms":1,
            "tokens":[{"name":"hsm","profile":"softhsm","state":"healthy","since_ms":1,
            "last_error":null,"next_try_ms":null,"keys":["mm"],"tier":"software"}],
            "ledger":{"state":"healthy","directory":"/nowhere","last":{"seq":3,"hash":"ab"},
            "free_bytes":1048576},"warnings":["no isolation"]}"#
            .to_owned(),
        "pending@countersign" => r#"{"v":1,"pending":[],"approvers":[]}"#.to_owned(),
        "events@countersign" => r#"{"v":1,"records":[{"seq":3,"time_ms":1,"kind":"closed",
            "prev":"00"}],"last":3}"#
            .to_owned(),
        "explain@countersign" => r#"{"v":1,"decision":"allow","rule":"[client.a] scopes",
            "scope":"read","effective_scopes":["read"],"neighbours":[],"transfers":[],"residual":[],
            "spends":[]}"#
            .to_owned(),
        _ => format!(r#"{{"v":1,"done":"done","key":{KEY}}}"#),
    }
}

fn good_agent() -> (FakeAgent, Program) {
    let fake = FakeAgent::start(|extension, _| Act::Json(good(extension)));
    let program = Program::new(Some(fake.socket()));
    (fake, program)
}

fn agent_answering(act: Act) -> (FakeAgent, Program) {
    let fake = FakeAgent::start(move |_, _| act.clone());
    let program = Program::new(Some(fake.socket()));
    (fake, program)
}

#[test]
fn every_command_writes_one_versioned_object() {
    let (fake, program) = good_agent();
    let sound = program.home().join("agent.toml");
    fs::write(&sound, "").expect("writes");
    let sound = sound.to_str().expect("UTF-8");
    let man = program.home().join("man");
    let commands: &[(&[&str], &str, &str)] = &[
        (&["sign", "--key", "mm", "POST", "/api/v3/order"], "agent", "sign@countersign"),
        (&["session", "--key", "mm"], "agent", "session@countersign"),
        (&["key", "list"], "admin", "keys@countersign"),
        (&["key", "show", "mm"], "admin", "keys@countersign"),
        (
            &[
                "key",
                "add",
                "mm",
                "--exchange",
                "binance",
                "--token",
                "hsm",
                "--scope",
                "read",
                "--stdin",
            ],
            "admin",
            "register@countersign",
        ),
        (
            &[
                "key",
                "generate",
                "mm",
                "--exchange",
                "binance",
                "--token",
                "hsm",
                "--scope",
                "read",
                "--algorithm",
                "ed25519",
            ],
            "admin",
            "register@countersign",
        ),
        (&["key", "activate", "mm", "--api-key", "id"], "admin", "register@countersign"),
        (&["key", "remove", "mm", "--yes"], "admin", "register@countersign"),
        (&["pending"], "admin", "pending@countersign"),
        (&["deny", "7"], "admin", "deny@countersign"),
        (&["audit", "tail"], "admin", "events@countersign"),
        (&["audit", "show", "3"], "admin", "events@countersign"),
        (
            &["policy", "explain", "--client", "a", "--key", "mm", "GET", "/x"],
            "admin",
            "explain@countersign",
        ),
        (&["policy", "check", sound], "", ""),
        (&["status"], "admin", "status@countersign"),
        (&["lock"], "admin", "lock@countersign"),
        (&["unlock"], "admin", "unlock@countersign"),
        (&["completions", "bash"], "", ""),
        (&["man"], "", ""),
        (&["man", man.to_str().expect("UTF-8")], "", ""),
    ];
    for (words, socket, extension) in commands {
        let asked_before = fake.seen().len();
        let ran = program.run(&[*words, &["--json"]].concat());
        assert_eq!(ran.exit, 0, "{words:?}: {ran:?}");
        assert_eq!((ran.err.as_str(), ran.out.lines().count()), ("", 1), "{words:?}: {ran:?}");
        ran.json();
        let plain = program.run(words);
        assert_eq!((plain.exit, plain.err.as_str()), (0, ""), "{words:?}: {plain:?}");
        assert!(
            !plain.out.is_empty() && Value::parse(&plain.out).is_err(),
            "for people: {plain:?}"
        );
        let seen = fake.seen();
        let last = seen[asked_before..].last().map(|seen| (seen.socket, seen.extension.as_str()));
        assert_eq!(last, (!socket.is_empty()).then_some((*socket, *extension)), "{words:?}");
    }
}

#[test]
fn arguments_become_the_documented_payload() {
    let (fake, program) = good_agent();
    let sent = |words: &[&str], input: &str| {
        let ran = program.run_with(&[&["sign", "--key", "mm"], words].concat(), input);
        assert_eq!(ran.exit, 0, "{ran:?}");
        fake.seen().pop().expect("one was sent").payload
    };
    assert_eq!(
        sent(
            &[
                "POST", "/o", "-p", "b=1.0", "-p", "a:=1.10", "--in", "form", "--host", "h",
                "--reason", "r 1"
            ],
            ""
        ),
        concat!(
            r#"{"v":1,"key":"mm","method":"POST","path":"/o","params":{"b":"1.0","a":1.10},"#,
            r#""params_in":"form","host":"h","reason":"r 1"}"#,
        )
    );
    assert_eq!(
        sent(&["POST", "/o", "--params", "-", "-p", "c="], r#"{"z":1e-7,"a":[{"y":null}]}"#),
        concat!(
            r#"{"v":1,"key":"mm","method":"POST","path":"/o","params":{"z":1e-7,"a":[{"y":null}],"#,
            r#""c":""}}"#,
        )
    );
    assert_eq!(
        sent(&["POST", "/o", "--params", "-"], r#"[{"b":1},{"b":2}]"#),
        r#"{"v":1,"key":"mm","method":"POST","path":"/o","params":[{"b":1},{"b":2}]}"#
    );
    // The command line passes everything on: the agent judges and records it.
    assert_eq!(sent(&["get", "/../x"], ""), r#"{"v":1,"key":"mm","method":"get","path":"/../x"}"#);
}

#[test]
fn what_cannot_be_a_request_is_a_usage_error_and_nothing_is_sent() {
    let (fake, program) = good_agent();
    let long = format!("a={}", "x".repeat(70_000));
    let sign = ["sign", "--key", "mm", "POST", "/o"];
    let cases: &[(&[&str], &str)] = &[
        (&["-p", "a=1", "-p", "a=2"], ""),
        (&["-p", "a=1", "--params", "-"], r#"{"a":1}"#),
        (&["-p", "a=1", "--params", "-"], "[]"),
        (&["--params", "-"], r#"{"a":1,"a":2}"#),
        (&["--params", "-"], r#"{"a":1} {"#),
        (&["--params", "-"], "1"),
        (&["--params", "/nowhere/at/all"], ""),
        (&["-p", "a"], ""),
        (&["-p", "a:={"], ""),
        (&["-p", &long], ""),
        (&["--in", "header"], ""),
        (&["--secret", "x"], ""),
    ];
    for (words, input) in cases {
        let words = [&sign, *words].concat();
        let ran = program.run_with(&words, input);
        assert_eq!((ran.exit, ran.out.as_str()), (2, ""), "{ran:?}");
        assert!(!ran.err.is_empty());
        let json = program.run_with(&[&words[..], &["--json"]].concat(), input);
        assert_eq!((json.exit, json.error_code().as_str(), json.err.as_str()), (2, "usage", ""));
    }
    for words in
        [&["key", "remove", "mm"][..], &["key", "add", "mm", "--exchange", "e", "--token", "t"]]
    {
        assert_eq!(program.run(words).exit, 2, "{words:?}");
    }
    let no_terminal =
        program.run(&["key", "add", "mm", "--exchange", "e", "--token", "t", "--scope", "read"]);
    assert!(no_terminal.exit == 2 && no_terminal.err.contains("--stdin"), "{no_terminal:?}");
    assert_eq!(fake.seen(), []);
}

#[test]
fn each_code_has_its_exit() {
    for (code, exit) in [
        ("request.malformed", 3),
        ("request.unknown_endpoint", 3),
        ("request.forbidden_parameter", 3),
        ("request.ambiguous", 3),
        ("client.unknown", 3),
        ("key.unknown", 3),
        ("policy.scope", 3),
        ("policy.effective_scope", 3),
        ("policy.limit", 3),
        ("policy.destination", 3),
        ("policy.rate", 3),
        ("policy.of_tomorrow", 3),
        ("approval.required", 3),
        ("agent.locked", 3),
        ("approval.denied", 4),
        ("approval.expired", 4),
        ("approval.cancelled", 4),
        ("token.too_late", 5),
        ("token.unavailable", 5),
        ("token.timeout", 5),
        ("ledger.unavailable", 5),
        ("clock.untrusted", 5),
        ("internal", 5),
    ] {
        let json = format!(
            r#"{{"v":1,"error":{{"code":"{code}","message":"why \u001b[2J","request_id":"0193"}}}}"#
        );
        let (_fake, program) = agent_answering(Act::Json(json));
        let words = ["sign", "--key", "mm", "POST", "/o"];
        let ran = program.run(&words);
        assert_eq!((ran.exit, ran.out.as_str()), (exit, ""), "{code}");
        assert!(ran.err.contains(&format!("countersign: {code}: why \\u{{1b}}[2J")), "{ran:?}");
        assert!(ran.err.contains("0193"), "{ran:?}");
        assert_eq!(ran.err.contains("next: "), code != "policy.of_tomorrow", "{ran:?}");
        let json = program.run(&[&words[..], &["--json"]].concat());
        assert_eq!((json.exit, json.error_code().as_str()), (exit, code));
    }
}

#[test]
fn a_question_that_came_too_often_ends_no_wait() {
    let waits = r#"{"v":1,"progress":"waiting","pending":{"id":"7","expires_ms":99999999999999,
        "approvals_needed":1,"approvals":0}}"#;
    let too_often =
        r#"{"v":1,"error":{"code":"policy.rate","message":"more than 200 requests in 1000 ms"}}"#;
    let own_end = r#"{"v":1,"error":{"code":"policy.rate","message":"no","request_id":"7"}}"#;
    let signed: &[&str] = &[too_often, waits, too_often, SIGNED];
    let login = good("session@countersign");
    for (words, outcomes, exit) in [
        (&["sign", "--key", "mm", "POST", "/withdraw"][..], signed, 0),
        (&["session", "--key", "mm"], &[too_often, login.as_str()], 0),
        (&["sign", "--key", "mm", "POST", "/withdraw"], &[own_end], 3),
    ] {
        let answers: Vec<String> =
            [waits].iter().chain(outcomes).map(|&answer| answer.to_owned()).collect();
        let next = AtomicUsize::new(0);
        let fake = FakeAgent::start(move |_, _| {
            Act::Json(answers[next.fetch_add(1, Ordering::Relaxed)].clone())
        });
        let ran = Program::new(Some(fake.socket())).run(&[words, &["--json"]].concat());
        assert_eq!(ran.exit, exit, "{words:?}: {ran:?}");
        assert_eq!(fake.seen().len(), 1 + outcomes.len(), "{words:?}: {ran:?}");
    }
}

#[test]
fn an_agent_that_cannot_be_reached_is_said_with_what_to_do() {
    let program = Program::new(Some("/nowhere/agent.sock".into()));
    for words in [
        &["sign", "--key", "mm", "GET", "/x"][..],
        &["key", "list"],
        &["lock"],
        &["pending"],
        &["status"],
    ] {
        let ran = program.run(words);
        assert_eq!(ran.exit, 6, "{ran:?}");
        assert!(
            ran.err.contains("/nowhere/") && ran.err.contains("countersign-agent run"),
            "{ran:?}"
        );
        let json = program.run(&[words, &["--json"]].concat());
        assert_eq!((json.exit, json.error_code().as_str()), (6, "agent.not_reachable"));
    }
    let (fake, _) = good_agent();
    let named = fake.socket();
    let named = named.to_str().expect("UTF-8");
    assert_eq!(program.run(&["status", "--socket", named]).exit, 0);
    let admin = named.replace("agent.sock", "admin.sock");
    assert_eq!(program.run(&["--admin-socket", &admin, "lock"]).exit, 0);
}

#[test]
fn what_does_not_speak_the_protocol_is_not_the_agent() {
    for act in [
        Act::Close,
        Act::Failure,
        Act::Bytes(vec![0xff; 8]),
        Act::Bytes(b"HTTP/1.1 400 Bad Request\r\n".to_vec()),
        Act::Json(r#"{"v":2}"#.to_owned()),
    ] {
        let (_fake, program) = agent_answering(act);
        let ran = program.run(&["sign", "--key", "mm", "GET", "/x"]);
        assert_eq!((ran.exit, ran.out.as_str()), (6, ""), "{ran:?}");
        assert!(ran.err.contains("next: "), "{ran:?}");
    }
}

#[test]
fn an_answer_of_another_protocol_has_a_code_of_its_own() {
    for act in [
        Act::Failure,
        Act::Bytes(vec![0xff; 8]),
        Act::Bytes(b"HTTP/1.1 400 Bad Request\r\n".to_vec()),
        Act::Json(r#"{"v":2}"#.to_owned()),
    ] {
        let (_fake, program) = agent_answering(act.clone());
        let ran = program.run(&["sign", "--key", "mm", "GET", "/x", "--json"]);
        assert_eq!((ran.exit, ran.error_code().as_str()), (6, "agent.protocol"), "{act:?}");
    }
}

#[test]
fn keys_are_listed_by_the_agent_socket_where_the_admin_socket_is_closed_to_the_user() {
    let (fake, program) = good_agent();
    fs::remove_file(fake.socket().with_file_name("admin.sock")).expect("removes");
    let ran = program.run(&["key", "list"]);
    assert_eq!(
        ran.out,
        "NAME\tEXCHANGE\tSCOPES\tCUSTODY\tSTATE\tEXPIRES\tLAST USED\nmm\tbinance production\tread, \
         trade\tsoftware (rung 3)\tactive\tnever\tnever\n"
    );
    assert_eq!(fake.seen()[0].socket, "agent");
    let unknown = program.run(&["key", "show", "no", "--json"]);
    assert_eq!((unknown.exit, unknown.error_code().as_str()), (3, "key.unknown"));
}

#[test]
fn a_secret_goes_to_the_agent_by_descriptor_alone() {
    let fake = FakeAgent::start(|extension, _| Act::ReadDescriptor(good(extension)));
    let program = Program::new(Some(fake.socket()));
    let document = r#"{"api_key":"id","secret":"planted-control"}"#;
    let words = [
        "key",
        "add",
        "mm",
        "--exchange",
        "binance",
        "--token",
        "hsm",
        "--scope",
        "read",
        "--stdin",
    ];
    let ran = program.run_with(&words, document);
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert!(ran.out.contains("software (rung 3: policy, not hardware)"), "{ran:?}");
    let seen = fake.seen();
    assert_eq!(seen[0].read.as_deref(), Some(document), "the descriptor is standard input itself");
    assert!(!format!("{}{}{}", seen[0].payload, ran.out, ran.err).contains("planted-control"));
}

#[test]
fn without_stdin_the_agent_gets_the_terminal() {
    let fake = FakeAgent::start(|extension, _| Act::AskOnDescriptor(good(extension)));
    let program = Program::new(Some(fake.socket()));
    let words = ["key", "add", "mm", "--exchange", "binance", "--token", "hsm", "--scope", "read"];
    let ran = program.run_on_terminal(&words, "typed\n");
    assert_eq!(ran.exit, 0, "{ran:?}");
    assert_eq!(fake.seen()[0].read.as_deref(), Some("typed\n"));
    assert!(
        ran.out.contains("Secret: ") && ran.out.contains("2023-11-14T22:13:20.000Z ("),
        "{ran:?}"
    );
    let echoed = program.run_on_terminal(&[&words[..], &["--stdin"]].concat(), "");
    assert!(echoed.exit == 2 && echoed.out.contains("unseen"), "{echoed:?}");
}

#[test]
fn a_key_is_removed_only_after_its_name_was_typed() {
    let (fake, program) = good_agent();
    for answer in ["yes\n", "\n", "mm2\n", "\u{4}"] {
        let ran = program.run_on_terminal(&["key", "remove", "mm"], answer);
        assert!(ran.exit == 2 && ran.out.contains("nothing was removed"), "{ran:?}");
    }
    assert_eq!(fake.seen(), []);
    assert_eq!(program.run_on_terminal(&["key", "remove", "mm"], "mm\n").exit, 0);
    assert_eq!(fake.seen()[0].payload, r#"{"operation":"remove","v":1,"name":"mm"}"#);
}

#[test]
fn a_signed_request_reads_well_and_can_be_sent_by_curl() {
    let (_fake, program) = good_agent();
    let words = ["sign", "--key", "mm", "POST", "/api/v3/order"];
    let ran = program.run(&words);
    assert!(
        ran.out.starts_with(
            "POST https://api.binance.com/api/v3/order\nX-MBX-APIKEY: id\n\na=\"1\"\\n\n\n"
        ),
        "{ran:?}"
    );
    assert!(
        ran.out.contains("scope    trade\n") && ran.out.contains("record   17 ab\n"),
        "{ran:?}"
    );
    let curl = program.run(&[&words[..], &["--curl"]].concat());
    assert_eq!(
        curl.out,
        "curl --config - <<'COUNTERSIGN'\nrequest = \"POST\"\nurl = \
         \"https://api.binance.com/api/v3/order\"\n\
         header = \"X-MBX-APIKEY: id\"\ndata-raw = \"a=\\\"1\\\"\\n\"\nCOUNTERSIGN\n"
    );
}

const CHANGE: &str = r#"{"id":"0193","statement":{"purpose":"countersign-change/1","agent":"a",
    "request_id":"0193","expires_ms":4700000000000,"policy_sha256":"00",
    "subject":{"kind":"configuration","from_sha256":"00","to_sha256":"11",
    "loosens":["[transfer.BTC] per_day: from 1 to 3",
    "[[destination]] \"c\u202eld\" is new: address \"bc1q ar0s\""],
    "diff":"@@ -1 +1 @@\nCOMMENTS-per_day = \"1\"\n+per_day = \"3\"\u001b[2J\r\n+\u0301\u3164\n"}},
    "approvals_needed":1,"uid":1000}"#;

#[test]
fn a_change_is_shown_whole_and_what_it_loosens_last() {
    let comments = "+# a comment of the operator's\\n".repeat(400);
    let change = CHANGE.replace("COMMENTS", &comments);
    let reply = format!(r#"{{"v":1,"pending":[],"changes":[{change}],"approvers":[]}}"#);
    let (_fake, program) = agent_answering(Act::Json(reply));
    let pending = program.run(&["pending"]).out;
    // The list has no approver, so the change is shown and not signed.
    let approve = program.run(&["approve", "0193", "--agent", "a"]);
    assert_ne!(approve.exit, 0, "{approve:?}");
    for shown in [pending, approve.err] {
        for line in [
            "loosens  [transfer.BTC] per_day: from 1 to 3\n",
            "loosens  [[destination]] \"c\\u{202e}ld\" is new: address \"bc1q ar0s\"\n",
            "loosens  2 sentences in all, each shown above\n",
            "-per_day = \"1\"\n",
            "+per_day = \"3\"\\u{1b}[2J\\r\n",
            "+\\u{301}\\u{3164}\n",
        ] {
            assert!(shown.contains(line.trim_start_matches("loosens ")), "{line}: {shown}");
        }
        assert_eq!(shown.matches("+# a comment of the operator's\n").count(), 400);
        assert!(shown.find("+per_day") < shown.find("[transfer.BTC] per_day: from"), "{shown}");
    }
}

/// A terminal would continue a long line at the beginning of the next, where facts have their
/// names.
#[test]
fn a_long_value_on_a_terminal_begins_no_line() {
    let imitation = format!("{}loosens  0 sentences in all, each shown above", "x".repeat(43));
    let change =
        CHANGE.replace("c\\u202eld", &imitation).replace("COMMENTS", &format!("+# {imitation}\\n"));
    let reply = format!(r#"{{"v":1,"pending":[],"changes":[{change}],"approvers":[]}}"#);
    let (_fake, program) = agent_answering(Act::Json(reply));
    for words in [&["pending"] as &[_], &["approve", "0193", "--agent", "a"]] {
        let shown = program.run_on_terminal(words, "").out;
        let change = shown.split("countersign: ").next().expect("text");
        let lines: Vec<&str> = change.lines().map(|line| line.trim_end_matches('\r')).collect();
        assert!(lines.iter().all(|line| line.chars().count() < 80), "{shown}");
        let named: Vec<_> = lines.iter().filter(|line| line.starts_with("loosens")).collect();
        assert_eq!(named.len(), 3, "two sentences, and how many there are: {shown}");
        let joined = lines.concat().replace(' ', "");
        assert_eq!(
            joined.matches(&imitation.replace(' ', "")).count(),
            2,
            "whole, in the diff and in its sentence: {shown}"
        );
    }
}

#[test]
fn who_approves_is_told_what_will_blink() {
    const ENTRY: &str = r#"{"id":"0194","statement":{"purpose":"countersign-approval/1","agent":"a",
        "request_id":"0194","expires_ms":1700000000000,"policy_sha256":"00",
        "subject":{"kind":"session","client":"bot","key":"k","exchange":"deribit",
        "environment":"production","session":"ws","effective_scopes":["withdraw"]}},
        "approvals_needed":1,"approved_by":[],"caller":{"client":"bot","uid":1000,"pid":7,
        "processes":["bot"]},"token":"yk","tier":"device","rung":RUNG,"destinations":[],
        "limits":[]}"#;
    for (rung, touches) in [
        ("1", "2: of your own security key now, then of yk, where the agent runs"),
        ("2", "2: of your own security key now, then of yk, where the agent runs"),
        ("3", "1, of your own security key"),
    ] {
        let reply =
            format!(r#"{{"v":1,"pending":[{}],"approvers":[]}}"#, ENTRY.replace("RUNG", rung));
        let (_fake, program) = agent_answering(Act::Json(reply));
        let shown = program.run(&["pending"]).out;
        assert!(shown.contains(touches), "{rung}: {shown}");
    }
}

#[test]
fn unlocking_waits_for_its_approver() {
    for (locked, exit) in [(false, 0), (true, 4)] {
        let asked = AtomicUsize::new(0);
        let fake = FakeAgent::start(move |extension, _| {
            Act::Json(match extension {
                "unlock@countersign" => r#"{"v":1,
                    "done":"an approver has to agree: countersign approve 0193",
                    "pending":{"id":"0193","expires_ms":1,"approvals_needed":1,"approvals":0}}"#
                    .to_owned(),
                "pending@countersign" if asked.fetch_add(1, Ordering::Relaxed) == 0 => {
                    format!(r#"{{"v":1,"pending":[],"changes":[{CHANGE}],"approvers":[]}}"#)
                }
                "status@countersign" => {
                    good(extension).replace("\"locked\":false", &format!("\"locked\":{locked}"))
                }
                _ => good(extension),
            })
        });
        let ran = Program::new(Some(fake.socket())).run(&["unlock"]);
        assert_eq!(ran.exit, exit, "{ran:?}");
        assert!(ran.err.contains("countersign approve 0193"), "{ran:?}");
        let asked =
            fake.seen().iter().filter(|seen| seen.extension == "pending@countersign").count();
        assert_eq!(asked, 2, "it waits for as long as the change does");
    }
}

#[test]
fn what_does_not_wait_is_neither_approved_nor_denied() {
    let fake = FakeAgent::start(|extension, _| match extension {
        "deny@countersign" => Act::Json(
            r#"{"v":1,"error":{"code":"request.malformed",
                "message":"no request with that id waits for approval"}}"#
                .into(),
        ),
        extension => Act::Json(good(extension)),
    });
    let program = Program::new(Some(fake.socket()));
    for command in ["approve", "deny"] {
        let ran = program.run(&[command, "8"]);
        assert_eq!(ran.exit, 4, "{ran:?}");
        assert!(ran.err.contains("no request 8 waits for approval"), "{ran:?}");
        assert_eq!(program.run(&[command, "8", "--json"]).error_code(), "approval.unknown");
    }
}

/// The program at the socket shows a withdrawal as something else: under another id, as an
/// unlocking, as moving less.
#[test]
fn what_an_agent_lies_about_is_not_approved() {
    const STATEMENT: &str = r#"{"purpose":"countersign-approval/1","agent":"a","request_id":"0194",
        "expires_ms":4000000000000,"policy_sha256":"00","subject":{"kind":"request","client":"bot",
        "key":"k","exchange":"binance","environment":"production","host":"api.binance.com",
        "method":"POST","path":"/sapi/v1/capital/withdraw/apply",
        "params":"{\"coin\":\"BTC\",\"address\":\"bc1q\",\"amount\":\"2\",\"network\":\"BTC\"}",
        "effective_scopes":["withdraw"],
        "transfers":[{"endpoint":"POST /sapi/v1/capital/withdraw/apply","asset":"BTC","amount":"2",
        "network":"BTC","address":"bc1q"}]}}"#;
    let entry = |id: &str, statement: &str| {
        format!(
            r#"{{"id":"{id}","statement":{statement},"approvals_needed":1,"approved_by":[],
                "caller":{{"client":"bot","uid":1000,"pid":7,"processes":["bot"]}},"token":"yk",
                "tier":"device","rung":1,"destinations":["cold"],"limits":[]}}"#
        )
    };
    let change = |statement: &str| {
        format!(r#"{{"id":"0194","statement":{statement},"approvals_needed":1,"uid":1000}}"#)
    };
    let unlock = STATEMENT.replace("countersign-approval", "countersign-change");
    let honest = (entry("0194", STATEMENT), String::new(), 4, "approval.approver");
    let lies = [
        (entry("0195", STATEMENT), String::new()),
        (String::new(), change(STATEMENT)),
        (String::new(), change(&unlock)),
        (entry("0194", &unlock), String::new()),
        (entry("0194", &STATEMENT.replace(r#""amount":"2""#, r#""amount":"1""#)), String::new()),
        (
            entry(
                "0194",
                &STATEMENT.replace(
                    r#""effective_scopes":["withdraw"]"#,
                    r#""effective_scopes":["read"]"#,
                ),
            ),
            String::new(),
        ),
        (entry("0194", &STATEMENT.replace("api.binance.com", "api.binance.org")), String::new()),
    ];
    let lies = lies.map(|(pending, changes)| (pending, changes, 3, "approval.statement"));
    for (pending, changes, exit, code) in lies.into_iter().chain([honest]) {
        let id = if pending.contains(r#""id":"0195""#) { "0195" } else { "0194" };
        let reply =
            format!(r#"{{"v":1,"pending":[{pending}],"changes":[{changes}],"approvers":[]}}"#);
        let (fake, program) = agent_answering(Act::Json(reply));
        let ran = program.run(&["approve", id, "--json"]);
        assert_eq!(
            (ran.exit, ran.error_code().as_str()),
            (exit, code),
            "{pending}{changes}: {ran:?}"
        );
        assert!(
            fake.seen().iter().all(|seen| seen.extension != "approve@countersign"),
            "nothing is handed in"
        );
        let shown = program.run(&["pending"]).out;
        assert!(!shown.contains("signs again"), "{shown}");
    }
}

#[test]
fn a_change_of_another_agent_than_the_known_one_is_not_approved() {
    const OTHER: &str = r#""agent":"b""#;
    let asked = AtomicUsize::new(0);
    let fake = FakeAgent::start(move |_, _| {
        let known = asked.fetch_add(1, Ordering::Relaxed) == 0;
        let change =
            if known { CHANGE.to_owned() } else { CHANGE.replace(r#""agent":"a""#, OTHER) };
        Act::Json(format!(r#"{{"v":1,"pending":[],"changes":[{change}],"approvers":[]}}"#))
    });
    let program = Program::new(Some(fake.socket()));
    let code = |words: &[&str]| {
        let ran = program.run(&[&["approve", "0193", "--json"], words].concat());
        (ran.exit, ran.error_code())
    };
    // The first agent at a socket becomes the known one. This user has no ssh-agent.
    assert_eq!(code(&[]), (4, "approval.approver".to_owned()));
    assert_eq!(code(&[]), (3, "approval.agent".to_owned()));
    assert_eq!(code(&["--agent", "a"]), (3, "approval.agent".to_owned()));
    assert_eq!(code(&["--agent", "b"]), (4, "approval.approver".to_owned()));
}

#[test]
fn an_early_end_of_the_reader_is_no_error() {
    let (_fake, program) = good_agent();
    let script = "\"$0\" completions bash | head -c 1; exit ${PIPESTATUS[0]}";
    let run = std::process::Command::new("bash")
        .args(["-c", script])
        .arg(program.path())
        .output()
        .expect("runs");
    assert_eq!((run.status.code(), run.stderr.len()), (Some(0), 0), "{run:?}");
}

#[test]
fn output_that_cannot_be_written_ends_no_command_with_a_signal() {
    let (fake, program) = good_agent();
    for words in [
        &["status"][..],
        &["key", "list"],
        &["audit", "tail"],
        &["audit", "verify", "--state-dir", "/nowhere"],
        &["sign", "--key", "mm", "POST", "/o"],
        &["sign", "--key", "mm", "POST", "/o", "--curl"],
        &["completions", "zsh"],
        &["man"],
        &["--help"],
        &["--version"],
        &["key", "add", "--help", "--json"],
        &["no-such-command"],
        &["no-such-command", "--json"],
    ] {
        let whole = program.run(words).exit;
        // A lost result is not a success. A failure keeps its exit code.
        let lost = if whole == 0 { 5 } else { whole };
        for (redirection, done) in [
            (">/dev/full", lost),
            (">&-", whole),
            ("2>/dev/full", whole),
            ("2>&-", whole),
            ("| true", whole),
        ] {
            let script = format!("\"$0\" \"$@\" {redirection}; exit ${{PIPESTATUS[0]}}");
            let mut command = std::process::Command::new("bash");
            command
                .args(["-c", &script])
                .arg(program.path())
                .args(words)
                .env("COUNTERSIGN_SOCK", fake.socket());
            let exit = command.stdout(std::process::Stdio::null()).status().expect("runs").code();
            assert_eq!(exit, Some(done), "{words:?} {redirection}");
        }
    }
}

#[test]
fn a_file_that_cannot_be_written_has_a_code_of_its_own() {
    let program = Program::new(None);
    let file = program.home().join("no-directory");
    fs::write(&file, "").expect("writes");
    let ran = program.run(&["man", file.to_str().expect("UTF-8"), "--json"]);
    assert_eq!((ran.exit, ran.error_code().as_str()), (5, "output"), "{ran:?}");
}

#[test]
fn nobody_who_reads_standard_error_does_not_hold_up_a_command() {
    let (_fake, program) = agent_answering(Act::Json(
        r#"{"v":1,"error":{"code":"agent.locked","message":"m"}}"#.to_owned(),
    ));
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let writer = std::os::fd::OwnedFd::from(writer);
    rustix::io::ioctl_fionbio(&writer, true).expect("set");
    while rustix::io::write(&writer, &[b'.'; 4096]).is_ok() {}
    rustix::io::ioctl_fionbio(&writer, false).expect("set");
    let mut command = program.command(&["status"]);
    let started = std::time::Instant::now();
    let status = command.stderr(writer).status().expect("runs");
    assert!(!status.success() && status.code().is_some(), "{status}");
    assert!(started.elapsed() < std::time::Duration::from_secs(10));
    drop(reader);
}

#[test]
fn a_configuration_is_checked_by_the_agents_program() {
    let program = Program::new(None);
    let path = program.home().join("agent.toml");
    let name = path.to_str().expect("UTF-8");
    fs::write(&path, "broken").expect("writes");
    let ran = program.run(&["policy", "check", name]);
    assert!(ran.exit == 78 && ran.err.contains("error: unknown field at line 1"), "{ran:?}");
    let json = program.run(&["policy", "check", name, "--json"]);
    assert_eq!((json.exit, json.error_code().as_str()), (78, "configuration"));
    fs::write(&path, "").expect("writes");
    assert_eq!(program.run(&["policy", "check", name]).out, format!("{name}: sound\n"));
}
