//! An agent with two tokens, of which faults happen to one: each fault shows what its clients see,
//! what the journal holds, and what the clients of the other token feel meanwhile.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use countersign::Error;
use countersign_core::refusal::Code;
use countersign_core::wire::SignReply;
use countersign_core::wire::admin::Register;

use super::agent::{API_KEY, Agent, Launch, SECRET, call};
use super::machine;
use super::shim::Shim;
use super::softhsm::SoftHsm;
use super::timing::{StopAtEnd, percentile_99};

/// An agent with two tokens: `hsm` is behind the shim, and nothing happens to `steady`.
pub(crate) struct Scene {
    pub(crate) agent: Agent,
    pub(crate) shim: Shim,
    /// Lives as long as the scene.
    _steady: SoftHsm,
}

const BOT: &str = "keys = [\"binance-mm\", \"steady\"]\nscopes = [\"read\", \"trade\"]\n";
/// Longest time until a token is back after its fault has ended.
pub(crate) const BACK: Duration = Duration::from_secs(5);
/// Longest wait of a client for its answer, whatever the token does.
pub(crate) const ANSWERED: Duration = Duration::from_secs(2);
/// Longest time that 99 of 100 requests to the other token take meanwhile.
const UNFELT: Duration = Duration::from_millis(50);

impl Scene {
    pub(crate) fn new() -> Self {
        Self::launched(Vec::new())
    }

    /// The same as [`Self::new`], with these variables in the agent's environment.
    pub(crate) fn launched(environment: Vec<(String, String)>) -> Self {
        let (token, steady) = (SoftHsm::new(), SoftHsm::new());
        let shim = Shim::of(token.module());
        let launch = Launch { module: Some(shim.module()), environment, ..Launch::default() };
        let rest = second_token(&steady);
        let scene =
            Self { agent: Agent::start_with(token, launch, BOT, &rest), shim, _steady: steady };
        scene.add("binance-mm", "hsm");
        scene.add("steady", "steady");
        scene
    }

    fn add(&self, name: &str, token: &str) {
        let Register::Add(mut key) = self.agent.register(name, "binance", None) else {
            panic!("not a new key")
        };
        key.token = token.to_owned();
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        let entered = serde_json::json!({"api_key": API_KEY, "secret": SECRET}).to_string();
        std::io::Write::write_all(&mut writer, entered.as_bytes()).expect("a small text");
        drop(writer);
        self.agent.admin().add(&Register::Add(key), reader.as_fd()).expect("enrolled");
    }

    /// Sends one request for the token behind the shim.
    pub(crate) fn ask(&self) -> Answer {
        let start = Instant::now();
        let outcome = self.agent.sign("binance-mm", "GET", "/api/v3/account", "{}");
        Answer { outcome, after: start.elapsed() }
    }

    /// Asks until there is a signature. The answers before it may only be `token.unavailable` and
    /// `token.timeout`.
    pub(crate) fn wait_for_signature(&self, patience: Duration) -> Vec<Answer> {
        let start = Instant::now();
        let mut refused = Vec::new();
        loop {
            let answer = self.ask();
            if answer.outcome.is_ok() {
                eprintln!(
                    "a signature again after {:?}, {} refusals before it",
                    start.elapsed(),
                    refused.len()
                );
                return refused;
            }
            assert!(
                matches!(answer.code(), Code::TokenTimeout | Code::TokenUnavailable),
                "{answer:?}"
            );
            refused.push(answer);
            assert!(start.elapsed() < patience, "not back; log:\n{}", self.agent.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Runs `act` on a machine that does nothing else, while a client of the other token asks all
    /// the time. That client must not notice.
    pub(crate) fn unfelt<T>(&self, act: impl FnOnce() -> T) -> T {
        let _alone = machine::alone();
        let quiet = percentile_99(&self.steady_requests(|count| count < 200));
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let load = scope.spawn(|| self.steady_requests(|_| !stop.load(Ordering::Relaxed)));
            let stopping = StopAtEnd(&stop);
            let result = act();
            drop(stopping);
            let felt =
                percentile_99(&load.join().expect("every request of the other token is signed"));
            eprintln!("the other token's p99: {felt:?}, {quiet:?} when all was quiet");
            assert!(
                felt < UNFELT,
                "the other token's p99 was {felt:?}, {quiet:?} when all was quiet"
            );
            result
        })
    }

    fn steady_requests(&self, go_on: impl Fn(usize) -> bool) -> Vec<Duration> {
        let (mut client, mut times) = (self.agent.client(), Vec::new());
        while go_on(times.len()) {
            let start = Instant::now();
            client
                .sign(&call("steady", "GET", "/api/v3/account", "{}"))
                .expect("the other token signs");
            times.push(start.elapsed());
            thread::sleep(Duration::from_millis(2));
        }
        times
    }

    pub(crate) fn token(&self, name: &str) -> countersign_core::wire::TokenEntry {
        let status = self.agent.admin().status().expect("a status");
        status.tokens.into_iter().find(|token| token.name == name).expect("in agent.toml")
    }

    /// Checks that `status` and the log name this as the last error of the token behind the shim.
    pub(crate) fn assert_said(&self, what: &str) {
        let last = self.token("hsm").last_error.unwrap_or_default();
        assert!(last.contains(what), "status says {last:?}");
        assert!(self.agent.log().contains(what), "{}", self.agent.log());
    }

    /// Checks that the journal has an intent for the request, and a result that says why it failed.
    pub(crate) fn assert_failed_on_record(&self, answer: &Answer) {
        let Err(Error::Refused(refused)) = &answer.outcome else { panic!("{answer:?}") };
        let id = refused.request_id.as_deref().expect("an id");
        let journal = self.agent.journal();
        let of_request: Vec<_> = journal.lines().filter(|line| line.contains(id)).collect();
        let [intent, result] = of_request[..] else { panic!("{of_request:?}") };
        assert!(intent.contains("\"kind\":\"intent\""), "{intent}");
        let failed = format!("\"outcome\":\"failed\",\"error\":\"{}\"", answer.code().name());
        assert!(result.contains("\"kind\":\"result\"") && result.contains(&failed), "{result}");
    }
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) outcome: Result<SignReply, Error>,
    pub(crate) after: Duration,
}

impl Answer {
    pub(crate) fn code(&self) -> Code {
        match &self.outcome {
            Err(Error::Refused(refused)) => refused.known_code().expect("a documented code"),
            other => panic!("{other:?}"),
        }
    }
}

fn second_token(token: &SoftHsm) -> String {
    format!(
        "\n[token.steady]\nprofile = \"softhsm\"\nlabel = \"{}\"\npin = {{ file = \"{}\" }}\n\
         environment = {{ SOFTHSM2_CONF = \"{}\" }}\n",
        token.label(),
        token.pin_file().display(),
        token.configuration().display(),
    )
}
