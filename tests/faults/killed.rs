//! SIGKILL at random moments: no signature without its records, no limit passed, and always a
//! start.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use countersign_core::audit::Tail;
use countersign_front::ledger::storage::Disk;
use countersign_front::ledger::verify;
use rustix::process::{Pid, Signal, kill_process};

use super::*;
use crate::agent;

const ORDER: &str = r#"{"symbol":"BTCUSDT","side":"BUY","type":"LIMIT","timeInForce":"GTC",
    "quantity":"0.01","price":"30000"}"#;
/// USDT of one order, and how many of them a day has room for.
const WORTH: usize = 300;
const ORDERS: usize = 600;
const FRONT: u64 = 0;
const HOST: u64 = 1;
const SPAWNER: u64 = 2;

/// How often one agent and its hosts are killed; by then the day's limit has been reached.
const KILLS: usize = 100;

/// The long form kills 10,000 times: two agents at a time, each with a journal of its own, 100
/// times each.
#[test]
fn kill_at_random_moments_loses_no_record_and_passes_no_limit() {
    let (rounds, lanes) = (repetitions(1, 100), repetitions(1, 2));
    let next = AtomicUsize::new(0);
    let lane = || {
        loop {
            let round = next.fetch_add(1, Ordering::Relaxed);
            if round >= rounds {
                return;
            }
            let (reads, orders) =
                kill_one_agent(Random(0x9e37_79b9_7f4a_7c15 ^ (round as u64) << 32));
            eprintln!(
                "round {} of {rounds}: {KILLS} kills, {reads} reads and {orders} orders signed",
                round + 1
            );
        }
    };
    thread::scope(|scope| {
        for _ in 0..lanes {
            scope.spawn(lane);
        }
    });
}

/// How many reads and orders the clients got, all of them on record.
fn kill_one_agent(mut random: Random) -> (usize, usize) {
    let limited = format!(
        "keys = [\"binance-mm\"]\nscopes = [\"read\", \"trade\"]\nsymbols = [\"BTCUSDT\"]\n\
         limit.USDT = {{ per_day = \"{}\" }}\n",
        WORTH * ORDERS + WORTH / 2
    );
    let mut agent = Agent::with_binance(&limited);
    let (mut reads, mut orders) = (BTreeSet::new(), BTreeSet::new());
    for kill in 0..KILLS {
        let (victim, moment) = (random.below(3), Duration::from_micros(random.below(120_000)));
        // A host that is itself killed inside SoftHSM's C_Login leaves SoftHSM's own file cut
        // short, and no token with it. One whose front is killed ends its login first.
        if victim != FRONT || kill % 2 == 0 {
            agent.wait_until("the token is healthy", |agent| agent.tokens_are("healthy"));
        }
        thread::scope(|scope| {
            let process = match victim {
                HOST => agent.children().first().copied(),
                SPAWNER => agent.spawner(),
                _ => Some(agent.pid() as i32),
            };
            scope.spawn(move || {
                thread::sleep(moment);
                let _ = process.and_then(Pid::from_raw).map(|pid| kill_process(pid, Signal::KILL));
            });
            ask_until(
                Instant::now() + moment + Duration::from_millis(30),
                &agent,
                &mut reads,
                &mut orders,
            );
        });
        match victim {
            HOST => continue,
            SPAWNER => assert_eq!(agent.wait(), Some(5), "the front stops; log:\n{}", agent.log()),
            _ => drop(agent.stop(Signal::KILL)),
        }
        agent.begin();
    }
    agent.wait_until("the token is healthy", |agent| agent.tokens_are("healthy"));
    assert!(!reads.is_empty() && !orders.is_empty(), "the clients got something");
    let journal = Journal::below(&agent.state_dir());
    for id in reads.iter().chain(&orders) {
        assert!(
            journal.intents.contains(id) && journal.signed.contains(id),
            "{id} is not on record"
        );
    }
    assert!(
        orders.len() <= ORDERS && journal.orders <= ORDERS,
        "{} orders, {} on record",
        orders.len(),
        journal.orders
    );
    assert_verified(&agent.state_dir());
    (reads.len(), orders.len())
}

/// Asks for a read and an order at a time, and keeps the ids of what came back signed.
fn ask_until(
    end: Instant,
    agent: &Agent,
    reads: &mut BTreeSet<String>,
    orders: &mut BTreeSet<String>,
) {
    let calls = [
        agent::call("binance-mm", "GET", "/api/v3/account", "{}"),
        agent::call("binance-mm", "POST", "/api/v3/order", ORDER),
    ];
    while Instant::now() < end {
        let Ok(mut client) = countersign::Client::open(&agent.sockets()) else { return };
        let Ok(replies) = client.sign_all(&calls) else { continue };
        let [read, order] =
            <[_; 2]>::try_from(replies).unwrap_or_else(|replies| panic!("{replies:?}"));
        reads.extend(read.ok().map(|reply| reply.request_id));
        orders.extend(order.ok().map(|reply| reply.request_id));
    }
}

/// The request ids of the journal.
pub(super) struct Journal {
    pub(super) intents: BTreeSet<String>,
    pub(super) signed: BTreeSet<String>,
    orders: usize,
}

impl Journal {
    pub(super) fn below(state_dir: &Path) -> Self {
        let mut journal = Self { intents: BTreeSet::new(), signed: BTreeSet::new(), orders: 0 };
        for entry in Tail::after(0).read(&verify::journal(state_dir), usize::MAX).expect("readable")
        {
            let record: serde_json::Value = serde_json::from_str(&entry.line).expect("JSON");
            let id = || record["request_id"].as_str().expect("an id").to_owned();
            match record["kind"].as_str() {
                Some("intent") => {
                    journal.orders += usize::from(record["path"] == "/api/v3/order");
                    journal.intents.insert(id());
                }
                Some("result") if record["outcome"] == "signed" => {
                    drop(journal.signed.insert(id()))
                }
                _ => {}
            }
        }
        journal
    }
}

/// The chain holds from the first record to the last.
pub(super) fn assert_verified(state_dir: &Path) {
    let report = verify::verify(Arc::new(Disk), state_dir, None, &mut |_, _| {}).expect("readable");
    assert!(report.problems.is_empty(), "{report:?}");
}

/// Marsaglia's xorshift: the same moments in each run, as far as the machine allows.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
