//! countersign-agent: parse arguments, wire adapters to the core, run.

use std::io::{IsTerminal, Write};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use countersign_agent::commands::check::BAD_CONFIGURATION;
use countersign_agent::commands::vault::{Change, Custody};
use countersign_agent::commands::{check, profiles};
use countersign_agent::{configuration_child, spawner};
use countersign_base::config::SystemFacts;
use countersign_base::messages::confinement::Demand;
use countersign_base::messages::settings;
use countersign_base::system::{log, sys};
use countersign_front::run;
use countersign_token::token::{pin_attempts, softhsm_init};
use countersign_token::{enrol_child, keeper, token_host, vault_host};
use tracing_subscriber::EnvFilter;

const UNAVAILABLE: u8 = 5;

/// Keeps exchange API secrets in a token and signs what policy allows.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: AgentCommand,
}

#[derive(Debug, Subcommand)]
enum AgentCommand {
    /// Parse the configuration, verify permissions and look for the tokens. Sign nothing, try no
    /// PIN. Exits with 0 or 78.
    Check {
        #[command(flatten)]
        config: ConfigFile,
        /// Load no module and ask no YubiKey: for a configuration of another machine.
        #[arg(long)]
        without_tokens: bool,
        /// One versioned object on stdout.
        #[arg(long)]
        json: bool,
    },
    /// Reads the configuration for the agent, which can no longer open it; started for one reload.
    #[command(hide = true)]
    Configuration {
        #[command(flatten)]
        config: ConfigFile,
        /// Descriptor of the connection to the agent.
        #[arg(long, default_value_t = 0)]
        control: RawFd,
    },
    /// The enrol child; started by the agent for one operation.
    #[command(hide = true)]
    Enrol {
        /// Descriptor of the connection to the agent.
        #[arg(long, default_value_t = 0)]
        control: RawFd,
        /// Descriptor of the operator's terminal or pipe.
        #[arg(long, default_value_t = 1)]
        operator: RawFd,
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        credentials: CredentialsDirectory,
        #[arg(long = "front-writes", value_name = "DIR")]
        front_writes: Vec<PathBuf>,
    },
    /// A token host; started by the agent, one for each token.
    #[command(hide = true)]
    Host {
        /// Descriptor of the connection to the agent.
        #[arg(long, default_value_t = 0)]
        control: RawFd,
        #[arg(long = "front-writes", value_name = "DIR")]
        front_writes: Vec<PathBuf>,
    },
    /// Keeps the PIN of a trading token that a touch opened, while the agent runs; started by the
    /// agent.
    #[command(hide = true)]
    Keeper {
        /// Descriptor of the connection to the agent.
        #[arg(long, default_value_t = 0)]
        control: RawFd,
        /// Descriptor at which the spawner hands over connections to hosts.
        #[arg(long, default_value_t = 1)]
        door: RawFd,
    },
    /// Make a SoftHSM token with random PINs, for trials; prints the paths of its files as JSON.
    InitToken {
        /// Directory to make it in.
        #[arg(long)]
        dir: PathBuf,
        #[arg(long)]
        label: String,
    },
    /// Allow one more attempt with a token's PIN after it was refused and has been corrected.
    PinReset {
        /// The token's name in the configuration.
        #[arg(value_parser = plain_name)]
        token: String,
        /// The agent's state directory, as its agent.toml names it.
        #[arg(long, default_value = "/var/lib/countersign")]
        state_dir: PathBuf,
    },
    /// Looks for one token; started by `check`.
    #[command(hide = true)]
    Look,
    /// List the token profiles, and the places of their modules.
    Profiles {
        /// One versioned object on stdout.
        #[arg(long)]
        json: bool,
    },
    /// Run in the foreground; logs go to stderr, or to journald under systemd.
    Run {
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Make a vault, look at it, try its YubiKeys, change which of them open it.
    Vault {
        #[command(subcommand)]
        action: VaultAction,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Signs one approved request with a key of a vault; started by the agent.
    #[command(hide = true)]
    VaultHost {
        /// Descriptor of the connection to the agent.
        #[arg(long, default_value_t = 0)]
        control: RawFd,
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        credentials: CredentialsDirectory,
        #[arg(long = "front-writes", value_name = "DIR")]
        front_writes: Vec<PathBuf>,
    },
    /// Starts token hosts and enrol children; started by the agent.
    #[command(hide = true)]
    Spawner {
        /// Descriptor of the connection to the agent.
        #[arg(long, default_value_t = 0)]
        control: RawFd,
        #[command(flatten)]
        config: ConfigFile,
        #[command(flatten)]
        credentials: CredentialsDirectory,
        /// Start only processes that open vaults, as the vaults' own user.
        #[arg(long)]
        only_vaults: bool,
        #[arg(long, value_parser = demand, default_value = Demand::default().name())]
        confinement: Demand,
        /// Directory to which the agent can write: the started processes load no file from it.
        #[arg(long = "front-writes", value_name = "DIR")]
        front_writes: Vec<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
enum VaultAction {
    /// Seal a token's PIN to the YubiKeys of `sealed_by`, after setting one that nobody knows.
    Init {
        token: String,
        /// File that holds the token's PIN now; removed once another PIN is set.
        #[arg(long)]
        pin_file: PathBuf,
        /// File that holds the security officer's PIN, which could set the token's PIN: it is
        /// changed too, and nobody knows it any more.
        #[arg(long, value_name = "FILE")]
        so_pin_file: Option<PathBuf>,
        /// Make new keys in slot 9d, and destroy the keys that are there.
        #[arg(long)]
        overwrite: bool,
        /// The agent's id, as `countersign pending` shows it, if this user cannot read it.
        #[arg(long, value_name = "ID")]
        agent_id: Option<String>,
    },
    /// Show the YubiKeys that open it, and the configuration for which it is sealed.
    Show { token: String },
    /// Prove with a touch that a YubiKey opens it. Signs nothing.
    Drill { token: String, yubikey: String },
    /// Seal it to one more YubiKey: a touch, and an approval.
    Add {
        token: String,
        yubikey: String,
        #[arg(long)]
        overwrite: bool,
    },
    /// Seal it to one YubiKey less: a touch, and an approval.
    Remove { token: String, yubikey: String },
    /// Take on the configuration as it is now: a touch, and an approval.
    Reseal { token: String },
    /// Set another PIN, with a touch.
    Rotate { token: String },
}

#[derive(Debug, clap::Args)]
struct CredentialsDirectory {
    /// Directory in which systemd put PINs; without it, the one that the environment names.
    #[arg(long = "credentials", value_name = "DIR")]
    directory: Option<PathBuf>,
}

impl CredentialsDirectory {
    fn facts(self) -> SystemFacts {
        let facts = SystemFacts::of_this_process();
        SystemFacts {
            credentials_directory: self.directory.or(facts.credentials_directory),
            ..facts
        }
    }
}

#[derive(Debug, clap::Args)]
struct ConfigFile {
    #[arg(
        long = "config",
        value_name = "FILE",
        global = true,
        default_value = "/etc/countersign/agent.toml"
    )]
    file: PathBuf,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    sys::survive_file_size_limits();
    log_to_stderr(&arguments.command);
    let code = carry_out(arguments.command).unwrap_or_else(|error| {
        log::say(&format!("countersign-agent: {error:#}\n"));
        ExitCode::from(if run::is_configuration(&error) { BAD_CONFIGURATION } else { UNAVAILABLE })
    });
    log::settle();
    code
}

fn carry_out(command: AgentCommand) -> anyhow::Result<ExitCode> {
    match command {
        AgentCommand::Check { config, without_tokens, json } => {
            let tokens = if without_tokens {
                check::TokenSearch::LeaveAlone
            } else {
                check::TokenSearch::LookFor
            };
            Ok(ExitCode::from(check::check(&config.file, tokens, json)))
        }
        AgentCommand::Look => Ok(check::look()),
        AgentCommand::Profiles { json } => show(&profiles::list(json)?),
        AgentCommand::Run { config } => run::run(&config.file).map(|()| ExitCode::SUCCESS),
        AgentCommand::Enrol { control, operator, config, credentials, front_writes } => {
            let control = sys::duplicate_descriptor(control)
                .context("there is no connection to the agent")?;
            let operator = sys::duplicate_descriptor(operator).context("there is no operator")?;
            let told = enrol_child::run(
                control,
                &operator,
                (&config.file, &credentials.facts()),
                &front_writes,
            );
            Ok(if told { ExitCode::SUCCESS } else { ExitCode::from(UNAVAILABLE) })
        }
        AgentCommand::Configuration { config, control } => {
            let control = sys::duplicate_descriptor(control)
                .context("there is no connection to the agent")?;
            configuration_child::tell_sources(control, &config.file)
                .context("the agent could not be told")?;
            Ok(ExitCode::SUCCESS)
        }
        AgentCommand::Host { control, front_writes } => {
            let control = sys::duplicate_descriptor(control)
                .context("there is no connection to the agent")?;
            Ok(ExitCode::from(token_host::run(control, &front_writes).exit_code()))
        }
        AgentCommand::Keeper { control, door } => {
            let control = sys::duplicate_descriptor(control)
                .context("there is no connection to the agent")?;
            let door = sys::duplicate_descriptor(door).context("there is no door")?;
            match keeper::run(control, &door) {
                Ok(()) => Ok(ExitCode::SUCCESS),
                Err(_) => Ok(ExitCode::from(UNAVAILABLE)), // the host that asked was told
            }
        }
        AgentCommand::Vault { action, config } => vault(action, &config.file),
        AgentCommand::VaultHost { control, config, credentials, front_writes } => {
            let control = sys::duplicate_descriptor(control)
                .context("there is no connection to the agent")?;
            let told = vault_host::run(control, &config.file, &credentials.facts(), &front_writes);
            Ok(if told { ExitCode::SUCCESS } else { ExitCode::from(UNAVAILABLE) })
        }
        AgentCommand::Spawner {
            control,
            config,
            credentials,
            only_vaults,
            confinement,
            front_writes,
        } => {
            let control = sys::duplicate_descriptor(control)
                .context("there is no connection to the agent")?;
            let programs = spawner::Programs::of_agent(
                &config.file,
                &front_writes,
                credentials.facts().credentials_directory.as_deref(),
            );
            spawner::run(control, programs, confinement, only_vaults)
                .context("the spawner cannot go on")?;
            Ok(ExitCode::SUCCESS)
        }
        AgentCommand::InitToken { dir, label } => {
            let token = softhsm_init::init_token(&dir, &label)?;
            show(&serde_json::to_string_pretty(&token)?)
        }
        AgentCommand::PinReset { token, state_dir } => {
            let text = match pin_attempts::reset(&state_dir, &token)? {
                true => format!("the PIN of token {token} may be tried once more"),
                false => format!(
                    "no attempts with the PIN of token {token} are on record in {}; --state-dir \
                     names another state directory",
                    state_dir.display()
                ),
            };
            show(&text)
        }
    }
}

/// Writes the result of a command to standard output.
fn show(text: &str) -> anyhow::Result<ExitCode> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{}", text.trim_end()).and_then(|()| out.flush()) {
        Ok(()) => Ok(ExitCode::SUCCESS),
        // A reader that is gone has read enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(ExitCode::SUCCESS),
        Err(error) => Err(error).context("standard output cannot be written"),
    }
}

