//! The messages of `sd_notify`: ready, reloading, stopping, and one line of status.

use std::time::{Duration, Instant};

use countersign::{Admin, AgentClient};
use rustix::process::{Pid, Signal, kill_process};

use crate::harness::agent::{Agent, BOT, Launch};
use crate::harness::service_manager::ServiceManager;
use crate::harness::shim::Shim;
use crate::harness::softhsm::SoftHsm;

/// An agent whose token is behind the shim.
fn agent(manager: &ServiceManager) -> (Agent, Shim) {
    let token = SoftHsm::new();
    let shim = Shim::of(token.module());
    let environment = manager.environment(None);
    let launch = Launch { module: Some(shim.module()), environment, ..Launch::default() };
    (Agent::start_with(token, launch, BOT, ""), shim)
}

fn status(message: &str) -> Option<&str> {
    message.lines().find_map(|line| line.strip_prefix("STATUS="))
}

#[test]
fn a_life_is_told_from_ready_to_stopping() {
    let manager = ServiceManager::new();
    let (mut agent, _shim) = agent(&manager);
    let start = manager.until("READY=1");
    assert_eq!(status(start.last().expect("a message")), Some("1 of 1 tokens healthy"));
    assert!(start.iter().rev().skip(1).all(|message| message.starts_with("STATUS=")), "{start:?}");

    agent.signal(Signal::HUP);
    let reload = manager.until("READY=1");
    let (begun, _) = reload
        .iter()
        .enumerate()
        .find(|(_, message)| message.starts_with("RELOADING=1\n"))
        .expect("told");
    let since =
        reload[begun].lines().find_map(|line| line.strip_prefix("MONOTONIC_USEC=")).expect("told");
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let since: i64 = since.parse().expect("a number");
    assert!((now.tv_sec - 20..=now.tv_sec).contains(&(since / 1_000_000)), "{since}");
    assert!(begun + 1 < reload.len(), "ready after it: {reload:?}");

    std::fs::write(agent.config_file(), "[agent").expect("written");
    agent.signal(Signal::HUP);
    manager.until("READY=1"); // the reload is over, refused or not
    assert_eq!(agent.stop(Signal::TERM), Some(0));
    manager.until("STOPPING=1");
}

#[test]
fn a_reload_begins_with_a_sign_of_life_and_gives_way_to_a_stop() {
    let manager = ServiceManager::new();
    let environment = manager.environment(Some(Duration::from_secs(600)));
    let mut agent =
        Agent::start_with(SoftHsm::new(), Launch { environment, ..Launch::default() }, BOT, "");
    manager.until("READY=1");
    let spawner = Pid::from_raw(agent.spawner().expect("there is one")).expect("a pid");
    // Nothing can read the configuration now.
    kill_process(spawner, Signal::STOP).expect("it runs");
    agent.signal(Signal::HUP);
    let begun = manager.until("RELOADING=1");
    assert!(begun.iter().any(|message| message == "WATCHDOG=1"), "{begun:?}");
    let asked = Instant::now();
    agent.signal(Signal::TERM);
    manager.until("STOPPING=1");
    assert!(asked.elapsed() < Duration::from_secs(5), "it waited for the reload");
    kill_process(spawner, Signal::CONT).expect("it is there");
    assert_eq!(agent.wait(), Some(0));
}

#[test]
fn ready_comes_after_the_sockets_and_after_every_token_was_tried() {
    let manager = ServiceManager::new();
    let (mut agent, shim) = agent(&manager);
    agent.stop(Signal::TERM);
    manager.until("STOPPING=1");
    shim.plan("C_Login sleep 2000");
    agent.begin();
    agent.wait_until("the agent listens", |agent| Admin::open(&agent.sockets()).is_ok());
    let early = std::iter::from_fn(|| manager.message(Duration::from_millis(500)))
        .find(|said| said.contains("READY=1"));
    assert_eq!(early, None, "the token is being tried");
    manager.until("READY=1");
    AgentClient::open(&agent.sockets()).expect("the agent accepts");
    assert!(agent.tokens_are("healthy"));
}

#[test]
fn a_token_that_is_known_to_be_down_does_not_hold_up_the_start() {
    let manager = ServiceManager::new();
    let (mut agent, _shim) = agent(&manager);
    agent.stop(Signal::TERM);
    manager.until("STOPPING=1");
    let tokens = agent.token.tokens();
    std::fs::rename(&tokens, tokens.with_file_name("away")).expect("moved");
    agent.begin();
    let messages = manager.until("READY=1");
    let status = status(messages.last().expect("a message")).expect("a status").to_owned();
    assert!(status.starts_with("0 of 1 tokens healthy; hsm ") && status.contains(": "), "{status}");
    std::fs::rename(tokens.with_file_name("away"), &tokens).expect("moved back");
    manager.until("STATUS=1 of 1 tokens healthy");
}

#[test]
fn an_agent_that_nobody_manages_tells_nobody() {
    let environment = vec![("NOTIFY_SOCKET".to_owned(), "/nowhere/at/all".to_owned())];
    let agent =
        Agent::start_with(SoftHsm::new(), Launch { environment, ..Launch::default() }, BOT, "");
    assert!(agent.log().contains("the service manager cannot be told anything"));
}
