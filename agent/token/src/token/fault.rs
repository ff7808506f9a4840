//! What an error of the module means for the host: one failed request, or a process that has to be
//! started again.

use countersign_base::messages::token_host::HostError;
use cryptoki::error::{Error, RvError};

/// An error, and whether only a new process can cure it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    pub error: HostError,
    pub broken: bool,
}

impl Fault {
    /// One request failed; the host goes on.
    pub fn passing(error: HostError) -> Self {
        Self { error, broken: false }
    }

    /// The host has to be started again.
    pub fn broken(error: HostError) -> Self {
        Self { error, broken: true }
    }

    pub fn of_code(code: RvError, call: &str) -> Self {
        Self {
            error: HostError::Token(format!("{code:?} in {call}")),
            broken: needs_new_process(code),
        }
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        match error {
            Error::Pkcs11(code, call) => Self::of_code(code, &format!("C_{call:?}")),
            // The binding's own errors say how a value could not be converted, never the value.
            other => Self::passing(HostError::Token(other.to_string())),
        }
    }
}

impl From<Fault> for HostError {
    fn from(fault: Fault) -> Self {
        fault.error
    }
}

/// Device gone or logged out: handles are dead, and C_Initialize in this process may not find the
/// device again.
const fn needs_new_process(code: RvError) -> bool {
    matches!(
        code,
        RvError::CryptokiNotInitialized
            | RvError::DeviceError
            | RvError::DeviceMemory
            | RvError::DeviceRemoved
            | RvError::GeneralError
            | RvError::HostMemory
            | RvError::SlotIdInvalid
            | RvError::TokenNotPresent
            | RvError::TokenNotRecognized
            | RvError::UserNotLoggedIn
            | RvError::VendorDefined(_)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_device_breaks_the_host_and_a_bad_request_does_not() {
        for code in [
            RvError::DeviceRemoved,
            RvError::DeviceError,
            RvError::UserNotLoggedIn,
            RvError::GeneralError,
        ] {
            assert!(Fault::of_code(code, "C_Sign").broken, "{code:?}");
        }
        for code in
            [RvError::DataLenRange, RvError::MechanismInvalid, RvError::SessionHandleInvalid]
        {
            assert!(!Fault::of_code(code, "C_Sign").broken, "{code:?}");
        }
    }
}