fn plain_name(text: &str) -> Result<String, &'static str> {
    settings::is_plain_name(text).then(|| text.to_owned()).ok_or("it is not the name of a token")
}

fn demand(text: &str) -> Result<Demand, &'static str> {
    Demand::parse(text).ok_or("it is available, off or required")
}

fn vault(action: VaultAction, config: &std::path::Path) -> anyhow::Result<ExitCode> {
    let open = |token: &str| Custody::open(config, token);
    let done = match &action {
        VaultAction::Init { token, pin_file, so_pin_file, overwrite, agent_id } => open(token)
            .and_then(|one| {
                one.init(pin_file, so_pin_file.as_deref(), *overwrite, agent_id.as_deref())
            }),
        VaultAction::Show { token } => open(token).and_then(|one| one.show()),
        VaultAction::Drill { token, yubikey } => open(token).and_then(|one| one.drill(yubikey)),
        VaultAction::Add { token, yubikey, overwrite } => {
            open(token).and_then(|one| one.change(&Change::Add(yubikey.clone()), *overwrite))
        }
        VaultAction::Remove { token, yubikey } => {
            open(token).and_then(|one| one.change(&Change::Remove(yubikey.clone()), false))
        }
        VaultAction::Reseal { token } => {
            open(token).and_then(|one| one.change(&Change::Reseal, false))
        }
        VaultAction::Rotate { token } => {
            open(token).and_then(|one| one.change(&Change::Rotate, false))
        }
    };
    match done {
        Ok(shown) => show(&shown.to_string()),
        Err(error) => {
            log::say(&format!("countersign-agent: {error}\n"));
            Ok(ExitCode::from(UNAVAILABLE))
        }
    }
}

