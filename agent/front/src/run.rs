//! `countersign-agent run`: starts configuration, ledger, token hosts and sockets, and stops them
//! in order.

use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::process::ExitStatus;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use countersign_base::agent_id;
use countersign_base::config::{self, Config, Sources, SystemFacts, TokenConfig};
use countersign_base::messages::confinement::ConfinementReport;
use countersign_base::messages::frame::Frames;
use countersign_base::messages::spawner::ChildKind;
use countersign_base::system::full_disk::is_full;
use countersign_base::system::{clock, confine, log, sys};
use countersign_core::record::{CarriedState, ConfigLoaded, Record, TokenChange};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use tokio::task::spawn_local;
use tokio::time::{Interval, MissedTickBehavior};

use crate::front::{About, Front};
use crate::keyring::Keyring;
use crate::ledger::keys::KeyFiles;
use crate::ledger::recorder::{Recorder, lock_file};
use crate::ledger::storage::Disk;
use crate::ledger::{LedgerError, LedgerWriter, Options, SyncMode};
use crate::requests::client_socket::RequestHandler;
use crate::running::accepted::{self, AtStart, NotAccepted};
use crate::running::confinement::LimitsError;
use crate::running::service_manager::ServiceManager;
use crate::running::{confinement, readiness};
use crate::shutdown::{Signals, Wish};
use crate::sockets::activation::GivenSockets;
use crate::sockets::listener::ServerLimits;
use crate::sockets::server::{self, Server};
use crate::sockets::socket::SocketError;
use crate::sockets::turns;
use crate::tokens::Tokens;
use crate::tokens::host_handle::Deadlines;
use crate::tokens::spawner::{Launched, Spawner};
use crate::tokens::supervisor::{self, Supervisor};
use crate::tokens::token_handle::TokenHandle;
use crate::tokens::token_status::TokenState;
use crate::tokens::vault::VaultHandle;
use crate::waiting::reload::{Loaded, Reload};

/// Longest time that a stop waits for requests under way.
const STOP_DEADLINE: Duration = Duration::from_secs(5);
/// Longest time for reading the configuration at a reload: names of users may come over a network.
/// The agent gives no sign of life meanwhile, so this is well below the time after which the
/// service manager kills it (30 s in the packaged unit).
const READING: Duration = Duration::from_secs(10);
/// Pause between two looks at the ledger, which records counted refusals.
const TICK: Duration = Duration::from_secs(5);

/// Runs the agent until it is told to stop.
pub fn run(config_file: &Path) -> anyhow::Result<()> {
    confine::hide_memory().context("the agent's memory cannot be hidden")?;
    sys::keep_hang_ups(); // a terminal that is closed while the agent starts asks for a reload, too
    let manager = Rc::new(ServiceManager::of_this_process());
    let sockets = GivenSockets::of_this_process().map_err(SocketError::Given)?;
    server::raise_descriptor_limit();
    let config_file = std::path::absolute(config_file).context("the place of the configuration")?;
    let facts = SystemFacts::of_this_process();
    let loaded = config::load_with(&config_file, &facts)?;
    let AtStart { in_force, waiting } = accepted::at_start(loaded, &config_file, &facts)?;
    let config = Rc::new(in_force);
    let start = Start {
        manager,
        sockets,
        spawner: launch_spawner(&config_file, &config, &facts)
            .context("the spawner cannot be started")?,
        // From here on the front can reach only the files and sockets that the configuration names.
        limits: confinement::confine_front(&config)?,
        config_file,
        facts,
        config,
        waiting,
    };
    log::begin();
    start.limits.missing.iter().for_each(|what| tracing::warn!("not confined: {what}"));
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime
        .enable_all()
        .on_thread_unpark(turns::looked_at_sockets)
        .build_local(Default::default());
    runtime.context("no IO thread")?.block_on(serve(start))
}

