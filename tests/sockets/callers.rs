//! The caller of a socket is known by its uid, and gets what that socket serves.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use countersign::{Admin, Sockets};
use countersign_core::refusal::Code;

use crate::harness::agent::{API_KEY, Agent, BOT, SECRET, code};
use crate::harness::byte_client::{ByteClient, framed};
use crate::harness::other_users::{as_user, stranger};
use crate::harness::served::{Served, quick};

#[test]
fn a_connection_knows_its_uid_and_its_socket() {
    let served = Served::start(quick());
    let own = rustix::process::getuid().as_raw();
    for (socket, kind) in
        [("agent.sock", "Agent"), ("bot.sock", "Client(\"bot\")"), ("admin.sock", "Admin")]
    {
        let mut client = ByteClient::connect(&served.path(socket));
        assert_eq!(client.ask("who@countersign", ""), format!("Some({own}) {kind} false"));
    }
}

#[test]
fn only_the_operator_is_served_on_the_admin_socket() {
    let agent = Agent::with_binance(BOT);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &fs::metadata(agent.path().join("admin.sock")).expect("a socket").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    assert!(agent.admin().pending().is_ok());
    // The client's socket knows no operator's message.
    let sockets =
        Sockets { agent: agent.path().join("agent.sock"), admin: agent.path().join("agent.sock") };
    assert!(Admin::open(&sockets).expect("connects").lock().is_err());
}

/// Not on the clients' socket, not on the socket of another client, and not on the operator's.
#[test]
fn a_user_that_is_no_client_gets_nothing_on_any_socket() {
    let another = "\n[client.another]\nuser = OWN\nkeys = [\"binance-mm\"]\nscopes = \
                   [\"read\"]\nsocket = \"DIR/another.sock\"\n";
    let own = rustix::process::getuid().to_string();
    let agent = Agent::start(BOT, &another.replace("OWN", &own));
    agent.add("binance-mm", "binance", API_KEY, SECRET, None).expect("enrolled");
    fs::set_permissions(agent.path(), fs::Permissions::from_mode(0o711)).expect("ours");
    let stranger = stranger();
    let asked = |socket: &Path, (name, payload): (&str, &str)| {
        as_user(stranger, || ByteClient::connect(socket).ask(name, payload))
    };
    let socket = |name: &str| agent.path().join(name);
    for message in TO_A_CLIENT {
        for socket in [socket("agent.sock"), socket("another.sock")] {
            let before = agent.journal();
            let answer = asked(&socket, message);
            assert!(answer.contains("\"code\":\"client.unknown\""), "{message:?}: {answer}");
            let journal = agent.journal();
            let record = journal.strip_prefix(&before).expect("it only grows");
            let refused = format!("\"uid\":{stranger},");
            assert!(
                record.contains("\"kind\":\"refused\"")
                    && record.contains(&refused)
                    && record.contains("client.unknown"),
                "{message:?}: {record}"
            );
        }
    }
    for socket in [socket("agent.sock"), socket("another.sock")] {
        // The operator's messages are none of these sockets, and there is no key to list.
        for message in TO_THE_OPERATOR {
            assert_eq!(asked(&socket, message), "FAILURE", "{message:?}");
        }
        let mut listed = [0; 9];
        as_user(stranger, || {
            let mut client = ByteClient::connect(&socket);
            client.send(&framed(&[11]));
            client.0.read_exact(&mut listed).expect("an answer");
        });
        assert_eq!(listed, [0, 0, 0, 5, 12, 0, 0, 0, 0], "a list of no identities");
    }
    let operators = agent.sockets().admin;
    let connected = as_user(stranger, || UnixStream::connect(&operators));
    assert_eq!(connected.expect_err("refused").kind(), ErrorKind::PermissionDenied);
    // If somebody loosens the mode, the uid still counts.
    fs::set_permissions(&operators, fs::Permissions::from_mode(0o666)).expect("ours");
    for message in TO_THE_OPERATOR.into_iter().chain(TO_BOTH) {
        let answer = asked(&operators, message);
        assert!(answer.contains("\"code\":\"client.unknown\""), "{message:?}: {answer}");
    }
    assert!(!agent.admin().status().expect("a status").locked, "nothing was done");
    agent.sign("binance-mm", "GET", "/api/v3/account", "{}").expect("a client is served");
}

const ID: &str = r#"{"id":"01920000-0000-7000-8000-000000000000"}"#;
const TO_BOTH: [(&str, &str); 2] =
    [("keys@countersign", r#"{"v":1}"#), ("status@countersign", r#"{"v":1}"#)];
const TO_A_CLIENT: [(&str, &str); 6] = [
    TO_BOTH[0],
    TO_BOTH[1],
    (
        "sign@countersign",
        r#"{"v":1,"key":"binance-mm","method":"GET","path":"/api/v3/account","params":{}}"#,
    ),
    ("session@countersign", r#"{"v":1,"key":"binance-mm","purpose":"ws"}"#),
    ("result@countersign", ID),
    ("cancel@countersign", ID),
];
const TO_THE_OPERATOR: [(&str, &str); 9] = [
    (
        "explain@countersign",
        r#"{"v":1,"client":"bot","key":"binance-mm","method":"GET","path":"/api/v3/account"}"#,
    ),
    ("lock@countersign", r#"{"v":1}"#),
    ("unlock@countersign", r#"{"v":1}"#),
    ("reload@countersign", r#"{"v":1}"#),
    ("pending@countersign", r#"{"v":1}"#),
    ("events@countersign", r#"{"v":1,"after":0,"wait_ms":0}"#),
    ("register@countersign", r#"{"v":1,"operation":"remove","name":"binance-mm"}"#),
    ("approve@countersign", r#"{"id":"01920000-0000-7000-8000-000000000000","sshsig":"x"}"#),
    ("deny@countersign", ID),
];

#[test]
fn a_client_without_a_name_gets_nothing() {
    let agent = Agent::start("keys = []\nscopes = [\"read\"]\nsocket = \"DIR/bot.sock\"\n", "");
    assert_eq!(
        code(agent.sign("binance-mm", "GET", "/api/v3/account", "{}")),
        Err(Code::ClientUnknown)
    );
}
