//! A token host and an enrol child, run as the front runs them.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use countersign_base::messages::enrol_child::{EnrolReply, EnrolRequest, KeyFacts, SecretEncoding};
use countersign_base::messages::frame::{self, Frames};
use countersign_base::messages::settings::TokenSettings;
use countersign_base::messages::token_host::{Bytes, FromHost, HostError, HostedKey, ToHost};
use countersign_core::algorithm::Algorithm;
use countersign_core::exchange::PassphraseKind;

use super::softhsm::AGENT;

/// A host that was started and has its settings.
#[derive(Debug)]
pub(crate) struct RunningHost {
    pub(crate) child: Child,
    pub(crate) stream: UnixStream,
    frames: Frames,
}

impl RunningHost {
    pub(crate) fn start(settings: &TokenSettings) -> Self {
        Self::start_with_environment(settings, &[])
    }

    pub(crate) fn start_with_environment(
        settings: &TokenSettings,
        environment: &[(&str, &str)],
    ) -> Self {
        let (ours, theirs) = UnixStream::pair().expect("a pair");
        let child = Command::new(AGENT)
            .arg("host")
            .env_clear()
            .envs(environment.iter().copied())
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .spawn()
            .expect("the agent runs");
        ours.set_read_timeout(Some(Duration::from_secs(20))).expect("settable");
        let mut host = Self { child, stream: ours, frames: Frames::default() };
        frame::send(&mut host.stream, settings).expect("sent");
        host
    }

    /// Starts a host that gets ready; returns it and its keys.
    pub(crate) fn ready(settings: &TokenSettings) -> (Self, Vec<HostedKey>) {
        let mut host = Self::start(settings);
        match host.receive() {
            FromHost::Ready { keys, .. } => (host, keys),
            other => panic!("not ready: {other:?}"),
        }
    }

    /// Starts a host that never gets ready; returns its error and its exit status.
    pub(crate) fn failure(settings: &TokenSettings) -> (HostError, ExitStatus) {
        let mut host = Self::start(settings);
        match host.receive() {
            FromHost::Broken(error) => (error, host.child.wait().expect("ends")),
            other => panic!("expected a failure: {other:?}"),
        }
    }

    pub(crate) fn send(&mut self, message: &ToHost<'_>) {
        frame::send(&mut self.stream, message).expect("sent");
    }

    pub(crate) fn receive(&mut self) -> FromHost {
        self.frames.receive(&mut self.stream).expect("an answer")
    }

    pub(crate) fn sign(&mut self, key: &str, algorithm: Algorithm, message: &[u8]) -> Vec<u8> {
        self.send(&ToHost::Sign { id: 7, key, algorithm, message: Bytes(message) });
        match self.receive() {
            FromHost::Signed { id: 7, signature, .. } => signature,
            other => panic!("no signature: {other:?}"),
        }
    }

    pub(crate) fn stop(mut self) {
        self.send(&ToHost::Stop);
        assert!(self.child.wait().expect("ends").success());
    }
}

impl Drop for RunningHost {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An operation of an enrol child, and every byte that went over its connection.
#[derive(Debug)]
pub(crate) struct Exchange {
    pub(crate) reply: EnrolReply,
    pub(crate) bytes: Vec<u8>,
}

/// Runs one operation; `input` is the content of the operator's pipe.
pub(crate) fn enrol(settings: &TokenSettings, request: &EnrolRequest, input: &str) -> Exchange {
    let (mut ours, theirs) = UnixStream::pair().expect("a pair");
    let (operator, mut entering) = std::io::pipe().expect("a pipe");
    let mut child = Command::new(AGENT)
        .arg("enrol")
        .env_clear()
        .stdin(OwnedFd::from(theirs))
        .stdout(operator)
        .spawn()
        .expect("the agent runs");
    let mut bytes = Vec::new();
    frame::encode(settings, &mut bytes).expect("encodes");
    frame::encode(request, &mut bytes).expect("encodes");
    ours.write_all(&bytes).expect("sent");
    entering.write_all(input.as_bytes()).expect("fits");
    drop(entering);
    let mut answer = Vec::new();
    std::io::Read::read_to_end(&mut ours, &mut answer).expect("ends");
    assert!(child.wait().expect("ends").success());
    bytes.extend_from_slice(&answer);
    let mut frames = Frames::default();
    frames.push(&answer);
    let reply = frames.take().expect("well formed").expect("whole");
    Exchange { reply, bytes }
}

/// Adds a key that must be accepted.
pub(crate) fn add(
    settings: &TokenSettings,
    name: &str,
    algorithm: Algorithm,
    encoding: SecretEncoding,
    secret: &str,
) -> KeyFacts {
    let input = serde_json::json!({"api_key": format!("id-{name}"), "secret": secret}).to_string();
    done(enrol(settings, &adding(name, algorithm, encoding, PassphraseKind::None), &input).reply)
}

pub(crate) fn adding(
    name: &str,
    algorithm: Algorithm,
    secret_encoding: SecretEncoding,
    passphrase: PassphraseKind,
) -> EnrolRequest {
    EnrolRequest::Add {
        name: name.to_owned(),
        exchange: "test".to_owned(),
        algorithms: vec![algorithm],
        secret_encoding,
        passphrase,
        enrolled_for: None,
    }
}

pub(crate) fn done(reply: EnrolReply) -> KeyFacts {
    match reply {
        EnrolReply::Done { facts } => facts,
        other => panic!("not done: {other:?}"),
    }
}
