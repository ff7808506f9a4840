//! A token host for tests that answers, hangs, dies or sends nonsense, and the front's supervisor
//! for it. This test program is started again as the host, and again as the spawner.

use std::ffi::OsString;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use countersign_agent::spawner::{self, Programs};
use countersign_base::messages::confinement::{ConfinementReport, Demand};
use countersign_base::messages::token_host::{
    FromHost, HostError, HostedKey, Passphrase, ToHost, TokenFacts,
};
use countersign_core::algorithm::Algorithm;
use countersign_core::ports::TokenError;
use countersign_front::tokens::host_handle::{Deadlines, HostHandle};
use countersign_front::tokens::spawner::{Launched, Spawner};
use countersign_front::tokens::supervisor::{HostConfig, Supervisor};
use countersign_front::tokens::token_status::TokenState;
use zeroize::Zeroizing;

use super::machine;

/// The fake host: this test program, started again. Its settings or the message to sign say what it
/// does.
#[test]
#[ignore = "the host that the supervisor starts"]
fn as_a_host() {
    let input = rustix::io::dup(rustix::stdio::stdin()).expect("the socket");
    let mut front = UnixStream::from(input);
    let settings = String::from_utf8(frame(&mut front).expect("the settings")).expect("text");
    let mut starts =
        std::fs::OpenOptions::new().append(true).create(true).open(&settings[1..]).expect("a log");
    let environment: Vec<_> = std::env::vars().collect();
    writeln!(starts, "{} {environment:?} {}", std::process::id(), open_sockets()).expect("written");
    match &settings[..1] {
        "d" => std::process::exit(3),
        "g" => front.write_all(&[0xff; 64]).expect("the front reads"),
        "p" => {
            return say(
                &mut front,
                &FromHost::Broken(HostError::PinRefused("CKR_PIN_INCORRECT".into())),
            );
        }
        "s" => std::thread::sleep(Duration::from_secs(3600)),
        _ => say(
            &mut front,
            &FromHost::Ready {
                token: facts(),
                keys: vec![key()],
                limits: ConfinementReport::default(),
            },
        ),
    }
    while let Some(request) = frame(&mut front) {
        match postcard::from_bytes(&request).expect("a request") {
            ToHost::Rescan => say(&mut front, &FromHost::Keys(vec![key(), key()])),
            ToHost::SelfTest { .. } if &settings[..1] == "h" => {
                std::thread::sleep(Duration::from_secs(3600))
            }
            ToHost::SelfTest { id } if &settings[..1] == "f" => {
                say(
                    &mut front,
                    &FromHost::Failed { id, error: HostError::Token("CKR_FUNCTION_FAILED".into()) },
                );
            }
            ToHost::SelfTest { id } => say(&mut front, &FromHost::SelfTested { id }),
            ToHost::Stop if &settings[..1] == "u" => {}
            ToHost::Stop => return,
            ToHost::Sign { id, message, .. } => sign(&mut front, id, message.0),
        }
    }
}

/// The spawner: this test program, started again, which starts it once more as the fake host.
#[test]
#[ignore = "the spawner of the tests here"]
fn as_a_spawner() {
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).expect("the socket");
    rustix::io::fcntl_setfd(rustix::stdio::stdin(), rustix::io::FdFlags::CLOEXEC)
        .expect("settable");
    let programs = Programs {
        host: fake("as_a_host"),
        ..Programs::of_agent(Path::new("/nonexistent"), &[], None)
    };
    spawner::run(control, programs, Demand::Required, false).expect("the front ends it");
}

#[test]
#[ignore = "a spawner that can start nothing"]
fn as_a_spawner_without_a_program() {
    let control = rustix::io::fcntl_dupfd_cloexec(rustix::stdio::stdin(), 3).expect("the socket");
    let programs = Programs {
        program: "/nonexistent".into(),
        ..Programs::of_agent(Path::new("/nonexistent"), &[], None)
    };
    spawner::run(control, programs, Demand::Required, false).expect("the front ends it");
}

fn fake(test: &str) -> Vec<OsString> {
    [&format!("harness::fake_host::{test}"), "--exact", "--ignored", "--nocapture"]
        .map(Into::into)
        .to_vec()
}

