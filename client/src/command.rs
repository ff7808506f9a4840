//! The command line: its commands and options, and the module that runs each command.

mod approvals;
mod audit;
mod either_socket;
mod generated;
mod init;
mod key;
mod parameters;
mod policy;
mod sign;
mod status;
mod vault;
mod wait;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use countersign::Sockets;

use crate::exit::{self, Exit};
use crate::failure::Failure;
use crate::output::Output;

/// Have exchange requests signed by the countersign agent, and look after its keys.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, after_long_help = exit::EXIT_CODES_HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    command: Command,
}

const COMMON: &str = "Common options";

/// Options of every command.
#[derive(Args, Debug)]
pub(crate) struct Global {
    /// Write one versioned JSON object to standard output, errors too
    #[arg(long, global = true, help_heading = COMMON)]
    pub(crate) json: bool,
    /// The agent's socket; the operator's is admin.sock beside it
    #[arg(long, global = true, value_name = "PATH", help_heading = COMMON)]
    socket: Option<PathBuf>,
    /// The operator's socket
    #[arg(long, global = true, value_name = "PATH", help_heading = COMMON)]
    admin_socket: Option<PathBuf>,
}

impl Global {
    fn sockets(&self) -> Sockets {
        let mut sockets = self.socket.clone().map_or_else(Sockets::discover, Sockets::at);
        if let Some(admin) = &self.admin_socket {
            sockets.admin.clone_from(admin);
        }
        sockets
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Keys: enrol, list, remove
    #[command(subcommand)]
    Key(key::KeyCommand),
    /// Set up a first agent: token, agent.toml, systemd unit
    Init(init::InitArguments),
    /// Have one request signed, ready to send
    Sign(sign::SignArguments),
    /// Have a session login signed, such as a private WebSocket's
    Session(sign::SessionArguments),
    /// Requests that wait for a person's approval
    Pending,
    /// Approve a request that waits, with a touch of your security key
    Approve(approvals::ApproveArguments),
    /// Deny a request that waits
    Deny(approvals::ApprovalArguments),
    /// The journal: verify, follow, show
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// The rules: check a configuration, explain a decision
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// The agent, its tokens and its journal
    Status,
    /// Stop all signing until it is unlocked
    Lock,
    /// Allow signing again
    Unlock,
    /// Keys that cannot be used without a touch: make a vault, try its YubiKeys, change who opens
    /// it
    #[command(subcommand)]
    Vault(vault::VaultCommand),
    /// Write shell completions
    Completions(generated::CompletionsArguments),
    /// Write the manual's pages
    Man(generated::ManArguments),
}

pub(crate) fn run(cli: Cli, output: &Output) -> Result<Exit, Failure> {
    let sockets = cli.global.sockets();
    match cli.command {
        Command::Key(command) => key::run(command, &sockets, output),
        Command::Init(arguments) => init::run(&arguments, output),
        Command::Sign(arguments) => sign::sign(arguments, &sockets, output),
        Command::Session(arguments) => sign::session(&arguments, &sockets, output),
        Command::Pending => approvals::pending(&sockets, output),
        Command::Approve(arguments) => approvals::approve(&arguments, &sockets, output),
        Command::Deny(arguments) => approvals::deny(&arguments, &sockets, output),
        Command::Audit(command) => audit::run(&command, &sockets, output),
        Command::Policy(command) => policy::run(command, &sockets, output),
        Command::Status => status::status(&sockets, output),
        Command::Lock => status::lock(&sockets, output),
        Command::Unlock => status::unlock(&sockets, output),
        Command::Vault(command) => vault::run(&command, output),
        Command::Completions(arguments) => generated::completions(&arguments, output),
        Command::Man(arguments) => generated::man(&arguments, output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }
}
