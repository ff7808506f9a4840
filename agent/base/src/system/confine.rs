//! What a process takes from itself before it serves anybody: its memory from others, and from
//! itself whatever its work does not need.
//!
//! Two kinds of limits, which hold for the rest of the process's life and for whatever it starts:
//! [`files`] (Landlock) says which files it can reach, [`calls`] (seccomp) which system calls it
//! can make. What is refused fails with EPERM or EACCES and is never waited for: a stray call in a
//! library is an error in a log, not the end of the agent.

pub mod calls;
pub mod files;
mod token_files;

use std::io;
use std::path::Path;

use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};

pub use calls::Calls;
pub use files::Files;
pub use token_files::token_files;

use crate::messages::confinement::{Demand, Limits};

/// Why a process does not go on.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    #[error("the limits of this process could not be set")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("confinement = \"required\", and there is none: {0}")]
    Missing(String),
}

/// Sets the limits of this process; without `files` it keeps all of them, and only its signals stay
/// among its children. To be called before it starts threads: those that run already keep their
/// files.
pub fn enter(demand: Demand, files: Option<&Files>, calls: Calls) -> Result<Limits, ConfineError> {
    let mut limits = Limits::default();
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
    // After this one no more limits can be set.
    calls.enter(&mut limits)?;
    if demand == Demand::Required && !limits.missing.is_empty() {
        return Err(ConfineError::Missing(limits.missing.join("; ")));
    }
    Ok(limits)
}

/// What this kernel cannot do of [`enter`].
pub fn missing_in_kernel() -> Vec<String> {
    let mut missing = Vec::new();
    if !files::is_available() {
        missing.push(files::MISSING.to_owned());
    }
    if !Path::new("/proc/sys/kernel/seccomp").exists() {
        missing.push(calls::MISSING.to_owned());
    }
    missing
}

/// No core dump, no reading of this process's memory by others of its user, and no privilege from a
/// program's file.
pub fn hide_memory() -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

/// Ends this process with the one that started it. To be called once nobody needs to be asked any
/// more: the end leaves no time to switch a terminal's echo on again.
pub fn follow_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Takes back [`follow_parent`]: what begins now has to come to its own end, such as the rewriting
/// of a software token's files.
pub fn outlive_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(None)?)
}

/// Takes this process out of its terminal's reach: what is typed there no longer ends or stops it.
pub fn leave_terminal() {
    // Fails only where this process already leads a session, which is what is wanted.
    let _ = rustix::process::setsid();
}
