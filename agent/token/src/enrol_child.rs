//! The enrol child: puts a secret on a token, or makes, activates or removes a key. It carries out
//! one operation and exits.
//!
//! The front starts it and speaks to it over `control`. The operator's terminal or pipe is a
//! descriptor of its own, so that the secret passes neither through the command line tool's
//! protocol nor through the front.

pub mod card_enrolment;
pub mod import;
pub mod material;
mod operation;
pub mod operator;
mod pem;
mod secret;

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use crate::enrol_child::card_enrolment::CardEnrolment;
use countersign_base::config::{self, SystemFacts};
use countersign_base::messages::enrol_child::{EnrolError, EnrolReply, EnrolRequest, SlotChoice};
use countersign_base::messages::frame::{self, Frames, MessageFrameError};
use countersign_base::messages::settings::{TokenSettings, is_plain_name};
use countersign_base::messages::token_host::HostError;
use countersign_base::system::terminal::Terminal;
use countersign_base::system::{confine, sys};
use countersign_core::exchange::PassphraseKind;

use crate::login;
use crate::token::attempt::TokenLogin;
use crate::vault::open::PreparedVault;
use crate::vault::spent_approvals::SpentApprovals;
use crate::yubikey::card_login::log_in;
use crate::yubikey::new_key;
use operation::{Enrolment, EnteredKey};
use operator::{CredentialsWanted, Operator};

/// Carries out the one operation that the front asks for over `control`. The operator enters
/// secrets at `operator`.
///
/// Returns false if the front could not be understood, or could not be told the outcome.
///
/// For a vault, the token's settings are read from `config`; those of the front are not used.
pub fn run(
    control: OwnedFd,
    operator: &OwnedFd,
    config: (&Path, &SystemFacts),
    front_writes: &[PathBuf],
) -> bool {
    let mut stream = UnixStream::from(control);
    let (settings, request) = match read_requests(&mut stream) {
        Ok(requests) => requests,
        Err(error) => {
            tracing::error!(%error, "the front's request cannot be read");
            return false;
        }
    };
    let reply = carry_out(&settings, (config, front_writes), &request, &stream, operator)
        .unwrap_or_else(|reason| EnrolReply::Refused { reason });
    frame::send(&mut stream, &reply).is_ok()
}

fn read_requests(
    stream: &mut UnixStream,
) -> Result<(TokenSettings, EnrolRequest), MessageFrameError> {
    let mut frames = Frames::default();
    Ok((frames.receive(stream)?, frames.receive(stream)?))
}

fn carry_out(
    settings: &TokenSettings,
    (config, front_writes): ((&Path, &SystemFacts), &[PathBuf]),
    request: &EnrolRequest,
    control: &UnixStream,
    operator: &OwnedFd,
) -> Result<EnrolReply, EnrolError> {
    confine::hide_memory().map_err(HostError::unprotected)?;
    // The process leaves the terminal's session: a background process of it could neither read the
    // terminal nor switch echo off.
    confine::leave_terminal();
    let signals = sys::termination_signals().map_err(HostError::unprotected)?;
    let operator =
        Operator { input: operator.as_fd(), cancel: vec![control.as_fd(), signals.as_fd()] };
    if !is_plain_name(request.name()) {
        return Err(EnrolError::Name(request.name().to_owned()));
    }
    if settings.is_yubikey() {
        return on_yubikey(settings, request, &operator);
    }
    let new_key = enter(request, &operator)?;
    let terminal = operator.terminal();
    if settings.is_vault() {
        return in_vault(
            &settings.name,
            (config, front_writes),
            (request, new_key),
            terminal.as_ref(),
        );
    }
    let login = login::log_in(settings, front_writes, terminal.as_ref(), login::PinKeeper::None)?;
    confine::follow_parent().map_err(HostError::unprotected)?;
    on_token(login, request, new_key)
}

