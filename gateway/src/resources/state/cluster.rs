//! `/state/cluster`: every node of the cluster, as this one knows it.

use std::net::SocketAddr;
use std::time::Duration;

use arw_actors::cluster::{
    CARD_TTL, CardAccelerator, CardHardware, CardHealth, CardRuntime, ClusterRow, NodeCard, NodeRow, Picture,
};
use arw_actors::ids::NodeId;
use arw_actors::moment::WallTime;
use arw_actors::views::{Pace, View, next_change};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::shown::{members, read_model};

read_model! {
    cluster, cluster_stream, "/state/cluster", "/state/cluster/stream", ClusterState<'_>,
    "Every node of the cluster, as this one knows it; a node alone shows itself.",
    for_peers: false,
    View {
        name: "cluster",
        // The load of every node moves all the time.
        pace: Pace::WhileWatched,
        changes: |sources| *sources.cluster.changes().borrow(),
        changed: |sources| next_change(sources.cluster.changes()),
        render: |sources| body(&sources.cluster.picture()),
    }
}

/// `/state/cluster`.
#[derive(Debug, Serialize, ToSchema)]
struct ClusterState<'a> {
    /// A card that is older is stale.
    ttl_seconds: u64,
    /// `null`: this node is in no cluster.
    cluster: Option<ClusterAbout<'a>>,
    /// The id of the node that made the cluster, whether it is up or not.
    #[schema(value_type = Option<String>)]
    home: Option<NodeId>,
    /// By name, then by id.
    nodes: Vec<ClusterNodeRow<'a>>,
    totals: ClusterTotals,
}

/// The cluster that this node is in.
#[derive(Debug, Serialize, ToSchema)]
struct ClusterAbout<'a> {
    id: &'a str,
    /// This node lets others in and removes them.
    is_issuer: bool,
    /// Where this node says that others reach it.
    #[schema(value_type = String)]
    address: SocketAddr,
    /// By what that was found out, in words.
    address_by: &'a str,
    /// What is wrong with this node as a member, and what to do; also in `reasons` of `/state/node`.
    warnings: &'a [String],
    /// Until when this node's certificate is good; it renews itself before.
    #[schema(value_type = String)]
    certificate_until: WallTime,
}

/// One node. What comes from its card is `null` before that has come.
#[derive(Debug, Serialize, ToSchema)]
struct ClusterNodeRow<'a> {
    #[schema(value_type = String)]
    id: NodeId,
    /// `null` before there was a connection to it.
    name: Option<&'a str>,
    /// `worker`, `gateway`, `home`.
    roles: &'a [String],
    /// `up`, `suspect`, `down` or `left`.
    state: &'static str,
    #[schema(value_type = String)]
    since: WallTime,
    /// Why it is down.
    reason: Option<&'a str>,
    /// It finishes what it has and takes nothing new.
    draining: bool,
    /// Which start of it.
    incarnation: u64,
    #[schema(value_type = Option<String>)]
    address: Option<SocketAddr>,
    /// There is a connection from this node to it.
    connected: bool,
    version: Option<&'a str>,
    hardware: Option<ClusterHardware<'a>>,
    runtimes: Vec<ClusterRuntime<'a>>,
    load: Option<ClusterLoad>,
    queue: Option<ClusterQueue>,
    budgets: Option<ClusterBudgets>,
    health: ClusterHealth<'a>,
    /// There and back, to two digits.
    rtt_ms: Option<f64>,
    /// How long ago it gave a sign of life: 0, 15000, 30000, 45000, or 60000 for all that is longer.
    last_seen_ms: u64,
    /// When that was, once `last_seen_ms` is not 0.
    #[schema(value_type = Option<String>)]
    last_seen_at: Option<WallTime>,
    /// Its card is older than `ttl_seconds`.
    card_stale: bool,
    /// When the card came, once it is stale.
    #[schema(value_type = Option<String>)]
    card_at: Option<WallTime>,
    /// Where this row comes from: `own`, `card` or `membership`.
    source: &'static str,
}

