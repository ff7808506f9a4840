//! What a process that will hold a PIN or a key takes from itself before it reads anything.

use std::io;

use rustix::process::{DumpableBehavior, Resource, Rlimit, Signal};

/// No core dump, and no reading of this process's memory by others of its user.
pub fn hide_memory() -> io::Result<()> {
    rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    rustix::process::setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) })?;
    Ok(())
}

/// Ends this process with the one that started it. To be called once nobody needs to be asked any more: the end leaves
/// no time to switch a terminal's echo on again.
pub fn follow_parent() -> io::Result<()> {
    Ok(rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?)
}

/// Takes this process out of its terminal's reach: what is typed there no longer ends or stops it.
pub fn leave_terminal() {
    // Fails only where this process already leads a session, which is what is wanted.
    let _ = rustix::process::setsid();
}
