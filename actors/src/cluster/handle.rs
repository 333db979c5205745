//! The cluster, as the rest of a node sees it.
//!
//! Owns what can be read without asking anybody: the way to other nodes, the picture of them, and who of them
//! serves which model; and the ways in which news and the node's own flag get to the actor. Refuses to
//! decide.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::sync::watch;

use super::absent::{self, AbsentHost, LastCards};
use super::card::NodeCard;
use super::inlet::Inlet;
use super::news::ClusterUpdate;
use super::picture::Picture;
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
    picture: ArcSwap<Picture>,
    /// What each node last said of itself, whatever has become of it since.
    last_cards: ArcSwap<LastCards>,
    /// Counts pictures that differ from the one before.
    changes: watch::Sender<u64>,
    inlet: Inlet,
    /// News that the inlet had no room for.
    refused: AtomicU64,
    own_card: watch::Sender<Arc<NodeCard>>,
    /// What is wrong with this node as a member.
    warnings: watch::Sender<Vec<String>>,
    is_draining: AtomicBool,
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

    /// The runtimes of other nodes that serve others (CLUSTER-7).
    #[must_use]
    pub fn hosts(&self) -> Arc<Vec<ModelHost>> {
        self.shared.hosts.load_full()
    }

    /// HTTP-23: the runtimes of other nodes that are known and take no request now, each with the reason.
    #[must_use]
    pub fn absent(&self) -> Vec<AbsentHost> {
        absent::absent(&self.shared.picture.load(), &self.shared.last_cards.load())
    }

    /// Takes in what the transport has learned. Never waits; what may be lost when nobody reads is said in
    /// spec/http.md (CLUSTER-6).
    pub fn learn(&self, news: ClusterUpdate) {
        self.shared.inlet.tell(news);
    }

    /// What this node says of itself, for the transport to pass on whenever it changes.
    #[must_use]
    pub fn own_card(&self) -> watch::Receiver<Arc<NodeCard>> {
        self.shared.own_card.subscribe()
    }

    /// What is wrong with this node as a member, for people; empty while nothing is.
    #[must_use]
    pub fn warnings(&self) -> watch::Receiver<Vec<String>> {
        self.shared.warnings.subscribe()
    }

    /// CLUSTER-5: this node takes nothing new from others, or does again. Not remembered over a restart.
    pub fn set_draining(&self, is_draining: bool) {
        self.shared.is_draining.store(is_draining, Ordering::Release);
        self.shared.inlet.wake();
    }

    /// Whether this node takes nothing new from others.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.shared.is_draining.load(Ordering::Acquire)
    }

    /// All nodes, this one included.
    #[must_use]
    pub fn picture(&self) -> Arc<Picture> {
        self.shared.picture.load_full()
    }

    /// Counts changes of the picture.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    /// News of nodes that could not be taken in, because there are too many.
    #[must_use]
    pub fn refused_news(&self) -> u64 {
        self.shared.refused.load(Ordering::Relaxed).saturating_add(self.shared.picture.load().refused)
    }

    pub(super) fn inlet(&self) -> &Inlet {
        &self.shared.inlet
    }

    pub(super) fn count_refused(&self, refused: u64) {
        self.shared.refused.store(refused, Ordering::Relaxed);
    }

    pub(super) fn tell_own_card(&self, card: Arc<NodeCard>) {
        self.shared.own_card.send_replace(card);
    }

    /// Shows a picture, and who serves in it, in place of the last one.
    pub(super) fn show(&self, picture: Picture) {
        if **self.shared.picture.load() == picture {
            return;
        }
        let hosts = picture.hosts();
        if **self.shared.hosts.load() != hosts {
            self.shared.hosts.store(Arc::new(hosts));
        }
        let warnings = picture.cluster.as_ref().map_or_else(Vec::new, |cluster| cluster.warnings.clone());
        self.shared.warnings.send_if_modified(|told| {
            let is_news = *told != warnings;
            *told = warnings;
            is_news
        });
        let nodes = picture.others();
        if **self.shared.nodes.load() != nodes {
            self.shared.nodes.store(Arc::new(nodes));
        }
        let last_cards = absent::remember(&picture, &self.shared.last_cards.load());
        self.shared.last_cards.store(Arc::new(last_cards));
        self.shared.picture.store(Arc::new(picture));
        self.shared.changes.send_modify(|count| *count += 1);
    }

    /// Shows a picture, for tests of what is made of it.
    #[cfg(feature = "testkit")]
    pub fn set_picture(&self, picture: Picture) {
        self.show(picture);
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
