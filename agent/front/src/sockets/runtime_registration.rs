//! Registers a socket with the runtime for reading alone, or for writing alone.

use std::io;
use std::os::unix::net::UnixStream;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Registers a socket for `interest` alone. Call this inside a runtime.
// the newer function is unsafe, for types whose descriptor may change; a stream's does not
#[allow(deprecated)]
pub(crate) fn registered(
    stream: UnixStream,
    interest: Interest,
) -> io::Result<AsyncFd<UnixStream>> {
    AsyncFd::with_interest(stream, interest)
}
