//! One C_Login with one PIN, on record before and after.

use std::sync::Arc;

use countersign_base::messages::confinement::Limits;
use countersign_base::messages::settings::TokenSettings;
use countersign_base::messages::token_host::HostError;
use countersign_base::system::sys::LockedMemory;
use countersign_core::shell;
use cryptoki::error::RvError;
use cryptoki::session::Session;

use super::fault::Fault;
use super::pin_attempts::{
    Outcome, PinFlags, Reason, SourceIdentity, TryError, TryRecord, Verdict,
};
use super::pkcs11::Token;

/// What a logged-in process holds: the login lasts as long as a session of it is open.
#[derive(Debug)]
pub struct Login {
    pub token: Arc<Token>,
    pub keeper: Session,
    /// What this process can no longer do.
    pub limits: Limits,
}

/// Calls C_Login at most once. False: the PIN was refused, now or before, and it is not the `last`
/// that there is.
pub(crate) fn attempt(
    token: &Token,
    keeper: &Session,
    settings: &TokenSettings,
    record: &mut TryRecord,
    (source, pin): (&SourceIdentity, &LockedMemory),
    last: bool,
) -> Result<bool, HostError> {
    let flags = token.pin_flags()?;
    match record.verdict(source, flags) {
        Verdict::Attempt => {}
        Verdict::Blocked(Reason::RefusedBefore | Reason::Interrupted) if !last => return Ok(false),
        Verdict::Blocked(reason) => return Err(HostError::PinBlocked(cure_of(reason, settings))),
    }
    record.begin(source, flags).map_err(blocked)?;
    let result = token.calls().login(keeper, pin);
    let outcome = outcome(result);
    record.settle(outcome).map_err(blocked)?;
    match (outcome, result) {
        (Outcome::Accepted, _) | (_, Ok(())) => Ok(true),
        (Outcome::Refused, Err(_)) if !last => Ok(false),
        (Outcome::Refused, Err(code)) => {
            Err(HostError::PinRefused(format!("{code:?}; {}", cure(settings))))
        }
        (Outcome::NotJudged | Outcome::Unclear, Err(code)) => {
            Err(Fault::of_code(code, "C_Login").error)
        }
    }
}

/// Whether a PIN of this source may be tried.
pub(crate) fn check(
    record: &TryRecord,
    settings: &TokenSettings,
    source: &SourceIdentity,
    flags: PinFlags,
) -> Result<(), HostError> {
    match record.verdict(source, flags) {
        Verdict::Attempt => Ok(()),
        Verdict::Blocked(reason) => Err(HostError::PinBlocked(cure_of(reason, settings))),
    }
}

/// Why a PIN is not tried, and what a person can do about it.
fn cure_of(reason: Reason, settings: &TokenSettings) -> String {
    let cure = match reason {
        Reason::FinalTry => FINAL_TRY_CURE.to_owned(),
        Reason::Locked => LOCKED_CURE.to_owned(),
        Reason::Elsewhere
        | Reason::Interrupted
        | Reason::RefusedBefore
        | Reason::TooManyRefusals => cure(settings),
    };
    format!("{reason}; {cure}")
}

/// The agent spends no last try, whatever was cleared.
const FINAL_TRY_CURE: &str = "log in once with the right PIN by another tool, such as pkcs11-tool \
                              --login, which clears the \
                              token's count; then reload the agent";
const LOCKED_CURE: &str =
    "who holds the security officer's PIN has to set this PIN anew; then reload the agent";

fn cure(settings: &TokenSettings) -> String {
    format!(
        "when the PIN is right, `countersign-agent pin-reset {} --state-dir {}` allows one more \
         attempt",
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

fn outcome(result: Result<(), RvError>) -> Outcome {
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
