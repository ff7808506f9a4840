//! `countersign-agent check`: reads the configuration, checks every path that it names, and looks
//! for the tokens. It signs nothing and logs in to no token.

mod paths;
mod tokens;

use std::error::Error;
use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use countersign_base::config::{self, ApproverConfig, ApproverProof, Config, ConfigError, Finding};
use countersign_base::messages::settings::PinSource;
use countersign_core::key::{KeyName, Tier};
use countersign_core::scope::Scopes;
use serde::Serialize;

pub use tokens::look;

use paths::PathFindings;
use tokens::FoundToken;

/// The exit code of a configuration that cannot be used.
pub const BAD_CONFIGURATION: u8 = 78;

/// The form in which the outcome is written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Format {
    /// For a terminal.
    Colour,
    /// One object on the standard output.
    Json,
    /// For files, pipes and journals.
    Plain,
}

/// Says if the tokens are looked for, which loads their modules.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum TokenSearch {
    LeaveAlone,
    LookFor,
}

/// The outcome of the check. `sound` is true if the agent would start with this configuration, as
/// far as that can be seen without a PIN.
#[derive(Debug, Serialize)]
struct CheckReport<'a> {
    v: u32,
    sound: bool,
    config: &'a Path,
    /// The user as which the configuration was checked. The agent must run as this user.
    uid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<String>,
    tokens: Vec<TokenReport<'a>>,
    clients: Vec<ClientReport<'a>>,
    approvers: Vec<ApproverReport<'a>>,
    warnings: Vec<String>,
    /// Errors outside the configuration's text, which must be mended.
    problems: Vec<String>,
    /// Errors in the text of the configuration.
    findings: Vec<Finding>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<ErrorReport>,
}

/// All errors as one text, in the form of every command's error.
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
    /// The source of the PIN, in words.
    pin: String,
    /// The token's description of itself; `None` if the token is not there, or was not looked for.
    found: Option<FoundToken>,
}

#[derive(Debug, Serialize)]
struct ClientReport<'a> {
    name: &'a str,
    uid: u32,
    /// False if the client runs as the agent's own user.
    isolated: bool,
    scopes: Scopes,
    keys: Vec<&'a KeyName>,
    socket: &'a Path,
}

#[derive(Debug, Serialize)]
struct ApproverReport<'a> {
    name: &'a str,
    /// False if nothing proves a touch.
    can_approve: bool,
    /// The proof behind the approvals, in words.
    proof: String,
}

/// Checks a configuration and writes the outcome. Returns the exit code, 0 or
/// [`BAD_CONFIGURATION`].
///
/// Run this as the agent's user: owners and access rights are judged for the user that runs it.
pub fn check(config_file: &Path, tokens: TokenSearch, json: bool) -> u8 {
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    let format = match json {
        true => Format::Json,
        false if err.is_terminal() && std::env::var_os("NO_COLOR").is_none() => Format::Colour,
        false => Format::Plain,
    };
    // If the outcome cannot be written, nobody was told that the configuration is sound.
    write(config_file, tokens, format, &mut out, &mut err).unwrap_or(BAD_CONFIGURATION)
}

/// Checks a configuration, and writes the outcome to `out` and `err`.
fn write(
    config_file: &Path,
    tokens: TokenSearch,
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

fn of_config<'a>(
    config: &'a Config,
    config_file: &'a Path,
    look: TokenSearch,
    uid: u32,
) -> CheckReport<'a> {
    let mut places = PathFindings::default();
    places.confinement(config.agent.confinement);
    let tokens = config.tokens.iter().map(|token| {
        let module = places.token(token);
        TokenReport {
            name: &token.settings.name,
            profile: &token.settings.profile,
            tier: token.tier,
            found: (look == TokenSearch::LookFor)
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
    CheckReport {
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

fn of_error<'a>(error: &ConfigError, config_file: &'a Path, uid: u32) -> CheckReport<'a> {
    let findings = error.findings();
    CheckReport {
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

fn approver(approver: &ApproverConfig) -> ApproverReport<'_> {
    ApproverReport {
        name: &approver.name,
        can_approve: !matches!(approver.proof, ApproverProof::Unproven { .. }),
        proof: approver.describe(),
    }
}

/// `None` if there is no error.
fn error_report(message: String) -> Option<ErrorReport> {
    (!message.is_empty()).then_some(ErrorReport { code: "configuration", message })
}

fn write_text(
    report: &CheckReport<'_>,
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
            .map(|FoundToken { model, serial }| format!(", there: {model}, serial {serial}"));
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

/// An error and its causes, on one line.
fn with_causes(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        words.push_str(&format!(": {error}"));
        cause = error.source();
    }
    words
}
