//! A trading token whose PIN is sealed: one touch when its host starts, then none.

use super::*;
use crate::agent::SECRET;

fn state(agent: &Agent, token: &str) -> String {
    let status = agent.admin().status().expect("answered");
    status.tokens.iter().find(|entry| entry.name == token).expect("configured").state.clone()
}

#[test]
fn a_sealed_trading_token_takes_one_touch_a_start_and_a_stolen_disk_opens_nothing() {
    let mut this = VaultAgent::start();
    this.agent.add("okx-wd", "okx", "key-id", SECRET, Some("p4ss")).expect("enrolled, on the trading token");
    let file = this.agent.config_file();
    let text = fs::read_to_string(&file).expect("readable");
    let pin_file = this.agent.token.pin_file().to_owned();
    let sealed = "pin = { sealed_by = \"yk\", slot = \"9d\", reopen = \"touch\" }";
    let from = format!("pin = {{ file = \"{}\" }}", pin_file.display());
    assert!(text.contains(&from));
    fs::write(&file, text.replace(&from, sealed).replace("\"transfer\", \"withdraw\"]", "\"trade\", \"withdraw\"]"))
        .expect("written");
    this.agent.stop(rustix::process::Signal::TERM);
    // As if it had been so from the first start: it allows more than before.
    fs::remove_file(this.agent.state_dir().join("accepted.toml")).expect("it was accepted");
    let made = this.command(&["init", "hsm", "--pin-file", pin_file.to_str().expect("UTF-8")]);
    assert!(made.status.success() && !pin_file.exists(), "{}", String::from_utf8_lossy(&made.stderr));

    this.desk.card.set_timeout(Duration::from_secs(8));
    let before = this.agreements();
    this.agent.begin();
    assert!(this.desk.card.wait_blink(Duration::from_secs(10)), "it blinks: {}", this.agent.log());
    assert_ne!(state(&this.agent, "hsm"), "healthy");
    assert!(this.desk.card.press());
    this.agent.wait_until("the token is open", |agent| state(agent, "hsm") == "healthy");
    assert!(this.agent.log().contains("touch yk: it blinks, and opens the token hsm"), "{}", this.agent.log());
    for _ in 0..5 {
        let params = r#"{"instId":"BTC-USDT","tdMode":"cash","side":"buy","ordType":"limit","sz":"1","px":"1"}"#;
        this.agent.sign("okx-wd", "POST", "/api/v5/trade/order", params).expect("signed without a touch");
    }
    assert_eq!(this.agreements() - before, 1);

    // Its host dies at night: nothing opens until somebody touches.
    let host = this.agent.children().into_iter().find(|pid| holds_module(*pid)).expect("a host");
    rustix::process::kill_process(rustix::process::Pid::from_raw(host).expect("a pid"), rustix::process::Signal::KILL)
        .expect("killed");
    assert!(this.desk.card.wait_blink(Duration::from_secs(10)), "it asks again");
    assert!(this.agent.sign("okx-wd", "GET", "/api/v5/account/balance", "{}").is_err());
    this.fingers(true);
    this.agent.wait_until("the token is open", |agent| state(agent, "hsm") == "healthy");
    this.agent.sign("okx-wd", "GET", "/api/v5/account/balance", "{}").expect("signed");
    assert_eq!(this.agreements() - before, 2);
}

fn holds_module(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/maps")).is_ok_and(|maps| maps.contains("softhsm"))
}
