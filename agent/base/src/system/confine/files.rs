//! Which files a process can reach from now on, by Landlock. What it has open already stays open.

use std::path::PathBuf;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, Ruleset,
    RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope, path_beneath_rules,
};

use crate::messages::confinement::Limits;

/// The newest rights that are used. An older kernel takes those it knows, and what it lacks is
/// said.
const ABI_USED: ABI = ABI::V6;
pub(super) const MISSING: &str =
    "files: this kernel has no Landlock, or it is not switched on (lsm=landlock,…)";

/// Everything below these paths; what does not exist is left out.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Files {
    pub read: Vec<PathBuf>,
    /// Read as well; made, renamed and removed in it.
    pub write: Vec<PathBuf>,
    /// TCP is left as it is: for tokens on a network.
    pub network: bool,
}

/// Limits the files of this process, and its signals to itself and what it starts.
pub(super) fn enter(files: Option<&Files>, limits: &mut Limits) -> Result<(), RulesetError> {
    let mut ruleset = Ruleset::default().scope(Scope::Signal)?;
    if files.is_some() {
        ruleset = ruleset.handle_access(AccessFs::from_all(ABI_USED))?;
    }
    if files.is_some_and(|files| !files.network) {
        // No port is named anywhere: no TCP at all.
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
        RulesetStatus::NotEnforced => limits.missing.push(MISSING.to_owned()),
    }
    Ok(())
}

/// Whether this kernel can do all of it.
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

/// Everything but running programs and making devices.
fn writing() -> BitFlags<AccessFs> {
    AccessFs::from_all(ABI_USED) & !(AccessFs::Execute | AccessFs::MakeBlock | AccessFs::MakeChar)
}
