//! Whether another node's request for a model is taken.
//!
//! Owns the refusal of who may not ask and of everybody while this node drains. Refuses to know what is asked
//! for, and whether a runtime has room.

use std::time::Duration;

use arw_actors::ids::NodeId;

use super::PeerNode;
use crate::problem::{Kind, Problem};
use crate::shared::Shared;

/// Whoever drains a node has something in mind that takes minutes.
const DRAINING_RETRY: Duration = Duration::from_secs(10);
/// What is new is shown within milliseconds.
const UNKNOWN_RETRY: Duration = Duration::from_secs(1);

/// HTTP-16: by what the other node's certificate lets it be, and by this node's own flag, whatever the other
/// one believes of it.
pub(crate) fn admit(shared: &Shared, PeerNode(from): PeerNode) -> Result<(), Problem> {
    let cluster = &shared.node.cluster;
    let picture = cluster.picture();
    let row = picture.nodes.iter().find(|row| row.node == from && row.name.is_some());
    verdict(from, row.map(|row| row.roles.as_slice()), cluster.is_draining())
}

/// `roles` is `None` until they are known.
fn verdict(from: NodeId, roles: Option<&[String]>, is_draining: bool) -> Result<(), Problem> {
    let Some(roles) = roles else {
        let detail = format!("it is not known here yet what node {} may ask for", from.short());
        return Err(Problem::new(Kind::NotReady, detail, "try again in a moment").retry_after(UNKNOWN_RETRY));
    };
    if !roles.iter().any(|role| role == "gateway" || role == "home") {
        let detail = format!("node {} has neither the role gateway nor home", from.short());
        let help = "a machine that joins with a token of `arw cluster token create --role gateway` may ask";
        return Err(Problem::new(Kind::ScopeMissing, detail, help));
    }
    // CLUSTER-5.
    if is_draining {
        let help = "ask another node; `arw cluster resume` on that node ends it";
        let detail = "this node is draining, and takes nothing new from others";
        return Err(Problem::new(Kind::NotReady, detail, help).retry_after(DRAINING_RETRY));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// HTTP-16 and CLUSTER-5.
    #[test]
    fn gateways_and_homes_may_ask_while_this_node_does_not_drain() {
        let from = NodeId::from_bytes([1; 32]);
        let status = |roles: Option<&[&str]>, is_draining| {
            let roles: Option<Vec<String>> =
                roles.map(|roles| roles.iter().map(|role| (*role).to_owned()).collect());
            let verdict = verdict(from, roles.as_deref(), is_draining);
            verdict.map_or_else(|problem| problem.status().as_u16(), |()| 200)
        };
        assert_eq!(status(Some(&["worker", "gateway"]), false), 200);
        assert_eq!(status(Some(&["home"]), false), 200);
        assert_eq!(status(Some(&["worker"]), false), 403);
        assert_eq!(status(None, false), 503);
        assert_eq!(status(Some(&["gateway"]), true), 503);
    }
}
