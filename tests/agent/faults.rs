//! Processes that die, configurations that are wrong, and what clients see of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::*;

/// The token host of this agent.
pub(super) fn host_of(agent: &Agent) -> i32 {
    *agent.children().first().expect("a host")
}

#[test]
fn a_killed_host_is_a_clear_error_and_back_within_a_second() {
    let agent = Agent::with_binance(BOT);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let load = scope.spawn(|| {
            let (mut client, mut errors) = (agent.client(), Vec::new());
            while !stop.load(Ordering::Relaxed) {
                let calls: Vec<_> =
                    (0..16).map(|_| call("binance-mm", "GET", "/api/v3/account", "{}")).collect();
                let replies = client.sign_all(&calls).expect("the agent stays");
                errors.extend(replies.into_iter().filter_map(Result::err));
            }
            errors
        });
        for _ in 0..3 {
            thread::sleep(Duration::from_millis(200));
            let killed = Instant::now();
            kill_process(Pid::from_raw(host_of(&agent)).expect("a pid"), Signal::KILL)
                .expect("killed");
            thread::sleep(Duration::from_millis(1));
            while agent.sign("binance-mm", "GET", "/api/v3/account", "{}").is_err() {
                assert!(killed.elapsed() < Duration::from_secs(1), "log:\n{}", agent.log());
            }
            // The breaker counts hosts that died young; one that worked for a second is forgiven.
            thread::sleep(Duration::from_millis(1200));
        }
        stop.store(true, Ordering::Relaxed);
        for error in load.join().expect("the load ends") {
            assert_eq!(code::<()>(Err(error)), Some(Code::TokenUnavailable));
        }
    });
}

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
fn no_process_outlives_the_front() {
    let mut agent = Agent::with_binance(BOT);
    let mut processes = agent.children();
    processes.extend(agent.spawner());
    assert_eq!(processes.len(), 2);
    agent.stop(Signal::KILL);
    agent.wait_until("all are gone", |_| processes.iter().all(|pid| is_gone(*pid)));
}

/// Whether a process that is not ours has ended; the machine's first process may be slow to reap
/// it.
pub(crate) fn is_gone(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    status.is_empty() || status.contains(") Z ")
}

#[test]
fn a_bad_configuration_shows_the_place_and_exits_with_78() {
    let mut agent = Agent::with_binance(BOT);
    agent.stop(Signal::TERM);
    agent.configure("keys = [\"binance-mm\"]\nscopes = [\"read\", \"withdrawal\"]\n", "");
    let run = Command::new(AGENT)
        .args(["run", "--config"])
        .arg(agent.config_file())
        .output()
        .expect("runs");
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
    let run = Command::new(AGENT)
        .args(["run", "--config"])
        .arg(agent.config_file())
        .output()
        .expect("runs");
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

#[test]
fn a_damaged_journal_stops_the_start_with_78() {
    let mut agent = Agent::with_binance(BOT);
    agent.sign("binance-mm", "GET", "/api/v3/account", "{}").expect("signed");
    agent.stop(Signal::TERM);
    let segment = agent.state_dir().join("journal/000001.jsonl");
    let text = fs::read_to_string(&segment).expect("a segment");
    fs::write(&segment, text.replacen("binance-mm", "binance-xx", 1)).expect("written");
    let run = Command::new(AGENT)
        .args(["run", "--config"])
        .arg(agent.config_file())
        .output()
        .expect("runs");
    assert_eq!(run.status.code(), Some(78));
    assert!(String::from_utf8_lossy(&run.stderr).contains("countersign audit verify"));
}

#[test]
fn a_second_agent_is_refused() {
    let agent = Agent::with_binance(BOT);
    let run = Command::new(AGENT)
        .args(["run", "--config"])
        .arg(agent.config_file())
        .output()
        .expect("runs");
    assert!(!run.status.success());
    assert!(
        agent.sign("binance-mm", "GET", "/api/v3/account", "{}").is_ok(),
        "the first one goes on"
    );
}

#[test]
fn a_wrong_pin_is_tried_once_and_exits_with_78() {
    let mut agent = Agent::with_binance(BOT);
    agent.stop(Signal::TERM);
    let right = agent.token.pin();
    fs::write(agent.token.pin_file(), "wrong-pin").expect("written");
    for start in 0..5 {
        let run = Command::new(AGENT)
            .args(["run", "--config"])
            .arg(agent.config_file())
            .output()
            .expect("runs");
        let text = String::from_utf8_lossy(&run.stderr);
        assert_eq!(run.status.code(), Some(78), "{text}");
        let said =
            if start == 0 { "the token refused the PIN" } else { "the PIN was refused before" };
        assert!(
            text.contains(said) && text.contains("countersign-agent pin-reset hsm --state-dir"),
            "{text}"
        );
        assert!(!text.contains("wrong-pin"));
    }
    fs::write(agent.token.pin_file(), right).expect("written");
    agent.restart();
    assert!(
        agent.sign("binance-mm", "GET", "/api/v3/account", "{}").is_ok(),
        "a corrected file is another source"
    );
}

#[test]
fn the_directory_of_a_clients_socket_is_what_outlives_a_restart() {
    let uid = rustix::process::getuid().as_raw();
    let client = format!(
        "\n[client.boxed]\nuser = {uid}\nsocket = \"DIR/boxed/agent.sock\"\nkeys = \
         [\"binance-mm\"]\nscopes = [\"read\"]\n"
    );
    let mut agent = Agent::start(BOT, &client);
    agent.add("binance-mm", "binance", API_KEY, SECRET, None).expect("enrolled");
    // As a container has them mounted: by what they are, not by their names.
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let open = |name: &str| {
        let path = agent.path().join(name);
        rustix::fs::open(path, flags, rustix::fs::Mode::empty()).expect("it is there")
    };
    let (directory, socket) = (open("boxed"), open("boxed/agent.sock"));
    let reached = |descriptor: &OwnedFd, rest: &str| {
        let number = std::os::fd::AsRawFd::as_raw_fd(descriptor);
        let sockets = Sockets::at(PathBuf::from(format!("/proc/self/fd/{number}{rest}")));
        Client::open(&sockets).is_ok_and(|mut client| client.keys().is_ok())
    };
    assert!(reached(&directory, "/agent.sock") && reached(&socket, ""));
    agent.restart();
    assert!(reached(&directory, "/agent.sock"), "the directory");
    assert!(!reached(&socket, ""), "the socket of before");
}
