//! The sockets themselves: their modes, one agent for each, a reload, a stop, a restart.

use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::PathBuf;
use std::time::Duration;

use countersign::{AgentClient, Sockets};

use crate::harness::agent::{API_KEY, Agent, BOT, SECRET};
use crate::harness::byte_client::extension;
use crate::harness::served::{self, Served, endpoints, in_runtime, quick};

#[test]
fn sockets_have_the_modes_of_those_who_may_connect() {
    let served = Served::start(quick());
    for (name, mode) in [("agent.sock", 0o666), ("bot.sock", 0o666), ("admin.sock", 0o600)] {
        let found = std::fs::symlink_metadata(served.path(name)).expect("the socket is there");
        assert!(found.file_type().is_socket());
        assert_eq!(found.permissions().mode() & 0o777, mode, "{name}");
    }
    let names = std::fs::read_dir(served.directory.path()).expect("readable").count();
    assert_eq!(names, 6, "three sockets, three locks, nothing left of their making");
}

#[test]
fn a_second_agent_is_refused_and_harms_nothing() {
    let served = Served::start(quick());
    in_runtime(async {
        let mut second = countersign_front::sockets::server::Server::new(
            std::rc::Rc::new(served::ByName),
            quick(),
            Default::default(),
        )
        .expect("threads");
        let error = second.listen(endpoints(served.directory.path())).expect_err("refused");
        assert!(
            matches!(error, countersign_front::sockets::socket::SocketError::AnotherAgent(_)),
            "{error}"
        );
    });
    assert_eq!(served.connect().ask("echo@countersign", "in"), "in");
}

#[test]
fn a_second_agent_is_refused() {
    let agent = Agent::with_binance(BOT);
    let run = agent.run_to_its_end();
    assert!(!run.status.success());
    assert!(
        agent.sign("binance-mm", "GET", "/api/v3/account", "{}").is_ok(),
        "the first one goes on"
    );
}

#[test]
fn a_reload_opens_all_its_sockets_or_none() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = |name: &str| directory.path().join(name);
    in_runtime(async {
        let mut server = countersign_front::sockets::server::Server::new(
            std::rc::Rc::new(served::ByName),
            quick(),
            Default::default(),
        )
        .expect("threads");
        let mut wanted = endpoints(directory.path());
        server.listen(wanted.clone()).expect("the sockets open");
        wanted.remove(2);
        wanted.push(countersign_base::config::listener::ListenerConfig {
            path: "/nonexistent/directory/new.sock".into(),
            kind: countersign_base::config::listener::ListenerKind::Agent,
        });
        server.listen(wanted.clone()).expect_err("one cannot be opened");
        assert!(path("bot.sock").exists(), "so the others stay as they were");
        wanted[2].path = path("new.sock");
        drop(server.prepare(wanted.clone()).expect("all can be opened"));
        assert!(
            path("bot.sock").exists() && !path("new.sock").exists(),
            "and so they do where the reload fails later"
        );
        server.listen(wanted.clone()).expect("all can be opened");
        assert!(!path("bot.sock").exists() && path("new.sock").exists());
    });
}

#[test]
fn a_stop_answers_what_was_asked_and_removes_the_sockets() {
    let mut served = Served::start(quick());
    let mut client = served.connect();
    let mut idle = served.connect();
    assert_eq!(idle.ask("echo@countersign", "in"), "in");
    client.send(&extension("sleep@countersign", "400"));
    std::thread::sleep(Duration::from_millis(100));
    served.stop();
    assert_eq!(idle.answer(), None);
    assert!(!served.path("agent.sock").exists() && !served.path("admin.sock").exists());
    assert_eq!(client.answer().as_deref(), Some("400"));
    assert_eq!(client.answer(), None);
    served.finish();
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
        AgentClient::open(&sockets).is_ok_and(|mut client| client.keys().is_ok())
    };
    assert!(reached(&directory, "/agent.sock") && reached(&socket, ""));
    agent.restart();
    assert!(reached(&directory, "/agent.sock"), "the directory");
    assert!(!reached(&socket, ""), "the socket of before");
}
