//! Confines a process: before it serves anybody it hides its memory, and gives up every file and
//! system call that it does not need.
//!
//! There are two kinds of limits: [`files`] (Landlock) says which files the process can reach, and
//! [`calls`] (seccomp) which system calls it can make. Both hold for the rest of the process's life
//! and for every process it starts. A refused call fails at once with EPERM or EACCES. So a stray
//! call in a library is an error in a log, not the end of the agent.

pub mod calls;
pub mod files;
mod token_files;

use std::io;
use std::path::Path;

use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};

pub use calls::Calls;
pub use files::Files;
pub use token_files::token_files;

use crate::messages::confinement::{ConfinementReport, Demand};

/// Why a process could not be confined, so that it does not go on.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    #[error("the limits of this process could not be set")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("confinement = \"required\", and there is none: {0}")]
    Missing(String),
}

/// Sets the limits of this process. Without `files` it can still reach all files, but can send
/// signals only to itself and its children. Call this before the process starts threads: threads
/// that already run keep their files.
pub fn enter(
    demand: Demand,
    files: Option<&Files>,
    calls: Calls,
) -> Result<ConfinementReport, ConfineError> {
    let mut limits = ConfinementReport::default();
    limits.on.extend(["no core dumps, memory hidden", "no new privileges"].map(str::to_owned));
    if demand == Demand::Off {
        limits.missing.push("confinement = \"off\"".to_owned());
        return Ok(limits);
    }
    let threads = std::fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    files::enter(files, &mut limits).map_err(|error| ConfineError::Failed(error.into()))?;
    if threads > 1 && files.is_some() {
        limits
            .missing
            .push(format!("files: of {} threads that the module started before", threads - 1));
    }
    // After this limit no more limits can be set.
    calls.enter(&mut limits)?;
    if demand == Demand::Required && !limits.missing.is_empty() {
        return Err(ConfineError::Missing(limits.missing.join("; ")));
    }
    Ok(limits)
}

/// The limits of [`enter`] that this kernel does not support.
pub fn missing_in_kernel() -> Vec<String> {
    let mut missing = Vec::new();
    if !files::is_available() {
        missing.push(files::NO_LANDLOCK.to_owned());
    }
    if !Path::new("/proc/sys/kernel/seccomp").exists() {
        missing.push(calls::NO_SECCOMP.to_owned());
    }
    missing
}

/// Forbids core dumps, the reading of this process's memory by other processes of its user, and new
/// privileges from the file of a program.
pub fn hide_memory() -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

/// Makes this process end when its parent ends. Call this only after the last question to a person:
/// such an end leaves no time to switch a terminal's echo on again.
pub fn follow_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Takes back [`follow_parent`], before work that must not be cut off, such as rewriting a software
/// token's files.
pub fn outlive_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(None)?)
}

/// Separates this process from its terminal: a key that is pressed there no longer ends or stops
/// it.
pub fn leave_terminal() {
    // This fails only if the process already leads a session, which is just as good.
    let _ = rustix::process::setsid();
}
