//! `init`: a first set-up, from nothing to an agent that can be started.
//!
//! Each step is finished before the next begins. A second run goes on after the last finished step.

mod account;
mod configuration;
mod file;
mod paths;
mod question;
mod token;
mod unit;

use std::path::PathBuf;

use clap::Args;
use countersign::core::key::KeyName;
use countersign::core::wire::VERSION;
use serde::Serialize;

use crate::agent_program;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Output, plain, plain_lines};
use crate::table::facts;
use account::Account;
use file::{Existing, FileWritten};
use paths::InstallPaths;
use question::Questions;
use token::{ChosenToken, ProfileKind};

#[derive(Args, Debug)]
pub(crate) struct InitArguments {
    /// Put everything under this directory, for a trial
    #[arg(long, value_name = "DIR", conflicts_with = "system")]
    dir: Option<PathBuf>,
    /// Set up the machine's agent: /etc/countersign, user countersign; as root
    #[arg(long)]
    system: bool,
    /// Do not ask; make a SoftHSM token unless --profile names another kind
    #[arg(long)]
    yes: bool,
    /// Replace an agent.toml that is there; the old one is kept as agent.toml.old
    #[arg(long)]
    force: bool,
    /// The kind of token, such as yubihsm2; softhsm makes a new one
    #[arg(long)]
    profile: Option<String>,
    /// The label of a token that is there already
    #[arg(long)]
    label: Option<String>,
    /// The first client's name; with --system also the name of its user
    #[arg(long, value_name = "NAME", value_parser = KeyName::parse)]
    client: Option<KeyName>,
    /// A key the first client may use once it is enrolled; give it several times
    #[arg(long = "key", value_name = "KEY", value_parser = KeyName::parse)]
    keys: Vec<KeyName>,
}

/// The files and the token of this set-up, or of an earlier one.
#[derive(Debug, Serialize)]
struct InitReport {
    v: u32,
    done: &'static str,
    config: PathBuf,
    unit: PathBuf,
    socket: PathBuf,
    admin_socket: PathBuf,
    /// Absent if an earlier set-up was found: the configuration names its token.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<ChosenToken>,
    /// The output of `countersign-agent check`.
    check: String,
    notes: Vec<String>,
    next: Vec<String>,
}

pub(crate) fn run(arguments: &InitArguments, output: &Output) -> Result<Exit, Failure> {
    let paths = InstallPaths::choose(arguments.system, arguments.dir.as_deref())?;
    let report = if paths.config.exists() && !arguments.force {
        found(&paths)?
    } else {
        set_up(arguments, &paths)?
    };
    output.show(&report, || describe(&report))
}

/// Checks and shows a configuration that is there already. Nothing is changed.
fn found(paths: &InstallPaths) -> Result<InitReport, Failure> {
    let check = check(paths, &paths.owner)?;
    let notes = if paths.unit.exists() {
        Vec::new()
    } else {
        vec![format!(
            "{} is missing: an earlier init ended early; --force writes both anew",
            paths.unit.display()
        )]
    };
    Ok(InitReport::new(paths, "already set up, nothing was changed", None, None, check, notes))
}

fn set_up(arguments: &InitArguments, paths: &InstallPaths) -> Result<InitReport, Failure> {
    let questions = Questions::new(arguments.yes)?;
    let choice =
        token::choose(arguments.profile.as_deref(), arguments.label.as_deref(), paths, &questions)?;
    questions.confirm(&plan(paths, &choice))?;
    let owner = paths.prepare()?;
    let token = choice.make(paths, &owner)?;
    let client = arguments.client.as_ref();
    let text = configuration::text(paths, &token, client, &arguments.keys, &owner)?;
    let existing = if arguments.force { Existing::Replace } else { Existing::Keep };
    if file::write(&paths.config, &text, paths.config_mode(), existing)? == FileWritten::KeptOther {
        return Err(Failure::Configuration {
            message: format!("{} appeared meanwhile and was left as it is", paths.config.display()),
            next: "run this again".to_owned(),
        });
    }
    let unit = unit::text(paths)?;
    let mut notes = Vec::new();
    if file::write(&paths.unit, &unit, 0o644, existing)? == FileWritten::KeptOther {
        notes.push(format!(
            "{} is there already and was left as it is; --force replaces it",
            paths.unit.display()
        ));
    }
    if paths.is_system() && token.kind == ProfileKind::Hardware {
        notes.push(
            "the unit opens neither network nor devices: for an HSM on the network, or one on USB \
             without pcscd, put a drop-in \
             of packaging/systemd/drop-ins beside it"
                .to_owned(),
        );
    }
    let check = check(paths, &owner)?;
    Ok(InitReport::new(paths, "set up", Some(token), usable_key(arguments), check, notes))
}

/// A key that the configuration already lets the first client use.
fn usable_key(arguments: &InitArguments) -> Option<&KeyName> {
    arguments.keys.first().filter(|_| !arguments.system || arguments.client.is_some())
}

fn plan(paths: &InstallPaths, choice: &token::Choice) -> String {
    let mut lines = vec![
        choice.plan(paths),
        format!("{} gets the configuration", paths.config.display()),
        format!("{} gets the systemd unit", paths.unit.display()),
    ];
    if paths.is_system() {
        lines.insert(0, format!("the user {} is made if it is missing", paths::SYSTEM_USER));
    }
    lines.iter().map(|line| format!("  {line}\n")).collect()
}

/// Has the agent's program check the configuration, as the user that will run it.
fn check(paths: &InstallPaths, owner: &Account) -> Result<String, Failure> {
    let words = ["check".as_ref(), "--config".as_ref(), paths.config.as_os_str()];
    let ended = owner.run_agent_program(words)?;
    let message = agent_program::words(&ended);
    if ended.status.success() {
        return Ok(message);
    }
    Err(Failure::Configuration {
        message: format!("{} does not pass the agent's check:\n{message}", paths.config.display()),
        next: "correct it and run countersign init again, or write it anew with --force".to_owned(),
    })
}

impl InitReport {
    fn new(
        paths: &InstallPaths,
        done: &'static str,
        token: Option<ChosenToken>,
        key: Option<&KeyName>,
        check: String,
        notes: Vec<String>,
    ) -> Self {
        let token_name = token.as_ref().map(|token| token.name.as_str());
        let next = paths.next_steps(token_name, key.map(KeyName::as_str));
        Self {
            v: VERSION,
            done,
            config: paths.config.clone(),
            unit: paths.unit.clone(),
            socket: paths.socket(),
            admin_socket: paths.admin_socket(),
            token,
            check,
            notes,
            next,
        }
    }
}

fn describe(report: &InitReport) -> String {
    let mut lines = vec![
        ("configuration", report.config.display().to_string()),
        ("systemd unit", report.unit.display().to_string()),
        ("socket", report.socket.display().to_string()),
    ];
    if let Some(token) = &report.token {
        lines.push(("token", format!("{} ({}, label {})", token.name, token.profile, token.label)));
        lines.push(("custody", token.tier_in_words().to_owned()));
    }
    let mut text = format!("{}\n\n{}", report.done, facts(&lines));
    if !report.check.is_empty() {
        text.push_str(&format!("\n{}\n", plain_lines(&report.check)));
    }
    for note in &report.notes {
        text.push_str(&format!("\nnote: {}\n", plain(note)));
    }
    text.push_str("\nnext:\n");
    for command in &report.next {
        text.push_str(&format!("  {}\n", plain(command)));
    }
    text
}
