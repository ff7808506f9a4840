//! Interrupts one thread: a signal ends only the system call in which the thread waits.

use std::io;
use std::os::unix::thread::JoinHandleExt;
use std::thread::JoinHandle;

/// Nobody else sends this signal to a thread, and a process that does not expect it ignores it.
const SIGNAL: libc::c_int = libc::SIGURG;

/// Prepares this process for [`interrupt`]. Call this first.
pub fn expect_interruptions() -> io::Result<()> {
    extern "C" fn nothing(_signal: libc::c_int) {}
    // SAFETY: an action of zeros is one without flags and with an empty mask, and the handler does
    // nothing, which is safe at any moment.
    let result = unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
        libc::sigaction(SIGNAL, &raw const action, std::ptr::null_mut())
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Ends the system call in which this thread waits, if it waits in one.
pub fn interrupt<T>(thread: &JoinHandle<T>) {
    // SAFETY: the handle has been neither joined nor dropped, so that the thread's number is still
    // its own.
    unsafe {
        libc::pthread_kill(thread.as_pthread_t(), SIGNAL);
    }
}