/// What a machine is.
#[derive(Debug, Serialize, ToSchema)]
struct ClusterHardware<'a> {
    os: &'a str,
    arch: &'a str,
    cpu: ClusterCpu<'a>,
    memory: ClusterMemory,
    accelerators: Vec<ClusterAccelerator<'a>>,
}

/// A processor.
#[derive(Debug, Serialize, ToSchema)]
struct ClusterCpu<'a> {
    model: &'a str,
    usable_cores: u32,
}

/// Main memory that the node may use.
#[derive(Debug, Serialize, ToSchema)]
struct ClusterMemory {
    total_bytes: u64,
    /// Free for a model; told when it moves by a twentieth of the total.
    available_bytes: u64,
}

/// A graphics card.
#[derive(Debug, Serialize, ToSchema)]
struct ClusterAccelerator<'a> {
    name: &'a str,
    /// `cuda`, `rocm`, …
    backend: &'a str,
    memory_total_bytes: Option<u64>,
    memory_free_bytes: Option<u64>,
}

/// A runtime of a node.
#[derive(Debug, Serialize, ToSchema)]
struct ClusterRuntime<'a> {
    id: &'a str,
    /// The name that clients ask for.
    model: &'a str,
    /// As in `/state/runtimes`.
    state: &'a str,
    /// A request to it would be served or waited for.
    serving: bool,
    context_length: Option<u64>,
    in_flight: u32,
    waiting: u32,
}

/// How busy a node is.
#[derive(Debug, Serialize, ToSchema)]
struct ClusterLoad {
    /// The processor's load over a minute, in thousandths of all usable cores; at most 1000.
    cpu_permille: Option<u32>,
    in_flight: u32,
    actors: u32,
}

/// Requests that wait.
#[derive(Debug, Serialize, ToSchema)]
struct ClusterQueue {
    waiting: u32,
    max: u32,
}

/// Restart budgets of all runtimes together.
#[derive(Debug, Serialize, ToSchema)]
struct ClusterBudgets {
    restarts_used: u32,
    restarts_max: u32,
    runtimes_given_up: u32,
}

/// How a node is.
#[derive(Debug, Serialize, ToSchema)]
struct ClusterHealth<'a> {
    /// `ok`, `info`, `warning` or `error`.
    state: &'a str,
    reason: Option<&'a str>,
    hint: Option<&'a str>,
}

/// Sums. What a node says of itself counts while it is a member and its card is fresh.
#[derive(Debug, Serialize, ToSchema)]
struct ClusterTotals {
    nodes: ClusterNodeCounts,
    draining: u64,
    usable_cores: u64,
    memory_total_bytes: u64,
    memory_available_bytes: u64,
    accelerators: u64,
    runtimes: u64,
    runtimes_serving: u64,
    in_flight: u64,
    waiting: u64,
}

/// Nodes by state.
#[derive(Debug, Serialize, ToSchema)]
struct ClusterNodeCounts {
    up: u64,
    suspect: u64,
    down: u64,
    left: u64,
}

/// The content of the view.
pub(crate) fn body(picture: &Picture) -> Map<String, Value> {
    members(&ClusterState {
        ttl_seconds: CARD_TTL.as_secs(),
        cluster: picture.cluster.as_ref().map(ClusterAbout::of),
        home: picture.home,
        nodes: picture.nodes.iter().map(ClusterNodeRow::of).collect(),
        totals: ClusterTotals::of(picture),
    })
}

impl<'a> ClusterAbout<'a> {
    fn of(row: &'a ClusterRow) -> Self {
        Self {
            id: &row.id,
            is_issuer: row.is_issuer,
            address: row.address,
            address_by: &row.address_by,
            warnings: &row.warnings,
            certificate_until: row.certificate_until,
        }
    }
}

