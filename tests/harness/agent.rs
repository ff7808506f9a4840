//! A running agent: real sockets, a real SoftHSM token, the real journal, and a client of it.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use countersign::{Admin, AgentClient, Error, SignCall, Sockets};
use countersign_core::algorithm::Algorithm;
use countersign_core::json::Value;
use countersign_core::refusal::Code;
use countersign_core::scope::Scope;
use countersign_core::wire::admin::{DoneReply, NewKey, Register};
use countersign_core::wire::{SignReply, TokenEntry};
use rustix::process::{Pid, Signal, kill_process};

use super::processes::children_of;
use super::softhsm::{AGENT, SoftHsm};

/// Binance's published test key:
/// https://developers.binance.com/docs/binance-spot-api-docs/rest-api/request-security
pub(crate) const API_KEY: &str = "vmPUZE6mv9SD5VNHk4HlWFsOr6aKE2zvsw0MuIgwCIPy6utIco14y7Ju91duEh8A";
pub(crate) const SECRET: &str = "NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP1e3UZjInClVN65XAbvqqM6A7H5fATj0j";

/// The fields of one client, without limits.
pub(crate) const BOT: &str =
    "keys = [\"binance-mm\", \"okx\", \"kraken\", \"born\"]\nscopes = [\"read\", \"trade\"]\n";

/// A running agent with its own token, directories and configuration.
#[derive(Debug)]
pub(crate) struct Agent {
    pub(crate) token: SoftHsm,
    directory: tempfile::TempDir,
    child: Child,
    pub(crate) launch: Launch,
}

/// The options with which an agent is started.
#[derive(Debug, Default)]
pub(crate) struct Launch {
    /// Replaces the profile's module.
    pub(crate) module: Option<PathBuf>,
    /// A program that starts the agent, with its arguments. Empty: the test starts the agent
    /// itself.
    pub(crate) wrapper: Vec<String>,
    pub(crate) environment: Vec<(String, String)>,
    /// `confinement` in `agent.toml`; empty means `required`.
    pub(crate) confinement: String,
    /// The agent's standard input.
    pub(crate) terminal: Option<PathBuf>,
    /// True if the agent asks for the PIN of its own token at the terminal.
    pub(crate) asks_for_hsm: bool,
    /// Takes the log, which otherwise is a file in the agent's directory.
    pub(crate) log: Option<OwnedFd>,
}

impl Agent {
    /// Starts an agent whose one client `bot`, this very user, has these fields; `rest` follows in
    /// `agent.toml`.
    pub(crate) fn start(bot: &str, rest: &str) -> Self {
        Self::start_with(SoftHsm::new(), Launch::default(), bot, rest)
    }

    pub(crate) fn start_with(token: SoftHsm, launch: Launch, bot: &str, rest: &str) -> Self {
        let directory =
            tempfile::Builder::new().prefix("countersign-agent").tempdir().expect("a directory");
        fs::create_dir(directory.path().join("state")).expect("a directory");
        let child = Self::spawn(directory.path(), &launch);
        let mut agent = Self { token, directory, child, launch };
        agent.configure(bot, rest);
        agent.restart();
        agent
    }

    /// An agent with Binance's test key enrolled.
    pub(crate) fn with_binance(bot: &str) -> Self {
        let agent = Self::start(bot, "");
        agent.add("binance-mm", "binance", API_KEY, SECRET, None).expect("enrolled");
        agent
    }

