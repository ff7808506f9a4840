//! One client, or eight, that ask for all they can get on all the connections they may have: other
//! clients hardly feel it, the operator's `lock` is there at once, and no token host is taken for
//! hung. A bare echo server under the same flood says how much of a delay is the machine's.

mod attacker;
mod attacks;
pub(super) mod flood;

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use countersign::{Admin, Client, SignCall, Sockets};

use super::*;
use crate::agent;
use crate::transport::served::{extension, framed, raise_descriptors};
use flood::{Echo, Flood};

/// Clients that flood, each under a uid of its own where the tests run as root.
const HOSTILE: usize = 8;
const FIRST_UID: u32 = 61_001;
/// As many as one uid may have on one socket.
const CONNECTIONS: usize = 256;
/// As many as eight may have together, with some left for others.
const CONNECTIONS_OF_EIGHT: usize = 80;
/// Connections on which records are asked for without end.
const FOLLOWING: usize = 8;

/// What others feel at most beyond the echo server's delay.
const BESIDE_ONE: Duration = Duration::from_millis(20);
const BESIDE_EIGHT: Duration = Duration::from_millis(50);
const LOCKED: Duration = Duration::from_millis(200);

struct Town {
    agent: Agent,
    started: Vec<u64>,
}

impl Town {
    fn new() -> Self {
        let own = rustix::process::getuid().as_raw();
        let fields = "keys = [\"binance-mm\"]\nscopes = [\"read\"]\nsocket = \"DIR/NAME.sock\"\n";
        let client = |name: &str, uid: u32, rest: &str| {
            format!("\n[client.{name}]\nuser = {uid}\n{}{rest}", fields.replace("NAME", name))
        };
        let hostile = (0..HOSTILE).map(|number| {
            let uid = flood::uid_of(number).unwrap_or(own);
            // The first has a rate, which is no help to it.
            client(
                &format!("hostile{number}"),
                uid,
                if number == 0 { "rate = \"1/s\"\n" } else { "" },
            )
        });
        let rest: String = hostile.chain([client("quiet", own, "")]).collect();
        let agent = Agent::start(agent::BOT, &rest);
        fs::set_permissions(agent.path(), fs::Permissions::from_mode(0o711)).expect("ours");
        agent.add("binance-mm", "binance", API_KEY, SECRET, None).expect("enrolled");
        let started = Self::hosts(&agent);
        Self { agent, started }
    }

    /// Since when each token is as it is.
    fn hosts(agent: &Agent) -> Vec<u64> {
        agent
            .admin()
            .status()
            .expect("a status")
            .tokens
            .iter()
            .map(|token| token.since_ms)
            .collect()
    }

    fn socket(&self, client: &str) -> PathBuf {
        self.agent.path().join(format!("{client}.sock"))
    }

    fn flood(&self, client: usize, connections: usize, message: &[u8]) -> Flood {
        Flood::start(
            &self.socket(&format!("hostile{client}")),
            flood::uid_of(client),
            connections,
            message,
        )
    }

    /// The quiet client's p99, over a connection of its own.
    fn quiet(&self, requests: usize) -> Duration {
        let mut client = Client::open(&Sockets::at(self.socket("quiet"))).expect("it listens");
        percentile_99(&timed(requests, || {
            drop(client.sign(&read()).expect("the quiet client is served"))
        }))
    }

    /// The longest `lock`, each over a connection of its own.
    fn lock(&self) -> Duration {
        let times = timed(5, || {
            Admin::open(&self.agent.sockets()).and_then(|mut admin| admin.lock()).expect("locked");
        });
        self.agent.admin().unlock().expect("unlocked");
        times.into_iter().max().expect("five")
    }

    fn assert_no_host_was_restarted(&self) {
        assert_eq!(Self::hosts(&self.agent), self.started, "log:\n{}", self.agent.log());
        assert!(!self.agent.log().contains("token host ended"), "{}", self.agent.log());
    }
}

fn timed(times: usize, mut act: impl FnMut()) -> Vec<Duration> {
    (0..times)
        .map(|_| {
            thread::sleep(Duration::from_millis(1));
            let start = Instant::now();
            act();
            start.elapsed()
        })
        .collect()
}

fn read() -> SignCall {
    agent::call("binance-mm", "GET", "/api/v3/account", "{}")
}

fn load() -> String {
    fs::read_to_string("/proc/loadavg").expect("Linux").trim().to_owned()
}

