//! A host that is killed is back within a second, and no process outlives the front.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use countersign_core::refusal::Code;
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::agent::{Agent, BOT, call, code};
use crate::harness::processes::{host_of, is_gone};

const KILLS: usize = 3;

#[test]
fn a_killed_host_is_a_clear_error_and_back_within_a_second() {
    let agent = Agent::with_binance(BOT);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            let (mut client, mut errors) = (agent.client(), Vec::new());
            while !stop.load(Ordering::Relaxed) {
                let calls: Vec<_> =
                    (0..16).map(|_| call("binance-mm", "GET", "/api/v3/account", "{}")).collect();
                let replies = client.sign_all(&calls).expect("the agent stays");
                errors.extend(replies.into_iter().filter_map(Result::err));
            }
            errors
        });
        for _ in 0..KILLS {
            thread::sleep(Duration::from_millis(200));
            let host = Pid::from_raw(host_of(&agent)).expect("a pid");
            // It stops first, so that requests are under way when it is killed.
            kill_process(host, Signal::STOP).expect("stopped");
            thread::sleep(Duration::from_millis(50));
            let killed = Instant::now();
            kill_process(host, Signal::KILL).expect("killed");
            thread::sleep(Duration::from_millis(1));
            while agent.sign("binance-mm", "GET", "/api/v3/account", "{}").is_err() {
                assert!(killed.elapsed() < Duration::from_secs(1), "log:\n{}", agent.log());
            }
            // The breaker counts hosts that died young; one that worked for a second is forgiven.
            thread::sleep(Duration::from_millis(1200));
        }
        stop.store(true, Ordering::Relaxed);
        let errors = load.join().expect("the load ends");
        assert!(errors.len() >= KILLS, "each kill is an error of what was under way: {errors:?}");
        for error in errors {
            assert_eq!(code::<()>(Err(error)), Err(Code::TokenUnavailable));
        }
    });
}

#[test]
fn no_process_outlives_the_front() {
    let mut agent = Agent::with_binance(BOT);
    let mut processes = agent.children();
    processes.extend(agent.spawner());
    assert_eq!(processes.len(), 2);
    agent.stop(Signal::KILL);
    agent.wait_until("all are gone", |_| processes.iter().all(|pid| is_gone(*pid)));
}
