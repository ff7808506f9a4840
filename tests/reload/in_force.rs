//! The configuration in force and the lock stay until something takes their place as a whole.

use countersign_core::refusal::Code;
use rustix::process::Signal;

use crate::harness::agent::{Agent, BOT, ORDER, code};

#[test]
fn a_reload_is_all_or_nothing() {
    let agent = Agent::with_binance(BOT);
    let order = || code(agent.sign("binance-mm", "POST", "/api/v3/order", ORDER));
    agent.configure("keys = [\"binance-mm\"]\nscopes = [\"read\", \"no-such-scope\"]\n", "");
    agent.signal(Signal::HUP);
    agent.wait_until("the refused reload", |agent| agent.log().contains("no-such-scope"));
    assert_eq!(order(), None, "the old configuration stays in force");
    agent.configure("keys = [\"binance-mm\"]\nscopes = [\"read\"]\n", "");
    agent.signal(Signal::HUP);
    agent.wait_until("the new scopes", |_| order() == Some(Code::PolicyScope));
}

#[test]
fn the_lock_outlives_a_restart() {
    let mut agent = Agent::with_binance(BOT);
    agent.admin().lock().expect("locked");
    assert_eq!(
        code(agent.sign("binance-mm", "GET", "/api/v3/account", "{}")),
        Some(Code::AgentLocked)
    );
    agent.restart();
    assert_eq!(
        code(agent.sign("binance-mm", "GET", "/api/v3/account", "{}")),
        Some(Code::AgentLocked)
    );
    agent.admin().unlock().expect("unlocked");
    assert!(agent.sign("binance-mm", "GET", "/api/v3/account", "{}").is_ok());
}
