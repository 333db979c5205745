//! What is wrong with this node as a member, in words for people.
//!
//! A decider. Owns the sentences, which stand in `reasons` of the node, in events and in `arw cluster status`. Refuses to know how they get there.

use crate::endpoint::{Fence, Picture};

/// Everything that a person should do something about.
pub(super) fn of(picture: &Picture) -> Vec<String> {
    picture.fence.as_ref().map(fenced).into_iter().collect()
}

/// WIRE-25: the cluster takes another start of this node for it.
pub(super) fn fenced(fence: &Fence) -> String {
    let place = fence.elsewhere.map(|address| format!(" at {address}")).unwrap_or_default();
    let what = if fence.is_copy { "another copy" } else { "a later start" };
    format!(
        "this node is out of its cluster: {what} of it runs{place}, so its state folder was copied. Stop the one that is not meant; to go on with this one, \
         restart it then; to make it a node of its own, stop it, remove node.key, identity.json, cluster.json and cluster.key from its state folder, and join again"
    )
}