/// Sends the log to standard error. RUST_LOG is one level, for our own crates. Dependencies log at
/// `warn` at most: some of them trace PINs and whole requests. The PKCS#11 binding logs an error
/// for each mechanism that it has no name for, and returns real errors as values, so its log is
/// off.
///
/// A process that serves others has a relay between itself and standard error. A command that a
/// person runs waits for its reader.
fn log_to_stderr(command: &AgentCommand) {
    let wanted = std::env::var("RUST_LOG").unwrap_or_default();
    let level =
        ["error", "warn", "info", "debug", "trace"].into_iter().find(|level| *level == wanted);
    let level = level.unwrap_or("info");
    let ours = ["agent", "base", "core", "front", "token"]
        .map(|crate_| format!("countersign_{crate_}={level}"))
        .join(",");
    let filter = format!("warn,{ours},cryptoki=off");
    let colour = std::io::stderr().is_terminal();
    let relayed = match command {
        AgentCommand::Run { .. } | AgentCommand::Spawner { only_vaults: true, .. } => {
            log::install()
        }
        _ => Ok(()),
    };
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(filter))
        .with_writer(|| log::Lines)
        // it would print them to standard error, and would end the process if it cannot
        .log_internal_errors(false)
        .with_ansi(colour)
        .init();
    if let Err(error) = relayed {
        tracing::warn!(%error, "a standard error that blocks will block the agent");
    }
}
