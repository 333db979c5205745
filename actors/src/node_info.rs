//! Who a node is, and whether it serves.
//!
//! Owns the two plain values that every part of a node may show. Refuses to know any of these parts: their
//! handles are gathered in [`crate::node`].

use std::path::PathBuf;

use arw_kit::moment::WallTime;

use crate::ids::NodeId;

/// What does not change while a node runs.
#[derive(Clone, Debug)]
pub struct NodeInfo {
    /// Its id: its public key.
    pub id: NodeId,
    /// For people.
    pub name: String,
    /// Which start of the node this is: grows with every start.
    pub incarnation: u64,
    /// This program's version.
    pub version: &'static str,
    /// When it was started.
    pub started_at: WallTime,
    /// Where it keeps everything.
    pub state_dir: PathBuf,
}

/// Whether a node serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NodeStatus {
    /// It is being built up.
    Starting,
    /// All is well.
    Ready,
    /// It serves, but something is wrong: in words.
    Degraded(Vec<String>),
    /// It is ending.
    Stopping,
}

impl NodeStatus {
    /// The word in JSON.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Degraded(_) => "degraded",
            Self::Stopping => "stopping",
        }
    }
}