fn launch_spawner(
    config_file: &Path,
    config: &Config,
    facts: &SystemFacts,
) -> io::Result<Launched> {
    let confinement = config.agent.confinement.name();
    let fixed = [
        "spawner".as_ref(),
        "--config".as_ref(),
        config_file,
        "--confinement".as_ref(),
        confinement.as_ref(),
    ];
    let writes = confinement::writes(config);
    let writes = writes.iter().flat_map(|directory| [Path::new("--front-writes"), directory]);
    let credentials =
        facts.credentials_directory.iter().flat_map(|path| [Path::new("--credentials"), path]);
    let arguments = fixed.into_iter().chain(credentials).chain(writes);
    Launched::launch(Path::new("/proc/self/exe"), arguments)
}

/// The things that are made before the first thread starts.
struct Start {
    manager: Rc<ServiceManager>,
    sockets: GivenSockets,
    config_file: PathBuf,
    facts: SystemFacts,
    config: Rc<Config>,
    waiting: Option<(Config, Vec<String>)>,
    spawner: Launched,
    limits: ConfinementReport,
}

async fn serve(start: Start) -> anyhow::Result<()> {
    let Start { manager, sockets, config_file, facts, config, waiting, spawner, limits } = start;
    let signals = Signals::listen().context("the signals cannot be listened to")?;
    sys::take_hang_ups();
    let (reload_asked, mut reloads) = mpsc::channel(1);
    let spawner = spawner.connect().context("the spawner cannot be talked to")?;
    let front = Rc::new(assemble(&config, (spawner.clone(), limits), reload_asked)?);
    let mut agent = Agent {
        config_file,
        facts,
        server: Server::new(
            Rc::new(RequestHandler(Rc::clone(&front))),
            ServerLimits::default(),
            sockets,
        )
        .context("no thread")?,
        front,
        manager,
        signals,
    };
    agent.server.listen(config.endpoints())?;
    agent.start_tokens(&config);
    agent.keep_accepted(&config).map_err(anyhow::Error::msg)?;
    agent.record_config(&config);
    if let Some((looser, loosens)) = waiting {
        let kept = "agent.toml is not in force: the configuration that was accepted last is";
        match agent.front.propose_config(None, Rc::new(looser), loosens) {
            Ok(pending) => tracing::warn!("{kept}: countersign approve {}", pending.id),
            Err(reason) => tracing::error!("{kept}: {reason}"),
        }
    }
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "the agent serves");
    let mut tick = tokio::time::interval(TICK);
    let mut signs_of_life = SignsOfLife::due(&agent.manager);
    let mut tried = pin!(readiness::every_token_tried(Rc::clone(&agent.front)));
    let mut starts = pin!(readiness::no_token_starts(Rc::clone(&agent.front)));
    let (mut ready, mut started) = (false, false);
    loop {
        tokio::select! {
            biased;
            reasons = &mut starts, if !started => match reasons {
                Some(reasons) => {
                    agent.stop().await?;
                    return Err(NoToken(reasons).into());
                }
                None => started = true,
            },
            () = &mut tried, if !ready => {
                ready = true;
                agent.manager.ready(&readiness::in_one_line(&agent.front));
            }
            () = signs_of_life.next() => agent.give_sign_of_life(),
            wish = agent.signals.next() => match wish {
                Wish::Stop => break,
                Wish::Reload => drop(agent.reload(None).await),
            },
            Some(asked) = reloads.recv() => match asked {
                Reload::FromFile(uid, answer) => drop(answer.send(agent.reload(Some(uid)).await)),
                Reload::Approved(config, over, answer) => {
                    drop(answer.send(agent.load_approved(config, &over).await));
                }
            },
            _ = tick.tick() => agent.tick(),
            () = spawner.gone() => {
                tracing::error!("the spawner is gone: no token host can be started any more, so \
                                 the agent stops");
                agent.stop().await?;
                return Err(SpawnerGone(spawner.end().context("the spawner's end")?).into());
            }
        }
    }
    tracing::info!("the agent stops");
    agent.stop().await?;
    spawner.end().map(drop).context("the spawner could not be ended")
}

