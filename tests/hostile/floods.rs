//! One client, or eight, ask for all they can get on all the connections they may have. Other
//! clients hardly feel it, the operator's `lock` works at once, and no token host is taken for
//! hung. A bare echo server under the same flood shows the delay that the machine causes.

use std::thread;
use std::time::Duration;

use countersign::{AgentClient, Sockets};

use crate::harness::agent::{API_KEY, Agent, BOT, SECRET, call};
use crate::harness::byte_client::{extension, framed};
use crate::harness::flood::{Echo, Flood};
use crate::harness::machine;
use crate::harness::served::raise_descriptors;
use crate::harness::timing::{missed, repetitions};
use crate::harness::town::{
    BESIDE_EIGHT, BESIDE_ONE, CONNECTIONS, CONNECTIONS_OF_EIGHT, HOSTILE, LOCKED, Town, load,
    names, sign,
};

/// Connections that ask for records without end.
const FOLLOWING: usize = 8;
const SIZE: usize = 51_000;

fn nested(depth: usize, inside: &str) -> String {
    format!("{}{inside}{}", "[".repeat(depth), "]".repeat(depth))
}

/// The messages that are sent without end, by name.
fn messages() -> Vec<(&'static str, Vec<u8>)> {
    let text = |length: usize| format!("\"{}\"", "x".repeat(length));
    let symbols = vec!["\"A\""; SIZE / 4].join(",");
    let session = format!(r#"{{"v":1,"key":"binance-mm","purpose":"ws","symbols":[{symbols}]}}"#);
    let plain = |name: &str| extension(name, r#"{"v":1}"#);
    vec![
        ("a long text", sign("binance-mm", &format!("{{\"a\":{}}}", text(SIZE)))),
        ("a key that it has not", sign("another", &format!("{{\"a\":{}}}", text(SIZE)))),
        ("too many names", sign("binance-mm", &names(SIZE / 10, "1"))),
        ("many names", sign("binance-mm", &names(1_900, &text(15)))),
        (
            "many values",
            sign("binance-mm", &format!("{{\"a\":[{}]}}", vec!["1"; SIZE / 2].join(","))),
        ),
        ("deep", sign("binance-mm", &format!("{{\"a\":{}}}", nested(SIZE / 2, "")))),
        (
            "deep, as far as it may be",
            sign("binance-mm", &format!("{{\"a\":{}}}", nested(7, &text(SIZE)))),
        ),
        (
            "signatures",
            extension(
                "sign@countersign",
                r#"{"v":1,"key":"binance-mm","method":"GET","path":"/api/v3/account"}"#,
            ),
        ),
        ("session", extension("session@countersign", &session)),
        ("keys", plain("keys@countersign")),
        ("status", plain("status@countersign")),
        (
            "result",
            extension("result@countersign", &format!("{{\"id\":{},\"wait_ms\":1000}}", text(SIZE))),
        ),
        ("cancel", extension("cancel@countersign", &format!("{{\"id\":{}}}", text(SIZE)))),
        ("events", extension("events@countersign", r#"{"v":1,"after":0,"wait_ms":0}"#)),
        ("another agent's", extension("session-bind@openssh.com", &"x".repeat(SIZE))),
        ("query", framed(&[&[27], &framed(b"query")[..]].concat())),
        ("identities", framed(&[11])),
        ("a private key", framed(&vec![17; SIZE])),
        ("too long", extension("sign@countersign", &text(200_000))),
    ]
}

/// Has `flood` flood the echo server and then `town`. Returns the delays of the quiet client and of
/// `lock`, without the delay of the machine.
fn felt(
    town: &Town,
    echo: &Echo,
    name: &str,
    flood: impl Fn(Option<&Echo>) -> Vec<Flood>,
) -> (Duration, Duration) {
    // With this number the 99th percentile is not the longest time. The first request waits behind
    // all those of the flood, which was alone until then.
    let requests = repetitions(300, 1_000);
    let attackers = flood(Some(echo));
    let bare = echo.quiet(requests);
    drop(attackers);
    let attackers = flood(None);
    let (quiet, lock) = (town.quiet(requests), town.lock());
    assert!(attackers.iter().all(|flood| flood.answered() > 0), "{name}: a flood is answered");
    let answered: u64 = attackers.iter().map(Flood::answered).sum();
    drop(attackers);
    eprintln!(
        "{name}: p99 {quiet:?}, lock {lock:?}, bare echo {bare:?}; {answered} answered; load {}",
        load()
    );
    let machine = bare.min(BESIDE_ONE); // the delay of the bare server counts up to this only
    (quiet.saturating_sub(machine), lock.saturating_sub(machine))
}

/// True if the quiet client and `lock` waited no longer than they may.
fn is_within(bar: Duration) -> impl Fn(&(Duration, Duration)) -> bool {
    move |(quiet, lock)| *quiet <= bar && *lock <= LOCKED
}

#[test]
fn one_client_with_all_its_connections_is_hardly_felt_whatever_it_sends() {
    raise_descriptors();
    let (town, echo) = (Town::new(), Echo::start());
    let _alone = machine::alone();
    let mut misses = Vec::new();
    for (number, (name, message)) in messages().into_iter().enumerate() {
        // With a rate, and without.
        for client in if repetitions(0, 1) == 1 { vec![0, 1] } else { vec![number % 2] } {
            let name = format!("{name} of hostile{client}");
            let flood = |echo: Option<&Echo>| match echo {
                Some(echo) => vec![echo.flood(client, CONNECTIONS, &message)],
                None => vec![town.flood(client, CONNECTIONS, &message)],
            };
            let felt = missed(|| felt(&town, &echo, &name, flood), is_within(BESIDE_ONE));
            misses.extend(felt.map(|felt| format!("{name}: p99 and lock {felt:?}")));
            town.assert_no_host_was_restarted();
        }
    }
    assert!(misses.is_empty(), "{misses:#?}");
}

#[test]
fn eight_clients_at_once_are_hardly_felt() {
    raise_descriptors();
    let (town, echo) = (Town::new(), Echo::start());
    let _alone = machine::alone();
    let messages = messages();
    let flood = |echo: Option<&Echo>| -> Vec<Flood> {
        (0..HOSTILE)
            .map(|client| {
                let message = &messages[client * 2].1;
                match echo {
                    Some(echo) => echo.flood(client, CONNECTIONS_OF_EIGHT, message),
                    None => town.flood(client, CONNECTIONS_OF_EIGHT, message),
                }
            })
            .collect()
    };
    let felt = missed(|| felt(&town, &echo, "eight clients", flood), is_within(BESIDE_EIGHT));
    assert!(felt.is_none(), "p99 and lock {felt:?}");
    town.assert_no_host_was_restarted();
}

/// The operator may have many programs that read all the time.
#[test]
fn those_who_follow_the_journal_keep_nobody_from_locking() {
    raise_descriptors();
    let town = Town::new();
    let _alone = machine::alone();
    let (_, signatures) =
        messages().into_iter().find(|(name, _)| *name == "signatures").expect("listed");
    let signing = town.flood(1, 64, &signatures);
    thread::sleep(Duration::from_secs(3)); // the journal grows by megabytes
    // From the journal's start, from its middle, and from its end.
    for after in [0, 1_000, u64::MAX] {
        let message = extension(
            "events@countersign",
            &format!(r#"{{"v":1,"after":{after},"wait_ms":60000}}"#),
        );
        let own = rustix::process::getuid().is_root().then_some(0);
        let following = Flood::start(&town.agent.sockets().admin, own, FOLLOWING, &message);
        let felt = || {
            let felt = (town.quiet(repetitions(300, 1_000)), town.lock());
            eprintln!(
                "{FOLLOWING} follow from {after}: p99 and lock {felt:?}; {} answered, {} signed; \
                 load {}",
                following.answered(),
                signing.answered(),
                load()
            );
            felt
        };
        let felt = missed(felt, is_within(BESIDE_EIGHT));
        assert!(felt.is_none(), "p99 and lock {felt:?}");
        // There is nothing behind the last number, and the answer comes after a minute.
        assert!(after == u64::MAX || following.answered() > 0, "records after {after}");
    }
    assert!(signing.answered() > 0, "the journal grows");
    town.assert_no_host_was_restarted();
}

#[test]
fn a_client_that_floods_makes_only_itself_wait() {
    let uid = rustix::process::getuid().as_raw();
    let other = format!(
        "[client.other]\nuser = {uid}\nkeys = [\"binance-mm\"]\nscopes = [\"read\"]\nsocket = \
         \"DIR/other.sock\"\n"
    );
    let agent = Agent::start(BOT, &other);
    agent.add("binance-mm", "binance", API_KEY, SECRET, None).expect("enrolled");
    let account = call("binance-mm", "GET", "/api/v3/account", "{}");
    thread::scope(|scope| {
        let flood: Vec<_> = (0..30)
            .map(|_| {
                scope.spawn(|| {
                    agent.client().sign_all(&vec![account.clone(); 400]).expect("answers")
                })
            })
            .collect();
        let own = Sockets {
            agent: agent.path().join("other.sock"),
            admin: agent.path().join("admin.sock"),
        };
        let mut quiet = AgentClient::open(&own).expect("connects");
        for _ in 0..30 {
            quiet.sign(&account).expect("no refusal for another's flood");
        }
        for answers in flood {
            assert!(
                answers.join().expect("ends").into_iter().all(|answer| answer.is_ok()),
                "the flood only waits"
            );
        }
    });
}
