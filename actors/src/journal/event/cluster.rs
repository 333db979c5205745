//! What happens to other nodes, and to this one as one of them.

use serde::{Deserialize, Serialize};

use super::words::{are, bare, span};
use super::{Severity, cut, events};

/// Another node of the cluster, in an event about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields repeat the names of the read model, which spec/http.md explains")]
pub struct ClusterNode {
    pub id: String,
    pub name: Option<String>,
    pub incarnation: u64,
    pub address: Option<String>,
    /// Why it is gone.
    pub reason: Option<String>,
    /// It was away for so long.
    pub away_ms: Option<u64>,
}

events! {
    /// What happens to other nodes, and to this one as one of them.
    Cluster:
    /// This node is in a cluster.
    "cluster_entered" Entered { cluster: String, roles: Vec<String> },
    /// This node is in no cluster any more, and so many other nodes are forgotten.
    "cluster_exited" Exited { cluster: String, nodes: u64 },
    /// Something is wrong with this node as a member of its cluster.
    "cluster_warning" Warning { reason: String },
    /// Nothing is any more.
    "cluster_warning_over" WarningOver {},
    /// Another node runs twice.
    "cluster_node_copied" NodeCopied(ClusterNode),
    /// Another node is there.
    "cluster_node_joined" NodeJoined(ClusterNode),
    /// Another node was started anew.
    "cluster_node_restarted" NodeRestarted(ClusterNode),
    /// Another node is gone without a word.
    "cluster_node_down" NodeDown(ClusterNode),
    /// Another node is back; nothing of it is lost.
    "cluster_node_returned" NodeReturned(ClusterNode),
    /// Another node said good-bye.
    "cluster_node_left" NodeLeft(ClusterNode),
    /// Another node was taken out of the cluster.
    "cluster_node_removed" NodeRemoved(ClusterNode),
    /// A node that was gone is no longer shown.
    "cluster_node_forgotten" NodeForgotten(ClusterNode),
}

impl Cluster {
    pub(super) fn severity(&self) -> Severity {
        match self {
            Self::NodeRestarted(_) | Self::NodeDown(_) | Self::NodeCopied(_) => Severity::Warning,
            Self::Warning { .. } => Severity::Error,
            Self::Entered { .. }
            | Self::Exited { .. }
            | Self::WarningOver {}
            | Self::NodeJoined(_)
            | Self::NodeReturned(_)
            | Self::NodeLeft(_)
            | Self::NodeRemoved(_)
            | Self::NodeForgotten(_) => Severity::Info,
        }
    }

    pub(super) fn subject(&self) -> &str {
        match self {
            Self::NodeCopied(node)
            | Self::NodeJoined(node)
            | Self::NodeRestarted(node)
            | Self::NodeDown(node)
            | Self::NodeReturned(node)
            | Self::NodeLeft(node)
            | Self::NodeRemoved(node)
            | Self::NodeForgotten(node) => &node.id,
            Self::Entered { .. } | Self::Exited { .. } | Self::Warning { .. } | Self::WarningOver {} => {
                "cluster"
            }
        }
    }

    pub(super) fn message(&self) -> String {
        match self {
            Self::Entered { cluster, roles } => {
                let roles =
                    if roles.is_empty() { String::new() } else { format!(" as {}", roles.join(", ")) };
                format!("This node is in the cluster {cluster}{roles}.")
            }
            Self::Exited { cluster, nodes } => format!(
                "This node is no longer in the cluster {cluster}: {nodes} other {} forgotten.",
                are("node", *nodes)
            ),
            Self::Warning { reason } => format!("{}.", bare(reason)),
            Self::WarningOver {} => {
                "What was wrong with this node as a member of its cluster is over.".to_owned()
            }
            Self::NodeCopied(it) => copied(it),
            Self::NodeJoined(it) => format!("{} is in the cluster{}.", name(it), place(it)),
            Self::NodeRestarted(it) => {
                format!("{} was started anew{}; what it was doing before is gone.", name(it), place(it))
            }
            Self::NodeDown(it) => {
                let why = it.reason.as_ref().map(|reason| format!(": {}", bare(reason))).unwrap_or_default();
                format!("{} is down{why}. It is taken back as soon as it is heard of again.", name(it))
            }
            Self::NodeReturned(it) => {
                let away = it.away_ms.map(|away| format!(" after {}", span(away))).unwrap_or_default();
                format!("{} is back{away}; nothing of it is lost.", name(it))
            }
            Self::NodeLeft(it) => format!("{} has left the cluster in order.", name(it)),
            Self::NodeRemoved(it) => {
                format!("{} was taken out of the cluster; everybody refuses it from now on.", name(it))
            }
            Self::NodeForgotten(it) => format!("{} was gone, and is no longer shown.", name(it)),
        }
    }

    pub(super) fn cut_texts(&mut self) {
        match self {
            Self::Warning { reason } => cut(reason),
            Self::NodeCopied(node)
            | Self::NodeJoined(node)
            | Self::NodeRestarted(node)
            | Self::NodeDown(node)
            | Self::NodeReturned(node)
            | Self::NodeLeft(node)
            | Self::NodeRemoved(node)
            | Self::NodeForgotten(node) => node.name.iter_mut().chain(&mut node.reason).for_each(cut),
            // Names and ids only: bounded where they are made.
            Self::Entered { .. } | Self::Exited { .. } | Self::WarningOver {} => {}
        }
    }
}

fn name(it: &ClusterNode) -> String {
    let short: String = it.id.chars().take(8).collect();
    it.name.as_ref().map_or_else(|| format!("Node {short}"), |name| format!("Node {name} ({short})"))
}

fn place(it: &ClusterNode) -> String {
    it.address.as_ref().map(|address| format!(", at {address}")).unwrap_or_default()
}

fn copied(it: &ClusterNode) -> String {
    let why = it.reason.as_ref().map(|reason| format!(", and {}", bare(reason))).unwrap_or_default();
    format!(
        "{} runs twice: it is{}{why}. Its state folder was copied: stop one of the two.",
        name(it),
        place(it).trim_start_matches(',')
    )
}
