//! A node, as the gateway and the command line see it.
//!
//! Owns nothing by itself: it gathers the handles of what [`crate::system`] has built. Refuses to build or to
//! decide.

use std::sync::Arc;

use arw_kit::supervision::ActorSystem;
use tokio::sync::watch;

use crate::cluster::Cluster;
use crate::journal::Journal;
use crate::model::ModelLibrary;
use crate::node_info::{NodeInfo, NodeStatus};
use crate::policy::Tokens;
use crate::projection::ReadModel;
use crate::runtime::directory::Runtimes;
use crate::runtime::engine_client::EngineClient;
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

impl Node {
    /// The read model behind `/state/{name}`, brought up to date; `None` when there is none of that name.
    #[must_use]
    pub fn state(&self, name: &str) -> Option<&ReadModel> {
        self.views.fresh(name)
    }
}
