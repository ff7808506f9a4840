//! A trading token whose PIN is sealed takes one touch when its host starts, then none.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::agent::{Agent, SECRET};
use crate::harness::log_sink::{Kind, STOP, Sink};
use crate::harness::process_memory::{holds, memory};
use crate::harness::processes::is_gone;
use crate::harness::vault_agent::{VaultAgent, binance};

/// An agent whose trading token is sealed, and waits for its first touch.
fn sealed(reopen: &str) -> VaultAgent {
    let mut this = VaultAgent::start();
    this.agent
        .add("okx-wd", "okx", "key-id", SECRET, Some("p4ss"))
        .expect("enrolled, on the trading token");
    let file = this.agent.config_file();
    let text = fs::read_to_string(&file).expect("readable");
    let pin_file = this.agent.token.pin_file().to_owned();
    let sealed = format!("pin = {{ sealed_by = \"yk\", slot = \"9d\", reopen = \"{reopen}\" }}");
    let from = format!("pin = {{ file = \"{}\" }}", pin_file.display());
    assert!(text.contains(&from));
    fs::write(
        &file,
        text.replace(&from, &sealed)
            .replace("\"transfer\", \"withdraw\"]", "\"trade\", \"withdraw\"]"),
    )
    .expect("written");
    this.agent.stop(Signal::TERM);
    // As if it had been so from the first start: otherwise this is a looser configuration.
    fs::remove_file(this.agent.state_dir().join("accepted.toml")).expect("it was accepted");
    let made = this.command(&["init", "hsm", "--pin-file", pin_file.to_str().expect("UTF-8")]);
    assert!(
        made.status.success() && !pin_file.exists(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    this.desk.card.set_timeout(Duration::from_secs(8));
    this.agent.begin();
    this
}

fn state(agent: &Agent, token: &str) -> String {
    let status = agent.admin().status().expect("answered");
    status.tokens.iter().find(|entry| entry.name == token).expect("configured").state.clone()
}

/// Checks that the YubiKey blinks and that the token is closed before the touch, then touches.
fn touched(this: &VaultAgent) {
    assert!(this.desk.card.wait_blink(Duration::from_secs(10)), "it blinks: {}", this.agent.log());
    assert_ne!(state(&this.agent, "hsm"), "healthy");
    assert!(this.desk.card.press());
    is_open(this);
}

fn is_open(this: &VaultAgent) {
    this.agent.wait_until("the token is open", |agent| state(agent, "hsm") == "healthy");
}

fn signs(this: &VaultAgent) {
    this.agent
        .sign("okx-wd", "GET", "/api/v5/account/balance", "{}")
        .expect("signed without a touch");
}

fn process(this: &VaultAgent, word: &str) -> Option<i32> {
    this.agent.children().into_iter().find(|pid| {
        let is_host = word != "host" || holds_module(*pid);
        is_host
            && fs::read_to_string(format!("/proc/{pid}/cmdline"))
                .is_ok_and(|line| line.split('\0').any(|one| one == word))
    })
}

fn holds_module(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/maps")).is_ok_and(|maps| maps.contains("softhsm"))
}

/// Kills the process, as a crash would, and waits until it is gone.
fn killed(this: &VaultAgent, word: &str) {
    let pid = process(this, word).unwrap_or_else(|| panic!("no process {word}"));
    kill_process(Pid::from_raw(pid).expect("a pid"), Signal::KILL).expect("killed");
    this.agent.wait_until("it is gone", |agent| !agent.children().contains(&pid));
}

#[test]
fn a_sealed_trading_token_takes_one_touch_a_start_and_a_stolen_disk_opens_nothing() {
    let this = sealed("touch");
    let before = this.agreements();
    touched(&this);
    assert!(
        this.agent.log().contains("touch yk: it blinks, and opens the token hsm"),
        "{}",
        this.agent.log()
    );
    for _ in 0..5 {
        let params = r#"{"instId":"BTC-USDT","tdMode":"cash","side":"buy","ordType":"limit",
            "sz":"1","px":"1"}"#;
        this.agent
            .sign("okx-wd", "POST", "/api/v5/trade/order", params)
            .expect("signed without a touch");
    }
    assert_eq!(this.agreements() - before, 1);
    assert_eq!(process(&this, "keeper"), None, "nobody keeps its PIN");

    // If its host dies at night, nothing opens until somebody touches.
    killed(&this, "host");
    assert!(this.desk.card.wait_blink(Duration::from_secs(10)), "it asks again");
    assert!(this.agent.sign("okx-wd", "GET", "/api/v5/account/balance", "{}").is_err());
    this.fingers(true);
    is_open(&this);
    signs(&this);
    assert_eq!(this.agreements() - before, 2);
}

#[test]
fn a_kept_pin_opens_after_the_host_died_and_not_after_the_agent_did() {
    let mut this = sealed("keep-while-running");
    let before = this.agreements();
    touched(&this);
    for _ in 0..3 {
        killed(&this, "host");
        is_open(&this);
        signs(&this);
    }
    assert_eq!(this.agreements() - before, 1, "one touch for four hosts");
    this.agent.stop(Signal::TERM);
    this.agent.begin();
    touched(&this);
    signs(&this);
    assert_eq!(this.agreements() - before, 2, "another start, another touch");
    // A front that is killed takes the PIN with it.
    let keeper = process(&this, "keeper").expect("it keeps the PIN");
    this.agent.stop(Signal::KILL);
    this.agent.wait_until("nobody keeps it", |_| is_gone(keeper));
    this.agent.begin();
    touched(&this);
}

#[test]
fn where_the_keeper_died_or_the_sealed_pin_is_another_one_a_touch_opens() {
    let this = sealed("keep-while-running");
    touched(&this);
    killed(&this, "keeper");
    signs(&this);
    killed(&this, "host");
    touched(&this);
    signs(&this);
    this.fingers(true);
    let rotated = this.command(&["rotate", "hsm"]);
    assert!(rotated.status.success(), "{}", String::from_utf8_lossy(&rotated.stderr));
    this.fingers(false);
    killed(&this, "host");
    touched(&this);
    signs(&this);
}

/// The threat model says that no other process has it, not even the front.
#[test]
fn of_all_processes_the_keeper_alone_holds_a_kept_pin() {
    let this = sealed("keep-while-running");
    touched(&this);
    killed(&this, "host"); // so that the PIN was passed on once more
    is_open(&this);
    signs(&this);
    this.fingers(true);
    let pin = this.stolen_pin("hsm");
    let keeper = process(&this, "keeper").expect("it keeps the PIN");
    let processes = [
        vec![this.agent.pid() as i32],
        this.agent.spawner().into_iter().collect(),
        this.agent.children(),
    ];
    let processes = processes.concat();
    assert!(processes.len() >= 5, "front, spawner, keeper, hosts: {processes:?}");
    for pid in processes {
        assert_eq!(
            holds(&memory(pid as u32), pin.as_bytes()),
            pid == keeper,
            "process {pid}, the keeper is {keeper}"
        );
    }
    let read = |file: &str| fs::read_to_string(format!("/proc/{keeper}/{file}")).expect("readable");
    let status = read("status");
    let field =
        |name: &str| status.lines().find(|line| line.starts_with(name)).expect(name).to_owned();
    assert_ne!(field("VmLck:").split_whitespace().nth(1), Some("0"), "locked: {status}");
    assert_eq!(
        (field("Seccomp:"), field("NoNewPrivs:")),
        ("Seccomp:\t2".to_owned(), "NoNewPrivs:\t1".to_owned())
    );
    let limits = read("limits");
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).expect("there");
    assert_eq!(core.split_whitespace().filter(|word| *word == "0").count(), 2, "{core}");
    assert!(!read("maps").contains("softhsm"), "it has no module");
    // Its connections are to the front and to the spawner. It closes the connection to a host after
    // it gave the PIN.
    let descriptors = fs::read_dir(format!("/proc/{keeper}/fd")).expect("readable");
    let targets = descriptors.filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
    let sockets: std::collections::BTreeSet<_> =
        targets.filter(|target| target.to_string_lossy().starts_with("socket:")).collect();
    assert_eq!(sockets.len(), 2, "{sockets:?}");
}

