//! `arw cluster backup` and `restore`: the copy of what only the node that made the cluster has.
//!
//! Works on the state folder of this machine, whether a node runs or not; a restore needs that none does.

use std::path::Path;

use arw_actors::system::claim_folder;
use arw_kit::clock::Clock;
use arw_transport::link::{BackupError, back_up, restore as put_back};

use crate::context::Context;
use crate::failure::{Exit, Failure};

pub(super) fn backup(context: &Context, file: &Path) -> Result<(), Failure> {
    let made = back_up(&context.locator.state_dir, file, Clock::system())
        .map_err(|error| failed("no backup was made", &error))?;
    context.screen.note(&format!(
        "{} holds the keys of node {} and of its cluster {}: whoever reads it has the cluster, so keep it where nobody else does. \
         Make another when nodes were removed; `arw cluster restore` puts it back",
        file.display(),
        made.node.short(),
        made.cluster
    ));
    Ok(())
}

pub(super) fn restore(context: &Context, file: &Path) -> Result<(), Failure> {
    let state_dir = &context.locator.state_dir;
    let refused = |why: String| {
        let help = "stop the node first, or name another folder with --state-dir";
        Failure::new(Exit::Failed, "nothing was restored", why, help)
    };
    std::fs::create_dir_all(state_dir)
        .map_err(|error| refused(format!("{}: {error}", state_dir.display())))?;
    let claim = claim_folder(state_dir).map_err(|error| refused(error.to_string()))?;
    let restored = put_back(state_dir, file, Clock::system());
    drop(claim);
    let restored = restored.map_err(|error| failed("nothing was restored", &error))?;
    context.screen.note(&format!(
        "{} is node {} of the cluster {} again: start it with `arw up`. Join tokens from before let nobody in any more; if the old machine comes back, \
         do not start its node: it is the same one",
        state_dir.display(),
        restored.node.short(),
        restored.cluster
    ));
    Ok(())
}

fn failed(what: &str, error: &BackupError) -> Failure {
    let help = match error {
        BackupError::Alone { .. } => {
            "`arw cluster token create` makes a cluster; --state-dir names another folder"
        }
        BackupError::NotIssuer { .. } => "`arw cluster home` shows which node that is",
        BackupError::Exists { .. } => "move it away first, or name another place",
        BackupError::Missing { .. } => "restore it, or name another state folder with --state-dir",
        BackupError::OtherNode { .. } => "name another folder with --state-dir",
        BackupError::Damaged { .. } => "take another backup",
        BackupError::Io { .. } | BackupError::Stored(_) | BackupError::Key(_) => {
            "see whether the folder exists, is yours, and has room"
        }
    };
    Failure::new(Exit::Failed, what, error.to_string(), help)
}
