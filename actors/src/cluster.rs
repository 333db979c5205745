//! The nodes that make one cluster, as this node knows them.
//!
//! Owns what a node tells the others of itself ([`NodeCard`]), what it learns of them ([`ClusterUpdate`]),
//! the picture that follows from both ([`Picture`]), and the port through which it reaches them
//! ([`Transport`]). Refuses to know QUIC: the transport implements the port and brings the news.

mod card;
mod names;
mod news;
mod port;

mod own_card;
mod picture;
mod view;

mod absent;
mod actor;
mod handle;
mod inlet;

#[cfg(test)]
mod tests;

pub(crate) use actor::{ClusterActor, ClusterArgs};

pub use absent::{Absence, AbsentHost};
pub use card::{
    CARD_RUNTIMES_MAX, CardAccelerator, CardBudgets, CardCpu, CardHardware, CardHealth, CardLoad, CardMemory,
    CardQueue, CardRuntime, NodeCard,
};
pub use handle::{Cluster, ClusterNode, ModelHost};
pub use names::{FindNodeError, find_node};
pub use news::{ClusterUpdate, Contact, Knowledge, MemberState, MemberUpdate, OwnPlace};
pub use picture::{At, ClusterRow, NodeRow, Picture, Totals};
pub use port::{
    ClusterError, ClusterErrorKind, CreatedToken, JoinTokenRow, JoinTokenUse, JoinedCluster, OpenError,
    PeerStream, StreamService, TokenOrder, Transport, TransportStatus,
};
pub use view::{CARD_TTL, ClusterChange, ClusterView, NODES_MAX, NodeChange, NodeChanged, OwnNode};