/// Stops the agent in order and in time: it must not wait for its log.
fn stops(this: &mut VaultAgent) {
    let asked = std::time::Instant::now();
    assert_eq!(this.agent.stop(Signal::TERM), Some(0));
    assert!(asked.elapsed() < STOP, "{:?}", asked.elapsed());
}

#[test]
fn a_log_that_nobody_reads_holds_up_no_process_of_a_sealed_token() {
    let mut this = sealed("keep-while-running");
    for kind in [Kind::BlockedPipe, Kind::GonePipe] {
        this.agent.stop(Signal::TERM);
        let mut log = Sink::new(kind);
        log.spoil();
        this.agent.log_to(log.agents.try_clone().expect("copied"));
        this.agent.begin();
        touched(&this);
        signs(&this);
        killed(&this, "host");
        is_open(&this); // by the keeper
        signs(&this);
        stops(&mut this);
    }
}

#[test]
fn a_log_that_nobody_reads_holds_up_no_process_of_a_vault() {
    let mut this = VaultAgent::start();
    let mut log = Sink::new(Kind::BlockedPipe);
    log.spoil();
    this.agent.log_to(log.agents.try_clone().expect("copied"));
    this.agent.restart();
    // The enrol child and the vault host wait for a touch, and each writes that to the log.
    this.fingers(true);
    this.add("binance-wd", "binance", SECRET, None).expect("enrolled");
    let mut client = this.agent.client();
    let (key, path, params) = binance("0.5");
    let id = this.ask(&mut client, key, path, &params).expect("asked");
    this.approve(&id).expect("approved");
    VaultAgent::outcome(&mut client, &id).expect("signed");
    stops(&mut this);
}
