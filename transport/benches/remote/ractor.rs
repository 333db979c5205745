//! ractor_cluster, where it was built.
//!
//! Owns finding the program, which lies in the package `ractor_cluster` beside this file, and says there why.
//! Refuses to build it.

use std::process::Command;

use crate::peer::Peer;

/// `ARW_RACTOR_CLUSTER` names the program. Or why there is none.
pub(crate) fn start() -> Result<Peer, String> {
    let program = std::env::var_os("ARW_RACTOR_CLUSTER")
        .ok_or("ARW_RACTOR_CLUSTER names no program; ./dev bench remote builds it and does")?;
    Peer::start(&mut Command::new(program))
}