/// The spawner, which starts token hosts, has ended by itself.
#[derive(Debug, thiserror::Error)]
#[error("the spawner ended ({0}); start the agent again")]
struct SpawnerGone(ExitStatus);

/// No token can be used until a person repairs something: there is nothing to serve.
#[derive(Debug, thiserror::Error)]
#[error("no token can be used: {0}")]
struct NoToken(String);

/// Opens the ledger and the key files, and makes the front.
fn assemble(
    config: &Rc<Config>,
    (spawner, limits): (Spawner, ConfinementReport),
    reload: mpsc::Sender<Reload>,
) -> anyhow::Result<Front> {
    let state_dir = &config.agent.state_dir;
    let durability = if config.agent.synced { SyncMode::Synced } else { SyncMode::Group };
    let options = Options { durability, ..Options::for_this_run() };
    let (ledger, report) =
        LedgerWriter::open(state_dir, Arc::new(Disk), options, clock::wall_ms())?;
    if let Some(torn) = &report.torn {
        tracing::warn!(?torn, "the end of the journal was torn and has been repaired");
    }
    if report.health.is_space_low() {
        tracing::warn!(
            "the disk of the journal is nearly full; when it is full nothing more is signed"
        );
    }
    let keyring = Keyring::of(KeyFiles::open(Arc::new(Disk), state_dir)?)?;
    if report.carried == CarriedState::New && !keyring.names().is_empty() {
        tracing::warn!(
            "there are keys but no journal: the spends of the last 24 hours are not known"
        );
    }
    let locked = lock_file(state_dir).try_exists().context("the state directory cannot be read")?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let recorder = Recorder::new(ledger, state_dir);
    recorder.recall_uses(report.opened.seq).context("the journal cannot be read")?;
    let agent_id = agent_id::of(state_dir).context("the agent's id cannot be read or made")?;
    let tokens = Tokens::new(spawner, config.agent.vault_socket.clone());
    let about = About::this_process(agent_id, limits);
    Ok(Front::new(about, Rc::clone(config), locked, keyring, recorder, tokens, reload))
}

/// The running agent.
struct Agent {
    config_file: PathBuf,
    /// The facts of the start: the environment has been cleared since.
    facts: SystemFacts,
    server: Server<RequestHandler>,
    front: Rc<Front>,
    manager: Rc<ServiceManager>,
    signals: Signals,
}

impl Agent {
    /// Reads and loads `agent.toml`. On an error the configuration in force stays.
    async fn reload(&mut self, uid: Option<u32>) -> Result<Loaded, String> {
        self.give_sign_of_life();
        self.manager.reloading();
        let loaded = self.try_reload(uid).await;
        self.manager.ready(&readiness::in_one_line(&self.front));
        if let Err(error) = &loaded {
            tracing::error!("the configuration was not loaded, the one in force stays:\n{error}");
        }
        loaded
    }

    async fn try_reload(&mut self, uid: Option<u32>) -> Result<Loaded, String> {
        let sources = self.read_sources().await?;
        let config = sources.into_config(&self.config_file, &self.facts);
        let config = Rc::new(config.map_err(|error| format!("{:#}", anyhow::Error::from(error)))?);
        let before = self.front.config();
        if config.agent.needs_restart(&before.agent) {
            let fields = "state_dir, durability, confinement, socket, admin_socket, vault_dir and \
                          vault_socket";
            return Err(format!("{fields} change only with a restart"));
        }
        let loosens = match before.policy.approvers.is_empty() {
            true => Vec::new(),
            false => config::loosened(&before, &config, &self.front.keyring.tokens()),
        };
        if !loosens.is_empty() {
            let proposed = self.front.propose_config(uid, config, loosens);
            return proposed.map(Loaded::Waits).map_err(|reason| reason.to_string());
        }
        self.front.forget_proposed_config();
        self.load(config).await.map(Loaded::InForce)
    }

