//! Finds the process at the other end of a Unix socket, as a descriptor. A process number can be
//! used again for another process; the descriptor cannot.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// A descriptor for the process that connected this Unix socket; `ENOPROTOOPT` before Linux 6.5.
pub fn peer_pidfd(socket: impl AsFd) -> io::Result<OwnedFd> {
    let mut descriptor: libc::c_int = -1;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `length` bytes, the size of the integer they are written
    // to, and both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_PEERPIDFD,
            (&raw mut descriptor).cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if descriptor < 0 {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    }
    // SAFETY: on success the kernel has opened this descriptor for us, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    use std::os::unix::net::UnixStream;

    #[test]
    fn the_descriptor_is_of_the_process_that_lives() {
        let (ours, _theirs) = UnixStream::pair().expect("a socket pair");
        match peer_pidfd(&ours) {
            Ok(process) => {
                let mut polled = [PollFd::new(&process, PollFlags::IN)];
                let ended = poll(&mut polled, Some(&Timespec::default())).expect("polled");
                assert_eq!(ended, 0, "readable once the process has ended, and this one has not");
            }
            Err(error) => {
                assert_eq!(error.raw_os_error(), Some(libc::ENOPROTOOPT), "before Linux 6.5")
            }
        }
    }

    #[test]
    fn what_is_no_unix_socket_has_no_peer() {
        peer_pidfd(std::fs::File::open("/dev/null").expect("opens")).expect_err("refused");
    }
}
