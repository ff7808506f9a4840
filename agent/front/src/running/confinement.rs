//! Confines the front before it reads a client's first byte, and reports all processes' limits for
//! `status`.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use countersign_base::config::Config;
use countersign_base::messages::confinement::ConfinementReport;
use countersign_base::messages::settings::PinSource;
use countersign_base::system::confine::{self, Calls, ConfineError, Files};
use countersign_base::system::sys;
use countersign_core::wire::ConfinementEntry;
use rustix::io::Errno;

use crate::front::Front;
use crate::ledger::storage::{Disk, Storage};
use crate::sockets::server;

/// Files of the system that the front reads: the id of the boot, and the uid that the kernel shows
/// for every uid that it cannot map.
const SYSTEM_FILES: [&str; 2] = ["/proc/sys/kernel/random/boot_id", "/proc/sys/kernel/overflowuid"];

/// Names and parents of processes are read here, to show approvers which programs ask. Another
/// process's memory or environment stays out of reach: that needs the rights of a debugger.
const PROCESSES: &str = "/proc";

/// Why the front could not be confined, so that it does not start.
#[derive(Debug, thiserror::Error)]
pub enum LimitsError {
    #[error(transparent)]
    Confine(#[from] ConfineError),
    #[error("the directory {} cannot be made", .0.display())]
    Directory(PathBuf, #[source] io::Error),
    #[error("the environment could not be cleared")]
    Environment(#[source] io::Error),
    #[error(transparent)]
    Socket(#[from] crate::sockets::socket::SocketError),
}

/// Gives up everything that the front does not need to serve with this configuration. There must be
/// no other thread yet.
pub fn confine_front(config: &Config) -> Result<ConfinementReport, LimitsError> {
    let state_dir = &config.agent.state_dir;
    Disk.create_dir(state_dir).map_err(|error| LimitsError::Directory(state_dir.clone(), error))?;
    let endpoints = config.endpoints();
    server::create_directories(&endpoints)?;
    // The spawner has inherited these descriptors of PINs, and the front needs no PIN.
    for token in &config.tokens {
        if let PinSource::Fd(number) = token.settings.pin {
            sys::close_inherited(number);
        }
    }
    sys::forget_environment().map_err(LimitsError::Environment)?;
    let files = Files { read: reads(config), write: writes(config), network: false };
    Ok(confine::enter(config.agent.confinement, Some(&files), Calls::Front)?)
}

fn reads(config: &Config) -> Vec<PathBuf> {
    let processes = (!config.policy.approvers.is_empty()).then_some(PROCESSES);
    SYSTEM_FILES.into_iter().chain(processes).map(PathBuf::from).collect()
}

/// The directories in which the front can write.
pub fn writes(config: &Config) -> Vec<PathBuf> {
    let sockets = config
        .endpoints()
        .into_iter()
        .filter_map(|endpoint| Some(endpoint.path.parent()?.to_owned()));
    let all: BTreeSet<_> = sockets.chain([config.agent.state_dir.clone()]).collect();
    all.into_iter().collect()
}

/// The hint to add to an error if access was refused: a reload cannot give back access that the
/// start gave up.
pub fn hint(error: &(dyn std::error::Error + 'static)) -> &'static str {
    let refused = |error: &io::Error| error.raw_os_error() == Some(Errno::ACCESS.raw_os_error());
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref().is_some_and(refused) {
            return "; a directory that was not in use at the start needs a restart";
        }
        cause = error.source();
    }
    ""
}

impl Front {
    /// Each process with its limits.
    pub(crate) fn confinement(&self) -> Vec<ConfinementEntry> {
        let entry = |process: &str, ConfinementReport { on, missing }: ConfinementReport| {
            ConfinementEntry { process: process.to_owned(), on, missing }
        };
        let mut all = vec![
            entry("front", self.about.limits.clone()),
            entry("spawner", self.tokens.spawner.limits()),
        ];
        for token in &self.config().tokens {
            let name = &token.settings.name;
            if let Some(status) = self.tokens.status(name).filter(|_| self.tokens.is_up(name)) {
                all.push(entry(&format!("host {name}"), status.limits));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_directory_is_told_from_other_errors() {
        let error = |number: Errno| LimitsError::Directory("/x".into(), io::Error::from(number));
        assert!(hint(&error(Errno::ACCESS)).contains("restart"));
        assert_eq!(hint(&error(Errno::NOENT)), "");
        assert_eq!(hint(&LimitsError::Directory("/x".into(), io::Error::other("x"))), "");
    }
}
