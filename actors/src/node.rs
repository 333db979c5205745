//! A node, as the gateway and the command line see it.
//!
//! Owns nothing by itself: it gathers the handles of what [`crate::system`] has built. Refuses to build or to decide.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::watch;

use crate::cluster::Cluster;
use crate::ids::NodeId;
use crate::journal::Journal;
use crate::model::ModelLibrary;
use crate::moment::WallTime;
use crate::policy::Tokens;
use crate::projection::ReadModel;
use crate::runtime::directory::Runtimes;
use crate::runtime::engine_client::EngineClient;
use crate::supervision::ActorSystem;
use crate::views::Views;

/// One running node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Node {
    /// What does not change while it runs.
    pub info: Arc<NodeInfo>,
    /// Its actors.
    pub system: ActorSystem,
    /// What happened.
    pub journal: Journal,
    /// Who may call.
    pub tokens: Tokens,
    /// Its models.
    pub models: ModelLibrary,
    /// Its runtimes.
    pub runtimes: Runtimes,
    /// HTTP to engines.
    pub engines: EngineClient,
    /// The other nodes.
    pub cluster: Cluster,
    /// `/state/*`.
    pub views: Views,
    /// Whether it serves.
    pub status: watch::Receiver<NodeStatus>,
}

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

impl Node {
    /// The read model behind `/state/{name}`, brought up to date; `None` when there is none of that name.
    #[must_use]
    pub fn state(&self, name: &str) -> Option<&ReadModel> {
        self.views.fresh(name)
    }
}