    /// Writes `agent.toml`; `DIR` in it is the agent's own directory.
    pub(crate) fn configure(&self, bot: &str, rest: &str) {
        let uid = rustix::process::getuid().as_raw();
        let (token, directory) = (&self.token, self.path());
        let module =
            self.launch.module.as_ref().map(|path| format!("module = \"{}\"\n", path.display()));
        let module = module.unwrap_or_default();
        let confinement = Some(self.launch.confinement.as_str())
            .filter(|word| !word.is_empty())
            .unwrap_or("required");
        let pin = match self.launch.asks_for_hsm {
            true => "{ prompt = true }".to_owned(),
            false => format!("{{ file = \"{}\" }}", token.pin_file().display()),
        };
        let text = format!(
            "[agent]\nstate_dir = \"{directory}/state\"\nsocket = \"{directory}/agent.sock\"\n\
             admin_socket = \"{directory}/admin.sock\"\nconfinement = \
             \"{confinement}\"\nallow_software_tokens = true\nallow_same_user = true\n\n\
             [token.hsm]\nprofile = \"softhsm\"\nlabel = \"{}\"\n{module}pin = {pin}\n\
             environment = {{ SOFTHSM2_CONF = \"{}\" }}\n\n[client.bot]\nuser = \
             {uid}\n{bot}\n{rest}",
            token.label(),
            token.configuration().display(),
            directory = directory.display(),
        );
        let text = text.replace("DIR", &directory.display().to_string());
        fs::write(self.config_file(), text).expect("written");
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.path().join("agent.toml")
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.path().join("state")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path().join("log")).expect("a log")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The process that starts this agent's other processes; `None` if it has ended.
    pub(crate) fn spawner(&self) -> Option<i32> {
        children_of(self.pid() as i32).first().copied()
    }

    /// The token hosts of this agent, and its enrol child if there is one.
    pub(crate) fn children(&self) -> Vec<i32> {
        self.spawner().map(children_of).unwrap_or_default()
    }

    /// Runs another agent with this configuration, which is to end by itself.
    pub(crate) fn run_to_its_end(&self) -> Output {
        Command::new(AGENT)
            .args(["run", "--config"])
            .arg(self.config_file())
            .output()
            .expect("runs")
    }

    fn spawn(directory: &Path, launch: &Launch) -> Child {
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(directory.join("log"))
            .expect("a log");
        let mut command = launch.wrapper.iter().map(String::as_str).chain([AGENT]);
        let mut agent = Command::new(command.next().expect("the agent at least"));
        agent
            .args(command)
            .args(["run", "--config"])
            .arg(directory.join("agent.toml"))
            .envs(launch.environment.iter().cloned())
            .stdin(
                launch
                    .terminal
                    .as_ref()
                    .map_or_else(Stdio::null, |path| open_terminal(path).into()),
            )
            .stderr(
                launch
                    .log
                    .as_ref()
                    .map_or(Stdio::from(log), |other| other.try_clone().expect("copied").into()),
            )
            .spawn()
            .expect("the agent starts")
    }

    /// Ends the agent in order, if it runs, starts it again, and waits until its token signs.
    pub(crate) fn restart(&mut self) {
        self.stop(Signal::TERM);
        self.begin();
        self.wait_until("the token is healthy", |agent| agent.tokens_are("healthy"));
    }

    /// Starts the agent, which must have ended, and waits for nothing.
    pub(crate) fn begin(&mut self) {
        self.child = Self::spawn(self.path(), &self.launch);
    }

    /// Sets the log of its next starts.
    pub(crate) fn log_to(&mut self, log: OwnedFd) {
        self.launch.log = Some(log);
    }

    /// The same as [`Self::begin`], with another terminal as standard input.
    pub(crate) fn begin_at(&mut self, terminal: &Path) {
        self.launch.terminal = Some(terminal.to_owned());
        self.begin();
    }

    pub(crate) fn tokens_are(&self, state: &str) -> bool {
        let status = Admin::open(&self.sockets()).and_then(|mut admin| admin.status());
        // The operator's socket is the last that a start opens. Without it the agent's socket
        // answers, and shows no token to a client without keys.
        let are = |tokens: &[TokenEntry]| {
            !tokens.is_empty() && tokens.iter().all(|token| token.state == state)
        };
        status.is_ok_and(|status| are(&status.tokens))
    }

    /// Sends a signal and waits for the end.
    pub(crate) fn stop(&mut self, signal: Signal) -> Option<i32> {
        if let Some(pid) = Pid::from_raw(self.child.id() as i32) {
            let _ = kill_process(pid, signal);
        }
        self.child.wait().expect("the agent's end").code()
    }

