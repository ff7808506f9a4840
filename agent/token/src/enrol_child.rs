//! The enrol child: puts a secret on a token, or makes, activates or removes a key, for one
//! operation, then exits.
//!
//! It is started by the front and speaks to it over `control`; the operator's terminal or pipe
//! comes as a descriptor of its own, so that the secret passes neither the command line tool's
//! protocol nor the front.

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
use countersign_base::config::{self, Facts};
use countersign_base::messages::enrol_child::{EnrolError, EnrolReply, EnrolRequest, SlotChoice};
use countersign_base::messages::frame::{self, FrameError, Frames};
use countersign_base::messages::settings::{TokenSettings, is_plain_name};
use countersign_base::messages::token_host::HostError;
use countersign_base::system::terminal::Terminal;
use countersign_base::system::{confine, sys};
use countersign_core::exchange::Passphrase;

use crate::login;
use crate::token::attempt::Login;
use crate::vault::open::Prepared;
use crate::vault::spent::Spent;
use crate::yubikey::login::log_in;
use crate::yubikey::new_key;
use operation::{Enrolment, NewKey};
use operator::{Operator, Wanted};

/// Carries out the one operation asked for over `control`; `operator` is where the operator enters
/// secrets.
///
/// Returns false where the front could not be understood or told.
///
/// A vault's token is what `config` says, whatever the front says.
pub fn run(
    control: OwnedFd,
    operator: &OwnedFd,
    config: (&Path, &Facts),
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

fn read_requests(stream: &mut UnixStream) -> Result<(TokenSettings, EnrolRequest), FrameError> {
    let mut frames = Frames::default();
    Ok((frames.receive(stream)?, frames.receive(stream)?))
}

fn carry_out(
    settings: &TokenSettings,
    (config, front_writes): ((&Path, &Facts), &[PathBuf]),
    request: &EnrolRequest,
    control: &UnixStream,
    operator: &OwnedFd,
) -> Result<EnrolReply, EnrolError> {
    confine::hide_memory().map_err(HostError::unprotected)?;
    // Out of the terminal's session: a process in its background could neither read it nor switch
    // echo off.
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
    let login = login::log_in(settings, front_writes, terminal.as_ref(), login::Keeper::None)?;
    confine::follow_parent().map_err(HostError::unprotected)?;
    on_token(login, request, new_key)
}

/// The same under a touch, after which the PIN is another one.
fn in_vault(
    name: &str,
    (config, front_writes): ((&Path, &Facts), &[PathBuf]),
    (request, new_key): (&EnrolRequest, Option<NewKey>),
    terminal: Option<&Terminal<'_>>,
) -> Result<EnrolReply, EnrolError> {
    let refused = |error: crate::vault::spent::NotSpent| HostError::Refused(error.to_string());
    // A module that the front names would see the PIN: what is loaded stands in the file that the
    // vault was sealed for.
    let config = config::load_with(config.0, config.1)
        .map_err(|error| HostError::Refused(format!("agent.toml: {error}")))?;
    let token =
        config.tokens.iter().find(|token| token.settings.name == name && token.settings.is_vault());
    let absent = || HostError::Refused(format!("agent.toml has no vault named {name:?}"));
    let settings = &token.ok_or_else(absent)?.settings;
    let prepared = Prepared::new(settings, front_writes, terminal, Some(&config.policy.sha256))?;
    confine::follow_parent().map_err(HostError::unprotected)?;
    let spent = Spent::open(prepared.place()).map_err(refused)?;
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
    // As in `vault::process`: what begins now comes to its end.
    confine::outlive_parent().map_err(HostError::unprotected)?;
    let (login, closing) = unsealed.log_in()?;
    let done = on_token(login, request, new_key);
    closing.finish(None, spent.mark())?;
    done
}

fn on_token(
    login: Login,
    request: &EnrolRequest,
    new_key: Option<NewKey>,
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
    // Read before the process gives up the files of the system.
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

/// Asks the operator for what an `Add` needs, before the login: people are slow, and tokens drop
/// unused sessions.
fn enter(request: &EnrolRequest, operator: &Operator<'_>) -> Result<Option<NewKey>, EnrolError> {
    let EnrolRequest::Add { name, exchange, algorithms, secret_encoding, passphrase, .. } = request
    else {
        return Ok(None);
    };
    let needs_passphrase = passphrase.is_needed();
    let wanted = Wanted { name, exchange, algorithms, needs_passphrase };
    let entered = operator.credentials(wanted)?;
    let material = secret::read(algorithms, *secret_encoding, entered.secret.as_bytes())?;
    let passphrase = match (*passphrase, entered.passphrase) {
        (Passphrase::Mac, Some(typed)) => Some(material.mac_of(&typed)?),
        (_, typed) => typed,
    };
    Ok(Some(NewKey { material, api_key: entered.api_key, passphrase }))
}
