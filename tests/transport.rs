//! The agent's sockets against peers that are slow, hostile, many, or gone.

mod descriptors;
pub(crate) mod served;

use std::net::Shutdown;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::time::{Duration, Instant};

use countersign_front::sockets::listener::Limits;

use crate::faults::repetitions;
use served::{Client, Served, ServedApart, endpoints, extension, framed, in_runtime, quick};

const MIB: u64 = 1 << 20;

#[test]
fn two_pipelined_requests_get_two_answers_in_order() {
    let served = Served::start(quick());
    let mut client = served.connect();
    client.send(
        &[extension("sleep@countersign", "100"), extension("echo@countersign", "second")].concat(),
    );
    assert_eq!(client.answer().as_deref(), Some("100"));
    assert_eq!(client.answer().as_deref(), Some("second"));
}

#[test]
fn pipelined_requests_run_together() {
    let served = Served::start(quick());
    let mut client = served.connect();
    let started = Instant::now();
    client.send(&extension("sleep@countersign", "200").repeat(50));
    for _ in 0..50 {
        assert_eq!(client.answer().as_deref(), Some("200"));
    }
    assert!(started.elapsed() < Duration::from_secs(5), "one after the other takes 10 s");
}

#[test]
fn more_requests_than_may_be_in_flight_are_all_answered() {
    let served = Served::start(quick());
    let mut client = served.connect();
    let requests: Vec<_> =
        (0..1000).flat_map(|number| extension("echo@countersign", &number.to_string())).collect();
    client.send(&[extension("sleep@countersign", "600"), requests].concat());
    client.0.shutdown(Shutdown::Write).expect("half-closed");
    assert_eq!(
        client.answer().as_deref(),
        Some("600"),
        "waiting for us is not a half frame of theirs"
    );
    for number in 0..1000 {
        assert_eq!(client.answer(), Some(number.to_string()));
    }
    assert_eq!(client.answer(), None);
}

#[test]
fn one_byte_at_a_time_is_answered() {
    let served = Served::start(quick());
    let mut client = served.connect();
    for byte in extension("echo@countersign", "slow") {
        client.send(&[byte]);
    }
    assert_eq!(client.answer().as_deref(), Some("slow"));
}

#[test]
fn a_bad_frame_ends_its_connection_after_the_answers_before_it_and_no_other() {
    let served = Served::start(quick());
    let mut other = served.connect();
    let bad = [
        framed(&[]),
        (600u32 << 20).to_be_bytes().to_vec(),
        vec![0xff; 4],
        framed(&[11, 0]),
        framed(&[27, 0, 0, 1, 0]),
    ];
    for bad in bad {
        let mut client = served.connect();
        client.send(
            &[extension("echo@countersign", "before"), bad, extension("echo@countersign", "after")]
                .concat(),
        );
        assert_eq!(client.answer().as_deref(), Some("before"));
        assert_eq!(client.answer(), None);
        assert_eq!(other.ask("echo@countersign", "fine"), "fine");
    }
}

#[test]
fn what_is_not_served_is_refused_and_the_connection_goes_on() {
    let served = Served::start(quick());
    let mut client = served.connect();
    for kind in [13, 17, 18, 19, 20, 21, 22, 23, 25, 26, 0, 255] {
        client.send(&framed(&[kind, 1, 2, 3]));
        assert_eq!(client.answer().as_deref(), Some("FAILURE"), "type {kind}");
    }
    assert_eq!(client.ask("nothing@countersign", "{}"), "FAILURE");
    assert_eq!(client.ask(&"x".repeat(100_000), "{}"), "FAILURE");
    client.send(&framed(&[&[27], &framed(&[0xff, 0xfe])[..]].concat()));
    assert_eq!(client.answer().as_deref(), Some("FAILURE"));
    assert!(client.ask("echo@countersign", &"x".repeat(65_537)).contains("request.malformed"));
    client.send(&framed(&[11]));
    assert_eq!(client.answer().as_deref(), Some("IDENTITIES"));
}

#[test]
fn a_frame_that_trickles_in_hits_the_deadline_and_an_idle_connection_does_not() {
    let served = Served::start(quick());
    let mut idle = served.connect();
    let mut slow = served.connect();
    let started = Instant::now();
    let request = extension("echo@countersign", "never");
    let sent = request.iter().take_while(|byte| {
        use std::io::Write;
        std::thread::sleep(Duration::from_millis(100));
        slow.0.write_all(&[**byte]).is_ok()
    });
    assert!(sent.count() < request.len(), "the server hangs up");
    assert!(started.elapsed() >= Duration::from_millis(400));
    assert_eq!(idle.ask("echo@countersign", "here"), "here");
}

