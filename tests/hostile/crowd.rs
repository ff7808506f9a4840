//! Ten thousand connections, peers that write a byte at a time or never read, and a client that
//! floods: the agent goes on, and another client hardly feels it.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use countersign::{AgentClient, SignCall, Sockets};
use rustix::net::RecvFlags;

use crate::harness::agent::{self, API_KEY, Agent, SECRET};
use crate::harness::byte_client::extension;
use crate::harness::machine;
use crate::harness::served::raise_descriptors;
use crate::harness::timing::{StopAtEnd, percentile_99, repetitions};

const CONNECTIONS: usize = 10_000;
/// More clients than the agent has connections for, if each takes all it may have.
const OTHERS: [&str; 5] = ["idle", "hoard", "throng", "slow", "deaf"];
/// The number of requests of the quiet client in half a round.
const REQUESTS: usize = 200;

/// An agent with a quiet client, one that floods, and the others, each with a socket of its own.
struct CrowdedAgent(Agent);

impl CrowdedAgent {
    fn new() -> Self {
        let uid = rustix::process::getuid().as_raw();
        let fields = "keys = [\"binance-mm\"]\nscopes = [\"read\"]\n";
        let client = |name: &&str| {
            format!("\n[client.{name}]\nuser = {uid}\n{fields}socket = \"DIR/{name}.sock\"\n")
        };
        let rest: String = OTHERS.iter().chain(&["quiet", "flood"]).map(client).collect();
        let agent = Agent::start(agent::BOT, &rest);
        agent.add("binance-mm", "binance", API_KEY, SECRET, None).expect("enrolled");
        Self(agent)
    }

    fn socket(&self, client: &str) -> PathBuf {
        self.0.path().join(format!("{client}.sock"))
    }

    fn client(&self, name: &str) -> AgentClient {
        AgentClient::open(&Sockets::at(self.socket(name))).expect("it listens")
    }

    fn crowd(&self) -> Vec<(&'static str, UnixStream)> {
        let connect = |number: usize| {
            let name = OTHERS[number % OTHERS.len()];
            let stream = UnixStream::connect(self.socket(name)).expect("it listens");
            stream.set_nonblocking(true).expect("a socket");
            (name, stream)
        };
        (0..CONNECTIONS).map(connect).collect()
    }

    /// The quiet client's p99, over a connection of its own.
    fn quiet(&self) -> Duration {
        let mut client = self.client("quiet");
        let mut times = Vec::new();
        for _ in 0..REQUESTS {
            let start = Instant::now();
            client.sign(&read()).expect("the quiet client is served");
            times.push(start.elapsed());
            thread::sleep(Duration::from_millis(1));
        }
        percentile_99(&times)
    }

    /// The same while another client asks for all it can get on four connections, and the number of
    /// its signatures.
    fn flooded(&self) -> (Duration, usize) {
        let stop = AtomicBool::new(false);
        let flood = || {
            let (mut client, mut signed) = (self.client("flood"), 0);
            let calls = vec![read(); 256];
            while !stop.load(Ordering::Relaxed) {
                let replies = client.sign_all(&calls).expect("answers");
                assert!(replies.iter().all(Result::is_ok), "the flood only waits");
                signed += replies.len();
            }
            signed
        };
        thread::scope(|scope| {
            let stopping = StopAtEnd(&stop);
            let floods = [(); 4].map(|()| scope.spawn(flood));
            let felt = self.quiet();
            drop(stopping);
            (felt, floods.map(|flood| flood.join().expect("answers")).iter().sum())
        })
    }
}

fn read() -> SignCall {
    agent::call("binance-mm", "GET", "/api/v3/account", "{}")
}

/// Slow peers write a byte of a request now and then, deaf peers ask and never read.
fn press(crowd: &[(&str, UnixStream)], stop: &AtomicBool) {
    let payload = r#"{"v":1,"key":"binance-mm","method":"GET","path":"/api/v3/account"}"#;
    let request = extension("sign@countersign", payload);
    for at in 0.. {
        for (name, mut stream) in crowd.iter().map(|(name, stream)| (*name, stream)) {
            if stop.load(Ordering::Relaxed) {
                return;
            }
            // A write fails if the agent has hung up or its buffer is full.
            let _ = match name {
                "slow" => stream.write(&request[at % request.len()..][..1]),
                "deaf" => stream.write(&request),
                _ => Ok(0),
            };
        }
        thread::sleep(Duration::from_millis(100));
    }
}

/// The lower quartile, because other work of the machine only adds to a round.
fn undisturbed(rounds: &mut [Duration]) -> Duration {
    rounds.sort();
    rounds[rounds.len() / 4]
}

/// True if the agent has hung up.
fn is_closed(stream: &UnixStream) -> bool {
    let received = rustix::net::recv(stream, &mut [0; 1], RecvFlags::PEEK);
    matches!(received, Ok((_, 0)) | Err(rustix::io::Errno::CONNRESET))
}

#[test]
fn a_crowd_and_a_flood_are_hardly_felt_by_another_client() {
    raise_descriptors();
    let crowded = CrowdedAgent::new();
    let _alone = machine::alone();
    let start = Instant::now();
    let crowd = crowded.crowd();
    eprintln!("{CONNECTIONS} connections opened in {:?}", start.elapsed());
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let _stopping = StopAtEnd(&stop);
        scope.spawn(|| press(&crowd, &stop));
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..repetitions(8, 40) {
            let (quiet, (felt, signed)) = (crowded.quiet(), crowded.flooded());
            eprintln!(
                "the quiet client's p99: {quiet:?}, and {felt:?} beside {signed} signatures of a \
                 flood"
            );
            alone.push(quiet);
            beside.push(felt);
        }
        let (felt, quiet) = (undisturbed(&mut beside), undisturbed(&mut alone));
        eprintln!("{:.2} times as long", felt.as_secs_f64() / quiet.as_secs_f64());
        assert!(felt < quiet * 3, "{felt:?} where it is {quiet:?}: {beside:?}, {alone:?}");
    });
    let refused = crowd.iter().filter(|(_, stream)| is_closed(stream)).count();
    eprintln!("{refused} of the connections were closed by the agent");
    assert!((CONNECTIONS - 1_024..CONNECTIONS).contains(&refused), "{refused}");
    assert!(crowded.0.tokens_are("healthy"));
}
