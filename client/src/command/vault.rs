//! `vault`: keys that cannot be used without a touch. The agent's program does the work, at the
//! operator's terminal; an approval comes from the operator's own ssh-agent.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Stdio};
use std::thread;

use clap::{Args, Subcommand};
use countersign::core::approval::{Statement, Subject};
use countersign::core::wire::admin::ApproverEntry;
use countersign::ssh_agent::SshAgent;
use serde::Deserialize;
use serde_json::Value;

use crate::agent_program;
use crate::command::approvals::pending_text::differences;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, columns_of_stderr, plain, say};
use crate::table::{facts, facts_within};

#[derive(Debug, Subcommand)]
pub(crate) enum VaultCommand {
    /// Set a PIN that nobody knows, and seal it to two YubiKeys
    Init {
        #[command(flatten)]
        vault: VaultArguments,
        /// The file with the token's present PIN; removed once the token has another PIN
        #[arg(long, value_name = "FILE")]
        pin_file: PathBuf,
        /// The file with the security officer's PIN, which could set the token's PIN: it is changed
        /// as well, to one that nobody knows
        #[arg(long, value_name = "FILE")]
        so_pin_file: Option<PathBuf>,
        /// Make new keys in slot 9d, replacing those that are there
        #[arg(long)]
        overwrite: bool,
        /// The agent's id, as `countersign pending` shows it, if this user cannot read it
        #[arg(long, value_name = "ID")]
        agent_id: Option<String>,
    },
    /// Show the YubiKeys that open it, and what a touch allows
    Show(VaultArguments),
    /// Prove with a touch that a YubiKey opens it; nothing is signed
    Drill(OneYubiKey),
    /// Seal it to one more YubiKey; needs an approval and a touch
    Add {
        #[command(flatten)]
        one: OneYubiKey,
        /// Make a new key in slot 9d, replacing the one that is there
        #[arg(long)]
        overwrite: bool,
    },
    /// Seal it to one YubiKey less; needs an approval and a touch of another YubiKey
    Remove(OneYubiKey),
    /// Seal it for agent.toml as it is now; needs an approval and a touch
    Reseal(VaultArguments),
    /// Set another PIN; needs a touch
    Rotate(VaultArguments),
}

#[derive(Args, Debug)]
pub(crate) struct VaultArguments {
    /// The token's name in agent.toml
    token: String,
    #[arg(long, value_name = "FILE", default_value = "/etc/countersign/agent.toml")]
    config: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct OneYubiKey {
    #[command(flatten)]
    vault: VaultArguments,
    /// The YubiKey's name in agent.toml
    yubikey: String,
}

/// The statement that must be approved before the agent's program goes on.
#[derive(Deserialize)]
struct VaultQuestion {
    statement: Statement,
    approvers: Vec<Known>,
}

#[derive(Deserialize)]
struct Known {
    name: String,
    public_key: String,
}

pub(crate) fn run(command: &VaultCommand, output: &Output) -> Result<Exit, Failure> {
    let (action, vault, yubikey, overwrite) = match command {
        VaultCommand::Init { vault, overwrite, .. } => ("init", vault, None, *overwrite),
        VaultCommand::Show(vault) => ("show", vault, None, false),
        VaultCommand::Drill(one) => ("drill", &one.vault, Some(&one.yubikey), false),
        VaultCommand::Add { one, overwrite } => ("add", &one.vault, Some(&one.yubikey), *overwrite),
        VaultCommand::Remove(one) => ("remove", &one.vault, Some(&one.yubikey), false),
        VaultCommand::Reseal(vault) => ("reseal", vault, None, false),
        VaultCommand::Rotate(vault) => ("rotate", vault, None, false),
    };
    let mut program = agent_program::command()?;
    program.args(["vault", action, &vault.token]).args(yubikey).arg("--config").arg(&vault.config);
    program.args(overwrite.then_some("--overwrite"));
    if let VaultCommand::Init { pin_file, so_pin_file, agent_id, .. } = command {
        program.args(agent_id.iter().flat_map(|id| ["--agent-id", id.as_str()]));
        program.arg("--pin-file").arg(pin_file);
        program.args(so_pin_file.iter().flat_map(|file| [Path::new("--so-pin-file"), file]));
    }
    let program = program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let failed = |error: std::io::Error| Failure::AgentProgram {
        exit: Exit::NotReachable as u8,
        message: format!("could not run countersign-agent: {error}"),
    };
    let result = converse(program.spawn().map_err(failed)?)?;
    output.show(&result, || describe(&result))
}

/// Reads the program's lines: the last one is its result, an earlier one may ask for an approval.
fn converse(mut program: Child) -> Result<Value, Failure> {
    let mut result = Value::Null;
    let words = program.stderr.take().map(|stderr| thread::spawn(move || pass_on(stderr)));
    let lines = program.stdout.take().map(BufReader::new).into_iter().flat_map(BufRead::lines);
    let mut input = program.stdin.take();
    for line in lines.map_while(Result::ok) {
        let Ok(asked) = serde_json::from_str::<VaultQuestion>(&line) else {
            result = serde_json::from_str(&line).unwrap_or_default();
            continue;
        };
        let sshsig = approve(&asked).inspect_err(|_| drop(program.kill()))?;
        if let Some(mut input) = input.take() {
            // If the program has ended, its exit code says so.
            let _ = input.write_all(sshsig.as_bytes());
        }
    }
    drop(input);
    let ended = program.wait().ok().and_then(|status| status.code());
    match ended.and_then(|code| u8::try_from(code).ok()) {
        Some(0) => Ok(result),
        code => Err(Failure::AgentProgram {
            exit: code.unwrap_or(Exit::Unavailable as u8),
            message: words
                .and_then(|words| words.join().ok().flatten())
                .unwrap_or_else(|| "countersign-agent ended without a word".to_owned()),
        }),
    }
}

/// Shows the messages of the agent's program as they come. The caller shows the last one, if the
/// program failed.
fn pass_on(stderr: ChildStderr) -> Option<String> {
    let mut last = None;
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        match line.strip_prefix("countersign-agent: ") {
            Some(reason) => last = Some(plain(reason)),
            None => say(&format!("{}\n", plain(&line))),
        }
    }
    last
}

