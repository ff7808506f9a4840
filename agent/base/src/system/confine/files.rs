//! Limits the files that a process can reach, with Landlock. Files that are open already stay open.

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use crate::messages::confinement::ConfinementReport;

/// Newest version of Landlock whose rights are used. An older kernel uses the rights that it knows,
/// and the missing ones are reported.
const ABI_USED: ABI = ABI::V6;
pub(super) const NO_LANDLOCK: &str =
    "files: this kernel has no Landlock, or it is not switched on (lsm=landlock,…)";

/// The files that a process can reach: everything below these paths. A path that does not exist is
/// left out.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Files {
    pub read: Vec<PathBuf>,
    /// Paths below which files can be read, written, made, renamed and removed.
    pub write: Vec<PathBuf>,
    /// True if TCP is not limited, for tokens on a network.
    pub network: bool,
}

/// Limits the files of this process, and allows signals only to itself and to its children.
pub(super) fn enter(
    files: Option<&Files>,
    limits: &mut ConfinementReport,
) -> Result<(), RulesetError> {
    let mut ruleset = Ruleset::default().scope(Scope::Signal)?;
    if files.is_some() {
        ruleset = ruleset.handle_access(AccessFs::from_all(ABI_USED))?;
    }
    if files.is_some_and(|files| !files.network) {
        // No rule names a port, so there is no TCP at all.
        ruleset = ruleset.handle_access(AccessNet::from_all(ABI_USED))?;
    }
    let mut ruleset = ruleset.create()?;
    if let Some(files) = files {
        ruleset = ruleset
            .add_rules(path_beneath_rules(&files.read, reading()))?
            .add_rules(path_beneath_rules(&files.write, writing()))?;
    }
    let status = ruleset.restrict_self()?;
    let version = match status.landlock {
        LandlockStatus::Available { effective_abi, .. } => effective_abi as i32,
        LandlockStatus::NotEnabled | LandlockStatus::NotImplemented => 0,
    };
    let what = if files.is_some() { "files and signals" } else { "signals" };
    match status.ruleset {
        RulesetStatus::FullyEnforced => limits.on.push(format!("{what} (Landlock {version})")),
        RulesetStatus::PartiallyEnforced => {
            limits.on.push(format!("{what}, in part (Landlock {version})"));
            limits.missing.push(format!(
                "{what}: this kernel's Landlock is {version}, {} is needed",
                ABI_USED as i32
            ));
        }
        RulesetStatus::NotEnforced => limits.missing.push(NO_LANDLOCK.to_owned()),
    }
    Ok(())
}

/// True if this kernel supports all of these limits.
pub(super) fn is_available() -> bool {
    let ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    ruleset
        .handle_access(AccessFs::from_all(ABI_USED))
        .and_then(|ruleset| ruleset.scope(Scope::Signal))
        .and_then(Ruleset::create)
        .is_ok()
}

fn reading() -> BitFlags<AccessFs> {
    AccessFs::ReadFile | AccessFs::ReadDir
}

/// All rights except running programs and making devices.
fn writing() -> BitFlags<AccessFs> {
    AccessFs::from_all(ABI_USED) & !(AccessFs::Execute | AccessFs::MakeBlock | AccessFs::MakeChar)
}
