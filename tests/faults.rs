//! What goes wrong around the agent: each fault with what its clients see, what the journal holds,
//! and what the clients of another token feel meanwhile.

mod clock;
mod crowd;
mod disk;
mod documented;
mod fairness;
mod full;
mod full_meanwhile;
mod killed;
mod lock_out;
mod login;
pub(crate) mod shim;
mod token;
mod watchdog;
mod writers;

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use countersign::Error;
use countersign_core::refusal::Code;
use countersign_core::wire::SignReply;
use countersign_core::wire::admin::Register;

use crate::agent::{API_KEY, Agent, Launch, SECRET, call};
use crate::machine;
use crate::softhsm::SoftHsm;
pub(crate) use shim::Shim;

/// An agent with two tokens: `hsm` behind the shim, and `steady`, which nothing happens to.
struct Scene {
    agent: Agent,
    shim: Shim,
    /// Lives as long as the scene.
    _steady: SoftHsm,
}

const BOT: &str = "keys = [\"binance-mm\", \"steady\"]\nscopes = [\"read\", \"trade\"]\n";
/// How soon a token is back after the fault is gone.
const BACK: Duration = Duration::from_secs(5);
/// How soon a client has its answer, whatever the token does.
const ANSWERED: Duration = Duration::from_secs(2);
/// How long 99 of 100 requests to another token take at most meanwhile.
const UNFELT: Duration = Duration::from_millis(50);

impl Scene {
    fn new() -> Self {
        Self::launched(Vec::new())
    }

    /// As [`Self::new`], with this in the agent's environment.
    fn launched(environment: Vec<(String, String)>) -> Self {
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

    /// One request for the token behind the shim.
    fn ask(&self) -> Answer {
        let start = Instant::now();
        let outcome = self.agent.sign("binance-mm", "GET", "/api/v3/account", "{}");
        Answer { outcome, after: start.elapsed() }
    }

    /// Asks until there is a signature; nothing but `token.unavailable` and `token.timeout` may
    /// come before.
    fn wait_for_signature(&self, patience: Duration) -> Vec<Answer> {
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

    /// Runs `act`, with the machine alone, while a client of the other token asks all the time: it
    /// must feel nothing.
    fn unfelt<T>(&self, act: impl FnOnce() -> T) -> T {
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

    fn token(&self, name: &str) -> countersign_core::wire::TokenEntry {
        let status = self.agent.admin().status().expect("a status");
        status.tokens.into_iter().find(|token| token.name == name).expect("in agent.toml")
    }

    /// What `status` and the log say went wrong last with the token behind the shim.
    fn assert_said(&self, what: &str) {
        let last = self.token("hsm").last_error.unwrap_or_default();
        assert!(last.contains(what), "status says {last:?}");
        assert!(self.agent.log().contains(what), "{}", self.agent.log());
    }

    /// The journal has an intent for the request, and says that it failed, and why.
    fn assert_failed_on_record(&self, answer: &Answer) {
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

/// Ends the load even where an assertion fails.
struct StopAtEnd<'a>(&'a AtomicBool);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[derive(Debug)]
struct Answer {
    outcome: Result<SignReply, Error>,
    after: Duration,
}

impl Answer {
    fn code(&self) -> Code {
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

fn percentile_99(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted[sorted.len() * 99 / 100]
}

/// How often a scenario is repeated: `long` where `COUNTERSIGN_SOAK` is set.
pub(crate) fn repetitions(short: usize, long: usize) -> usize {
    if std::env::var_os("COUNTERSIGN_SOAK").is_some() { long } else { short }
}

/// Replaces a plan that a process reads at each call: in place, in one write, since the process
/// holds it open.
fn write_plan(path: &Path, plan: &str) {
    use std::os::unix::fs::FileExt;
    let file = fs::File::options().write(true).open(path).expect("a plan");
    file.write_all_at(format!("{plan:<60}\n").as_bytes(), 0).expect("written");
}
