//! A socket registered with the runtime for reading alone, or for writing alone.

use std::io;
use std::os::unix::net::UnixStream;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Must be called inside a runtime.
// the form that replaces it is unsafe for types whose descriptor may change, which no stream's does
#[allow(deprecated)]
pub(crate) fn registered(
    stream: UnixStream,
    interest: Interest,
) -> io::Result<AsyncFd<UnixStream>> {
    AsyncFd::with_interest(stream, interest)
}
