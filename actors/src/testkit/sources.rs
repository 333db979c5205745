//! What views are made of, in a test: real handles, with runtimes, status and address that the test changes.
#![expect(clippy::panic, reason = "a test that cannot go on fails")]

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use super::fixed_runtimes::FixedRuntimes;
use crate::cluster::Cluster;
use crate::ids::NodeId;
use crate::journal::{Journal, JournalOptions, Retention};
use crate::model::{ModelLibrary, ModelStore};
use crate::node_info::{NodeInfo, NodeStatus};
use crate::store::{Store, StoreOptions};
use crate::views::Sources;

/// Sources of a node of its own, which keeps its files in `folder`.
///
/// # Panics
/// The files cannot be made there.
pub async fn sources(folder: &Path) -> (Arc<Sources>, FixedRuntimes, watch::Sender<NodeStatus>) {
    let (system, fixed) = FixedRuntimes::start().await;
    let clock = system.clock();
    let options = StoreOptions { clock, ..StoreOptions::default() };
    let store = Store::open(&folder.join("arw.db"), options).unwrap_or_else(fail);
    let retention = Retention::default();
    let journal = Journal::open(store, JournalOptions { retention, clock }).unwrap_or_else(fail);
    let models = ModelStore::open(folder.join("models")).unwrap_or_else(fail);
    let models = ModelLibrary::new(models, journal.clone(), clock).unwrap_or_else(fail);
    let (status, watched) = watch::channel(NodeStatus::Ready);
    let info = NodeInfo {
        id: NodeId::from_bytes([7; 32]),
        name: "testbox".to_owned(),
        incarnation: 3,
        version: "0.1.0",
        started_at: clock.wall(),
        state_dir: folder.to_owned(),
    };
    let sources = Sources {
        info: Arc::new(info),
        system,
        journal,
        models,
        runtimes: fixed.runtimes(),
        cluster: Cluster::default(),
        hardware: Arc::default(),
        status: watched,
        http: Arc::default(),
        clock,
    };
    (Arc::new(sources), fixed, status)
}

fn fail<T>(error: impl Display) -> T {
    panic!("{error}")
}