    /// Waits for an end that comes by itself.
    pub(crate) fn wait(&mut self) -> Option<i32> {
        self.child.wait().expect("the agent's end").code()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_raw(self.child.id() as i32).expect("a pid"), signal)
            .expect("a running agent");
    }

    pub(crate) fn wait_until(&self, what: &str, reached: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !reached(self) {
            assert!(
                start.elapsed() < Duration::from_secs(15),
                "{what}: not reached; log:\n{}",
                self.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub(crate) fn sockets(&self) -> Sockets {
        Sockets::at(self.path().join("agent.sock"))
    }

    pub(crate) fn client(&self) -> AgentClient {
        AgentClient::open(&self.sockets()).expect("the agent listens")
    }

    pub(crate) fn admin(&self) -> Admin {
        Admin::open(&self.sockets()).expect("the agent listens")
    }

    /// Enrols a key through a pipe, as `countersign key add --stdin` does.
    pub(crate) fn add(
        &self,
        name: &str,
        exchange: &str,
        api_key: &str,
        secret: &str,
        passphrase: Option<&str>,
    ) -> Result<DoneReply, Error> {
        self.enter(&self.register(name, exchange, None), api_key, secret, passphrase)
    }

    pub(crate) fn enter(
        &self,
        change: &Register,
        api_key: &str,
        secret: &str,
        passphrase: Option<&str>,
    ) -> Result<DoneReply, Error> {
        let mut entered = serde_json::json!({"api_key": api_key, "secret": secret});
        if let Some(passphrase) = passphrase {
            entered["passphrase"] = passphrase.into();
        }
        let (reader, mut writer) = std::io::pipe().expect("a pipe");
        std::io::Write::write_all(&mut writer, entered.to_string().as_bytes())
            .expect("a small text");
        drop(writer);
        self.admin().add(change, reader.as_fd())
    }

    pub(crate) fn register(
        &self,
        name: &str,
        exchange: &str,
        algorithm: Option<Algorithm>,
    ) -> Register {
        let new = NewKey::plain(name, exchange, "hsm", Scope::ALL.into_iter().collect());
        Register::Add(NewKey { algorithm, ..new })
    }

    /// One request over a connection of its own.
    pub(crate) fn sign(
        &self,
        key: &str,
        method: &str,
        path: &str,
        params: &str,
    ) -> Result<SignReply, Error> {
        self.client().sign(&call(key, method, path, params))
    }

    /// The text of the journal, one JSON object a line.
    pub(crate) fn journal(&self) -> String {
        let mut files: Vec<_> = fs::read_dir(self.state_dir().join("journal"))
            .expect("a journal")
            .map(|entry| entry.expect("an entry").path())
            .collect();
        files.sort();
        files.iter().map(|file| fs::read_to_string(file).expect("a segment")).collect()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn open_terminal(path: &Path) -> fs::File {
    use std::os::unix::fs::OpenOptionsExt;
    let no_controlling_terminal = rustix::fs::OFlags::NOCTTY.bits() as i32;
    fs::File::options()
        .read(true)
        .write(true)
        .custom_flags(no_controlling_terminal)
        .open(path)
        .expect("a terminal")
}

pub(crate) fn call(key: &str, method: &str, path: &str, params: &str) -> SignCall {
    let mut call = SignCall::new(key, method, path);
    call.params = Some(Value::parse(params).expect("JSON"));
    call
}

pub(crate) const ORDER: &str = r#"{"symbol":"BTCUSDT","side":"BUY","type":"LIMIT",
    "timeInForce":"GTC","quantity":"0.01","price":"30000"}"#;

/// `Ok` for an answer, else the code of the refusal. The test fails on every other outcome: a
/// broken connection, a timeout, a request that waits, an unknown code.
pub(crate) fn code<T: std::fmt::Debug>(outcome: Result<T, Error>) -> Result<(), Code> {
    match outcome {
        Ok(_) => Ok(()),
        Err(Error::Refused(refused)) => {
            Err(refused.known_code().unwrap_or_else(|| panic!("an unknown code: {refused:?}")))
        }
        Err(other) => panic!("neither an answer nor a refusal: {other:?}"),
    }
}
