//! Runtimes of other nodes that are known, and that take no request now.
//!
//! Owns what is remembered of who served what, one card for each node that is shown, and the words for why
//! nobody can be asked. Refuses to know of time and of requests.

use std::collections::HashMap;
use std::sync::Arc;

use super::card::{CardRuntime, NodeCard};
use super::news::Knowledge;
use super::picture::{NodeRow, Picture};
use crate::ids::NodeId;

/// The last card of each other node that is shown, also of an earlier start of it and of one that is gone.
pub(super) type LastCards = HashMap<NodeId, Arc<NodeCard>>;

/// A runtime of another node that takes no request now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AbsentHost {
    /// The node.
    pub node: NodeId,
    /// What it calls itself.
    pub node_name: String,
    /// The runtime's id there.
    pub runtime: String,
    /// The name that clients ask for.
    pub model: String,
    /// What keeps it.
    pub absence: Absence,
    /// The same in words: `it is down: no answer for 3 s`.
    pub reason: String,
}

/// What keeps a runtime of another node from taking requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// The node cannot be asked.
    NodeAway,
    /// The node takes nothing new for now: it is draining, or has just started.
    NodeNotReady,
    /// The node has given the runtime up, and tries it again by itself.
    RuntimeQuarantined,
    /// An operator has to act.
    RuntimeDown,
}

/// CLUSTER-8: what is remembered after this picture: nothing of nodes that are not shown any more.
pub(super) fn remember(picture: &Picture, before: &LastCards) -> LastCards {
    let others = picture.nodes.iter().filter(|row| row.source != Knowledge::Own);
    let card = |row: &NodeRow| row.card.clone().or_else(|| before.get(&row.node).cloned());
    others.filter_map(|row| card(row).map(|card| (row.node, card))).collect()
}

/// Every runtime of other nodes that is known and takes no request now, in the picture's order.
pub(super) fn absent(picture: &Picture, cards: &LastCards) -> Vec<AbsentHost> {
    let mut absent = Vec::new();
    for row in picture.nodes.iter().filter(|row| row.source != Knowledge::Own) {
        let Some(card) = cards.get(&row.node) else { continue };
        // Roles are those of the last connection; who never was one has served nobody.
        if !row.roles.is_empty() && !row.is_worker() {
            continue;
        }
        for runtime in &card.runtimes {
            if let Some((absence, reason)) = why(row, runtime) {
                absent.push(AbsentHost {
                    node: row.node,
                    node_name: row.name.clone().unwrap_or_else(|| row.node.short()),
                    runtime: runtime.id.clone(),
                    model: runtime.model.clone(),
                    absence,
                    reason,
                });
            }
        }
    }
    absent
}

/// `None` where requests may be sent to it.
fn why(row: &NodeRow, runtime: &CardRuntime) -> Option<(Absence, String)> {
    if !row.is_alive() {
        let because = row.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
        return Some((Absence::NodeAway, format!("the node is {}{because}", row.state.word())));
    }
    if !row.is_connected {
        return Some((Absence::NodeAway, "there is no connection to the node".to_owned()));
    }
    if row.card.is_none() {
        let reason = "the node has restarted and has not said yet what it serves";
        return Some((Absence::NodeNotReady, reason.to_owned()));
    }
    if row.stale_since.is_some() {
        return Some((Absence::NodeAway, "the node has not said for a while how it is".to_owned()));
    }
    if row.is_draining {
        return Some((Absence::NodeNotReady, "the node is draining".to_owned()));
    }
    if runtime.is_serving {
        return None;
    }
    let reason = format!("runtime `{}` there is {}", runtime.id, runtime.state);
    match runtime.state.as_str() {
        "quarantined" => Some((Absence::RuntimeQuarantined, reason)),
        "stopped" => Some((Absence::RuntimeDown, format!("{reason}: an operator has stopped it"))),
        "failed" | "draining" => Some((Absence::RuntimeDown, reason)),
        // A program without an address serves nobody, however well it is.
        _ => None,
    }
}
