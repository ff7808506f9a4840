//! Reads `agent.toml` once, refuses all of it if anything in it is unknown or wrong, and turns it
//! into the core's types.

mod agent;
mod approver;
mod client;
mod conceal;
mod configuration;
mod facts;
mod fields;
pub mod listener;
mod loosening;
mod pin;
mod problem;
mod proposed_change;
mod sources;
mod token;
mod transfer;
mod value;
mod warnings;

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use countersign_core::approval::{self, Touch};
use countersign_core::policy::Policy;
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use toml::de::DeTable;

pub use agent::{AgentSettings, LONGEST_APPROVAL_S};
pub use approver::{ApproverConfig, ApproverProof};
pub use configuration::Config;
pub use facts::SystemFacts;
pub use loosening::loosened;
pub use problem::{ConfigReport, Finding};
pub use proposed_change::{TooMuch, diff, fits};
pub use sources::Sources;
pub use token::TokenConfig;

use crate::trusted_path::{self, Exposure, TrustError};
use agent::AgentSpans;
use client::ReadClient;
use fields::{Fields, named_tables, repeated_tables};
use problem::{ConfigProblem, Problems};

/// Longest file that is read, in bytes. No person writes a longer configuration.
const LARGEST_CONFIGURATION: u64 = 256 * 1024;

/// Why a configuration could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("{report}")]
    Invalid { report: Box<ConfigReport> },
    #[error("could not read {}", path.display())]
    Read {
        path: PathBuf,
        #[source]
        cause: io::Error,
    },
    #[error(
        "{} is larger than {LARGEST_CONFIGURATION} bytes: that is no configuration",
        .0.display()
    )]
    TooLong(PathBuf),
    /// Another user could have written the file, or a directory above it.
    #[error(transparent)]
    Untrusted(#[from] TrustError),
}

/// Reads the file, if nobody but root and the agent's user can have written it.
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    load_with(path, &SystemFacts::of_this_process())
}

/// Reads the file as [`load`] does, for a process with these facts.
pub fn load_with(path: &Path, facts: &SystemFacts) -> Result<Config, ConfigError> {
    parse(read_text(path)?, path, facts)
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    let absolute = std::path::absolute(path)
        .map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?;
    let path = absolute.as_path();
    let file = trusted_path::open(path, Exposure::Public)?;
    let mut bytes = Vec::new();
    let read = file.take(LARGEST_CONFIGURATION + 1).read_to_end(&mut bytes);
    read.map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?;
    if bytes.len() as u64 > LARGEST_CONFIGURATION {
        return Err(ConfigError::TooLong(path.to_owned()));
    }
    String::from_utf8(bytes).map_err(|error| not_text(error.as_bytes(), path))
}

/// Turns the text of a configuration into a [`Config`]. Errors show `path`.
pub fn parse(
    text: impl Into<String>,
    path: &Path,
    facts: &SystemFacts,
) -> Result<Config, ConfigError> {
    let text = text.into();
    let problems = Problems::default();
    let mut config = sections(&tree(&text, &problems), path, facts, &problems);
    problems
        .into_result(&text, path)
        .map_err(|report| ConfigError::Invalid { report: Box::new(report) })?;
    config.warnings = warnings::of(&config, facts.own_uid);
    config.policy.sha256 = sha256(&text, &config.policy.approvers, &config.tokens);
    config.text = text;
    Ok(config)
}

/// Hashes the text and the attestations and profiles that it names. An approver's key may come from
/// an attestation, and the strength of a token from a profile.
fn sha256(text: &str, approvers: &[approval::Approver], tokens: &[TokenConfig]) -> String {
    let attested = approvers.iter().filter_map(|approver| match &approver.touch {
        Touch::Attested(attested) => Some(attested),
        Touch::InSignature => None,
    });
    let proofs = attested.flat_map(|attested| {
        [
            ("attestation", attested.certificates()),
            ("attestation_root", attested.other_root().unwrap_or_default()),
        ]
    });
    let profiles = tokens.iter().map(|token| ("profile", token.profile_text.as_str()));
    digest(text, proofs.chain(profiles))
}

/// Hashes the text and then each file. A NUL, the kind and the length come before each file. The
/// text of `agent.toml` has no NUL, so no part of one file can count as a part of another.
fn digest<'a>(text: &str, files: impl Iterator<Item = (&'static str, &'a str)>) -> String {
    let mut hash = Sha256::new_with_prefix(text);
    for (kind, content) in files.filter(|(_, content)| !content.is_empty()) {
        hash.update(format!("\0{kind} {}\0", content.len()));
        hash.update(content);
    }
    HEXLOWER.encode(&hash.finalize())
}

const SYNTAX: &str = "a line is `name = value`, `[section]` or `# comment`; text stands in quotes";

/// Parses the text. A text with errors gives an empty tree, because the part of it that does parse
/// may mean something else.
fn tree<'a>(text: &'a str, problems: &Problems) -> DeTable<'a> {
    let (root, errors) = DeTable::parse_recoverable(text);
    if errors.is_empty() {
        return root.into_inner();
    }
    conceal::values_of_secrets(text).into_iter().for_each(|span| problems.hide(span));
    let mut errors: Vec<_> = errors
        .iter()
        .map(|error| (error.span().unwrap_or(text.len()..text.len()), error.message()))
        .collect();
    errors.sort_by_key(|(span, _)| span.start);
    // A later error on the same line is mostly a consequence of the first one.
    let has_line_end =
        |range| text.as_bytes().get(range).is_some_and(|bytes: &[u8]| bytes.contains(&b'\n'));
    errors.dedup_by(|later, first| !has_line_end(first.0.start..later.0.start));
    for (span, message) in errors {
        problems.add(match message {
            "duplicate key" => ConfigProblem::new(
                span,
                "expected each name once",
                "it is there already",
                "remove one of them, or rename it",
            ),
            message => ConfigProblem::new(span, "expected TOML", message, SYNTAX),
        });
    }
    DeTable::new()
}

