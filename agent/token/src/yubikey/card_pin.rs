//! The PIN of a YubiKey. It is verified right before each use, and never again once it was refused.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use countersign_base::system::sys::LockedMemory;
use countersign_core::shell;

use super::apdu::{CommandApdu, PIN_REFERENCE, ResponseApdu, find};
use super::connection::OpenCard;
use super::error::{AttemptsLeft, CardError};
use crate::token::pin::Pin;
use crate::token::pin_attempts::{
    LoginOutcome, PinAttempts, PinAttemptsError, PinFlags, Reason, SourceIdentity, Verdict,
};

const GOOD: u16 = 0x9000;
const BLOCKED: u16 = 0x6983;
/// The status for a wrong PIN. Its last four bits are the number of attempts that are left.
const WRONG: u16 = 0x63c0;

/// A PIN in locked memory. Its attempts are recorded for `token` in `state_dir`.
#[derive(Debug)]
pub struct CardPin {
    bytes: Mutex<LockedMemory>,
    source: SourceIdentity,
    state_dir: PathBuf,
    token: String,
}

/// Checks that a PIN of this source may be tried, as far as this is known before the YubiKey is
/// asked.
pub fn may_be_tried(
    state_dir: &Path,
    token: &str,
    source: &SourceIdentity,
) -> Result<(), CardError> {
    let record = PinAttempts::open(state_dir, token).map_err(blocked)?;
    // An attempt that was cut off is judged later, by the count of the YubiKey.
    judge(record.verdict(source, PinFlags { exact: true, ..PinFlags::default() }), state_dir, token)
}

impl CardPin {
    pub fn new(pin: Pin, state_dir: &Path, token: &str) -> Self {
        let Pin { bytes, source } = pin;
        Self {
            bytes: Mutex::new(bytes),
            source,
            state_dir: state_dir.to_owned(),
            token: token.to_owned(),
        }
    }

    /// Sends one VERIFY, if no PIN of this source was ever refused.
    pub(crate) fn verify(&self, open: &OpenCard<'_>) -> Result<(), CardError> {
        let flags = open.pin_flags()?;
        let mut record = PinAttempts::open(&self.state_dir, &self.token).map_err(blocked)?;
        judge(record.verdict(&self.source, flags), &self.state_dir, &self.token)?;
        let command = {
            let pin = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
            CommandApdu::verify(pin.as_bytes())
                .ok_or_else(|| CardError::PinBlocked("a PIN has 6 to 8 bytes".to_owned()))?
        };
        record.begin(&self.source, flags).map_err(blocked)?;
        let answer = open.command(&command);
        record.settle(outcome(&answer)).map_err(blocked)?;
        match answer?.status {
            GOOD => Ok(()),
            BLOCKED => Err(CardError::PinLocked),
            status if status & 0xfff0 == WRONG => {
                Err(CardError::PinWrong { left: AttemptsLeft((status & 0xf) as u8) })
            }
            status => Err(CardError::Status { doing: "VERIFY", status }),
        }
    }
}

fn outcome(answer: &Result<ResponseApdu, CardError>) -> LoginOutcome {
    match answer {
        Ok(ResponseApdu { status: GOOD, .. }) => LoginOutcome::Accepted,
        Ok(ResponseApdu { status, .. }) if *status == BLOCKED || status & 0xfff0 == WRONG => {
            LoginOutcome::Refused
        }
        _ => LoginOutcome::Unclear,
    }
}

fn judge(verdict: Verdict, state_dir: &Path, token: &str) -> Result<(), CardError> {
    let cure = match verdict {
        Verdict::Attempt => return Ok(()),
        Verdict::Blocked(Reason::Locked) => return Err(CardError::PinLocked),
        Verdict::Blocked(reason @ Reason::FinalTry) => {
            return Err(CardError::PinBlocked(format!(
                "{reason}; verify the right PIN once with another tool (ykman piv access \
                 change-pin), which clears its count"
            )));
        }
        Verdict::Blocked(reason) => reason,
    };
    Err(CardError::PinBlocked(format!(
        "{cure}; when the PIN is right, `countersign-agent pin-reset {token} --state-dir {}` \
         allows one more attempt",
        shell::path(state_dir)
    )))
}

fn blocked(error: PinAttemptsError) -> CardError {
    match error {
        PinAttemptsError::Busy { .. } | PinAttemptsError::Full { .. } => {
            CardError::Busy(error.to_string())
        }
        error => CardError::PinBlocked(error.to_string()),
    }
}

impl OpenCard<'_> {
    /// The attempts that were spent since the last right PIN. A YubiKey counts them exactly, and
    /// can be asked.
    fn pin_flags(&self) -> Result<PinFlags, CardError> {
        let metadata = self.expect("the PIN's metadata", &CommandApdu::metadata(PIN_REFERENCE))?;
        let Some(&[limit, left]) = find(&metadata, 0x06) else {
            return Err(CardError::Nonsense("the PIN's metadata"));
        };
        Ok(PinFlags {
            count_low: left < limit,
            final_try: left == 1,
            locked: left == 0,
            exact: true,
        })
    }
}
