//! A disk that is full, told from one that is broken.

use std::io;

/// True where an operation failed for want of room and nothing else: once there is room, it may
/// work.
pub fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