/// Carries out the operation in a vault: a touch opens it, and the PIN is changed afterwards.
fn in_vault(
    name: &str,
    (config, front_writes): ((&Path, &SystemFacts), &[PathBuf]),
    (request, new_key): (&EnrolRequest, Option<EnteredKey>),
    terminal: Option<&Terminal<'_>>,
) -> Result<EnrolReply, EnrolError> {
    let refused =
        |error: crate::vault::spent_approvals::NotSpent| HostError::Refused(error.to_string());
    // If the front could name the module, it could name one that steals the PIN. So the module is
    // the one in the file for which the vault was sealed.
    let config = config::load_with(config.0, config.1)
        .map_err(|error| HostError::Refused(format!("agent.toml: {error}")))?;
    let token =
        config.tokens.iter().find(|token| token.settings.name == name && token.settings.is_vault());
    let absent = || HostError::Refused(format!("agent.toml has no vault named {name:?}"));
    let settings = &token.ok_or_else(absent)?.settings;
    let prepared =
        PreparedVault::new(settings, front_writes, terminal, Some(&config.policy.sha256))?;
    confine::follow_parent().map_err(HostError::unprotected)?;
    let spent = SpentApprovals::open(prepared.directory()).map_err(refused)?;
    let text = format!(
        "Touch {}: it blinks, and the vault opens to change {}.\n",
        prepared.card(),
        request.name()
    );
    if let Some(terminal) = terminal {
        terminal.show(&text).map_err(|_| EnrolError::Cancelled)?;
    }
    let unsealed = prepared.touch(Box::new(move || tracing::info!("{}", text.trim_end())))?;
    spent.check(&unsealed.contents.spent).map_err(refused)?;
    // From here on the work must not be cut off, as in the vault host.
    confine::outlive_parent().map_err(HostError::unprotected)?;
    let (login, closing) = unsealed.log_in()?;
    let done = on_token(login, request, new_key);
    closing.finish(None, spent.mark())?;
    done
}

fn on_token(
    login: TokenLogin,
    request: &EnrolRequest,
    new_key: Option<EnteredKey>,
) -> Result<EnrolReply, EnrolError> {
    let enrolment = Enrolment::open(login, request.name())?;
    match (request, new_key) {
        (EnrolRequest::Activate { api_key, .. }, _) => enrolment.activate(api_key),
        (EnrolRequest::Add { enrolled_for, .. }, Some(new_key)) => {
            enrolment.add(new_key, enrolled_for.clone())
        }
        (EnrolRequest::Add { .. }, None) => Err(EnrolError::Cancelled),
        (EnrolRequest::Generate { slot: SlotChoice { slot: Some(_), .. }, .. }, _) => {
            Err(EnrolError::Input("only a YubiKey has slots".to_owned()))
        }
        (EnrolRequest::Generate { algorithm, modulus_bits, .. }, _) => {
            enrolment.generate(*algorithm, *modulus_bits)
        }
        (EnrolRequest::Remove { .. }, _) => enrolment.remove(),
    }
}

fn on_yubikey(
    settings: &TokenSettings,
    request: &EnrolRequest,
    operator: &Operator<'_>,
) -> Result<EnrolReply, EnrolError> {
    if let EnrolRequest::Add { algorithms, .. } = request {
        let reason = "its keys are made in it: countersign key generate".to_owned();
        let algorithm = *algorithms.first().ok_or(EnrolError::Cancelled)?;
        return Err(EnrolError::ImportUnsupported { algorithm, reason });
    }
    // The roots are read before the process gives up the files of the system.
    let roots = new_key::roots(settings)?;
    let terminal = operator.terminal();
    let login = log_in(settings, terminal.as_ref())?;
    confine::follow_parent().map_err(HostError::unprotected)?;
    let enrolment = CardEnrolment { login, name: request.name(), roots };
    match request {
        EnrolRequest::Activate { api_key, .. } => enrolment.activate(api_key),
        EnrolRequest::Add { .. } => Err(EnrolError::Cancelled),
        EnrolRequest::Generate { algorithm, modulus_bits, slot, .. } => {
            enrolment.generate(*algorithm, *modulus_bits, *slot, terminal.as_ref())
        }
        EnrolRequest::Remove { .. } => enrolment.remove(),
    }
}

/// Asks the operator for everything that an `Add` needs. This happens before the login, because
/// people are slow and tokens drop unused sessions.
fn enter(
    request: &EnrolRequest,
    operator: &Operator<'_>,
) -> Result<Option<EnteredKey>, EnrolError> {
    let EnrolRequest::Add { name, exchange, algorithms, secret_encoding, passphrase, .. } = request
    else {
        return Ok(None);
    };
    let needs_passphrase = passphrase.is_needed();
    let wanted = CredentialsWanted { name, exchange, algorithms, needs_passphrase };
    let entered = operator.credentials(wanted)?;
    let material = secret::read(algorithms, *secret_encoding, entered.secret.as_bytes())?;
    let passphrase = match (*passphrase, entered.passphrase) {
        (PassphraseKind::Mac, Some(typed)) => Some(material.mac_of(&typed)?),
        (_, typed) => typed,
    };
    Ok(Some(EnteredKey { material, api_key: entered.api_key, passphrase }))
}
