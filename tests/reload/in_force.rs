//! The configuration in force and the lock stay until something takes their place as a whole.

use countersign_core::refusal::Code;
use rustix::process::Signal;

use crate::harness::agent::{Agent, BOT, ORDER, code};

#[test]
fn a_reload_is_all_or_nothing() {
    let agent = Agent::with_binance(BOT);
    let order = || code(agent.sign("binance-mm", "POST", "/api/v3/order", ORDER));
    let read_only = "keys = [\"binance-mm\"]\nscopes = [\"read\"]\n";
    let other =
        "\n[client.other]\nuser = 1\nkeys = []\nscopes = [\"SCOPE\"]\nsocket = \"SOCKET\"\n";
    let elsewhere = "/tmp/countersign-elsewhere/other.sock";
    // Each has good fields beside a bad one. The good ones must not come into force alone.
    for (scope, socket, refusal) in [
        ("no-such-scope", "DIR/other.sock", "no-such-scope"),
        ("read", elsewhere, "a directory that was not in use at the start needs a restart"),
    ] {
        let other = other.replace("SCOPE", scope).replace("SOCKET", socket);
        agent.configure(read_only, &other);
        agent.signal(Signal::HUP);
        agent.wait_until("the refused reload", |agent| agent.log().contains(refusal));
        assert_eq!(order(), Ok(()), "{refusal}: the old scopes stay in force");
        assert!(!agent.path().join("other.sock").exists(), "{refusal}: no socket is opened");
    }
    agent.configure(read_only, "");
    agent.signal(Signal::HUP);
    agent.wait_until("the new scopes", |_| order() == Err(Code::PolicyScope));
}

#[test]
fn the_lock_outlives_a_restart() {
    let mut agent = Agent::with_binance(BOT);
    agent.admin().lock().expect("locked");
    assert_eq!(
        code(agent.sign("binance-mm", "GET", "/api/v3/account", "{}")),
        Err(Code::AgentLocked)
    );
    agent.restart();
    assert_eq!(
        code(agent.sign("binance-mm", "GET", "/api/v3/account", "{}")),
        Err(Code::AgentLocked)
    );
    agent.admin().unlock().expect("unlocked");
    assert!(agent.sign("binance-mm", "GET", "/api/v3/account", "{}").is_ok());
}
