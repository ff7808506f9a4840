//! `countersign-agent check`: reads the configuration, looks at every place it names, and whether
//! the tokens are there. Signs nothing, logs in nowhere.

mod places;
mod tokens;

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use countersign_base::config::{self, Approver, ApproverProof, Config, ConfigError, Finding};
use countersign_base::messages::settings::PinSource;
use countersign_core::key::{KeyName, Tier};
use countersign_core::scope::Scopes;
use serde::Serialize;

pub use tokens::look;

use places::Places;
use tokens::Found;

/// The exit code of a configuration that cannot be used.
pub const BAD_CONFIGURATION: u8 = 78;

/// How the outcome is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Format {
    /// For a terminal.
    Colour,
    /// One object on the standard output.
    Json,
    /// For files, pipes and journals.
    Plain,
}

/// Whether the tokens are looked for, which loads their modules.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Tokens {
    LeaveAlone,
    LookFor,
}

/// What was found. `sound` is true where the agent would start with it, as far as can be seen
/// without a PIN.
#[derive(Debug, Serialize)]
struct Report<'a> {
    v: u32,
    sound: bool,
    config: &'a Path,
    /// The user it was checked as: the one the agent is to run as.
    uid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<String>,
    tokens: Vec<TokenReport<'a>>,
    clients: Vec<ClientReport<'a>>,
    approvers: Vec<ApproverReport<'a>>,
    warnings: Vec<String>,
    /// What has to be mended.
    problems: Vec<String>,
    /// Where the text of the configuration is wrong.
    findings: Vec<Finding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorReport>,
}

/// All that is wrong, as one text: the form every command's error has.
#[derive(Debug, Serialize)]
struct ErrorReport {
    code: &'static str,
    message: String,
}

#[derive(Debug, Serialize)]
struct TokenReport<'a> {
    name: &'a str,
    profile: &'a str,
    tier: Tier,
    module: Option<PathBuf>,
    /// Where the PIN comes from.
    pin: String,
    /// What it says of itself; `None` where it is not there, or was not looked for.
    found: Option<Found>,
}

#[derive(Debug, Serialize)]
struct ClientReport<'a> {
    name: &'a str,
    uid: u32,
    /// False where it runs as the agent's own user.
    isolated: bool,
    scopes: Scopes,
    keys: Vec<&'a KeyName>,
    socket: &'a Path,
}

#[derive(Debug, Serialize)]
struct ApproverReport<'a> {
    name: &'a str,
    /// False where nothing proves a touch.
    can_approve: bool,
    /// What their approvals rest on.
    proof: String,
}

/// Checks a configuration and says what was found; returns the exit code, 0 or
/// [`BAD_CONFIGURATION`].
///
/// To be run as the user the agent runs as: who owns what, and who may read what, is judged for
/// that user.
pub fn check(config_file: &Path, tokens: Tokens, json: bool) -> u8 {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    let format = match json {
        true => Format::Json,
        false if err.is_terminal() && std::env::var_os("NO_COLOR").is_none() => Format::Colour,
        false => Format::Plain,
    };
    // Where nobody reads what is said, nobody was told that it is sound.
    write(config_file, tokens, format, &mut out, &mut err).unwrap_or(BAD_CONFIGURATION)
}

