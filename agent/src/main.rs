//! countersign-agent: parse arguments, wire adapters to the core, run.

use std::io::{IsTerminal, Write};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use countersign_agent::host::{pin_try, process, settings, softhsm_init};
use countersign_agent::{enrol, sys};

const UNAVAILABLE: u8 = 5;

/// Keeps exchange API secrets in a token and signs what policy allows.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The enrol child; started by the agent for one operation.
    #[command(hide = true)]
    Enrol {
        /// Descriptor of the connection to the agent.
        #[arg(long, default_value_t = 0)]
        control: RawFd,
        /// Descriptor of the operator's terminal or pipe.
        #[arg(long, default_value_t = 1)]
        operator: RawFd,
    },
    /// A token host; started by the agent, one for each token.
    #[command(hide = true)]
    Host {
        /// Descriptor of the connection to the agent.
        #[arg(long, default_value_t = 0)]
        control: RawFd,
    },
    /// Make a SoftHSM token with random PINs, for trials; prints where everything lies as JSON.
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
        token: String,
        #[arg(long, default_value = "/var/lib/countersign")]
        state_dir: PathBuf,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    log_to_stderr();
    match arguments.command {
        Command::Enrol { control, operator } => {
            let control = sys::duplicate_descriptor(control).context("there is no connection to the agent")?;
            let operator = sys::duplicate_descriptor(operator).context("there is no operator")?;
            let told = enrol::run(control, &operator);
            Ok(if told { ExitCode::SUCCESS } else { ExitCode::from(UNAVAILABLE) })
        }
        Command::Host { control } => {
            let control = sys::duplicate_descriptor(control).context("there is no connection to the agent")?;
            Ok(ExitCode::from(process::run(control).exit_code()))
        }
        Command::InitToken { dir, label } => {
            let token = softhsm_init::init_token(&dir, &label)?;
            let mut out = std::io::stdout().lock();
            serde_json::to_writer_pretty(&mut out, &token)?;
            writeln!(out)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::PinReset { token, state_dir } => {
            anyhow::ensure!(settings::is_plain_name(&token), "{token} is not the name of a token");
            let text = match pin_try::reset(&state_dir, &token)? {
                true => format!("the PIN of token {token} may be tried once more"),
                false => format!("no attempts with the PIN of token {token} are on record"),
            };
            writeln!(std::io::stdout(), "{text}")?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Dependencies log at `warn` at most: some of them trace PINs and whole requests. The PKCS#11 binding calls each
/// mechanism it has no name for an error; what goes wrong with a token comes back as a value.
const LOGGED: &str = "warn,countersign_agent=info,countersign_core=info,cryptoki=off";

fn log_to_stderr() {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new(LOGGED))
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .init();
}
