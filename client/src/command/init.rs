//! `init`: a first set-up, from nothing to an agent that can be started.
//!
//! Each step leaves something whole, and a second run goes on after the last whole step.

mod account;
mod configuration;
mod file;
mod place;
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
use file::{Existing, Written};
use place::Place;
use question::Questions;
use token::{ProfileKind, Token};

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// Put everything under this directory, for a trial
    #[arg(long, value_name = "DIR", conflicts_with = "system")]
    dir: Option<PathBuf>,
    /// Set up the machine's agent: /etc/countersign, user countersign; as root
    #[arg(long)]
    system: bool,
    /// Do not ask: a SoftHSM token unless --profile says otherwise
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
    /// The first client's name; in --system it is also its user
    #[arg(long, value_name = "NAME", value_parser = KeyName::parse)]
    client: Option<KeyName>,
    /// A key the first client may use once it is enrolled; give it several times
    #[arg(long = "key", value_name = "KEY", value_parser = KeyName::parse)]
    keys: Vec<KeyName>,
}

/// What was set up, or found to be.
#[derive(Debug, Serialize)]
struct Report {
    v: u32,
    done: &'static str,
    config: PathBuf,
    unit: PathBuf,
    socket: PathBuf,
    admin_socket: PathBuf,
    /// Absent where an earlier set-up was found: it stands in the configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<Token>,
    /// What `countersign-agent check` says.
    check: String,
    notes: Vec<String>,
    next: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments, output: &Output) -> Result<Exit, Failure> {
    let place = Place::choose(arguments.system, arguments.dir.as_deref())?;
    let report = if place.config.exists() && !arguments.force {
        found(&place)?
    } else {
        set_up(arguments, &place)?
    };
    output.show(&report, || describe(&report))
}

/// A configuration is there: nothing is changed, but it is checked and shown.
fn found(place: &Place) -> Result<Report, Failure> {
    let check = check(place, &place.owner)?;
    let notes = if place.unit.exists() {
        Vec::new()
    } else {
        vec![format!(
            "{} is missing: an earlier init ended early; --force writes both anew",
            place.unit.display()
        )]
    };
    Ok(Report::new(place, "already set up, nothing was changed", None, None, check, notes))
}

fn set_up(arguments: &Arguments, place: &Place) -> Result<Report, Failure> {
    let questions = Questions::new(arguments.yes)?;
    let choice =
        token::choose(arguments.profile.as_deref(), arguments.label.as_deref(), place, &questions)?;
    questions.confirm(&plan(place, &choice))?;
    let owner = place.prepare()?;
    let token = choice.make(place, &owner)?;
    let client = arguments.client.as_ref();
    let text = configuration::text(place, &token, client, &arguments.keys, &owner)?;
    let existing = if arguments.force { Existing::Replace } else { Existing::Keep };
    if file::write(&place.config, &text, place.config_mode(), existing)? == Written::KeptOther {
        return Err(Failure::Configuration {
            message: format!("{} appeared meanwhile and was left as it is", place.config.display()),
            next: "run this again".to_owned(),
        });
    }
    let unit = unit::text(place)?;
    let mut notes = Vec::new();
    if file::write(&place.unit, &unit, 0o644, existing)? == Written::KeptOther {
        notes.push(format!(
            "{} is there already and was left as it is; --force replaces it",
            place.unit.display()
        ));
    }
    if place.is_system() && token.kind == ProfileKind::Hardware {
        notes.push(
            "the unit opens neither network nor devices: for an HSM on the network, or one on USB \
             without pcscd, put a drop-in \
             of packaging/systemd/drop-ins beside it"
                .to_owned(),
        );
    }
    let check = check(place, &owner)?;
    Ok(Report::new(place, "set up", Some(token), usable_key(arguments), check, notes))
}

/// A key that the configuration already lets the first client use.
fn usable_key(arguments: &Arguments) -> Option<&KeyName> {
    arguments.keys.first().filter(|_| !arguments.system || arguments.client.is_some())
}

fn plan(place: &Place, choice: &token::Choice) -> String {
    let mut lines = vec![
        choice.plan(place),
        format!("{} gets the configuration", place.config.display()),
        format!("{} gets the systemd unit", place.unit.display()),
    ];
    if place.is_system() {
        lines.insert(0, format!("the user {} is made if it is missing", place::SYSTEM_USER));
    }
    lines.iter().map(|line| format!("  {line}\n")).collect()
}

/// Has the agent's program check the configuration, as the user that will run it.
fn check(place: &Place, owner: &Account) -> Result<String, Failure> {
    let words = ["check".as_ref(), "--config".as_ref(), place.config.as_os_str()];
    let ended = owner.run_agent_program(words)?;
    let message = agent_program::words(&ended);
    if ended.status.success() {
        return Ok(message);
    }
    Err(Failure::Configuration {
        message: format!("{} does not pass the agent's check:\n{message}", place.config.display()),
        next: "correct it and run countersign init again, or write it anew with --force".to_owned(),
    })
}

impl Report {
    fn new(
        place: &Place,
        done: &'static str,
        token: Option<Token>,
        key: Option<&KeyName>,
        check: String,
        notes: Vec<String>,
    ) -> Self {
        let token_name = token.as_ref().map(|token| token.name.as_str());
        let next = place.next_steps(token_name, key.map(KeyName::as_str));
        Self {
            v: VERSION,
            done,
            config: place.config.clone(),
            unit: place.unit.clone(),
            socket: place.socket(),
            admin_socket: place.admin_socket(),
            token,
            check,
            notes,
            next,
        }
    }
}

fn describe(report: &Report) -> String {
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