/// The same, written anywhere.
fn write(
    config_file: &Path,
    tokens: Tokens,
    format: Format,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<u8> {
    let uid = rustix::process::geteuid().as_raw();
    let loaded = config::load(config_file);
    let report = match &loaded {
        Ok(config) => of_config(config, config_file, tokens, uid),
        Err(error) => of_error(error, config_file, uid),
    };
    if format == Format::Json {
        serde_json::to_writer(&mut *out, &report)?;
        writeln!(out)?;
    } else {
        match &loaded {
            Ok(config) => write_text(&report, config, out, err)?,
            Err(error) => writeln!(err, "{}", in_words(error, format))?,
        }
    }
    Ok(if report.sound { 0 } else { BAD_CONFIGURATION })
}

fn of_config<'a>(config: &'a Config, config_file: &'a Path, look: Tokens, uid: u32) -> Report<'a> {
    let mut places = Places::default();
    places.confinement(config.agent.confinement);
    let tokens = config.tokens.iter().map(|token| {
        let module = places.token(token);
        TokenReport {
            name: &token.settings.name,
            profile: &token.settings.profile,
            tier: token.tier,
            found: (look == Tokens::LookFor)
                .then(|| places.look_for(token, module.as_deref()))
                .flatten(),
            module,
            pin: pin_source(&token.settings.pin),
        }
    });
    let tokens = tokens.collect();
    places.directories(config);
    let clients = config.policy.clients.iter().map(|client| ClientReport {
        name: &client.name,
        uid: client.uid,
        isolated: client.uid != uid,
        scopes: client.scopes,
        keys: client.keys.iter().collect(),
        socket: config.client_sockets.get(&client.name).unwrap_or(&config.agent.socket),
    });
    Report {
        v: 1,
        sound: places.problems.is_empty(),
        config: config_file,
        uid,
        sha256: Some(&config.policy.sha256),
        summary: Some(config.summary()),
        tokens,
        clients: clients.collect(),
        approvers: config.approvers.iter().map(approver).collect(),
        warnings: config.warnings.iter().cloned().chain(places.warnings).collect(),
        error: error_report(places.problems.join("\n")),
        problems: places.problems,
        findings: Vec::new(),
    }
}

fn of_error<'a>(error: &ConfigError, config_file: &'a Path, uid: u32) -> Report<'a> {
    let findings = error.findings();
    Report {
        v: 1,
        sound: false,
        config: config_file,
        uid,
        sha256: None,
        summary: None,
        tokens: Vec::new(),
        clients: Vec::new(),
        approvers: Vec::new(),
        warnings: Vec::new(),
        problems: if findings.is_empty() { vec![with_causes(error)] } else { Vec::new() },
        findings,
        error: error_report(in_words(error, Format::Plain)),
    }
}

fn approver(approver: &Approver) -> ApproverReport<'_> {
    ApproverReport {
        name: &approver.name,
        can_approve: !matches!(approver.proof, ApproverProof::Unproven { .. }),
        proof: approver.describe(),
    }
}

/// `None` where there is nothing to say.
fn error_report(message: String) -> Option<ErrorReport> {
    (!message.is_empty()).then_some(ErrorReport { code: "configuration", message })
}

fn write_text(
    report: &Report<'_>,
    config: &Config,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> io::Result<()> {
    writeln!(
        out,
        "{}: {}, checked as uid {}",
        report.config.display(),
        config.summary(),
        report.uid
    )?;
    for token in &report.tokens {
        let TokenReport { name, profile, tier, module, pin, found } = token;
        let module =
            module.as_ref().map_or("no module".to_owned(), |path| path.display().to_string());
        let there = found
            .as_ref()
            .map(|Found { model, serial }| format!(", there: {model}, serial {serial}"));
        writeln!(
            out,
            "token {name}: {profile}, tier {tier}, {module}, PIN from {pin}{}",
            there.unwrap_or_default()
        )?;
    }
    for client in &report.clients {
        let ClientReport { name, uid, scopes, keys, socket, .. } = client;
        let keys = keys.iter().map(|key| key.as_str()).collect::<Vec<_>>().join(", ");
        writeln!(
            out,
            "client {name}: uid {uid} on {}, scopes {scopes}, keys {keys}",
            socket.display()
        )?;
    }
    for ApproverReport { name, proof, .. } in &report.approvers {
        writeln!(out, "approver {name}: {proof}")?;
    }
    for warning in &report.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    for problem in &report.problems {
        writeln!(err, "error: {problem}")?;
    }
    if report.sound {
        writeln!(out, "sound")
    } else {
        writeln!(err, "the agent cannot work with this")
    }
}

fn in_words(error: &ConfigError, format: Format) -> String {
    match error {
        ConfigError::Invalid { report } if format == Format::Colour => report.in_colour(),
        ConfigError::Invalid { report } => report.to_string(),
        _ => format!("error: {}", with_causes(error)),
    }
}

fn pin_source(source: &PinSource) -> String {
    match source {
        PinSource::Credential(name) => format!("the systemd credential {name}"),
        PinSource::Fd(number) => format!("descriptor {number}"),
        PinSource::File(path) => path.display().to_string(),
        PinSource::Prompt => "a person".to_owned(),
        PinSource::Sealed(sealed) => {
            let names: Vec<_> = sealed.by.iter().map(|one| one.name.as_str()).collect();
            format!("a touch of {}", names.join(" or "))
        }
    }
}

/// An error and what caused it, on one line.
fn with_causes(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(&format!(": {error}"));
        cause = error.source();
    }
    words
}