#[test]
fn a_half_closed_connection_gets_its_answers_and_then_the_end() {
    let served = Served::start(quick());
    let mut client = served.connect();
    client.send(&extension("sleep@countersign", "300"));
    client.0.shutdown(Shutdown::Write).expect("half-closed");
    assert_eq!(client.answer().as_deref(), Some("300"));
    assert_eq!(client.answer(), None);
}

#[test]
fn a_peer_that_does_not_read_is_dropped_and_others_stay_fast() {
    let served = Served::start(quick());
    let mut deaf = served.connect();
    deaf.send(&extension("length@countersign", "200000").repeat(20));
    let mut other = served.connect();
    let mut longest = Duration::ZERO;
    for _ in 0..200 {
        let started = Instant::now();
        assert_eq!(other.ask("echo@countersign", "fast"), "fast");
        longest = longest.max(started.elapsed());
        std::thread::sleep(Duration::from_millis(4));
    }
    assert!(longest < Duration::from_millis(200), "the slowest answer took {longest:?}");
    let mut read = 0;
    while let Ok(bytes @ 1..) = deaf.read(&mut [0; 65536]) {
        read += bytes;
    }
    assert!(read < 20 * 200_000, "dropped before all was written, after {read} bytes");
}

#[test]
fn a_request_learns_that_its_peer_is_gone() {
    let served = Served::start(quick());
    let note = served.path("note");
    let mut client = served.connect();
    client.send(&extension("until-gone@countersign", note.to_str().expect("text")));
    std::thread::sleep(Duration::from_millis(100));
    assert!(!note.exists());
    drop(client);
    eventually(|| note.exists());
}

#[test]
fn a_half_closed_peer_is_noticed_when_it_goes_too() {
    let served = Served::start(quick());
    let note = served.path("note");
    let mut client = served.connect();
    client.send(&extension("until-gone@countersign", note.to_str().expect("text")));
    client.0.shutdown(Shutdown::Write).expect("half-closed");
    std::thread::sleep(Duration::from_millis(300));
    assert!(!note.exists());
    drop(client);
    eventually(|| note.exists());
}

#[test]
fn a_connection_knows_its_uid_and_its_socket() {
    let served = Served::start(quick());
    let own = rustix::process::getuid().as_raw();
    for (socket, kind) in
        [("agent.sock", "Agent"), ("bot.sock", "Client(\"bot\")"), ("admin.sock", "Admin")]
    {
        let mut client = Client::connect(&served.path(socket));
        assert_eq!(client.ask("who@countersign", ""), format!("Some({own}) {kind} false"));
    }
}

#[test]
fn one_uid_has_only_its_share_of_connections_and_gets_it_back() {
    let served = Served::start(Limits { connections_per_uid: 3, ..quick() });
    let mut within: Vec<_> = (0..3).map(|_| served.connect()).collect();
    for client in &mut within {
        assert_eq!(client.ask("echo@countersign", "in"), "in");
    }
    assert_eq!(served.connect().answer(), None, "the fourth is turned away");
    let mut elsewhere = Client::connect(&served.path("bot.sock"));
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
    let limits = Limits { connections: 12, connections_kept: 6, few_connections: 2, ..quick() };
    let served = Served::start(limits);
    let mut taken: Vec<_> = (0..12).map(|_| served.connect()).collect();
    for client in &mut taken {
        let _ = std::io::Write::write_all(&mut client.0, &extension("echo@countersign", "in"));
    }
    let inside = taken.iter_mut().filter_map(Client::answer).count();
    assert!((4..8).contains(&inside), "{inside}: the loops of the sockets hold some");
    for _ in 0..2 {
        taken.push(Client::connect(&served.path("bot.sock")));
        assert_eq!(taken.last_mut().expect("pushed").ask("echo@countersign", "in"), "in");
    }
    assert_eq!(Client::connect(&served.path("bot.sock")).answer(), None, "few are few");
}

