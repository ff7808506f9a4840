//! Installs a filter of system calls, and has the kernel log the refused ones. The compiler of
//! filters cannot ask for that log.

use std::io;

use seccompiler::sock_filter;

/// Limits the system calls of every thread of this process. This cannot be undone, and it needs
/// no_new_privs.
pub(crate) fn install_call_filter(program: &[sock_filter]) -> io::Result<()> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: program.as_ptr().cast::<libc::sock_filter>().cast_mut(),
    };
    let flags = libc::SECCOMP_FILTER_FLAG_TSYNC | libc::SECCOMP_FILTER_FLAG_LOG;
    // SAFETY: the kernel copies `len` instructions, which the slice holds; both types are the
    // kernel's sock_filter, and it takes a mutable pointer by convention only.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::c_long::from(libc::SECCOMP_SET_MODE_FILTER),
            flags,
            &raw const program,
        )
    };
    match result {
        0 => Ok(()),
        1.. => Err(io::Error::other("a thread of this process has limits of its own")),
        _ => Err(io::Error::last_os_error()),
    }
}