pub(crate) fn spawner(test: &str) -> Spawner {
    let program = std::env::current_exe().expect("the test program");
    Launched::launch(&program, fake(test)).expect("started").connect().expect("a conversation")
}

fn open_sockets() -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("readable").flatten();
    descriptors
        .filter_map(|descriptor| std::fs::read_link(descriptor.path()).ok())
        .filter(|target| target.to_string_lossy().starts_with("socket:"))
        .count()
}

fn sign(front: &mut UnixStream, id: u64, message: &[u8]) {
    match message {
        b"hang" => std::thread::sleep(Duration::from_secs(3600)),
        b"die" => {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL)
                .expect("dies")
        }
        b"garbage" => front.write_all(&[2, 0, 0, 0, 77, 77]).expect("the front reads"),
        b"unasked" => say(front, &FromHost::SelfTested { id: id + 1000 }),
        b"fail" => say(front, &FromHost::Failed { id, error: HostError::KeyUnknown("k".into()) }),
        b"silent" => {}
        b"count what waits" => {
            let waiting =
                rustix::io::ioctl_fionread(&*front).expect("a socket").to_string().into_bytes();
            say(front, &FromHost::Signed { id, signature: waiting, passphrase: None });
        }
        _ => {
            let passphrase = Some(Passphrase(Zeroizing::new("open sesame".into())));
            say(front, &FromHost::Signed { id, signature: message.to_vec(), passphrase });
        }
    }
}

fn frame(front: &mut UnixStream) -> Option<Vec<u8>> {
    let mut length = [0; 4];
    front.read_exact(&mut length).ok()?;
    let mut body = vec![0; u32::from_le_bytes(length) as usize];
    front.read_exact(&mut body).expect("a whole frame");
    Some(body)
}

fn say(front: &mut UnixStream, message: &FromHost) {
    let body = postcard::to_stdvec(message).expect("encodes");
    if front.write_all(&[&(body.len() as u32).to_le_bytes(), &body[..]].concat()).is_err() {
        std::process::exit(1); // the front has hung up, and kills us next
    }
}

pub(crate) fn facts() -> TokenFacts {
    TokenFacts { label: "fake".into(), ..TokenFacts::default() }
}

pub(crate) fn key() -> HostedKey {
    HostedKey {
        name: "k".into(),
        algorithm: Algorithm::HmacSha256,
        api_key: None,
        has_passphrase: true,
        public_key_der: None,
        working_copy: true,
    }
}

/// A supervised fake host and the log of its starts.
pub(crate) struct Supervised {
    pub(crate) token: HostHandle,
    log: tempfile::NamedTempFile,
}

impl Supervised {
    pub(crate) fn start(behaviour: &str) -> Self {
        machine::share();
        let log = tempfile::NamedTempFile::new().expect("a file");
        let config = HostConfig {
            name: "hsm".to_owned(),
            settings: format!("{behaviour}{}", log.path().display()).into_bytes(),
            keeps_pin: false,
            deadlines: Deadlines {
                start: Duration::from_secs(5),
                sign: Duration::from_millis(500),
                stop: Duration::from_millis(500),
                idle: Duration::from_millis(200),
            },
        };
        let token = Supervisor::start(config, spawner("as_a_spawner"));
        Self { token, log }
    }

    pub(crate) async fn healthy(behaviour: &str) -> Self {
        let supervised = Self::start(behaviour);
        supervised.becomes(TokenState::Healthy).await;
        supervised
    }

    pub(crate) async fn becomes(&self, state: TokenState) {
        let mut status = self.token.subscribe();
        let changed = status.wait_for(|status| status.state == state);
        tokio::time::timeout(Duration::from_secs(10), changed)
            .await
            .expect("in time")
            .expect("the supervisor runs");
    }

    pub(crate) async fn sign(&self, message: &str) -> Result<Vec<u8>, TokenError> {
        self.token
            .sign("k", Algorithm::HmacSha256, message.as_bytes())
            .await
            .map(|signature| signature.bytes)
    }

    pub(crate) fn starts(&self) -> Vec<String> {
        std::fs::read_to_string(self.log.path())
            .expect("readable")
            .lines()
            .map(str::to_owned)
            .collect()
    }

    pub(crate) fn process(&self) -> i32 {
        self.starts()
            .last()
            .and_then(|line| line.split(' ').next()?.parse().ok())
            .expect("it has started")
    }
}
