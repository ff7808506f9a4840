//! From settings to a token that is logged in: read the PIN, keep the record of attempts, call C_Login at most once.

use std::path::PathBuf;
use std::sync::Arc;

use countersign_core::shell;
use cryptoki::error::RvError;
use cryptoki::session::Session;
use pkcs11_profiles::Profile;

use super::code;
use super::fault::Fault;
use super::pin::{OpenSource, Pin};
use super::pin_try::{Outcome, PinFlags, Reason, TryError, TryRecord, Verdict};
use super::pkcs11::Token;
use super::protocol::HostError;
use super::settings::TokenSettings;
use crate::confine::{self, Calls, Limits};
use crate::sys;
use crate::terminal::Terminal;
use crate::vault::keeper;

/// What a logged-in process holds: the login lasts as long as a session of it is open.
#[derive(Debug)]
pub struct Login {
    pub token: Arc<Token>,
    pub keeper: Session,
    /// What this process can no longer do.
    pub limits: Limits,
}

/// Who has the PIN where it is kept from an earlier touch.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Keeper {
    None,
    OnStandardOutput,
}

/// Reads the PIN, loads the module, logs in, and gives up what it took to get there: what follows is confined.
///
/// The environment is replaced and the module loaded only after the PIN was read: asking for it may start pinentry, and
/// after C_Initialize nothing may fork. The record is locked from before the search until after C_Login, so that two of our
/// processes do not log in to one token at the same moment.
pub fn log_in(
    settings: &TokenSettings,
    front_writes: &[PathBuf],
    operator: Option<&Terminal<'_>>,
    keeper: Keeper,
) -> Result<Login, HostError> {
    let profile = settings.checked_profile()?;
    code::check_untouched(settings, &profile, front_writes)?;
    let unavailable = |error: super::pin::PinError| match error {
        super::pin::PinError::Unsealed(error) => error,
        error => HostError::PinUnavailable(error.to_string()),
    };
    let source = OpenSource::open(settings).map_err(unavailable)?;
    let record = || TryRecord::open(&settings.state_dir, &settings.name).map_err(blocked);
    // Not held while a person is asked: the others do not wait for one.
    check(&record()?, settings, &source.identity(), PinFlags::default())?;
    let pin = match keeper {
        Keeper::None => source.read(&settings.name, operator).map_err(unavailable)?,
        Keeper::OnStandardOutput => {
            let source = source.identity();
            Pin { bytes: keeper::fetch(settings, &source)?, source }
        }
    };
    if !(profile.pin.min_length..=profile.pin.max_length).contains(&pin.bytes.as_bytes().len()) {
        return Err(HostError::PinUnavailable(format!("{} takes {}", profile.title, profile.pin.form)));
    }
    let mut record = record()?;
    sys::replace_environment(&settings.environment).map_err(|error| HostError::Module(error.to_string()))?;
    let token = Token::find(settings, profile)?;
    let keeper = token.open_session().map_err(HostError::from)?;
    attempt(&token, &keeper, settings, &mut record, &pin)?;
    let limits = confined(settings, token.profile())?;
    Ok(Login { token: Arc::new(token), keeper, limits })
}

fn confined(settings: &TokenSettings, profile: &Profile) -> Result<Limits, HostError> {
    let files = confine::token_files(profile, settings);
    confine::enter(settings.confinement, Some(&files), Calls::Host(profile.reach)).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
        HostError::Refused(format!("{error}{cause}"))
    })
}

fn attempt(
    token: &Token,
    keeper: &Session,
    settings: &TokenSettings,
    record: &mut TryRecord,
    pin: &Pin,
) -> Result<(), HostError> {
    let flags = token.pin_flags()?;
    check(record, settings, &pin.source, flags)?;
    record.begin(&pin.source, flags).map_err(blocked)?;
    let result = token.calls().login(keeper, &pin.bytes);
    let outcome = outcome(result);
    record.settle(outcome).map_err(blocked)?;
    match (outcome, result) {
        (Outcome::Accepted, _) | (_, Ok(())) => Ok(()),
        (Outcome::Refused, Err(code)) => Err(HostError::PinRefused(format!("{code:?}; {}", cure(settings)))),
        (Outcome::NotJudged | Outcome::Unclear, Err(code)) => Err(Fault::of_code(code, "C_Login").error),
    }
}

fn check(
    record: &TryRecord,
    settings: &TokenSettings,
    source: &super::pin_try::SourceIdentity,
    flags: PinFlags,
) -> Result<(), HostError> {
    match record.verdict(source, flags) {
        Verdict::Attempt => Ok(()),
        Verdict::Blocked(reason) => Err(HostError::PinBlocked(cure_of(reason, settings))),
    }
}

/// Why a PIN is not tried, and what a person can do about it.
pub(crate) fn cure_of(reason: Reason, settings: &TokenSettings) -> String {
    let cure = match reason {
        Reason::FinalTry => FINAL_TRY_CURE.to_owned(),
        Reason::Locked => LOCKED_CURE.to_owned(),
        Reason::Elsewhere | Reason::Interrupted | Reason::RefusedBefore | Reason::TooManyRefusals => cure(settings),
    };
    format!("{reason}; {cure}")
}

/// The agent spends no last try, whatever was cleared.
const FINAL_TRY_CURE: &str = "log in once with the right PIN by another tool, such as pkcs11-tool --login, which clears the \
                              token's count; then reload the agent";
const LOCKED_CURE: &str = "who holds the security officer's PIN has to set this PIN anew; then reload the agent";

fn cure(settings: &TokenSettings) -> String {
    format!(
        "when the PIN is right, `countersign-agent pin-reset {} --state-dir {}` allows one more attempt",
        settings.name,
        shell::path(&settings.state_dir)
    )
}

pub(crate) fn blocked(error: TryError) -> HostError {
    match error {
        TryError::Busy { .. } | TryError::Full { .. } => HostError::Busy(error.to_string()),
        error => HostError::PinBlocked(error.to_string()),
    }
}

pub(crate) fn outcome(result: Result<(), RvError>) -> Outcome {
    match result {
        Ok(()) | Err(RvError::UserAlreadyLoggedIn) => Outcome::Accepted,
        Err(
            RvError::PinExpired
            | RvError::PinIncorrect
            | RvError::PinInvalid
            | RvError::PinLenRange
            | RvError::PinLocked,
        ) => Outcome::Refused,
        Err(
            RvError::CryptokiNotInitialized
            | RvError::DeviceRemoved
            | RvError::HostMemory
            | RvError::SessionClosed
            | RvError::SessionHandleInvalid
            | RvError::TokenNotPresent
            | RvError::TokenNotRecognized
            | RvError::UserAnotherAlreadyLoggedIn
            | RvError::UserPinNotInitialized
            | RvError::UserTooManyTypes,
        ) => Outcome::NotJudged,
        Err(_) => Outcome::Unclear,
    }
}
