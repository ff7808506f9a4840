//! Limits the system calls of a process with seccomp. The front can make the calls of a list. Other
//! processes can make all calls except those of a list.
//!
//! A refused call fails with EPERM and is logged by the kernel (`ausearch -m SECCOMP`, or the
//! kernel's log without auditd). `clone3` fails with ENOSYS, because a filter cannot see its flags;
//! the C library then uses `clone`. Calls of another architecture end the process.

mod front;
mod refused;

use std::collections::BTreeMap;

use pkcs11_profiles::Reach;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, sock_filter,
};

use super::ConfineError;
use crate::messages::confinement::ConfinementReport;
use crate::system::sys;

pub(super) const NO_SECCOMP: &str = "calls: this kernel has no seccomp";

/// The process whose calls are limited.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Calls {
    /// The front: no network, no new program or code, no other process. Only the calls for serving
    /// sockets and writing files are left.
    Front,
    /// A token host that is logged in: the calls that a module of this reach needs.
    Host(Reach),
    /// The spawner, and the hosts before their login, which inherit its limits: they load modules,
    /// and may run pinentry.
    Spawner,
}

/// Rules by the number of the call. One of a call's rules must match; a call without rules always
/// matches.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

impl Calls {
    pub(super) fn enter(self, limits: &mut ConfinementReport) -> Result<(), ConfineError> {
        let program = self.program().map_err(|error| ConfineError::Failed(error.into()))?;
        match sys::install_call_filter(&program) {
            Ok(()) => limits.on.push("calls (seccomp)".to_owned()),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) => {
                limits.missing.push(NO_SECCOMP.to_owned());
            }
            Err(error) => return Err(ConfineError::Failed(error.into())),
        }
        Ok(())
    }

    fn program(self) -> Result<BpfProgram, seccompiler::BackendError> {
        let refuse = SeccompAction::Errno(libc::EPERM as u32);
        let (rules, otherwise, matched) = match self {
            Self::Front => (front::allowed()?, refuse, SeccompAction::Allow),
            Self::Host(reach) => (refused::once_logged_in(reach)?, SeccompAction::Allow, refuse),
            Self::Spawner => (refused::always()?, SeccompAction::Allow, refuse),
        };
        let filter =
            SeccompFilter::new(rules, otherwise, matched, std::env::consts::ARCH.try_into()?)?;
        let mut program = without_other_tables();
        program.extend(BpfProgram::try_from(filter)?);
        Ok(program)
    }
}

/// A filter that the compiler of filters cannot make. In it `clone3` does not exist, and on x86-64
/// neither do the calls of x32, which are the same calls under other numbers.
fn without_other_tables() -> BpfProgram {
    const LOAD_NUMBER: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS; the number is at offset 0
    const JUMP_IF_EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
    const JUMP_IF_AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
    const RETURN: u16 = 0x06; // BPF_RET | BPF_K
    const FIRST_OF_X32: u32 = 0x4000_0000;
    let instruction = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    let error = |number: i32| u32::from(SeccompAction::Errno(number as u32));
    let mut program = vec![
        instruction(LOAD_NUMBER, 0, 0, 0),
        instruction(JUMP_IF_EQUAL, 0, 1, libc::SYS_clone3 as u32),
        instruction(RETURN, 0, 0, error(libc::ENOSYS)),
    ];
    if cfg!(target_arch = "x86_64") {
        program.push(instruction(JUMP_IF_AT_LEAST, 0, 1, FIRST_OF_X32));
        program.push(instruction(RETURN, 0, 0, error(libc::EPERM)));
    }
    program
}

/// A rule that matches if all conditions hold.
fn all(
    conditions: Vec<Result<SeccompCondition, seccompiler::BackendError>>,
) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(conditions.into_iter().collect::<Result<_, _>>()?)
}

fn is(argument: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

fn is_not(argument: u8, value: u64) -> Result<SeccompCondition, seccompiler::BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, value)
}

/// A condition: of the bits in `mask` exactly those of `value` are set.
fn has_bits(
    argument: u8,
    mask: i32,
    value: i32,
) -> Result<SeccompCondition, seccompiler::BackendError> {
    let bits = |number: i32| u64::from(number as u32);
    SeccompCondition::new(
        argument,
        SeccompCmpArgLen::Dword,
        SeccompCmpOp::MaskedEq(bits(mask)),
        bits(value),
    )
}