const SIZE: usize = 51_000;

fn sign(key: &str, params: &str) -> Vec<u8> {
    let payload = format!(
        r#"{{"v":1,"key":"{key}","method":"POST","path":"/api/v3/order","params":{params}}}"#
    );
    extension("sign@countersign", &payload)
}

fn names(count: usize, value: &str) -> String {
    let members: Vec<_> = (0..count).map(|number| format!("\"n{number}\":{value}")).collect();
    format!("{{{}}}", members.join(","))
}

fn nested(depth: usize, inside: &str) -> String {
    format!("{}{inside}{}", "[".repeat(depth), "]".repeat(depth))
}

/// What is sent without end, by name.
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

/// Floods `town` and the echo server in turns, as `flood` does, and says what others felt of it.
fn felt(
    town: &Town,
    echo: &Echo,
    name: &str,
    flood: impl Fn(Option<&Echo>) -> Vec<Flood>,
) -> (Duration, Duration) {
    // Of as many the 99th percentile is not the longest: the first one waits behind all that the
    // flood, alone until then, had before the token.
    let requests = repetitions(300, 1_000);
    let attackers = flood(Some(echo));
    let bare = echo.quiet(requests);
    drop(attackers);
    let attackers = flood(None);
    let (quiet, lock) = (town.quiet(requests), town.lock());
    let answered: u64 = attackers.iter().map(Flood::answered).sum();
    drop(attackers);
    eprintln!(
        "{name}: p99 {quiet:?}, lock {lock:?}, bare echo {bare:?}; {answered} answered; load {}",
        load()
    );
    let machine = bare.min(BESIDE_ONE); // a bare server that is flooded excuses no more than this
    (quiet.saturating_sub(machine), lock.saturating_sub(machine))
}

#[test]
fn one_client_with_all_its_connections_is_hardly_felt_whatever_it_sends() {
    raise_descriptors();
    let (town, echo) = (Town::new(), Echo::start());
    let _alone = machine::alone();
    let mut missed = Vec::new();
    for (number, (name, message)) in messages().into_iter().enumerate() {
        // With a rate, and without.
        for client in if repetitions(0, 1) == 1 { vec![0, 1] } else { vec![number % 2] } {
            let (quiet, lock) =
                felt(&town, &echo, &format!("{name} of hostile{client}"), |echo| match echo {
                    Some(echo) => vec![echo.flood(client, CONNECTIONS, &message)],
                    None => vec![town.flood(client, CONNECTIONS, &message)],
                });
            if quiet > BESIDE_ONE || lock > LOCKED {
                missed.push(format!("{name} of hostile{client}: p99 {quiet:?}, lock {lock:?}"));
            }
            town.assert_no_host_was_restarted();
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
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
    let (quiet, lock) = felt(&town, &echo, "eight clients", flood);
    assert!(quiet <= BESIDE_EIGHT && lock <= LOCKED, "p99 {quiet:?}, lock {lock:?}");
    town.assert_no_host_was_restarted();
}

/// The operator's own programs may be many and read all the time.
#[test]
fn those_who_follow_the_journal_keep_nobody_from_locking() {
    raise_descriptors();
    let town = Town::new();
    let _alone = machine::alone();
    let (_, signatures) =
        messages().into_iter().find(|(name, _)| *name == "signatures").expect("listed");
    let signing = town.flood(1, 64, &signatures);
    thread::sleep(Duration::from_secs(3)); // the journal grows by megabytes
    // From its start, from nowhere near its start, and from its end.
    for after in [0, 1_000, u64::MAX] {
        let message = extension(
            "events@countersign",
            &format!(r#"{{"v":1,"after":{after},"wait_ms":60000}}"#),
        );
        let own = rustix::process::getuid().is_root().then_some(0);
        let following = Flood::start(&town.agent.sockets().admin, own, FOLLOWING, &message);
        let (quiet, lock) = (town.quiet(repetitions(300, 1_000)), town.lock());
        eprintln!(
            "{FOLLOWING} follow from {after}: p99 {quiet:?}, lock {lock:?}; {} answered, {} \
             signed; load {}",
            following.answered(),
            signing.answered(),
            load()
        );
        assert!(quiet <= BESIDE_EIGHT && lock <= LOCKED, "p99 {quiet:?}, lock {lock:?}");
    }
    town.assert_no_host_was_restarted();
}
