//! A socket registered with the runtime for reading alone, or for writing alone.

use std::io;
use std::os::unix::net::UnixStream;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Must be called inside a runtime.
pub(crate) fn registered(stream: UnixStream, interest: Interest) -> io::Result<AsyncFd<UnixStream>> {
    // SAFETY: the descriptor has to stay open, and the same, as long as the registration lives. The stream owns it and moves
    // into the registration; nothing of std's closes or replaces a stream's descriptor but its drop.
    let registered = unsafe { AsyncFd::register_with_interest(stream, interest) };
    Ok(registered?)
}
