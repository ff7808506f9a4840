//! Descriptors, environment and signals of a process that has just been started.

use std::ffi::OsString;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use zeroize::Zeroize;

/// A copy of a descriptor with which this process was started. The original is closed at the next
/// exec.
pub fn duplicate_descriptor(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: both calls only look at the number; a closed or negative one is answered with EBADF.
    let copy = unsafe {
        libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC);
        libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3)
    };
    if copy < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened this descriptor for us, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

/// Closes a descriptor with which this process was started and which it does not use.
pub fn close_inherited(number: RawFd) {
    // SAFETY: both calls only look at the number. Every descriptor that we open is closed at exec.
    // So a descriptor without that flag came from outside, and nothing of ours holds it. A closed
    // number gives -1, in which that flag is set too.
    unsafe {
        if number > 2 && libc::fcntl(number, libc::F_GETFD) & libc::FD_CLOEXEC == 0 {
            libc::close(number);
        }
    }
}

/// Empties the environment, and wipes the memory that held it at the start, which
/// `/proc/PID/environ` shows. Fails if another thread could be reading it.
pub fn forget_environment() -> io::Result<()> {
    unsafe extern "C" {
        static mut environ: *mut *mut libc::c_char;
    }
    only_thread()?;
    // SAFETY: this is the only thread. `environ` is null, or points to a list of pointers that ends
    // with a null pointer. Each pointer leads to a text that ends with a zero byte. The text is in
    // writable memory: the kernel put it there at the start, or the C library did later. std hands
    // out copies only.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            std::slice::from_raw_parts_mut((*entry).cast::<u8>(), libc::strlen(*entry)).zeroize();
            entry = entry.add(1);
        }
        if libc::clearenv() != 0 {
            return Err(io::Error::other("the environment could not be cleared"));
        }
    }
    Ok(())
}

/// Makes the environment exactly these pairs. Fails if another thread could be reading it.
pub fn replace_environment(pairs: &[(String, String)]) -> io::Result<()> {
    only_thread()?;
    let names: Vec<OsString> = std::env::vars_os().map(|(name, _)| name).collect();
    // SAFETY: this is the only thread, as counted above, so nobody reads the environment meanwhile.
    unsafe {
        for name in names {
            std::env::remove_var(name);
        }
        for (name, value) in pairs {
            std::env::set_var(name, value);
        }
    }
    Ok(())
}

const TERMINATION_SIGNALS: [libc::c_int; 4] =
    [libc::SIGHUP, libc::SIGINT, libc::SIGQUIT, libc::SIGTERM];

/// From now on a signal that asks this process to end only interrupts the call in which it waits.
/// In programs that it starts the signals work as usual, which they would not if they were blocked
/// or ignored.
pub fn outlive_termination_signals() -> io::Result<()> {
    extern "C" fn nothing(_signal: libc::c_int) {}
    for signal in TERMINATION_SIGNALS {
        // SAFETY: an action of zeros is one without flags and with an empty mask, and the handler
        // does nothing, which is safe at any moment.
        let result = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = nothing as extern "C" fn(libc::c_int) as libc::sighandler_t;
            libc::sigaction(signal, &raw const action, std::ptr::null_mut())
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    // A front that has just started blocks its hang-ups (SIGHUP), and its spawner inherits that.
    set_blocked(libc::SIG_UNBLOCK, &TERMINATION_SIGNALS);
    Ok(())
}

/// Holds back every hang-up until [`take_hang_ups`]. Call this while there is one thread.
pub fn keep_hang_ups() {
    set_blocked(libc::SIG_BLOCK, &[libc::SIGHUP]);
}

/// Lets hang-ups arrive again, also one that [`keep_hang_ups`] has held back.
pub fn take_hang_ups() {
    set_blocked(libc::SIG_UNBLOCK, &[libc::SIGHUP]);
}

/// Lets this thread write to its terminal from the background, even if the terminal is set to stop
/// a process that does so.
pub fn write_from_the_background() {
    set_blocked(libc::SIG_BLOCK, &[libc::SIGTTOU]);
}

/// From now on a file that reaches the size limit of this process is an error (EFBIG), no longer
/// the end of the process.
pub fn survive_file_size_limits() {
    // SAFETY: to ignore a signal runs no code of ours, and any signal but two can be ignored.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

fn set_blocked(how: libc::c_int, signals: &[libc::c_int]) {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set before anything reads it; no old mask is asked for.
    // None of the calls can fail with a known signal and a known way to change the mask.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        libc::pthread_sigmask(how, set.as_ptr(), std::ptr::null_mut());
    }
}

fn only_thread() -> io::Result<()> {
    if std::fs::read_dir("/proc/self/task")?.count() != 1 {
        return Err(io::Error::other(
            "the environment can only be changed before a second thread starts",
        ));
    }
    Ok(())
}

/// Blocks the signals that ask this thread's process to end, and returns a descriptor that becomes
/// readable instead.
pub fn termination_signals() -> io::Result<OwnedFd> {
    let mut set = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set before anything reads it; the later calls only read
    // it, and no old mask is asked for.
    let descriptor = unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in TERMINATION_SIGNALS {
            libc::sigaddset(set.as_mut_ptr(), signal);
        }
        if libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut()) != 0 {
            return Err(io::Error::other("the signal mask could not be set"));
        }
        libc::signalfd(-1, set.as_ptr(), libc::SFD_CLOEXEC)
    };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just opened this descriptor for us, and nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
