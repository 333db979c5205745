//! `/state/node`: who the node is and how it does.

mod hardware;

use std::path::Path;
use std::time::Duration;

use arw_actors::hardware::own_resident_bytes;
use arw_actors::ids::NodeId;
use arw_actors::moment::WallTime;
use arw_actors::node_info::{NodeInfo, NodeStatus};
use arw_actors::views::{Pace, Sources, View, next_change};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use self::hardware::HardwareRow;
use super::shown::{members, read_model};

read_model! {
    node, node_stream, "/state/node", "/state/node/stream", NodeState<'_>,
    "The node: who it is, how it does.",
    for_peers: true,
    View {
        name: "node",
        // Uptime, memory, free memory of the machine.
        pace: Pace::ChangesAndEvery(Duration::from_secs(5)),
        changes: |_| 0,
        changed: |sources| next_change(sources.status.clone()),
        render,
    }
}

/// `/state/node`.
#[derive(Debug, Serialize, ToSchema)]
struct NodeState<'a> {
    node: NodeRow<'a>,
}

/// The node.
#[derive(Debug, Serialize, ToSchema)]
struct NodeRow<'a> {
    #[schema(value_type = String)]
    id: NodeId,
    name: &'a str,
    incarnation: u64,
    version: &'a str,
    #[schema(value_type = String)]
    started_at: WallTime,
    uptime_s: u64,
    /// `ready`, `degraded`, `starting` or `stopping`.
    status: &'static str,
    /// Why it is not simply ready.
    reasons: &'a [String],
    #[schema(value_type = Option<String>)]
    http: String,
    #[schema(value_type = String)]
    state_dir: &'a Path,
    journal: JournalRow,
    hardware: HardwareRow<'a>,
    memory: NodeMemoryRow,
    counts: CountsRow,
}

/// How the journal does.
#[derive(Debug, Serialize, ToSchema)]
struct JournalRow {
    /// `ok` or `degraded`.
    status: &'static str,
    reason: Option<String>,
    last_seq: u64,
    /// Events that were never written.
    lost: u64,
}

/// What the node's own process holds.
#[derive(Debug, Serialize, ToSchema)]
struct NodeMemoryRow {
    #[schema(value_type = u64)]
    node_rss_bytes: Option<u64>,
}

/// How many there are.
#[derive(Debug, Serialize, ToSchema)]
struct CountsRow {
    #[schema(value_type = u64)]
    actors: usize,
    #[schema(value_type = u64)]
    runtimes: usize,
    #[schema(value_type = u64)]
    models: usize,
    dead_letters: u64,
}

fn render(sources: &Sources) -> Map<String, Value> {
    let NodeInfo { id, name, incarnation, version, started_at, state_dir } = &*sources.info;
    let status = sources.status.borrow().clone();
    let reasons: &[String] = match &status {
        NodeStatus::Degraded(reasons) => reasons,
        NodeStatus::Starting | NodeStatus::Ready | NodeStatus::Stopping => &[],
    };
    let journal = sources.journal.status();
    let hardware = sources.hardware.lock();
    let counts = CountsRow {
        actors: sources.system.tree().len(),
        runtimes: sources.runtimes.rows().len(),
        models: sources.models.list().len(),
        dead_letters: sources.system.dead_letters().counts().total(),
    };
    let node = NodeRow {
        id: *id,
        name,
        incarnation: *incarnation,
        version,
        started_at: *started_at,
        uptime_s: sources.clock.wall().since(*started_at).as_secs(),
        status: status.word(),
        reasons,
        http: sources.http.lock().clone(),
        state_dir,
        journal: JournalRow {
            status: if journal.degraded.is_some() { "degraded" } else { "ok" },
            reason: journal.degraded,
            last_seq: journal.last_seq,
            lost: journal.lost,
        },
        hardware: HardwareRow::of(&hardware),
        memory: NodeMemoryRow { node_rss_bytes: own_resident_bytes() },
        counts,
    };
    members(&NodeState { node })
}
