//! A log that cannot be written does not hold up the agent. It signs, starts its other processes,
//! and stops in order and in time. The log is full, gone or blocked, from the start, while the
//! agent runs, at a reload or at the stop.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::harness::agent::{API_KEY, Agent, BOT, Launch, SECRET};
use crate::harness::log_sink::{Kind, STOP, Sink};
use crate::harness::shim::Shim;
use crate::harness::softhsm::SoftHsm;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Moment {
    Start,
    Running,
    Reload,
    Stop,
}

/// Has every process write to the log.
fn keep_busy(agent: &Agent, round: usize) {
    sign(agent);
    let host = *agent.children().first().expect("a host");
    kill_process(Pid::from_raw(host).expect("a pid"), Signal::KILL).expect("killed");
    agent.wait_until("another host is there", |agent| {
        agent.children().first().is_some_and(|other| *other != host)
    });
    agent.wait_until("the token is healthy", |agent| agent.tokens_are("healthy"));
    agent.add(&format!("k{round}"), "binance", API_KEY, SECRET, None).expect("enrolled by a child");
    reload(agent);
    sign(agent);
}

fn sign(agent: &Agent) {
    let asked = Instant::now();
    agent.sign("binance-mm", "GET", "/api/v3/account", "{}").expect("signed");
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
}

/// Reloads twice: the first is refused with many lines, the second is loaded.
fn reload(agent: &Agent) {
    let sound = fs::read_to_string(agent.config_file()).expect("readable");
    fs::write(agent.config_file(), format!("{}{sound}", unknown_fields(50))).expect("written");
    agent.signal(Signal::HUP);
    thread::sleep(Duration::from_millis(200)); // else both signals are one
    fs::write(agent.config_file(), sound).expect("written");
    let loaded = |agent: &Agent| agent.journal().matches("\"config_loaded\"").count();
    let before = loaded(agent);
    agent.signal(Signal::HUP);
    agent.wait_until("the configuration is loaded", |agent| loaded(agent) > before);
}

pub(super) fn unknown_fields(count: usize) -> String {
    (0..count).map(|number| format!("unknown_{number} = 1\n")).collect()
}

/// Orders the agent to stop; returns its exit code and the time it took.
fn stop(agent: &mut Agent) -> (Option<i32>, Duration) {
    let asked = Instant::now();
    let code = agent.stop(Signal::TERM);
    (code, asked.elapsed())
}

fn goes_on(kind: Kind) {
    let launch = Launch { log: Some(Sink::new(kind).agents), ..Launch::default() };
    let mut agent = Agent::start_with(SoftHsm::new(), launch, BOT, "");
    agent.add("binance-mm", "binance", API_KEY, SECRET, None).expect("enrolled");
    for (round, moment) in
        [Moment::Start, Moment::Running, Moment::Reload, Moment::Stop].into_iter().enumerate()
    {
        let mut sink = Sink::new(kind);
        let log = sink.agents.try_clone().expect("copied");
        // A terminal that is closed later is the agent's controlling terminal: the kernel then
        // sends the agent a hang-up.
        let own =
            sink.path.clone().filter(|_| kind == Kind::ClosedTerminal && moment != Moment::Start);
        let mut sink_at = |now: Moment| {
            if now == moment {
                sink.spoil();
            }
        };
        sink_at(Moment::Start);
        agent.stop(Signal::TERM);
        agent.launch.log = Some(log);
        agent.launch.wrapper =
            own.iter().flat_map(|_| ["setsid", "--ctty"]).map(str::to_owned).collect();
        agent.launch.terminal = own;
        agent.restart();
        sink_at(Moment::Running);
        sign(&agent);
        sink_at(Moment::Reload);
        keep_busy(&agent, round);
        sink_at(Moment::Stop);
        let (code, took) = stop(&mut agent);
        assert_eq!(code, Some(0), "{kind:?} {moment:?}");
        assert!(took < STOP, "{kind:?} {moment:?}: {took:?}");
        assert!(
            agent.journal().lines().last().expect("a record").contains("\"closed\""),
            "{kind:?} {moment:?}"
        );
    }
}

