//! The token of the first set-up: one that is there, or a new SoftHSM token with random PINs.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::account::Account;
use super::file::{self, Existing};
use super::paths::InstallPaths;
use super::question::Questions;
use crate::agent_program;
use crate::failure::Failure;

const SOFTHSM: &str = "softhsm";

/// A token as `agent.toml` names it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct ChosenToken {
    pub(super) name: String,
    pub(super) profile: String,
    pub(super) label: String,
    pub(super) kind: ProfileKind,
    #[serde(skip)]
    pub(super) made: Option<MadeToken>,
}

/// Hardware tokens compute in a device, software tokens in this machine's memory.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ProfileKind {
    Hardware,
    Software,
}

/// The token that `countersign-agent init-token` made.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct MadeToken {
    pub(super) label: String,
    /// The file that SOFTHSM2_CONF must name.
    pub(super) configuration: PathBuf,
    pub(super) pin_file: PathBuf,
}

/// A profile as `countersign-agent profiles --json` lists it.
#[derive(Clone, Debug, Deserialize)]
struct ListedProfile {
    name: String,
    title: String,
    tier: ProfileKind,
    /// Absent if its module is not installed.
    library: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Profiles {
    profiles: Vec<ListedProfile>,
}

/// The token that the operator wants.
#[derive(Clone, Debug)]
pub(super) enum Choice {
    MakeSoftHsm,
    Use { profile: String, label: String, kind: ProfileKind },
}

impl ChosenToken {
    pub(super) fn tier_in_words(&self) -> &'static str {
        match self.kind {
            ProfileKind::Hardware => {
                "device where a key is made on the token, imported where its secret was outside \
                 once"
            }
            ProfileKind::Software => {
                "software (rung 3: policy, not hardware): for tests and trials"
            }
        }
    }
}

/// Finds the modules of this machine and asks which to use.
pub(super) fn choose(
    profile: Option<&str>,
    label: Option<&str>,
    paths: &InstallPaths,
    questions: &Questions,
) -> Result<Choice, Failure> {
    let listed = agent_program::run_for_json(["profiles", "--json"])?;
    let listed: Profiles =
        serde_json::from_str(&listed).map_err(|error| not_understood("profiles", &error))?;
    let installed: Vec<ListedProfile> =
        listed.profiles.into_iter().filter(|profile| profile.library.is_some()).collect();
    let wanted = match profile {
        Some(name) => name.to_owned(),
        None => ask_which(&installed, *questions)?,
    };
    let Some(profile) = installed.into_iter().find(|profile| profile.name == wanted) else {
        return Err(not_installed(&wanted));
    };
    if profile.name == SOFTHSM && label.is_none() {
        return Ok(Choice::MakeSoftHsm);
    }
    let label = match label {
        Some(label) => label.to_owned(),
        None => questions.ask("Label of the token: ")?,
    };
    if label.is_empty() {
        let message = format!(
            "--label is missing: which {} token is to be used by {}?",
            profile.name,
            paths.config.display()
        );
        return Err(Failure::Usage(message));
    }
    Ok(Choice::Use { profile: profile.name, label, kind: profile.tier })
}

fn ask_which(installed: &[ListedProfile], questions: Questions) -> Result<String, Failure> {
    let mut question = "PKCS#11 modules of this machine:\n".to_owned();
    for profile in installed {
        let library = profile.library.as_deref().unwrap_or(std::path::Path::new("")).display();
        question.push_str(&format!("  {:<14} {} ({library})\n", profile.name, profile.title));
    }
    question.push_str("Which? [softhsm: a new software token, for a trial] ");
    let answer = questions.ask(&question)?;
    Ok(if answer.is_empty() { SOFTHSM.to_owned() } else { answer })
}

fn not_installed(profile: &str) -> Failure {
    let next = match profile {
        SOFTHSM => "apt-get install softhsm2, or name another module with --profile",
        _ => "install its module; countersign-agent profiles lists where it is looked for",
    };
    Failure::Configuration {
        message: format!("no PKCS#11 module for {profile} was found"),
        next: next.to_owned(),
    }
}

fn not_understood(what: &str, error: &serde_json::Error) -> Failure {
    Failure::Configuration {
        message: format!("the answer of countersign-agent {what} is not understood: {error}"),
        next: "compare countersign --version with countersign-agent --version".to_owned(),
    }
}

impl Choice {
    pub(super) fn plan(&self, paths: &InstallPaths) -> String {
        match self {
            Self::MakeSoftHsm => {
                format!(
                    "a new SoftHSM token with random PINs is made in {}",
                    directory(paths).display()
                )
            }
            Self::Use { profile, label, .. } => format!("the {profile} token {label:?} is used"),
        }
    }

    /// Makes the token if it must be made. A token that an earlier run made is used again.
    pub(super) fn make(
        self,
        paths: &InstallPaths,
        owner: &Account,
    ) -> Result<ChosenToken, Failure> {
        match self {
            Self::Use { profile, label, kind } => {
                Ok(ChosenToken { name: "hsm".to_owned(), profile, label, kind, made: None })
            }
            Self::MakeSoftHsm => {
                let made = make_softhsm(paths, owner)?;
                Ok(ChosenToken {
                    name: "trial".to_owned(),
                    profile: SOFTHSM.to_owned(),
                    label: made.label.clone(),
                    kind: ProfileKind::Software,
                    made: Some(made),
                })
            }
        }
    }
}

fn directory(paths: &InstallPaths) -> PathBuf {
    paths.state.join("softhsm")
}

fn next_after_no_token(directory: &Path, note: &Path) -> String {
    if !directory.exists() {
        return "nothing was made: put right what it says, or choose another --dir, and run this \
                again"
            .to_owned();
    }
    format!(
        "{0} without {1} is left over from an init that was interrupted; if so, remove {0} and run \
         this again",
        directory.display(),
        note.display()
    )
}

/// Notes the new token beside the configuration. If a run ends before the configuration is written,
/// the next run uses the same token.
fn make_softhsm(paths: &InstallPaths, owner: &Account) -> Result<MadeToken, Failure> {
    let note = paths.config.with_file_name("token.json");
    if let Ok(text) = std::fs::read_to_string(&note) {
        return serde_json::from_str(&text).map_err(|error| Failure::Configuration {
            message: format!("{} is damaged: {error}", note.display()),
            next: format!(
                "if no key was enrolled yet, remove it and {} and run this again",
                directory(paths).display()
            ),
        });
    }
    let directory = directory(paths);
    let words = [
        "init-token".as_ref(),
        "--dir".as_ref(),
        directory.as_os_str(),
        "--label".as_ref(),
        "countersign".as_ref(),
    ];
    let ended = owner.run_agent_program(words)?;
    if !ended.status.success() {
        return Err(Failure::Configuration {
            message: format!(
                "could not make a token in {}: {}",
                directory.display(),
                agent_program::words(&ended)
            ),
            next: next_after_no_token(&directory, &note),
        });
    }
    let text = String::from_utf8_lossy(&ended.stdout);
    let made: MadeToken =
        serde_json::from_str(&text).map_err(|error| not_understood("init-token", &error))?;
    let text =
        serde_json::to_string(&made).map_err(|error| not_understood("init-token", &error))?;
    let _ = file::write(&note, &text, paths.config_mode(), Existing::Keep)?;
    Ok(made)
}