fn not_text(bytes: &[u8], path: &Path) -> ConfigError {
    let text = String::from_utf8_lossy(bytes);
    let at = text.find(char::REPLACEMENT_CHARACTER).unwrap_or(0);
    let problems = Problems::default();
    conceal::values_of_secrets(&text).into_iter().for_each(|span| problems.hide(span));
    problems.add(ConfigProblem::new(
        at..at + 1,
        "expected UTF-8 text",
        "bytes that are not UTF-8",
        "save the file as UTF-8; addresses and symbols are plain ASCII",
    ));
    ConfigError::Invalid { report: Box::new(problems.into_report(&text, path)) }
}

/// Reads every section, and compares the sections that could collide.
fn sections<'a>(
    root: &'a DeTable<'a>,
    path: &Path,
    facts: &SystemFacts,
    problems: &'a Problems,
) -> Config {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut fields = Fields::new("agent.toml".to_owned(), 0..0, root, problems);
    let (agent, spans) = fields
        .optional("agent", |value, problems| Fields::of_section("[agent]", value, problems))
        .map_or_else(
            || (AgentSettings::default_of(facts), AgentSpans::default()),
            |fields| AgentSettings::read(fields, facts),
        );
    let mut named = |section| {
        fields
            .optional(section, |value, problems| named_tables(section, value, problems))
            .unwrap_or_default()
    };
    let tokens = token::read_all(named("token"), &agent, facts);
    let clients: Vec<ReadClient> = named("client")
        .into_iter()
        .filter_map(|(name, fields)| client::read(name, fields, facts))
        .collect();
    client::check_together(&clients, &agent, &spans, facts, problems);
    let approvers = named("approver");
    let approvers: Vec<_> = approvers
        .into_iter()
        .filter_map(|(name, fields)| {
            Some((fields.at(), approver::read(name, fields, directory, facts)?))
        })
        .collect();
    let transfers = transfer::rules(named("transfer"));
    let destinations = fields.optional("destination", |value, problems| {
        repeated_tables(
            "[[destination]]",
            "write each as [[destination]] with its fields below",
            value,
            problems,
        )
    });
    let destinations = transfer::destinations(destinations.unwrap_or_default());
    fields.finish();
    approver::check_together(&approvers, problems);
    let client_sockets = clients
        .iter()
        .filter_map(|one| Some((one.client.name.clone(), one.socket.clone()?)))
        .collect();
    let policy = Policy {
        clients: clients.into_iter().map(|one| one.client).collect(),
        destinations,
        transfers,
        approvers: approvers.iter().filter_map(|(_, approver)| approver.as_policy()).collect(),
        approval_timeout_ms: agent.approval_timeout.as_millis() as u64,
        sha256: String::new(),
    };
    Config {
        agent,
        tokens,
        policy,
        client_sockets,
        approvers: approvers.into_iter().map(|(_, approver)| approver).collect(),
        warnings: Vec::new(),
        text: String::new(),
    }
}

impl ConfigError {
    /// Every problem in the text. Empty if the file could not be read at all.
    pub fn findings(&self) -> Vec<Finding> {
        match self {
            Self::Invalid { report } => report.findings(),
            Self::Read { .. } | Self::TooLong(_) | Self::Untrusted(_) => Vec::new(),
        }
    }

    /// The error with colours, for a terminal.
    pub fn in_colour(&self) -> String {
        match self {
            Self::Invalid { report } => report.in_colour(),
            Self::Read { .. } | Self::TooLong(_) | Self::Untrusted(_) => self.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Text that is moved from one file to another changes the hash.
    #[test]
    fn nothing_moves_between_the_files_that_a_hash_is_of() {
        let text = "[agent]\n";
        assert_eq!(
            digest(text, [].into_iter()),
            HEXLOWER.encode(&Sha256::digest(text)),
            "of a file alone"
        );
        let none: [(&str, &str); 2] = [("profile", ""), ("attestation_root", "")];
        assert_eq!(
            digest(text, none.into_iter()),
            digest(text, [].into_iter()),
            "what is not there counts nothing"
        );
        let splits: [&[(&'static str, &str)]; 6] = [
            &[("profile", "ab")],
            &[("profile", "a"), ("profile", "b")],
            &[("profile", "a"), ("attestation", "b")],
            &[("attestation", "ab")],
            &[("attestation_root", "ab")],
            &[("profile", "a\0profile 1\0b")],
        ];
        let mut hashes: Vec<_> =
            splits.iter().map(|files| digest(text, files.iter().copied())).collect();
        hashes.push(digest("[agent]\na", [("profile", "b")].into_iter()));
        hashes.push(digest("[agent]\nab", [].into_iter()));
        let all = hashes.len();
        hashes.sort();
        hashes.dedup();
        assert_eq!(hashes.len(), all);
        for place in ["# \0profile 1\0", "\0profile 1\0", "note = \"\0\""] {
            let text = format!("[agent]\n{place}\n");
            let parsed =
                parse(text, Path::new("/nonexistent/agent.toml"), &SystemFacts::of_this_process());
            assert!(parsed.is_err(), "{place:?}: agent.toml has no NUL");
            let (_, errors) = DeTable::parse_recoverable(place);
            assert!(!errors.is_empty(), "{place:?} is no TOML");
        }
    }
}
