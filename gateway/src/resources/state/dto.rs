//! The bodies under `/state/*`, for OpenAPI. They are rendered where they are made (the kernel's views).
#![expect(dead_code, reason = "shapes for OpenAPI")]

use serde_json::Value;
use utoipa::ToSchema;

use crate::resources::models::dto::ModelRow;
use crate::resources::runtimes::dto::RuntimeRow;

/// `/state/node`.
#[derive(Debug, ToSchema)]
pub(crate) struct NodeState {
    /// Changes with each start of the node.
    pub(crate) epoch: u64,
    /// Grows within an epoch.
    pub(crate) version: u64,
    pub(crate) generated_at: String,
    pub(crate) node: NodeRow,
}

/// The node.
#[derive(Debug, ToSchema)]
pub(crate) struct NodeRow {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) incarnation: u64,
    pub(crate) version: String,
    pub(crate) started_at: String,
    pub(crate) uptime_s: u64,
    /// `ready`, `degraded`, `starting` or `stopping`.
    pub(crate) status: String,
    /// Why it is not simply ready.
    pub(crate) reasons: Vec<String>,
    pub(crate) http: Option<String>,
    pub(crate) state_dir: String,
    pub(crate) journal: JournalRow,
    #[schema(value_type = Object)]
    pub(crate) hardware: Value,
    pub(crate) memory: NodeMemoryRow,
    pub(crate) counts: CountsRow,
}

/// How the journal does.
#[derive(Debug, ToSchema)]
pub(crate) struct JournalRow {
    /// `ok` or `degraded`.
    pub(crate) status: String,
    pub(crate) reason: Option<String>,
    pub(crate) last_seq: u64,
    /// Events that were never written.
    pub(crate) lost: u64,
}

/// What the node's own process holds.
#[derive(Debug, ToSchema)]
pub(crate) struct NodeMemoryRow {
    pub(crate) node_rss_bytes: u64,
}

/// How many there are.
#[derive(Debug, ToSchema)]
pub(crate) struct CountsRow {
    pub(crate) actors: u64,
    pub(crate) runtimes: u64,
    pub(crate) models: u64,
    pub(crate) dead_letters: u64,
}

/// `/state/actors`.
#[derive(Debug, ToSchema)]
pub(crate) struct ActorsState {
    pub(crate) epoch: u64,
    pub(crate) version: u64,
    pub(crate) generated_at: String,
    pub(crate) root: ActorRow,
    pub(crate) dead_letters: DeadLettersRow,
}

/// Messages that nobody handled.
#[derive(Debug, ToSchema)]
pub(crate) struct DeadLettersRow {
    pub(crate) total: u64,
    pub(crate) by_reason: DeadLetterReasons,
}

/// By reason.
#[derive(Debug, ToSchema)]
pub(crate) struct DeadLetterReasons {
    pub(crate) stopped: u64,
    pub(crate) overloaded: u64,
    pub(crate) expired: u64,
}

/// One actor and what is under it.
#[derive(Debug, ToSchema)]
pub(crate) struct ActorRow {
    pub(crate) path: String,
    pub(crate) kind: String,
    /// `starting`, `running`, `stopping`, `stopped`, `backoff`, `quarantined` or `failed`.
    pub(crate) state: String,
    pub(crate) since: String,
    pub(crate) mailbox: Option<MailboxRow>,
    pub(crate) handled: u64,
    pub(crate) busy_ms: u64,
    pub(crate) in_flight: Option<InFlightRow>,
    pub(crate) restarts: Option<RestartsRow>,
    pub(crate) last_exit: Option<ActorExitRow>,
    #[schema(no_recursion)]
    pub(crate) children: Vec<ActorRow>,
}

/// A mailbox, in messages.
#[derive(Debug, ToSchema)]
pub(crate) struct MailboxRow {
    pub(crate) depth: u32,
    pub(crate) bound: u32,
}

/// The message in hand.
#[derive(Debug, ToSchema)]
pub(crate) struct InFlightRow {
    pub(crate) message: String,
    pub(crate) age_ms: u64,
}

/// How much of a restart budget is used.
#[derive(Debug, ToSchema)]
pub(crate) struct RestartsRow {
    pub(crate) used: u32,
    pub(crate) max: u32,
    pub(crate) window_s: u64,
    pub(crate) resets_at: Option<String>,
}

/// How an actor last ended.
#[derive(Debug, ToSchema)]
pub(crate) struct ActorExitRow {
    /// `normal`, `stop`, `crash`, `killed`, `start_failed`, `process_exit`, `process_signal`, `escalated` or `dependency`.
    pub(crate) reason: String,
    pub(crate) detail: Option<String>,
    pub(crate) at: String,
}

/// `/state/runtimes`.
#[derive(Debug, ToSchema)]
pub(crate) struct RuntimesState {
    pub(crate) epoch: u64,
    pub(crate) version: u64,
    pub(crate) generated_at: String,
    pub(crate) runtimes: Vec<RuntimeRow>,
}

/// `/state/models`.
#[derive(Debug, ToSchema)]
pub(crate) struct ModelsState {
    pub(crate) epoch: u64,
    pub(crate) version: u64,
    pub(crate) generated_at: String,
    pub(crate) models: Vec<ModelRow>,
}