    /// Loads a configuration that an approver agreed to. If it needs a restart, the next start
    /// finds it accepted.
    async fn load_approved(&mut self, config: Rc<Config>, over: &str) -> Result<String, String> {
        // A reload may have been under way when the change was approved.
        if self.front.config().policy.sha256 != over {
            return Err(
                "another configuration is in force since; ask for the change again".to_owned()
            );
        }
        if config.agent.needs_restart(&self.front.config().agent) {
            self.keep_accepted(&config)?;
            return Ok("it is in force after the next start of the agent".to_owned());
        }
        self.load(config).await.map(|summary| format!("the configuration is in force: {summary}"))
    }

    async fn load(&mut self, config: Rc<Config>) -> Result<String, String> {
        let before = self.front.config();
        let sockets = self.server.prepare(config.endpoints());
        let sockets = sockets.map_err(|error| format!("{error}{}", confinement::hint(&error)))?;
        self.keep_accepted(&config)?;
        self.server.serve(sockets);
        self.front.replace_config(Rc::clone(&config));
        let gone = before.tokens.iter().filter(|token| !config.tokens.contains(token));
        self.front.tokens.stop(gone.map(|token| token.settings.name.as_str())).await;
        // The operator may have repaired a PIN or a module.
        self.front.tokens.retry_given_up();
        self.start_tokens(&config);
        self.record_config(&config);
        Ok(config.summary())
    }

    /// Lets another process read the configuration, since the front cannot reach it. A stop does
    /// not wait for this.
    async fn read_sources(&mut self) -> Result<Sources, String> {
        let spawner = self.front.tokens.spawner.clone();
        let read = async {
            let (mut child, mut stream) = spawner.start(ChildKind::Configuration, None).await?;
            let (mut told, mut frames) = (Vec::new(), Frames::default());
            stream.read_to_end(&mut told).await?;
            child.wait().await;
            frames.push(&told);
            let told = frames.take::<Result<Sources, String>>().map_err(io::Error::other)?;
            told.ok_or_else(|| {
                io::Error::new(io::ErrorKind::UnexpectedEof, "it ended without an answer")
            })
        };
        let read = tokio::select! {
            read = tokio::time::timeout(READING, read) => read.map_err(io::Error::from),
            () = self.signals.stop() => return Err("the agent stops".to_owned()),
        };
        read.flatten().map_err(|error| format!("the configuration could not be read: {error}"))?
    }

    /// Keeps the accepted configuration. On a full disk it uses the room that was set aside.
    fn keep_accepted(&self, config: &Config) -> Result<(), String> {
        let kept = self.front.recorder.with_room(is_full, || accepted::keep(config));
        kept.map_err(|error| {
            format!("the accepted configuration cannot be kept in the state directory: {error}")
        })
    }

    /// Starts a host for every token that has none.
    fn start_tokens(&self, config: &Config) {
        for token in config
            .tokens
            .iter()
            .filter(|token| self.front.tokens.handle(&token.settings.name).is_none())
        {
            let spawner = self.front.tokens.spawner.clone();
            let started = match token.settings.is_vault() {
                true => Ok(TokenHandle::Vault(VaultHandle::new(
                    token.settings.name.clone(),
                    Rc::clone(&self.front.tokens.vault_spawner),
                ))),
                false => {
                    host_of(token).map(|host| TokenHandle::Host(Supervisor::start(host, spawner)))
                }
            };
            match started {
                Ok(handle) => {
                    self.front.tokens.add(handle.clone());
                    spawn_local(follow(Rc::clone(&self.front), handle, Rc::clone(&self.manager)));
                }
                Err(error) => {
                    tracing::error!(token = token.settings.name, %error, "no host was started")
                }
            }
        }
    }

