//! The body of `/state/cluster`, for OpenAPI. It is rendered where it is made (the kernel's views).
#![expect(dead_code, reason = "shapes for OpenAPI; a test holds them against a real body")]

use utoipa::ToSchema;

/// `/state/cluster`.
#[derive(Debug, ToSchema)]
pub(crate) struct ClusterState {
    pub(crate) epoch: u64,
    pub(crate) version: u64,
    pub(crate) generated_at: String,
    /// A card that is older is stale.
    pub(crate) ttl_seconds: u64,
    /// `null`: this node is in no cluster.
    pub(crate) cluster: Option<ClusterAbout>,
    /// The id of the node that made the cluster, whether it is up or not.
    pub(crate) home: Option<String>,
    /// By name, then by id.
    pub(crate) nodes: Vec<ClusterNodeRow>,
    pub(crate) totals: ClusterTotals,
}

/// The cluster that this node is in.
#[derive(Debug, ToSchema)]
pub(crate) struct ClusterAbout {
    pub(crate) id: String,
    /// This node lets others in and removes them.
    pub(crate) is_issuer: bool,
    /// Where this node says that others reach it.
    pub(crate) address: String,
    /// By what that was found out, in words.
    pub(crate) address_by: String,
    /// What is wrong with this node as a member, and what to do; also in `reasons` of `/state/node`.
    pub(crate) warnings: Vec<String>,
    /// Until when this node's certificate is good; it renews itself before.
    pub(crate) certificate_until: String,
}

/// One node. What comes from its card is `null` before that has come.
#[derive(Debug, ToSchema)]
pub(crate) struct ClusterNodeRow {
    pub(crate) id: String,
    /// `null` before there was a connection to it.
    pub(crate) name: Option<String>,
    /// `worker`, `gateway`, `home`.
    pub(crate) roles: Vec<String>,
    /// `up`, `suspect`, `down` or `left`.
    pub(crate) state: String,
    pub(crate) since: String,
    /// Why it is down.
    pub(crate) reason: Option<String>,
    /// It finishes what it has and takes nothing new.
    pub(crate) draining: bool,
    /// Which start of it.
    pub(crate) incarnation: u64,
    pub(crate) address: Option<String>,
    /// There is a connection from this node to it.
    pub(crate) connected: bool,
    pub(crate) version: Option<String>,
    pub(crate) hardware: Option<ClusterHardware>,
    pub(crate) runtimes: Vec<ClusterRuntime>,
    pub(crate) load: Option<ClusterLoad>,
    pub(crate) queue: Option<ClusterQueue>,
    pub(crate) budgets: Option<ClusterBudgets>,
    pub(crate) health: ClusterHealth,
    /// There and back, to two digits.
    pub(crate) rtt_ms: Option<f64>,
    /// How long ago it gave a sign of life: 0, 15000, 30000, 45000, or 60000 for all that is longer.
    pub(crate) last_seen_ms: u64,
    /// When that was, once `last_seen_ms` is not 0.
    pub(crate) last_seen_at: Option<String>,
    /// Its card is older than `ttl_seconds`.
    pub(crate) card_stale: bool,
    /// When the card came, once it is stale.
    pub(crate) card_at: Option<String>,
    /// Where this row comes from: `own`, `card` or `membership`.
    pub(crate) source: String,
}

/// What a machine is.
#[derive(Debug, ToSchema)]
pub(crate) struct ClusterHardware {
    pub(crate) os: String,
    pub(crate) arch: String,
    pub(crate) cpu: ClusterCpu,
    pub(crate) memory: ClusterMemory,
    pub(crate) accelerators: Vec<ClusterAccelerator>,
}

/// A processor.
#[derive(Debug, ToSchema)]
pub(crate) struct ClusterCpu {
    pub(crate) model: String,
    pub(crate) usable_cores: u32,
}

/// Main memory that the node may use.
#[derive(Debug, ToSchema)]
pub(crate) struct ClusterMemory {
    pub(crate) total_bytes: u64,
    /// Free for a model; told when it moves by a twentieth of the total.
    pub(crate) available_bytes: u64,
}

/// A graphics card.
#[derive(Debug, ToSchema)]
pub(crate) struct ClusterAccelerator {
    pub(crate) name: String,
    /// `cuda`, `rocm`, …
    pub(crate) backend: String,
    pub(crate) memory_total_bytes: Option<u64>,
    pub(crate) memory_free_bytes: Option<u64>,
}

/// A runtime of a node.
#[derive(Debug, ToSchema)]
pub(crate) struct ClusterRuntime {
    pub(crate) id: String,
    /// The name that clients ask for.
    pub(crate) model: String,
    /// As in `/state/runtimes`.
    pub(crate) state: String,
    /// A request to it would be served or waited for.
    pub(crate) serving: bool,
    pub(crate) context_length: Option<u64>,
    pub(crate) in_flight: u32,
    pub(crate) waiting: u32,
}

/// How busy a node is.
#[derive(Debug, ToSchema)]
pub(crate) struct ClusterLoad {
    /// The processor's load over a minute, in thousandths of all usable cores; at most 1000.
    pub(crate) cpu_permille: Option<u32>,
    pub(crate) in_flight: u32,
    pub(crate) actors: u32,
}

/// Requests that wait.
#[derive(Debug, ToSchema)]
pub(crate) struct ClusterQueue {
    pub(crate) waiting: u32,
    pub(crate) max: u32,
}

/// Restart budgets of all runtimes together.
#[derive(Debug, ToSchema)]
pub(crate) struct ClusterBudgets {
    pub(crate) restarts_used: u32,
    pub(crate) restarts_max: u32,
    pub(crate) runtimes_given_up: u32,
}

/// How a node is.
#[derive(Debug, ToSchema)]
pub(crate) struct ClusterHealth {
    /// `ok`, `info`, `warning` or `error`.
    pub(crate) state: String,
    pub(crate) reason: Option<String>,
    pub(crate) hint: Option<String>,
}

/// Sums. What a node says of itself counts while it is a member and its card is fresh.
#[derive(Debug, ToSchema)]
pub(crate) struct ClusterTotals {
    pub(crate) nodes: ClusterNodeCounts,
    pub(crate) draining: u64,
    pub(crate) usable_cores: u64,
    pub(crate) memory_total_bytes: u64,
    pub(crate) memory_available_bytes: u64,
    pub(crate) accelerators: u64,
    pub(crate) runtimes: u64,
    pub(crate) runtimes_serving: u64,
    pub(crate) in_flight: u64,
    pub(crate) waiting: u64,
}

/// Nodes by state.
#[derive(Debug, ToSchema)]
pub(crate) struct ClusterNodeCounts {
    pub(crate) up: u64,
    pub(crate) suspect: u64,
    pub(crate) down: u64,
    pub(crate) left: u64,
}