#[test]
fn without_a_permit_nothing_is_accepted_until_one_comes_back() {
    // the loop of bot.sock holds one of them
    let served = Served::start(Limits { connections: 3, ..quick() });
    let mut first = served.connect();
    assert_eq!(first.ask("echo@countersign", "in"), "in");
    let mut second = served.connect();
    assert_eq!(second.ask("echo@countersign", "in"), "in");
    let mut waiting = served.connect();
    waiting.send(&extension("echo@countersign", "later"));
    waiting.0.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
    let early = waiting.read(&mut [0]).expect_err("nobody serves it yet");
    assert_eq!(early.kind(), std::io::ErrorKind::WouldBlock);
    let mut operator = Client::connect(&served.path("admin.sock"));
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
fn a_length_of_600_mib_costs_no_memory() {
    let served = ServedApart::start(1024);
    assert_eq!(served.connect().ask("echo@countersign", "warm"), "warm");
    let before = served.resident();
    let mut hostile: Vec<_> = (0..50).map(|_| served.connect()).collect();
    for client in &mut hostile {
        client.send(&(600u32 << 20).to_be_bytes());
        assert_eq!(client.answer(), None);
    }
    let grown = served.resident().saturating_sub(before);
    assert!(grown < 2 * MIB, "grew by {grown} bytes");
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

#[test]
fn a_stop_answers_what_was_asked_and_removes_the_sockets() {
    let mut served = Served::start(quick());
    let mut client = served.connect();
    let mut idle = served.connect();
    assert_eq!(idle.ask("echo@countersign", "in"), "in");
    client.send(&extension("sleep@countersign", "400"));
    std::thread::sleep(Duration::from_millis(100));
    served.stop();
    assert_eq!(idle.answer(), None);
    assert!(!served.path("agent.sock").exists() && !served.path("admin.sock").exists());
    assert_eq!(client.answer().as_deref(), Some("400"));
    assert_eq!(client.answer(), None);
    served.finish();
}

#[test]
fn sockets_have_the_modes_of_those_who_may_connect() {
    let served = Served::start(quick());
    for (name, mode) in [("agent.sock", 0o666), ("bot.sock", 0o666), ("admin.sock", 0o600)] {
        let found = std::fs::symlink_metadata(served.path(name)).expect("the socket is there");
        assert!(found.file_type().is_socket());
        assert_eq!(found.permissions().mode() & 0o777, mode, "{name}");
    }
    let names = std::fs::read_dir(served.directory.path()).expect("readable").count();
    assert_eq!(names, 6, "three sockets, three locks, nothing left of their making");
}

#[test]
fn a_second_agent_is_refused_and_harms_nothing() {
    let served = Served::start(quick());
    in_runtime(async {
        let mut second = countersign_front::sockets::server::Server::new(
            std::rc::Rc::new(served::ByName),
            quick(),
            Default::default(),
        )
        .expect("threads");
        let error = second.listen(endpoints(served.directory.path())).expect_err("refused");
        assert!(
            matches!(error, countersign_front::sockets::socket::SocketError::AnotherAgent(_)),
            "{error}"
        );
    });
    assert_eq!(served.connect().ask("echo@countersign", "in"), "in");
}

#[test]
fn a_reload_is_all_or_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    in_runtime(async {
        let mut server = countersign_front::sockets::server::Server::new(
            std::rc::Rc::new(served::ByName),
            quick(),
            Default::default(),
        )
        .expect("threads");
        let mut wanted = endpoints(directory.path());
        server.listen(wanted.clone()).expect("the sockets open");
        wanted.remove(2);
        wanted.push(countersign_base::config::endpoint::Endpoint {
            path: "/nonexistent/directory/new.sock".into(),
            kind: countersign_base::config::endpoint::ListenerKind::Agent,
        });
        server.listen(wanted.clone()).expect_err("one cannot be opened");
        assert!(path("bot.sock").exists(), "so the others stay as they were");
        wanted[2].path = path("new.sock");
        drop(server.prepare(wanted.clone()).expect("all can be opened"));
        assert!(
            path("bot.sock").exists() && !path("new.sock").exists(),
            "and so they do where the reload fails later"
        );
        server.listen(wanted.clone()).expect("all can be opened");
        assert!(!path("bot.sock").exists() && path("new.sock").exists());
    });
}

fn eventually(condition: impl FnMut() -> bool) {
    let mut condition = condition;
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "it never happened");
        std::thread::sleep(Duration::from_millis(20));
    }
}
