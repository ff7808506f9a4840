//! Which system calls a process can make from now on, by seccomp: the front those of a list, the
//! others all but a list.
//!
//! A refused call fails with EPERM and is logged by the kernel (`ausearch -m SECCOMP`, or the
//! kernel's log without auditd). `clone3` fails with ENOSYS: its flags lie where a filter cannot
//! see them, and the C library falls back on `clone`. Calls of another architecture end the
//! process.

mod front;
mod refused;

use std::collections::BTreeMap;

use pkcs11_profiles::Reach;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, sock_filter,
};

use super::ConfineError;
use crate::messages::confinement::Limits;
use crate::system::sys;

pub(super) const MISSING: &str = "calls: this kernel has no seccomp";

/// Whose calls.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Calls {
    /// No network, no program, no code, no other process: only what it takes to serve sockets and
    /// write files.
    Front,
    /// What a module of this reach needs once it is logged in.
    Host(Reach),
    /// Hosts before their login inherit this: they load modules, and may run pinentry.
    Spawner,
}

/// By number of the call: rules of which one has to match, or none for always.
type Rules = BTreeMap<i64, Vec<SeccompRule>>;

impl Calls {
    pub(super) fn enter(self, limits: &mut Limits) -> Result<(), ConfineError> {
        let program = self.program().map_err(|error| ConfineError::Failed(error.into()))?;
        match sys::install_call_filter(&program) {
            Ok(()) => limits.on.push("calls (seccomp)".to_owned()),
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL)) => {
                limits.missing.push(MISSING.to_owned());
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

/// What the compiler of filters cannot say: `clone3` is not there, and on x86-64 neither are the
/// calls of x32, which are the same ones under other numbers.
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

/// A rule that matches where all conditions hold.
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

/// Of the bits in `mask` exactly those of `value` are set.
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
