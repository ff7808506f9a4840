//! The errors of a YubiKey, each with advice to a person.

use std::time::Duration;

use countersign_base::messages::token_host::HostError;
use countersign_base::messages::yubikey::Slot;
use countersign_core::algorithm::Algorithm;

use super::slot::SlotTouchPolicy;

/// Why an operation was not done. In no case does anybody get a signature.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum CardError {
    #[error("{0}")]
    Busy(String),
    #[error("firmware {}.{}.{} is too old: 5.3 or later is needed", .0[0], .0[1], .0[2])]
    Firmware([u8; 3]),
    #[error(
        "the YubiKey is held by another program; close it (gpg, a browser, ykman) and ask again"
    )]
    Held,
    #[error(
        "a message of {bytes} bytes is too long for an Ed25519 key of a YubiKey, which takes \
         {longest}"
    )]
    MessageTooLong { bytes: usize, longest: usize },
    #[error("slot {0} holds no key")]
    NoKey(Slot),
    #[error("pcscd does not answer: is it installed and running?")]
    NoService,
    #[error("the YubiKey gave an answer that is not {0}")]
    Nonsense(&'static str),
    #[error("no YubiKey with serial {wanted} is plugged in{}", others(.found))]
    NoSuchYubiKey { wanted: u32, found: Vec<u32> },
    #[error("slot {0} refused at once, before it asked for a touch")]
    NotAllowed(Slot),
    #[error("the key in slot {slot} is not one for {algorithm}")]
    OtherKey { slot: Slot, algorithm: Algorithm },
    #[error("the PIN was refused before and is not tried again: {0}")]
    PinBlocked(String),
    #[error(
        "the YubiKey has locked its PIN: set a new one with the PUK (ykman piv access unblock-pin)"
    )]
    PinLocked,
    #[error("the YubiKey refused the PIN; {left} left before it locks; it is not tried again")]
    PinWrong { left: AttemptsLeft },
    #[error("pcscd reported {0}")]
    Pcsc(pcsc::Error),
    #[error("the YubiKey was reset meanwhile, by another program or by a loss of power; ask again")]
    Reset,
    #[error("the YubiKey answered {status:04x} to {doing}")]
    Status { doing: &'static str, status: u16 },
    #[error("nobody touched the YubiKey within {} s; ask again, and touch it while it \
             blinks", .waited.as_secs_f32().round())]
    TouchTooLate { waited: Duration },
    #[error(
        "slot {slot} does not need a touch for each signature (touch policy {touch}, not always): \
         it is not used"
    )]
    TouchUnproven { slot: Slot, touch: SlotTouchPolicy },
    #[error("the YubiKey was unplugged; plug it in and ask again")]
    Unplugged,
}

/// The number of wrong PINs that are left before the YubiKey locks its PIN.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AttemptsLeft(pub u8);

impl std::fmt::Display for AttemptsLeft {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let noun = if self.0 == 1 { "try" } else { "tries" };
        write!(f, "{} {noun}", self.0)
    }
}

fn others(found: &[u32]) -> String {
    match found {
        [] => String::new(),
        found => format!(
            "; there is {}",
            found.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
        ),
    }
}

impl From<pcsc::Error> for CardError {
    fn from(error: pcsc::Error) -> Self {
        use pcsc::Error as Pcsc;
        match error {
            // If pcscd ends during a call, the call gives one of these errors.
            Pcsc::CommError | Pcsc::InvalidHandle | Pcsc::NoService | Pcsc::ServiceStopped => {
                Self::NoService
            }
            Pcsc::NoReadersAvailable
            | Pcsc::NoSmartcard
            | Pcsc::NotTransacted
            | Pcsc::ReaderUnavailable
            | Pcsc::RemovedCard
            | Pcsc::UnknownReader
            | Pcsc::UnpoweredCard
            | Pcsc::UnresponsiveCard => Self::Unplugged,
            // During a reset the card has no protocol yet.
            Pcsc::ProtoMismatch | Pcsc::ResetCard => Self::Reset,
            Pcsc::SharingViolation => Self::Held,
            other => Self::Pcsc(other),
        }
    }
}

impl From<CardError> for HostError {
    fn from(error: CardError) -> Self {
        let text = error.to_string();
        match error {
            CardError::NoSuchYubiKey { .. } => Self::TokenAbsent(text),
            CardError::PinBlocked(reason) => Self::PinBlocked(reason),
            CardError::PinLocked | CardError::PinWrong { .. } => Self::PinRefused(text),
            CardError::TouchTooLate { .. } => Self::TouchTooLate(text),
            _ => Self::Card(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_told_what_to_do() {
        let absent = CardError::NoSuchYubiKey { wanted: 7, found: vec![1, 2] };
        assert_eq!(absent.to_string(), "no YubiKey with serial 7 is plugged in; there is 1, 2");
        let wrong = CardError::PinWrong { left: AttemptsLeft(1) };
        assert_eq!(
            wrong.to_string(),
            "the YubiKey refused the PIN; 1 try left before it locks; it is not tried again"
        );
        let late = CardError::TouchTooLate { waited: Duration::from_millis(15_020) };
        assert!(late.to_string().contains("within 15 s"), "{late}");
    }
}