#[test]
fn a_pipe_that_nobody_reads_stops_nothing() {
    goes_on(Kind::BlockedPipe);
}

#[test]
fn a_socket_that_nobody_reads_stops_nothing() {
    goes_on(Kind::BlockedSocket);
}

#[test]
fn a_terminal_that_is_held_stops_nothing() {
    goes_on(Kind::BlockedTerminal);
}

#[test]
fn a_terminal_that_is_closed_ends_nothing() {
    goes_on(Kind::ClosedTerminal);
}

#[test]
fn a_full_device_ends_nothing() {
    goes_on(Kind::FullDevice);
}

#[test]
fn a_full_file_ends_nothing() {
    goes_on(Kind::FullFile);
}

#[test]
fn a_pipe_whose_reader_has_gone_ends_nothing() {
    goes_on(Kind::GonePipe);
}

#[test]
fn a_log_service_that_has_gone_ends_nothing() {
    goes_on(Kind::GoneSocket);
}

#[test]
fn an_enrolment_at_a_terminal_that_is_held_does_not_hold_up_the_stop() {
    let mut agent = Agent::start(BOT, "");
    let mut sink = Sink::new(Kind::BlockedTerminal);
    sink.spoil();
    let register = agent.register("new", "binance", None);
    let mut asking = agent.admin();
    let sent = asking.connection().send_with_descriptor(
        "register@countersign",
        &register,
        sink.agents.as_fd(),
    );
    sent.expect("sent");
    agent.wait_until("the child asks", |agent| agent.children().len() == 2);
    thread::sleep(Duration::from_millis(300)); // it has come to its question
    let (code, took) = stop(&mut agent);
    assert_eq!(code, Some(0));
    assert!(took < STOP, "{took:?}");
}

#[test]
fn a_module_that_prints_is_not_stopped_and_what_was_lost_is_counted() {
    let token = SoftHsm::new();
    let shim = Shim::of(token.module());
    let mut sink = Sink::new(Kind::BlockedPipe);
    let launch = Launch {
        module: Some(shim.module()),
        log: Some(sink.agents.try_clone().expect("copied")),
        ..Launch::default()
    };
    let mut agent = Agent::start_with(token, launch, BOT, "");
    agent.add("binance-mm", "binance", API_KEY, SECRET, None).expect("enrolled");
    sink.spoil();
    shim.plan("C_Sign print 200");
    (0..12).for_each(|_| sign(&agent));
    shim.plan("");
    reload(&agent);
    sign(&agent);

    let mut reader = File::from(sink.reader.take().expect("it is there"));
    let reading = thread::spawn(move || {
        let (mut read, mut part) = (Vec::new(), [0; 65536]);
        // Reads until neither the agent nor this test has the other end open.
        while let Ok(length @ 1..) = reader.read(&mut part) {
            read.extend_from_slice(&part[..length]);
        }
        String::from_utf8_lossy(&read).into_owned()
    });
    thread::sleep(Duration::from_millis(500)); // what was kept for the reader has gone to it
    reload(&agent);
    assert_eq!(stop(&mut agent).0, Some(0));
    agent.launch.log = None;
    drop(sink);
    let log = reading.join().expect("read");
    let (_, after) = log
        .split_once(" lines of this log could not be written and are lost\n")
        .expect("it is said");
    assert!(after.contains("the configuration was not loaded"), "{after}");
    assert!(after.ends_with("the agent stops\n"), "the last words: {after}");
}

#[test]
fn a_hang_up_while_the_agent_starts_does_not_end_it() {
    let mut agent = Agent::start(BOT, "");
    for _ in 0..5 {
        agent.stop(Signal::TERM);
        agent.begin();
        let started = Instant::now();
        while agent.spawner().is_none() {
            assert!(started.elapsed() < Duration::from_secs(10), "log:\n{}", agent.log());
        }
        agent.signal(Signal::HUP);
        agent.wait_until("the token is healthy", |agent| agent.tokens_are("healthy"));
    }
}
