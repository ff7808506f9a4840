//! Each uid has its share of the connections, and no crowd keeps another client or the operator
//! out.

use std::time::{Duration, Instant};

use countersign::{AgentClient, Error, Sockets};
use countersign_core::refusal::Code;
use countersign_front::sockets::listener::ServerLimits;

use crate::harness::agent::{Agent, code};
use crate::harness::byte_client::{ByteClient, extension};
use crate::harness::served::{self, Served, ServedApart, eventually, quick};
use crate::harness::timing::repetitions;

#[test]
fn one_uid_has_only_its_share_of_connections_and_gets_it_back() {
    let served = Served::start(ServerLimits { connections_per_uid: 3, ..quick() });
    let mut within: Vec<_> = (0..3).map(|_| served.connect()).collect();
    for client in &mut within {
        assert_eq!(client.ask("echo@countersign", "in"), "in");
    }
    assert_eq!(served.connect().answer(), None, "the fourth is turned away");
    let mut elsewhere = ByteClient::connect(&served.path("bot.sock"));
    assert_eq!(elsewhere.ask("echo@countersign", "in"), "in", "another socket counts apart");
    within.pop();
    eventually(|| {
        let mut client = served.connect();
        let _ = std::io::Write::write_all(&mut client.0, &extension("echo@countersign", "in"));
        client.answer().is_some()
    });
}

#[test]
fn one_client_that_takes_all_it_can_leaves_room_for_another() {
    let limits =
        ServerLimits { connections: 12, connections_kept: 6, few_connections: 2, ..quick() };
    let served = Served::start(limits);
    let mut taken: Vec<_> = (0..12).map(|_| served.connect()).collect();
    for client in &mut taken {
        let _ = std::io::Write::write_all(&mut client.0, &extension("echo@countersign", "in"));
    }
    let inside = taken.iter_mut().filter_map(ByteClient::answer).count();
    assert!((4..8).contains(&inside), "{inside}: the loops of the sockets hold some");
    for _ in 0..2 {
        taken.push(ByteClient::connect(&served.path("bot.sock")));
        assert_eq!(taken.last_mut().expect("pushed").ask("echo@countersign", "in"), "in");
    }
    assert_eq!(ByteClient::connect(&served.path("bot.sock")).answer(), None, "few are few");
}

#[test]
fn without_a_permit_nothing_is_accepted_until_one_comes_back() {
    // the loop of bot.sock holds one of them
    let served = Served::start(ServerLimits { connections: 3, ..quick() });
    let mut first = served.connect();
    assert_eq!(first.ask("echo@countersign", "in"), "in");
    let mut second = served.connect();
    assert_eq!(second.ask("echo@countersign", "in"), "in");
    let mut waiting = served.connect();
    waiting.send(&extension("echo@countersign", "later"));
    waiting.0.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    let early = waiting.read(&mut [0]).expect_err("nobody serves it yet");
    assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock);
    let mut operator = ByteClient::connect(&served.path("admin.sock"));
    assert_eq!(
        operator.ask("echo@countersign", "in"),
        "in",
        "clients cannot lock the operator out"
    );
    drop(first);
    waiting.0.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    assert_eq!(waiting.answer().as_deref(), Some("later"));
}

#[test]
fn those_who_are_no_clients_cannot_lock_a_client_out() {
    let agent = Agent::start("keys = []\nscopes = [\"read\"]\nsocket = \"DIR/bot.sock\"\n", "");
    let mut strangers: Vec<_> =
        (0..200).map(|_| AgentClient::open(&agent.sockets()).expect("connects")).collect();
    let mut served = 0;
    for stranger in &mut strangers {
        stranger.connection().set_deadline(Duration::from_secs(5));
        match stranger.keys() {
            Err(Error::Closed { .. }) => {}
            answered => {
                assert_eq!(code(answered), Err(Code::ClientUnknown));
                served += 1;
            }
        }
    }
    assert!((1..=32).contains(&served), "{served}");
    let own =
        Sockets { agent: agent.path().join("bot.sock"), admin: agent.path().join("admin.sock") };
    assert!(AgentClient::open(&own).expect("connects").keys().is_ok());
}

#[test]
fn thousands_of_idle_connections_cost_little_memory_and_slow_nobody() {
    let connections = repetitions(2_000, 10_000).min(served::most_connections());
    served::raise_descriptors();
    let served = ServedApart::start(served::descriptors(connections));
    assert_eq!(served.connect().ask("echo@countersign", "warm"), "warm");
    let before = served.resident();
    let mut idle: Vec<_> = (0..connections).map(|_| served.connect()).collect();
    for client in &mut idle {
        assert_eq!(client.ask("echo@countersign", &"x".repeat(60_000)).len(), 60_000);
    }
    let each = served.resident().saturating_sub(before) / connections as u64;
    eprintln!("{connections} connections, {each} bytes of memory each");
    assert!(each < 6 * 1024, "{each} bytes for each idle connection");
    let started = Instant::now();
    let mut client = served.connect();
    for _ in 0..1000 {
        assert_eq!(client.ask("echo@countersign", "fast"), "fast");
    }
    assert!(
        started.elapsed() < Duration::from_secs(2),
        "1000 requests took {:?}",
        started.elapsed()
    );
}

#[test]
fn running_out_of_descriptors_delays_new_connections_and_ends_nothing() {
    let served = ServedApart::start(40);
    let mut first = served.connect();
    assert_eq!(first.ask("echo@countersign", "in"), "in");
    let mut many: Vec<_> = (0..100).map(|_| served.connect()).collect();
    std::thread::sleep(Duration::from_millis(300)); // accept fails meanwhile
    assert_eq!(first.ask("echo@countersign", "still"), "still");
    let mut last = many.pop().expect("a hundred");
    last.send(&extension("echo@countersign", "waiting"));
    drop(many);
    assert_eq!(last.answer().as_deref(), Some("waiting"));
    assert_eq!(first.ask("echo@countersign", "still"), "still");
}
