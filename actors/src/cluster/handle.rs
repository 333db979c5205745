//! The cluster, as the rest of a node sees it.
//!
//! Owns what can be read without asking anybody: the way to other nodes, who they are, and who of them serves which model. Refuses to decide.

use std::fmt;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};

use super::port::Transport;
use crate::ids::NodeId;

/// The cluster of a node. Cheap to clone.
#[derive(Clone, Default)]
pub struct Cluster {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    transport: ArcSwapOption<Arc<dyn Transport>>,
    hosts: ArcSwap<Vec<ModelHost>>,
    nodes: ArcSwap<Vec<ClusterNode>>,
}

/// Another node of the cluster, as far as it can be asked for something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClusterNode {
    /// Its id.
    pub id: NodeId,
    /// What it calls itself; empty while that is not known.
    pub name: String,
    /// There is a connection to it.
    pub is_connected: bool,
}

/// A runtime of another node to which requests may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelHost {
    /// The node.
    pub node: NodeId,
    /// What it calls itself.
    pub node_name: String,
    /// The runtime's id there.
    pub runtime: String,
    /// The name that clients ask for.
    pub model: String,
    /// The word of the runtime's state.
    pub state: String,
    /// The most tokens of a conversation, as far as known.
    pub context_length: Option<u64>,
    /// Requests that it works on and that wait for it, by the node's last card.
    pub busy: u32,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cluster({} runtimes of others)", self.shared.hosts.load().len())
    }
}

impl Cluster {
    /// The way to other nodes, from now on.
    pub fn attach(&self, transport: Arc<dyn Transport>) {
        self.shared.transport.store(Some(Arc::new(transport)));
    }

    /// The way to other nodes; `None` where nothing connects nodes, as in tests.
    #[must_use]
    pub fn transport(&self) -> Option<Arc<dyn Transport>> {
        self.shared.transport.load().as_deref().cloned()
    }

    /// The runtimes of other nodes that are connected, not draining, and serve.
    #[must_use]
    pub fn hosts(&self) -> Arc<Vec<ModelHost>> {
        self.shared.hosts.load_full()
    }

    /// The other nodes of the cluster, this one left out: every one that is shown, connected or not.
    #[must_use]
    pub fn nodes(&self) -> Arc<Vec<ClusterNode>> {
        self.shared.nodes.load_full()
    }

    /// Says who serves, in place of whoever said so before.
    #[cfg(feature = "testkit")]
    pub fn set_hosts(&self, hosts: Vec<ModelHost>) {
        self.shared.hosts.store(Arc::new(hosts));
    }
    /// Says who there is, in place of whoever said so before.
    #[cfg(feature = "testkit")]
    pub fn set_nodes(&self, nodes: Vec<ClusterNode>) {
        self.shared.nodes.store(Arc::new(nodes));
    }
}