fn approve(asked: &VaultQuestion) -> Result<String, Failure> {
    let Subject::Vault { token, recipients, policy_sha256, loosens, diff, .. } =
        &asked.statement.subject
    else {
        return Err(Failure::Usage(
            "the agent's program asks for an approval of something else".to_owned(),
        ));
    };
    let opens: Vec<_> =
        recipients.iter().map(|(name, serial)| format!("{name} (YubiKey {serial})")).collect();
    let mut lines = vec![
        ("vault", plain(token)),
        ("opens it then", plain(&opens.join(", "))),
        ("policy then", plain(policy_sha256)),
        ("agent", plain(&asked.statement.agent)),
    ];
    lines.extend(differences(loosens, diff).into_iter().map(|(name, text)| (name, plain(&text))));
    say(&facts_within(columns_of_stderr(), &lines));
    let entry = |known: &Known| ApproverEntry {
        person: None,
        name: known.name.clone(),
        public_key: known.public_key.clone(),
        hardware: None,
    };
    let mut ssh_agent = SshAgent::open()?;
    let candidate = ssh_agent.candidate(&asked.approvers.iter().map(entry).collect::<Vec<_>>())?;
    say(&format!(
        "Touch 1 of 2: the security key of {}, to approve.\n",
        plain(&candidate.describe())
    ));
    Ok(ssh_agent.approve(&candidate, &asked.statement)?)
}

fn describe(result: &Value) -> String {
    let text = |name: &str| result[name].as_str().unwrap_or_default().to_owned();
    if let Some(yubikey) = result["opened_by"].as_str() {
        return plain(&format!("{yubikey} opens the vault {}; nothing was signed", text("token")));
    }
    let names = |list: &Value| {
        let name = |one: &Value| match (one.as_str(), one["name"].as_str()) {
            (Some(name), _) => name.to_owned(),
            (_, name) => format!("{} (YubiKey {})", name.unwrap_or_default(), one["serial"]),
        };
        list.as_array()
            .map(|list| list.iter().map(name).collect::<Vec<_>>().join(", "))
            .unwrap_or_default()
    };
    let mut lines = vec![
        ("vault", text("token")),
        ("opened by", names(&result["recipients"])),
        ("approvers", names(&result["approvers"])),
        ("promise", text("promise")),
        ("policy", text("policy_sha256")),
    ];
    if result["policy_in_force"] == Value::Bool(false) {
        lines.push((
            "attention",
            "agent.toml is another one now: countersign vault reseal".to_owned(),
        ));
    }
    facts(&lines)
}
