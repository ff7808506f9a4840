//! Gets a PIN from a keeper: the question of a host, and the fingerprint by which both name the
//! PIN.

use std::fs::File;

use countersign_base::messages::settings::TokenSettings;
use countersign_base::messages::spawner::{receive, send};
use countersign_base::messages::token_host::HostError;
use countersign_base::system::sys::{self, LockedMemory};
use rustix::net::RecvFlags;
use sha2::{Digest, Sha256};

use super::pin::LONGEST_ENTERED_PIN;
use super::pin_attempts::SourceIdentity;

/// A hash that names the opened PIN: it covers the token's section and the sealed file.
pub(crate) type KeptPinName = [u8; 32];

/// Asks the keeper for the PIN, and waits for it. The host's standard output is the connection to
/// the keeper.
pub(crate) fn fetch(
    settings: &TokenSettings,
    source: &SourceIdentity,
) -> Result<LockedMemory, HostError> {
    let keeper =
        sys::duplicate_descriptor(rustix::stdio::raw_stdout()).map_err(|error| lost(&error))?;
    let nowhere = File::options().write(true).open("/dev/null").map_err(|error| lost(&error))?;
    rustix::stdio::dup2_stdout(&nowhere).map_err(|error| lost(&error))?;
    send(&keeper, &wanted(settings, source), &[]).map_err(|error| lost(&error))?;
    let answer = receive::<Result<(), HostError>>(&keeper).map_err(|error| lost(&error))?;
    answer.ok_or_else(|| lost(&"it ended"))?.0?;
    let mut pin = LockedMemory::with_capacity(LONGEST_ENTERED_PIN).map_err(|error| lost(&error))?;
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recv(&keeper, &mut *pin.spare(), RecvFlags::empty())
    });
    match received.map_err(|error| lost(&error))? {
        (_, 0) => Err(lost(&"it ended")),
        (_, length) => {
            pin.advance(length);
            Ok(pin)
        }
    }
}

pub(crate) fn wanted(settings: &TokenSettings, source: &SourceIdentity) -> KeptPinName {
    let bytes =
        postcard::to_stdvec(&(settings, source)).expect("texts and numbers can always be written");
    Sha256::digest(bytes).into()
}

pub(crate) fn lost(error: &dyn std::fmt::Display) -> HostError {
    HostError::Card(format!("the process that keeps its PIN: {error}"))
}
