//! The limit of a day holds over connections and restarts, and counts only requests that the token
//! was asked for.

use std::fs;
use std::thread;

use countersign_core::refusal::Code;
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::agent::{Agent, ORDER, code};
use crate::harness::processes::host_of;

const LIMITED: &str = "keys = [\"binance-mm\"]\nscopes = [\"read\", \"trade\"]\nsymbols = \
                       [\"BTCUSDT\"]\n\
                       limit.USDT = { per_day = \"1000\" }\n";

/// Each order is worth 300 USDT: three fit into the day's 1000.
#[test]
fn a_days_limit_holds_over_connections_and_restarts() {
    let mut agent = Agent::with_binance(LIMITED);
    let signed: usize = thread::scope(|scope| {
        let threads: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| agent.sign("binance-mm", "POST", "/api/v3/order", ORDER)))
            .collect();
        threads.into_iter().map(|thread| usize::from(thread.join().expect("ends").is_ok())).sum()
    });
    assert_eq!(signed, 3);
    for signal in [Signal::KILL, Signal::TERM] {
        agent.stop(signal);
        agent.restart();
        assert_eq!(
            code(agent.sign("binance-mm", "POST", "/api/v3/order", ORDER)),
            Err(Code::PolicyLimit)
        );
    }
    let small = ORDER.replace("0.01", "0.001");
    assert!(
        agent.sign("binance-mm", "POST", "/api/v3/order", &small).is_ok(),
        "30 of the 100 that are left"
    );
}

#[test]
fn what_the_token_was_never_asked_for_costs_nothing_of_the_limit() {
    let agent = Agent::with_binance(LIMITED);
    let (tokens, away) = (agent.token.tokens(), agent.path().join("away"));
    fs::rename(&tokens, &away).expect("moved");
    kill_process(Pid::from_raw(host_of(&agent)).expect("a pid"), Signal::KILL).expect("killed");
    agent.wait_until("the token is down", |agent| agent.tokens_are("down"));
    for _ in 0..5 {
        let order = agent.sign("binance-mm", "POST", "/api/v3/order", ORDER);
        assert_eq!(code(order), Err(Code::TokenUnavailable));
    }
    fs::rename(&away, &tokens).expect("moved back");
    agent.wait_until("the token is healthy", |agent| agent.tokens_are("healthy"));
    for _ in 0..3 {
        agent.sign("binance-mm", "POST", "/api/v3/order", ORDER).expect("300 of the day's 1000");
    }
    assert_eq!(
        code(agent.sign("binance-mm", "POST", "/api/v3/order", ORDER)),
        Err(Code::PolicyLimit)
    );
}
