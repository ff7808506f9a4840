//! The spawner does nothing but what the front may ask of it, whoever speaks to it.

use std::os::fd::{AsFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use countersign_base::messages::spawner::{ChildKind, FromSpawner, ToSpawner, receive, send};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::harness::agent::{Agent, BOT};
use crate::harness::processes::children_of;
use crate::harness::softhsm::AGENT;

/// A spawner, and the front's end of its connection.
struct Spawner {
    front: OwnedFd,
    process: Child,
}

impl Spawner {
    fn start(agent: &Agent) -> Self {
        let (front, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .expect("a pair");
        let patience = Some(Duration::from_secs(20));
        set_socket_timeout(&front, Timeout::Recv, patience).expect("a socket");
        let mut command = Command::new(AGENT);
        command.args(["spawner", "--confinement", "required", "--config"]);
        command.arg(agent.config_file()).env_clear().stdin(theirs).stdout(Stdio::null());
        let process = command.stderr(Stdio::null()).spawn().expect("it runs");
        drop(command);
        let spawner = Self { front, process };
        assert!(matches!(spawner.said(), Some(FromSpawner::Ready(_))));
        spawner
    }

    fn said(&self) -> Option<FromSpawner> {
        receive(&self.front).expect("a message or the end").map(|(message, _)| message)
    }
}

impl Drop for Spawner {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn a_spawner_that_is_told_anything_else_starts_nothing_and_ends() {
    let agent = Agent::start(BOT, "");
    let program = [&[1, 0, 2][..], b"/bin/sh"].concat();
    for (what, bytes) in [
        ("the path of a program", &b"/bin/sh"[..]),
        ("a host and the path of a program", &program),
        ("another kind of child", &[1, 0, 5, 0]),
        ("another kind of message", &[2, 0, 2, 0]),
        ("a message that is cut short", &[1, 0]),
        ("a message that is too long", &[0; 2000]),
    ] {
        let mut spawner = Spawner::start(&agent);
        rustix::io::write(&spawner.front, bytes).expect("sent");
        assert!(spawner.said().is_none(), "{what}: it answers nothing and closes");
        assert!(!spawner.process.wait().expect("it ends").success(), "{what}: it ends in error");
    }
    // The last byte alone makes the third a message.
    let spawner = Spawner::start(&agent);
    let (_ours, theirs) = std::os::unix::net::UnixStream::pair().expect("a pair");
    let host = ToSpawner::Start { id: 0, kind: ChildKind::Host, keeper: None };
    send(&spawner.front, &host, &[theirs.as_fd()]).expect("sent");
    let said = spawner.said();
    let Some(FromSpawner::Started { id: 0, pid }) = said else { panic!("{said:?}") };
    assert_eq!(children_of(spawner.process.id() as i32), [pid as i32], "a host and nothing else");
}
