//! The port to other nodes.
//!
//! Owns what the kernel and the gateway ask of whatever connects nodes, and what that asks of the gateway in
//! turn. Refuses to know how it is done.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use arw_kit::moment::WallTime;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::ids::NodeId;

/// Bytes to another node and back. Dropped before it was shut down, it tells the other end to stop.
pub trait PeerStream: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + fmt::Debug> PeerStream for T {}

/// The way to other nodes.
pub trait Transport: fmt::Debug + Send + Sync {
    /// Opens a stream to the [`StreamService`] of another node.
    fn open(
        &self,
        node: NodeId,
        within: Duration,
    ) -> BoxFuture<'static, Result<Box<dyn PeerStream>, OpenError>>;

    /// What it does at the moment.
    fn status(&self) -> TransportStatus;

    /// Makes a token with which other machines join. The first one makes this node the first of a cluster.
    fn create_token(&self, order: TokenOrder) -> BoxFuture<'static, Result<CreatedToken, ClusterError>>;

    /// The tokens that this node gave out.
    fn tokens(&self) -> BoxFuture<'static, Result<Vec<JoinTokenRow>, ClusterError>>;

    /// A token lets nobody in any more.
    fn revoke_token(&self, id: String) -> BoxFuture<'static, Result<JoinTokenRow, ClusterError>>;

    /// Makes this node a member of the cluster that a token belongs to.
    fn join(&self, token: String) -> BoxFuture<'static, Result<JoinedCluster, ClusterError>>;

    /// Takes a node out of the cluster: everybody refuses it from now on.
    fn remove(&self, node: NodeId) -> BoxFuture<'static, Result<(), ClusterError>>;

    /// This node takes itself out of its cluster, and is alone again.
    fn leave(&self) -> BoxFuture<'static, Result<(), ClusterError>>;
}

/// Serves the streams that other nodes open.
pub trait StreamService: fmt::Debug + Send + Sync {
    /// A stream came from a member. Does not block: it serves in a task of its own, or drops the stream.
    fn serve(&self, from: NodeId, stream: Box<dyn PeerStream>);
}

/// There is no stream to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// This node is in no cluster.
    #[error("this node is in no cluster")]
    Alone,
    /// The node is not in the cluster.
    #[error("no node {} is in the cluster", .0.short())]
    Unknown(NodeId),
    /// There is no connection to it at the moment.
    #[error("there is no connection to node {} at the moment", .0.short())]
    NotConnected(NodeId),
    /// It did not let a stream in within the time given.
    #[error("node {} did not take the request in time", .0.short())]
    TimedOut(NodeId),
}

/// What the transport does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TransportStatus {
    /// Where it listens; `None` while the node is alone.
    pub listens_at: Option<SocketAddr>,
    /// What others are told.
    pub advertised: Option<SocketAddr>,
    /// Connections that stand.
    pub connections: usize,
    /// What was refused since the start: a word for why, and how often.
    pub refused: Vec<(&'static str, u64)>,
}

/// What a token shall be good for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenOrder {
    /// The roles of who joins with it: `worker`, `gateway`, `home`.
    pub roles: Vec<String>,
    /// How long.
    pub ttl: Duration,
    /// For how many machines.
    pub uses_max: u32,
    /// Where this node is reached; empty for what it finds out itself.
    pub addresses: Vec<SocketAddr>,
}

/// A token, shown once. `Debug` hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct CreatedToken {
    /// What is handed over.
    pub token: String,
    /// The same without its secret.
    pub row: JoinTokenRow,
    /// The addresses in it.
    pub addresses: Vec<SocketAddr>,
    /// This token made the cluster.
    pub is_first: bool,
}

impl fmt::Debug for CreatedToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CreatedToken").field("row", &self.row).finish_non_exhaustive()
    }
}

/// A token, without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinTokenRow {
    /// Its id, 16 hexadecimal digits.
    pub id: String,
    /// `usable`, `used`, `expired`, `revoked`.
    pub state: &'static str,
    /// What it makes of who joins.
    pub roles: Vec<String>,
    /// When it was made.
    pub created_at: WallTime,
    /// When it ends.
    pub expires_at: WallTime,
    /// For how many machines it is.
    pub uses_max: u32,
    /// Who joined with it.
    pub used: Vec<JoinTokenUse>,
}

/// One use of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinTokenUse {
    /// By which node.
    pub node: NodeId,
    /// When.
    pub at: WallTime,
}

/// A cluster that this node has just joined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JoinedCluster {
    /// Its id, as text.
    pub cluster: String,
    /// What this node is in it.
    pub roles: Vec<String>,
    /// Who let it in.
    pub issuer: NodeId,
    /// Where others reach this node.
    pub address: SocketAddr,
}

/// An operation on the cluster has failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ClusterError {
    /// What kind of thing is wrong.
    pub kind: ClusterErrorKind,
    /// What and why.
    pub message: String,
    /// What can be done about it.
    pub help: String,
}

/// What kind of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterErrorKind {
    /// The operation makes no sense: a bad token, a bad role, a bad time.
    Bad,
    /// There is no such token or node.
    Unknown,
    /// It cannot be had as things are: in another cluster already, or not the node that may do this.
    Conflict,
    /// Another node refuses it.
    Refused,
    /// Another node does not answer.
    Unreachable,
    /// This machine does not let it: a port that is taken, a disk that is full.
    Failed,
}
