//! A log that cannot be written: full, gone or blocked, from the start, while the agent runs, at a
//! reload, at the stop. The agent signs, starts its other processes, and stops in order and in time
//! all the same.

use std::fs::File;
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::ExitStatus;
use std::thread;

use rustix::fs::{MemfdFlags, OFlags, SealFlags, fcntl_add_seals, fcntl_setfl, memfd_create};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

use super::*;
use crate::faults::shim::Shim;

/// How long an order to stop may take.
pub(crate) const STOP: Duration = Duration::from_secs(2);

/// Where a log may go, and what may become of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    BlockedPipe,
    BlockedSocket,
    BlockedTerminal,
    ClosedTerminal,
    FullDevice,
    FullFile,
    GonePipe,
    GoneSocket,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Moment {
    Start,
    Running,
    Reload,
    Stop,
}

/// The test's end of it.
#[derive(Debug)]
pub(crate) struct Sink {
    kind: Kind,
    /// What those who log write to.
    pub(crate) agents: OwnedFd,
    /// Who reads it, unless it is a file.
    reader: Option<OwnedFd>,
    /// Of a terminal.
    path: Option<PathBuf>,
}

impl Sink {
    pub(crate) fn new(kind: Kind) -> Self {
        let mut path = None;
        let (agents, reader) = match kind {
            Kind::BlockedPipe | Kind::GonePipe => {
                let (reader, writer) = std::io::pipe().expect("a pipe");
                (OwnedFd::from(writer), Some(reader.into()))
            }
            Kind::BlockedSocket | Kind::GoneSocket => {
                let (ours, theirs) = UnixStream::pair().expect("a pair");
                (theirs.into(), Some(ours.into()))
            }
            Kind::BlockedTerminal | Kind::ClosedTerminal => {
                let (person, terminal, name) = terminal();
                path = Some(name);
                (terminal, Some(person))
            }
            Kind::FullDevice => {
                (File::options().write(true).open("/dev/full").expect("Linux").into(), None)
            }
            Kind::FullFile => {
                let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
                (memfd_create("log", flags).expect("a file"), None)
            }
        };
        Self { kind, agents, reader, path }
    }

    /// From now on nothing can be written to it.
    pub(crate) fn spoil(&mut self) {
        match self.kind {
            Kind::BlockedPipe | Kind::BlockedSocket => fill(&self.agents),
            Kind::BlockedTerminal => {
                rustix::termios::tcflow(&self.agents, rustix::termios::Action::OOff)
                    .expect("stopped");
            }
            Kind::FullFile => fcntl_add_seals(&self.agents, SealFlags::GROW).expect("sealed"),
            Kind::ClosedTerminal | Kind::FullDevice | Kind::GonePipe | Kind::GoneSocket => {
                self.reader = None
            }
        }
    }
}

fn terminal() -> (OwnedFd, OwnedFd, PathBuf) {
    let person = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)
        .expect("a pseudo terminal");
    grantpt(&person).expect("granted");
    unlockpt(&person).expect("unlocked");
    let name = PathBuf::from(
        ptsname(&person, Vec::new()).expect("has a name").into_string().expect("UTF-8"),
    );
    let terminal = open_terminal(&name).into();
    (person, terminal, name)
}

/// Until it takes no more; those who write to it wait, as before.
fn fill(writer: &OwnedFd) {
    fcntl_setfl(writer, OFlags::NONBLOCK).expect("set");
    for length in [4096, 1] {
        while rustix::io::write(writer, &[b'.'; 4096][..length]).is_ok() {}
    }
    fcntl_setfl(writer, OFlags::empty()).expect("set");
}

/// What every process has something to say of.
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

/// First one that is refused with many lines, then one that is loaded.
fn reload(agent: &Agent) {
    let sound = fs::read_to_string(agent.config_file()).expect("readable");
    fs::write(agent.config_file(), format!("{}{sound}", unknown_fields(50))).expect("written");
    agent.signal(Signal::HUP);
    thread::sleep(Duration::from_millis(200)); // else both are one
    fs::write(agent.config_file(), sound).expect("written");
    let loaded = |agent: &Agent| agent.journal().matches("\"config_loaded\"").count();
    let before = loaded(agent);
    agent.signal(Signal::HUP);
    agent.wait_until("the configuration is loaded", |agent| loaded(agent) > before);
}

fn unknown_fields(count: usize) -> String {
    (0..count).map(|number| format!("unknown_{number} = 1\n")).collect()
}

/// Ends it with an order to stop; says with which code, and after how long.
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
        // One that is closed later is the agent's own, whose kernel then sends it a hang-up.
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
        // Read from now on until the agent and this test are gone from the other end.
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

/// One run of the agent's program with its output there.
fn ends(words: &[&str], out: OwnedFd, error: OwnedFd) -> ExitStatus {
    let mut child = Command::new(AGENT)
        .args(words)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(error)
        .spawn()
        .expect("runs");
    let started = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("it is ours") {
            return status;
        }
        if started.elapsed() > Duration::from_secs(20) {
            let _ = child.kill();
            panic!("{words:?} goes on");
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_command_whose_output_cannot_be_written_ends_with_a_code() {
    crate::machine::share();
    let directory = tempfile::tempdir().expect("a directory");
    let broken = directory.path().join("agent.toml");
    fs::write(&broken, unknown_fields(5_000)).expect("written");
    let broken = broken.to_str().expect("UTF-8");
    let gone = || {
        let mut sink = Sink::new(Kind::GonePipe);
        sink.spoil();
        sink.agents
    };
    let full = || OwnedFd::from(File::options().write(true).open("/dev/full").expect("Linux"));
    let null = || OwnedFd::from(File::options().write(true).open("/dev/null").expect("Linux"));
    let state = directory.path().to_str().expect("UTF-8");
    for (words, code) in [
        (&["profiles"][..], 0),
        (&["profiles", "--json"], 0),
        (&["--help"], 0),
        (&["no-such-command"], 2),
        (&["check", "--config", broken], 78),
        (&["check", "--config", broken, "--json"], 78),
        (&["run", "--config", broken], 78),
        (&["vault", "show", "x", "--config", broken], 5),
        (&["pin-reset", "x", "--state-dir", state], 0),
    ] {
        for (kind, out, error) in [
            ("output gone", gone(), null()),
            ("errors gone", null(), gone()),
            ("output full", full(), null()),
            ("errors full", null(), full()),
        ] {
            let status = ends(words, out, error);
            let fails = kind == "output full" && status.code() == Some(5);
            assert!(status.code() == Some(code) || fails, "{words:?}, {kind}: {status}");
        }
    }
    // The reason for not starting does not wait for a reader either.
    for kind in [Kind::BlockedPipe, Kind::BlockedSocket, Kind::BlockedTerminal] {
        let mut sink = Sink::new(kind);
        sink.spoil();
        let status =
            ends(&["run", "--config", broken], null(), sink.agents.try_clone().expect("copied"));
        assert_eq!(status.code(), Some(78), "{kind:?}");
    }
    // And all of it reaches one who reads.
    let whole = directory.path().join("whole");
    let file = File::create(&whole).expect("made");
    assert_eq!(ends(&["run", "--config", broken], null(), file.into()).code(), Some(78));
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let reading = thread::spawn(move || std::io::read_to_string(reader).expect("text"));
    assert_eq!(ends(&["run", "--config", broken], null(), writer.into()).code(), Some(78));
    let read = reading.join().expect("read");
    assert!(read.len() > 4096, "more than goes into a pipe at once");
    assert_eq!(read, fs::read_to_string(whole).expect("text"));
}