    fn record_config(&self, config: &Config) {
        let summary = config.summary();
        let loaded = ConfigLoaded {
            sha256: config.policy.sha256.as_str().into(),
            summary: summary.as_str().into(),
        };
        self.front.recorder.note(&Record::ConfigLoaded(loaded));
    }

    fn tick(&self) {
        self.front.recorder.tick();
        self.manager.status(&readiness::in_one_line(&self.front));
    }

    /// Gives a sign of life, unless a part of the agent does not work any more: then the service
    /// manager starts the agent anew.
    fn give_sign_of_life(&self) {
        let deaf =
            || (!self.server.listens()).then(|| "a socket is not listened on any more".to_owned());
        match self.front.tokens.fault().or_else(deaf) {
            Some(fault) => {
                tracing::error!(fault, "no sign of life is given to the service manager")
            }
            None => self.manager.alive(),
        }
    }

    async fn stop(self) -> anyhow::Result<()> {
        self.manager.stopping();
        self.front.stop_waiting();
        self.server.close(STOP_DEADLINE).await;
        if tokio::time::timeout(STOP_DEADLINE, self.front.approvals.settled()).await.is_err() {
            tracing::error!("a request that waited for approval did not end in time");
        }
        self.front.tokens.stop_all().await;
        self.front.recorder.close().context("the journal could not be closed in order")
    }
}

/// The times at which signs of life are due, if the service manager waits for any.
struct SignsOfLife(Option<Interval>);

impl SignsOfLife {
    fn due(manager: &ServiceManager) -> Self {
        Self(manager.sign_of_life_every().map(|period| {
            let mut interval = tokio::time::interval(period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        }))
    }

    async fn next(&mut self) {
        match &mut self.0 {
            Some(interval) => drop(interval.tick().await),
            None => std::future::pending().await,
        }
    }
}

fn host_of(token: &TokenConfig) -> Result<supervisor::HostConfig, postcard::Error> {
    let settings = postcard::to_stdvec(&token.settings)?;
    let deadlines = match () {
        () if token.profile.is_yubikey() => Deadlines::with_touch(),
        // Its start needs a touch.
        () if token.settings.is_sealed() => {
            Deadlines { start: Deadlines::with_touch().start * 2, ..Deadlines::default() }
        }
        () => Deadlines::default(),
    };
    let (name, keeps_pin) = (token.settings.name.clone(), token.settings.keeps_pin());
    Ok(supervisor::HostConfig { name, settings, keeps_pin, deadlines })
}

/// Keeps keyring and journal in step with one token, until its host is stopped.
async fn follow(front: Rc<Front>, handle: TokenHandle, manager: Rc<ServiceManager>) {
    let mut changes = handle.subscribe();
    let mut recorded = None;
    loop {
        let status = changes.borrow_and_update().clone();
        if !status.keys.is_empty() {
            front.keyring.hosted(handle.name(), &status.keys);
        }
        // If a host keeps failing, its starts are not recorded.
        let again = recorded == Some(TokenState::Down) && status.state == TokenState::Starting;
        if recorded != Some(status.state) && !again {
            recorded = Some(status.state);
            let change = TokenChange {
                token: handle.name().into(),
                state: status.state.name().into(),
                detail: status.last_error.as_deref().map(Into::into),
            };
            front.recorder.note(&Record::Token(change));
        }
        manager.status(&readiness::in_one_line(&front));
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// True if the error means that a person has to repair the configuration or the state directory.
pub fn is_configuration(error: &anyhow::Error) -> bool {
    error.is::<config::ConfigError>()
        || error.is::<NoToken>()
        || error.is::<NotAccepted>()
        || matches!(error.downcast_ref(), Some(LedgerError::Damaged { .. }))
        || error.downcast_ref().is_some_and(SocketError::is_configuration)
        || matches!(error.downcast_ref(), Some(LimitsError::Directory(..) | LimitsError::Socket(_)))
        || error.is::<crate::ledger::keys::KeyFileError>()
}