impl ClusterTotals {
    fn of(picture: &Picture) -> Self {
        let totals = &picture.totals;
        Self {
            nodes: ClusterNodeCounts {
                up: totals.up,
                suspect: totals.suspect,
                down: totals.down,
                left: totals.left,
            },
            draining: totals.draining,
            usable_cores: totals.usable_cores,
            memory_total_bytes: totals.memory_total_bytes,
            memory_available_bytes: totals.memory_available_bytes,
            accelerators: totals.accelerators,
            runtimes: totals.runtimes,
            runtimes_serving: totals.runtimes_serving,
            in_flight: totals.in_flight,
            waiting: totals.waiting,
        }
    }
}

impl<'a> ClusterNodeRow<'a> {
    fn of(row: &'a NodeRow) -> Self {
        let card: Option<&NodeCard> = row.card.as_deref();
        Self {
            id: row.node,
            name: row.name.as_deref(),
            roles: &row.roles,
            state: row.state.word(),
            since: row.since,
            reason: row.reason.as_deref(),
            draining: row.is_draining,
            incarnation: row.incarnation,
            address: row.address,
            connected: row.is_connected,
            version: card.map(|card| card.version.as_str()),
            hardware: card.map(|card| ClusterHardware::of(&card.hardware)),
            runtimes: card
                .map(|card| card.runtimes.iter().map(ClusterRuntime::of).collect())
                .unwrap_or_default(),
            load: card.map(|NodeCard { load, .. }| ClusterLoad {
                cpu_permille: load.cpu_permille,
                in_flight: load.in_flight,
                actors: load.actors,
            }),
            queue: card.map(|card| ClusterQueue { waiting: card.queue.waiting, max: card.queue.max }),
            budgets: card.map(|NodeCard { budgets, .. }| ClusterBudgets {
                restarts_used: budgets.restarts_used,
                restarts_max: budgets.restarts_max,
                runtimes_given_up: budgets.runtimes_given_up,
            }),
            health: ClusterHealth::of(&row.health),
            rtt_ms: row.rtt.map(milliseconds),
            last_seen_ms: u64::try_from(row.last_seen.as_millis()).unwrap_or(u64::MAX),
            last_seen_at: row.last_seen_at,
            card_stale: row.stale_since.is_some(),
            card_at: row.stale_since,
            source: row.source.word(),
        }
    }
}

/// A whole number of microseconds has no longer tail than thousandths.
fn milliseconds(span: Duration) -> f64 {
    (span.as_secs_f64() * 1_000.0 * 1_000.0).round() / 1_000.0
}

impl<'a> ClusterHardware<'a> {
    fn of(it: &'a CardHardware) -> Self {
        let CardHardware { os, arch, cpu, memory, accelerators } = it;
        Self {
            os,
            arch,
            cpu: ClusterCpu { model: &cpu.model, usable_cores: cpu.usable_cores },
            memory: ClusterMemory {
                total_bytes: memory.total_bytes,
                available_bytes: memory.available_bytes,
            },
            accelerators: accelerators.iter().map(ClusterAccelerator::of).collect(),
        }
    }
}

impl<'a> ClusterAccelerator<'a> {
    fn of(it: &'a CardAccelerator) -> Self {
        let CardAccelerator { name, backend, memory_total_bytes, memory_free_bytes } = it;
        let (memory_total_bytes, memory_free_bytes) = (*memory_total_bytes, *memory_free_bytes);
        Self { name, backend, memory_total_bytes, memory_free_bytes }
    }
}

impl<'a> ClusterRuntime<'a> {
    fn of(it: &'a CardRuntime) -> Self {
        Self {
            id: &it.id,
            model: &it.model,
            state: &it.state,
            serving: it.is_serving,
            context_length: it.context_length,
            in_flight: it.in_flight,
            waiting: it.waiting,
        }
    }
}

impl<'a> ClusterHealth<'a> {
    fn of(it: &'a CardHealth) -> Self {
        Self { state: &it.state, reason: it.reason.as_deref(), hint: it.hint.as_deref() }
    }
}
