//! The system calls that are refused to the spawner and its children, and those that are refused to
//! a process after the login to its token.
//!
//! These are lists of refused calls, not of allowed ones, because nobody knows all calls that the
//! modules of eleven vendors make.

use libc as c;
use pkcs11_profiles::Reach;
use seccompiler::{BackendError, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};

use super::{Rules, all, has_bits, is, is_not};

/// Calls that change other processes, the kernel or the system's set-up. No token needs them.
#[rustfmt::skip]
const NEVER: &[i64] = &[
    c::SYS_acct, c::SYS_add_key, c::SYS_adjtimex, c::SYS_bpf, c::SYS_chroot, c::SYS_clock_adjtime,
    c::SYS_clock_settime, c::SYS_delete_module, c::SYS_fanotify_init, c::SYS_finit_module,
    c::SYS_fsconfig,
    c::SYS_fsmount, c::SYS_fsopen, c::SYS_fspick, c::SYS_init_module, c::SYS_io_uring_enter,
    c::SYS_io_uring_register, c::SYS_io_uring_setup, c::SYS_kcmp, c::SYS_kexec_file_load,
    c::SYS_kexec_load,
    c::SYS_keyctl, c::SYS_lookup_dcookie, c::SYS_mount, c::SYS_mount_setattr, c::SYS_move_mount,
    c::SYS_name_to_handle_at, c::SYS_nfsservctl, c::SYS_open_by_handle_at, c::SYS_open_tree,
    c::SYS_perf_event_open,
    c::SYS_personality, c::SYS_pidfd_getfd, c::SYS_pivot_root, c::SYS_process_madvise,
    c::SYS_process_vm_readv,
    c::SYS_process_vm_writev, c::SYS_ptrace, c::SYS_quotactl, c::SYS_reboot, c::SYS_request_key,
    c::SYS_setdomainname, c::SYS_sethostname, c::SYS_setns, c::SYS_settimeofday, c::SYS_swapoff,
    c::SYS_swapon,
    c::SYS_syslog, c::SYS_umount2, c::SYS_unshare, c::SYS_userfaultfd, c::SYS_vhangup,
];
#[cfg(target_arch = "x86_64")]
const NEVER_HERE: &[i64] = &[c::SYS_ioperm, c::SYS_iopl, c::SYS_modify_ldt];
#[cfg(not(target_arch = "x86_64"))]
const NEVER_HERE: &[i64] = &[];

/// Calls that start a program or a process, or take on another identity.
#[rustfmt::skip]
const NOT_LOGGED_IN: &[i64] = &[
    c::SYS_capset, c::SYS_execve, c::SYS_execveat, c::SYS_setfsgid, c::SYS_setfsuid, c::SYS_setgid,
    c::SYS_setgroups, c::SYS_setregid, c::SYS_setresgid, c::SYS_setresuid, c::SYS_setreuid,
    c::SYS_setuid,
];
#[cfg(target_arch = "x86_64")]
const NOT_LOGGED_IN_HERE: &[i64] = &[c::SYS_fork, c::SYS_setrlimit, c::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
const NOT_LOGGED_IN_HERE: &[i64] = &[];

#[rustfmt::skip]
const NAMESPACES: [i32; 7] = [
    c::CLONE_NEWCGROUP, c::CLONE_NEWIPC, c::CLONE_NEWNET, c::CLONE_NEWNS, c::CLONE_NEWPID,
    c::CLONE_NEWUSER,
    c::CLONE_NEWUTS,
];

/// Requests that put characters into a terminal as if they had been typed, or paste them.
const TERMINAL_INPUT: [u64; 2] = [c::TIOCSTI, 0x541c /* TIOCLINUX */];

/// The calls refused to the spawner and to every process it starts.
pub(super) fn always() -> Result<Rules, BackendError> {
    let mut rules: Rules =
        [NEVER, NEVER_HERE].concat().into_iter().map(|call| (call, Vec::new())).collect();
    rules.insert(c::SYS_clone, each(NAMESPACES.map(|flag| all(vec![has_bits(0, flag, flag)])))?);
    rules.insert(c::SYS_ioctl, each(TERMINAL_INPUT.map(|kind| all(vec![is(1, kind)])))?);
    Ok(rules)
}

/// The calls refused once the module is loaded and logged in.
pub(super) fn once_logged_in(reach: Reach) -> Result<Rules, BackendError> {
    let mut rules = always()?;
    rules.extend(
        [NOT_LOGGED_IN, NOT_LOGGED_IN_HERE].concat().into_iter().map(|call| (call, Vec::new())),
    );
    // Only threads can be made. They cannot have namespaces of their own either.
    rules.insert(c::SYS_clone, vec![all(vec![has_bits(0, c::CLONE_THREAD, 0)])?]);
    for mapping in [c::SYS_mmap, c::SYS_mprotect, c::SYS_pkey_mprotect] {
        rules.insert(mapping, vec![all(vec![has_bits(2, c::PROT_EXEC, c::PROT_EXEC)])?]);
    }
    rules.insert(c::SYS_prctl, vec![all(vec![is(0, c::PR_SET_DUMPABLE as u64)])?]);
    // Limits can be read but not set: the third argument points to a new limit.
    rules.insert(c::SYS_prlimit64, vec![all(vec![is_pointer(2)])?]);
    let families: &[i32] = match reach {
        Reach::OwnFiles => &[],
        Reach::Services => &[c::AF_UNIX],
        // The look-up of a host name asks the kernel for its addresses by netlink.
        Reach::Network => &[c::AF_UNIX, c::AF_INET, c::AF_INET6, c::AF_NETLINK],
    };
    let other = families.iter().map(|family| is_not(0, *family as u64)).collect::<Vec<_>>();
    rules.insert(c::SYS_socket, if other.is_empty() { Vec::new() } else { vec![all(other)?] });
    Ok(rules)
}

fn is_pointer(argument: u8) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Ne, 0)
}

fn each<const N: usize>(
    rules: [Result<SeccompRule, BackendError>; N],
) -> Result<Vec<SeccompRule>, BackendError> {
    rules.into_iter().collect()
}
