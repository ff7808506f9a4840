//! Tells a full disk from a broken one.

use std::io;

/// True if an operation failed only because there was no room. It may work once there is room.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
