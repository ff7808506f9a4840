//! Sorts the errors of the module: one fails a single request, another needs a new host process.

use countersign_base::messages::token_host::HostError;
use cryptoki::error::{Error, RvError};

/// An error. `broken` says if only a new process can cure it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Fault {
    pub error: HostError,
    pub broken: bool,
}

impl Fault {
    /// An error of one request; the host goes on.
    pub fn passing(error: HostError) -> Self {
        Self { error, broken: false }
    }

    /// An error after which the host must be started again.
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

/// True if the device is gone or logged out. Its handles are dead then, and C_Initialize in this
/// process may not find the device again.
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
