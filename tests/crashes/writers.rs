//! Clients that write all they can into the journal of a small disk hardly slow down others.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::{Duration, Instant};

use countersign::{Admin, AgentClient, Sockets};

use crate::harness::agent::{self, API_KEY, Agent, SECRET};
use crate::harness::byte_client::extension;
use crate::harness::flood::Flood;
use crate::harness::machine;
use crate::harness::recorded::assert_verified;
use crate::harness::served::raise_descriptors;
use crate::harness::small_disk::{Namespace, read};
use crate::harness::softhsm::SoftHsm;
use crate::harness::timing::repetitions;

/// Longest time that `lock` may take.
const LOCKED: Duration = Duration::from_millis(200);
const CONNECTIONS: usize = 250;
const BURSTS: usize = 5;
/// Longest wait of the operator while the requests are judged, on a machine that does nothing else.
const FELT: Duration = Duration::from_millis(60);

/// A request that is long to read, and refused.
fn long_request() -> Vec<u8> {
    let names: Vec<_> =
        (0..1_900).map(|number| format!("\"n{number:05}\":\"{}\"", "x".repeat(14))).collect();
    let params = names.join(",");
    let order = r#""v":1,"key":"binance-mm","method":"POST","path":"/api/v3/order""#;
    extension("sign@countersign", &format!("{{{order},\"params\":{{{params}}}}}"))
}

/// Uses up the share of the client, so that its next request waits as long as a request may.
fn use_up_share(agent: &Agent) {
    let calls = vec![agent::call("binance-mm", "GET", "/api/v3/account", "{}"); 20];
    let mut client = agent.client();
    while client.sign_all(&calls).expect("answered").iter().all(Result::is_ok) {}
}

/// Many requests had to wait because the disk is nearly full, and wake at once. They are judged in
/// turn.
#[test]
fn what_had_to_wait_for_room_waits_for_its_turn_as_well() {
    let namespace = Namespace::new("size=16m");
    raise_descriptors();
    let agent = Agent::start_with(SoftHsm::new(), namespace.launch(), agent::BOT, "");
    agent.add("binance-mm", "binance", API_KEY, SECRET, None).expect("enrolled");
    let state_dir = namespace.state_dir(&agent);
    let space = rustix::fs::statvfs(&state_dir).expect("mounted");
    let left = (space.f_bavail * space.f_frsize) as usize - 512 * 1024; // the floor is 1 MiB
    fs::write(state_dir.join("filler"), vec![7; left]).expect("room for it");
    let _alone = machine::alone();
    let message = long_request();
    let socket = agent.path().join("agent.sock");
    let mut connections: Vec<_> =
        (0..CONNECTIONS).map(|_| UnixStream::connect(&socket).expect("it listens")).collect();
    // Other work of the machine makes the time longer, never shorter.
    let bursts = (0..BURSTS).map(|_| {
        use_up_share(&agent);
        let mut admin = agent.admin();
        connections
            .iter_mut()
            .for_each(|connection| connection.write_all(&message).expect("it reads"));
        let (sent, mut longest) = (Instant::now(), Duration::ZERO);
        while sent.elapsed() < Duration::from_millis(800) {
            let asked = Instant::now();
            admin.status().expect("a status");
            longest = longest.max(asked.elapsed());
            thread::sleep(Duration::from_millis(1));
        }
        for connection in &mut connections {
            assert!(connection.read(&mut [0; 4096]).expect("refused") > 0);
        }
        longest
    });
    let bursts: Vec<_> = bursts.collect();
    eprintln!("the longest `status` beside each burst: {bursts:?}");
    assert!(bursts.iter().min() < Some(&FELT), "{bursts:?}");
}

/// A client without a rate and with many connections fills the whole disk several times over.
#[test]
fn retention_keeps_up_while_others_sign_and_the_operator_locks() {
    let namespace = Namespace::new("size=4m");
    let uid = rustix::process::getuid().as_raw();
    let quiet = format!(
        "\n[client.quiet]\nuser = {uid}\nkeys = [\"binance-mm\"]\nscopes = [\"read\"]\nsocket = \
         \"DIR/quiet.sock\"\n"
    );
    let agent = Agent::start_with(SoftHsm::new(), namespace.launch(), agent::BOT, &quiet);
    agent.add("binance-mm", "binance", API_KEY, SECRET, None).expect("enrolled");
    let state_dir = namespace.state_dir(&agent);
    let _alone = machine::alone();
    let mut quiet =
        AgentClient::open(&Sockets::at(agent.path().join("quiet.sock"))).expect("listens");
    let last = || {
        agent
            .admin()
            .status()
            .expect("a status")
            .ledger
            .and_then(|ledger| ledger.last)
            .map_or(0, |at| at.seq)
    };
    let sign = r#"{"v":1,"key":"binance-mm","method":"GET","path":"/api/v3/account"}"#;
    let flood = Flood::start(
        &agent.path().join("agent.sock"),
        None,
        64,
        &extension("sign@countersign", sign),
    );
    let (start, mut locks) = (Instant::now(), Vec::new());
    // Each takes 440 bytes: together three times the disk.
    while last() < repetitions(30_000, 1_000_000) as u64 {
        for _ in 0..20 {
            read(&mut quiet).expect("the quiet client is served all the time");
            thread::sleep(Duration::from_millis(5));
        }
        let asked = Instant::now();
        Admin::open(&agent.sockets()).and_then(|mut admin| admin.lock()).expect("locked");
        locks.push(asked.elapsed());
        agent.admin().unlock().expect("unlocked: there is room");
    }
    drop(flood);
    let (longest, seconds) = (locks.iter().max().expect("some"), start.elapsed().as_secs_f64());
    eprintln!(
        "{:.1} MB a second; of {} locks the longest took {longest:?}",
        last() as f64 * 440e-6 / seconds,
        locks.len()
    );
    assert!(*longest <= LOCKED, "{longest:?}");
    assert!(!agent.log().contains("no room"), "{}", agent.log());
    assert_verified(&state_dir);
}
