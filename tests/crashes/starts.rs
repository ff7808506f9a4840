//! A start after a failure: the agent goes on where it stopped, or says why it does not start.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::agent::Agent;
use crate::harness::agent::BOT;
use crate::harness::processes::{host_of, is_gone};

#[test]
fn without_its_spawner_the_agent_stops_in_order_and_a_restart_goes_on() {
    let mut agent = Agent::with_binance(BOT);
    let (spawner, host) = (agent.spawner().expect("a spawner"), host_of(&agent));
    kill_process(Pid::from_raw(spawner).expect("a pid"), Signal::KILL).expect("killed");
    assert_eq!(agent.wait(), Some(5));
    assert!(
        agent.log().contains("the spawner ended (signal: 9 (SIGKILL)); start the agent again"),
        "{}",
        agent.log()
    );
    assert!(!agent.path().join("agent.sock").exists(), "in order");
    assert!(agent.journal().lines().last().expect("a record").contains("\"closed\""), "in order");
    assert!(is_gone(host), "no child outlives it");
    agent.begin();
    agent.wait_until("the token is healthy", |agent| agent.tokens_are("healthy"));
    agent.sign("binance-mm", "GET", "/api/v3/account", "{}").expect("signed");
}

#[test]
fn a_damaged_journal_stops_the_start_with_78() {
    let mut agent = Agent::with_binance(BOT);
    agent.sign("binance-mm", "GET", "/api/v3/account", "{}").expect("signed");
    agent.stop(Signal::TERM);
    let segment = agent.state_dir().join("journal/000001.jsonl");
    let text = fs::read_to_string(&segment).expect("a segment");
    fs::write(&segment, text.replacen("binance-mm", "binance-xx", 1)).expect("written");
    let run = agent.run_to_its_end();
    assert_eq!(run.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&run.stderr).contains("countersign audit verify"));
}
