//! Makes one C_Login with one PIN, and records it before and after.

use std::sync::Arc;

use countersign_base::messages::confinement::ConfinementReport;
use countersign_base::messages::settings::TokenSettings;
use countersign_base::messages::token_host::HostError;
use countersign_base::system::sys::LockedMemory;
use countersign_core::shell;
use cryptoki::error::RvError;
use cryptoki::session::Session;

use super::fault::Fault;
use super::pin_attempts::{
    LoginOutcome, PinAttempts, PinAttemptsError, PinFlags, Reason, SourceIdentity, Verdict,
};
use super::pkcs11::Pkcs11Token;

/// A login to a token. It lasts as long as one session of this process is open.
#[derive(Debug)]
pub struct TokenLogin {
    pub token: Arc<Pkcs11Token>,
    pub keeper: Session,
    /// The limits of this process.
    pub limits: ConfinementReport,
}

/// Calls C_Login at most once. False if the PIN was refused, now or before, and is not the `last`
/// one that can be tried.
pub(crate) fn attempt(
    token: &Pkcs11Token,
    keeper: &Session,
    settings: &TokenSettings,
    record: &mut PinAttempts,
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
        (LoginOutcome::Accepted, _) | (_, Ok(())) => Ok(true),
        (LoginOutcome::Refused, Err(_)) if !last => Ok(false),
        (LoginOutcome::Refused, Err(code)) => {
            Err(HostError::PinRefused(format!("{code:?}; {}", cure(settings))))
        }
        (LoginOutcome::NotJudged | LoginOutcome::Unclear, Err(code)) => {
            Err(Fault::of_code(code, "C_Login").error)
        }
    }
}

/// Checks that a PIN of this source may be tried.
pub(crate) fn check(
    record: &PinAttempts,
    settings: &TokenSettings,
    source: &SourceIdentity,
    flags: PinFlags,
) -> Result<(), HostError> {
    match record.verdict(source, flags) {
        Verdict::Attempt => Ok(()),
        Verdict::Blocked(reason) => Err(HostError::PinBlocked(cure_of(reason, settings))),
    }
}

/// Says why a PIN is not tried, and what a person can do.
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

/// The agent never spends the last attempt, even if a person has cleared the record.
const FINAL_TRY_CURE: &str = "log in once with the right PIN by another tool, such as pkcs11-tool \
                              --login, which clears the \
                              token's count; then reload the agent";
const LOCKED_CURE: &str =
    "a person with the security officer's PIN must set this PIN anew; then reload the agent";

fn cure(settings: &TokenSettings) -> String {
    format!(
        "when the PIN is right, `countersign-agent pin-reset {} --state-dir {}` allows one more \
         attempt",
        settings.name,
        shell::path(&settings.state_dir)
    )
}

pub(crate) fn blocked(error: PinAttemptsError) -> HostError {
    match error {
        PinAttemptsError::Busy { .. } | PinAttemptsError::Full { .. } => {
            HostError::Busy(error.to_string())
        }
        error => HostError::PinBlocked(error.to_string()),
    }
}

fn outcome(result: Result<(), RvError>) -> LoginOutcome {
    match result {
        Ok(()) | Err(RvError::UserAlreadyLoggedIn) => LoginOutcome::Accepted,
        Err(
            RvError::PinExpired
            | RvError::PinIncorrect
            | RvError::PinInvalid
            | RvError::PinLenRange
            | RvError::PinLocked,
        ) => LoginOutcome::Refused,
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
        ) => LoginOutcome::NotJudged,
        Err(_) => LoginOutcome::Unclear,
    }
}
