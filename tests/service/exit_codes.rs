//! An agent or a command that cannot do its work says why, and ends with a documented code.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use super::logs::unknown_fields;
use crate::harness::agent::Agent;
use crate::harness::agent::BOT;
use crate::harness::log_sink::{Kind, Sink};
use crate::harness::machine;
use crate::harness::softhsm::AGENT;

#[test]
fn a_bad_configuration_shows_the_place_and_exits_with_78() {
    let mut agent = Agent::with_binance(BOT);
    agent.stop(Signal::TERM);
    agent.configure("keys = [\"binance-mm\"]\nscopes = [\"read\", \"withdrawal\"]\n", "");
    let run = agent.run_to_its_end();
    let text = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(78), "{text}");
    assert!(
        text.contains("agent.toml") && text.contains("withdrawal") && text.contains('^'),
        "{text}"
    );
}

#[test]
fn a_place_where_no_socket_can_be_exits_with_78() {
    let mut agent = Agent::with_binance(BOT);
    agent.stop(Signal::TERM);
    let socket = agent.path().join("agent.sock");
    fs::write(&socket, "no socket").expect("written");
    let run = agent.run_to_its_end();
    let text = String::from_utf8_lossy(&run.stderr);
    assert_eq!(run.status.code(), Some(78), "{text}");
    assert!(text.contains("is in the way"), "{text}");
}

#[test]
fn a_command_that_fails_has_an_exit_code_that_is_documented() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("file");
    fs::write(&file, "").expect("written");
    let run = |words: &[&str]| {
        let ran = Command::new(AGENT).args(words).output().expect("runs");
        (
            ran.status.code(),
            String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned(),
        )
    };
    let file = file.to_str().expect("UTF-8");
    let here = directory.path().to_str().expect("UTF-8");
    for (words, code, said) in [
        (&["pin-reset", "../hsm", "--state-dir", here][..], 2, "not the name of a token"),
        (&["pin-reset", "hsm", "--state-dir", here], 0, here),
        (&["pin-reset", "hsm", "--state-dir", file], 5, "cannot be kept"),
        (&["init-token", "--dir", file, "--label", "x"], 5, "countersign-agent: "),
    ] {
        let (ended, text) = run(words);
        assert_eq!(ended, Some(code), "{words:?}: {text}");
        assert!(text.contains(said), "{words:?}: {text}");
    }
}

/// Runs the agent's program with these outputs.
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
    machine::share();
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
    // An agent that does not start does not wait for a reader of its reason.
    for kind in [Kind::BlockedPipe, Kind::BlockedSocket, Kind::BlockedTerminal] {
        let mut sink = Sink::new(kind);
        sink.spoil();
        let status =
            ends(&["run", "--config", broken], null(), sink.agents.try_clone().expect("copied"));
        assert_eq!(status.code(), Some(78), "{kind:?}");
    }
    // A reader gets the whole text.
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
