//! Enforces the file, network and process rules with Landlock.
//!
//! Uses the newest rights that the kernel knows and reports which those are. Refuses to run without when the
//! kernel has Landlock and yet it fails: that is a fault, not an old kernel.

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
    PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated, RulesetCreatedAttr, RulesetError, Scope,
};

use super::super::plan::{Enforced, Failure, Stage};
use super::rules::{ALLOWED, ALLOWED_EXECUTE};
use super::{Access, LANDLOCK_ABI_TCP, Network, PathRule, Sandbox};

/// The newest rights that this code was written for; the crate leaves out what the kernel does not know.
const NEWEST: ABI = ABI::V10;

pub(super) fn apply(sandbox: &Sandbox, enforced: &mut Enforced) -> Result<(), Failure> {
    let status = restrict(sandbox, &mut enforced.notes)
        .map_err(|error| Failure::new(Stage::Sandbox, format!("Landlock: {error}")))?;
    match status {
        LandlockStatus::Available { effective_abi, .. } => {
            let abi = effective_abi as u32;
            enforced.landlock_abi = Some(abi);
            if abi < 3 {
                enforced.notes.push(
                    "files of the node's user can be cut off (truncated) by their path (needs Linux 6.2)"
                        .into(),
                );
            }
            if abi < LANDLOCK_ABI_TCP && matches!(sandbox.network, Network::BindOnePort(_)) {
                enforced.notes.push("this kernel's Landlock cannot restrict TCP (needs Linux 6.7)".into());
            }
            if abi < 6 {
                enforced
                    .notes
                    .push("signals to other processes are not restricted (needs Linux 6.12)".into());
            }
        }
        LandlockStatus::NotEnabled => {
            enforced.notes.push(
                "files are not restricted: Landlock is off in this kernel (boot with lsm=landlock,…)".into(),
            );
        }
        LandlockStatus::NotImplemented => {
            enforced
                .notes
                .push("files are not restricted: this kernel has no Landlock (needs Linux 5.13)".into());
        }
    }
    Ok(())
}

fn restrict(sandbox: &Sandbox, notes: &mut Vec<String>) -> Result<LandlockStatus, RulesetError> {
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?;
    for rule in &sandbox.rules {
        ruleset = add(ruleset, rule, notes)?;
    }
    if let Network::BindOnePort(port) = sandbox.network {
        ruleset = ruleset.add_rule(NetPort::new(port, AccessNet::BindTcp))?;
    }
    Ok(ruleset.restrict_self()?.landlock)
}

fn add(
    ruleset: RulesetCreated,
    rule: &PathRule,
    notes: &mut Vec<String>,
) -> Result<RulesetCreated, RulesetError> {
    let (path, rights) = (&rule.path, rights(rule.access));
    let Ok(fd) = PathFd::new(path) else {
        // Most of the list names what some machines have; what the operator named was meant to be there.
        if [ALLOWED, ALLOWED_EXECUTE].contains(&rule.reason.as_str()) {
            notes.push(format!("{} {}: it is not there", rule.reason, path.display()));
        }
        return Ok(ruleset);
    };
    let rights = if path.is_dir() { rights } else { rights & AccessFs::from_file(NEWEST) };
    if rights.is_empty() {
        notes.push(format!("{} is no folder and was left out", path.display()));
        return Ok(ruleset);
    }
    ruleset.add_rule(PathBeneath::new(fd, rights))
}

fn rights(access: Access) -> BitFlags<AccessFs> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    match access {
        Access::Read => read,
        Access::ReadExecute => read | AccessFs::Execute,
        Access::Write => {
            let devices = AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
            AccessFs::from_all(NEWEST) & !(devices | AccessFs::Execute)
        }
        Access::Device => read | AccessFs::WriteFile | AccessFs::IoctlDev,
    }
}
