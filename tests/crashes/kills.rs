//! SIGKILL at random moments: every signature has its records, no limit is passed, and the agent
//! always starts again.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::agent::{self, Agent};
use crate::harness::recorded::{Journal, assert_verified};
use crate::harness::timing::repetitions;

const ORDER: &str = r#"{"symbol":"BTCUSDT","side":"BUY","type":"LIMIT","timeInForce":"GTC",
    "quantity":"0.01","price":"30000"}"#;

/// USDT of one order, and the number of orders that fit into the limit of a day.
const WORTH: usize = 300;
const ORDERS: usize = 600;
const FRONT: u64 = 0;
const HOST: u64 = 1;
const SPAWNER: u64 = 2;
/// The number of kills of one agent and its hosts. They are enough to reach the limit of the day.
const KILLS: usize = 100;

/// The long form kills 10,000 times: two agents at a time, each with a journal of its own, 100
/// kills each.
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

/// Returns the numbers of reads and orders that the clients got. All of them are on record.
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
        // A host that is killed inside SoftHSM's C_Login leaves SoftHSM's file cut short, and the
        // token is lost. A host whose front is killed ends its login first.
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

/// Asks for a read and an order at a time, and keeps the ids of the signed ones.
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
        let Ok(mut client) = countersign::AgentClient::open(&agent.sockets()) else { return };
        let Ok(replies) = client.sign_all(&calls) else { continue };
        let [read, order] =
            <[_; 2]>::try_from(replies).unwrap_or_else(|replies| panic!("{replies:?}"));
        reads.extend(read.ok().map(|reply| reply.request_id));
        orders.extend(order.ok().map(|reply| reply.request_id));
    }
}

/// Marsaglia's xorshift. It gives the same moments in each run, as far as the machine allows.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}
