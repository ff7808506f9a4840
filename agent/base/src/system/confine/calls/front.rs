//! The system calls that the front can make. All others are refused.

use std::collections::BTreeMap;

use libc as c;
use seccompiler::BackendError;

use super::{Rules, all, has_bits, is};

#[rustfmt::skip]
const FILES: &[i64] = &[
    c::SYS_close, c::SYS_dup, c::SYS_dup3, c::SYS_faccessat, c::SYS_faccessat2, c::SYS_fallocate,
    c::SYS_fchmod,
    c::SYS_fchmodat, c::SYS_fcntl, c::SYS_fdatasync, c::SYS_flock, c::SYS_fstat, c::SYS_fstatfs,
    c::SYS_fsync,
    c::SYS_ftruncate, c::SYS_getcwd, c::SYS_getdents64, c::SYS_lseek, c::SYS_mkdirat,
    c::SYS_newfstatat,
    c::SYS_openat, c::SYS_pipe2, c::SYS_pread64, c::SYS_pwrite64, c::SYS_read, c::SYS_readlinkat,
    c::SYS_readv,
    c::SYS_renameat2, c::SYS_renameat, c::SYS_statfs, c::SYS_statx, c::SYS_unlinkat, c::SYS_write,
    c::SYS_writev,
];

/// Calls for connections that exist. A new socket is allowed or refused by its kind.
#[rustfmt::skip]
const SOCKET_CALLS: &[i64] = &[
    c::SYS_accept4, c::SYS_bind, c::SYS_connect, c::SYS_getpeername, c::SYS_getsockname,
    c::SYS_getsockopt,
    c::SYS_listen, c::SYS_recvfrom, c::SYS_recvmsg, c::SYS_sendmsg, c::SYS_sendto,
    c::SYS_setsockopt,
    c::SYS_shutdown,
];

#[rustfmt::skip]
const WAITING: &[i64] = &[
    c::SYS_clock_getres, c::SYS_clock_gettime, c::SYS_clock_nanosleep, c::SYS_epoll_create1,
    c::SYS_epoll_ctl,
    c::SYS_epoll_pwait, c::SYS_epoll_pwait2, c::SYS_eventfd2, c::SYS_futex, c::SYS_gettimeofday,
    c::SYS_nanosleep,
    c::SYS_ppoll, c::SYS_sched_yield, c::SYS_timerfd_create, c::SYS_timerfd_settime,
];

const MEMORY: &[i64] = &[
    c::SYS_brk,
    c::SYS_madvise,
    c::SYS_mlock,
    c::SYS_mlock2,
    c::SYS_mremap,
    c::SYS_munlock,
    c::SYS_munmap,
];

/// Calls for this process, its threads, and the spawner, which it waits for.
#[rustfmt::skip]
const PROCESS: &[i64] = &[
    c::SYS_exit, c::SYS_exit_group, c::SYS_getegid, c::SYS_geteuid, c::SYS_getgid, c::SYS_getpid,
    c::SYS_getppid,
    c::SYS_getrandom, c::SYS_getrusage, c::SYS_gettid, c::SYS_getuid, c::SYS_membarrier,
    c::SYS_restart_syscall,
    c::SYS_rseq, c::SYS_rt_sigaction, c::SYS_rt_sigprocmask, c::SYS_rt_sigreturn,
    c::SYS_sched_getaffinity,
    c::SYS_set_robust_list, c::SYS_set_tid_address, c::SYS_sigaltstack, c::SYS_sysinfo,
    c::SYS_umask, c::SYS_uname,
    c::SYS_wait4, c::SYS_waitid,
];

/// Older forms of the calls above.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLDER: &[i64] = &[
    c::SYS_access, c::SYS_chmod, c::SYS_dup2, c::SYS_epoll_wait, c::SYS_mkdir, c::SYS_open,
    c::SYS_poll,
    c::SYS_readlink, c::SYS_rename, c::SYS_rmdir, c::SYS_stat, c::SYS_lstat, c::SYS_time,
    c::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[i64] = &[];

/// Number of `fchmodat2`, which older headers of the C library do not have.
const FCHMODAT2: i64 = 452;

/// Asks where the kernel put the clock that is read without a system call.
const PR_GET_AUXV: u64 = 0x4155_5856;

pub(super) fn allowed() -> Result<Rules, BackendError> {
    let plain = [FILES, SOCKET_CALLS, WAITING, MEMORY, PROCESS, OLDER, &[FCHMODAT2]].concat();
    let mut rules: Rules = plain.into_iter().map(|call| (call, Vec::new())).collect();
    let own_process = u64::from(std::process::id());
    let judged: BTreeMap<i64, Vec<_>> = BTreeMap::from([
        // Threads, but no processes and no namespaces.
        (c::SYS_clone, vec![all(vec![has_bits(0, c::CLONE_THREAD, c::CLONE_THREAD)])]),
        (
            c::SYS_ioctl,
            [c::FIOCLEX, c::FIONBIO, c::FIONREAD, c::TCGETS]
                .map(|kind| all(vec![is(1, kind)]))
                .into_iter()
                .collect(),
        ),
        // No code except the code that was loaded at the start.
        (c::SYS_mmap, vec![all(vec![has_bits(2, c::PROT_EXEC, 0)])]),
        (c::SYS_mprotect, vec![all(vec![has_bits(2, c::PROT_EXEC, 0)])]),
        (
            c::SYS_prctl,
            [c::PR_SET_NAME as u64, PR_GET_AUXV]
                .map(|option| all(vec![is(0, option)]))
                .into_iter()
                .collect(),
        ),
        // Limits can be read but not set: the third argument, which points to new limits, must be
        // null.
        (c::SYS_prlimit64, vec![all(vec![no_pointer(2)])]),
        (c::SYS_socket, vec![all(vec![is(0, c::AF_UNIX as u64)])]),
        (c::SYS_socketpair, vec![all(vec![is(0, c::AF_UNIX as u64)])]),
        // Only to itself: a panic ends the process with a signal.
        (c::SYS_tgkill, vec![all(vec![is(0, own_process)])]),
    ]);
    for (call, judged) in judged {
        rules.insert(call, judged.into_iter().collect::<Result<_, _>>()?);
    }
    Ok(rules)
}

fn no_pointer(argument: u8) -> Result<seccompiler::SeccompCondition, BackendError> {
    use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition};
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0)
}
