//! What can happen on a node, as typed values.
//!
//! Owns the events, their stable kinds and what each is about. The sentence for people is in `message.rs`.
//! Refuses to know numbers, times of writing and storage.

use arw_kit::life::RestartUse;
use arw_kit::moment::WallTime;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::caller::Caller;

/// How much an event matters to the person who runs the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Part of normal life.
    Info,
    /// Healed by itself, or works with less than it should.
    Warning,
    /// Someone has to act.
    Error,
}

impl Severity {
    /// The stable word: `info`, `warning`, `error`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }

    /// The reverse of [`Severity::as_str`]; a word that this program does not know counts as a warning.
    pub(super) fn from_word(word: &str) -> Self {
        match word {
            "info" => Self::Info,
            "error" => Self::Error,
            _ => Self::Warning,
        }
    }
}

/// Another node of the cluster, in an event about it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields repeat the names of the read model, which spec/http.md explains")]
pub struct ClusterNode {
    pub id: String,
    pub name: Option<String>,
    pub incarnation: u64,
    pub address: Option<String>,
    /// Why it is gone.
    pub reason: Option<String>,
    /// It was away for so long.
    pub away_ms: Option<u64>,
}

/// A failure that counts against a restart budget, and the budget after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    missing_docs,
    reason = "the fields repeat the names of the read models, which spec/http.md explains"
)]
pub struct CountedFailure {
    pub used: u32,
    pub max: u32,
    pub window_s: u64,
    pub at: WallTime,
}

impl CountedFailure {
    /// A failure at `at`, after which a budget is used like this.
    #[must_use]
    pub fn new(usage: &RestartUse, at: WallTime) -> Self {
        Self { used: usage.used, max: usage.max, window_s: usage.window.as_secs(), at }
    }
}

/// Something that happened on this node.
///
/// `path` is an actor's path (`node/runtimes/runtime/smollm2`), `id` a runtime's or token's id. Kinds and field names are
/// part of the HTTP contract and of old journals: new ones may be added, none is renamed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "data", rename_all = "snake_case")]
#[expect(
    missing_docs,
    reason = "the fields repeat the names of the read models, which spec/http.md explains"
)]
pub enum Event {
    /// The node runs. `clean` tells whether the process before it ended in order.
    NodeStarted { id: String, name: String, incarnation: u64, version: String, pid: u32, clean: bool },
    /// The node ends in order.
    NodeStopping { reason: String },

    /// An actor ended in an unplanned way.
    /// Where it counts against a restart budget, `budget` says so.
    ActorCrashed {
        path: String,
        reason: String,
        detail: String,
        handling: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        budget: Option<CountedFailure>,
    },
    /// A runtime's program failed, or could not be started; this counts against its restart budget. `path` is that of its row in the tree of actors.
    EngineFailed { id: String, path: String, reason: String, detail: String, budget: CountedFailure },
    /// An actor or a runtime's program runs again, `down_ms` after its failure. Without `down_ms` an earlier version wrote it, in place of the failure itself.
    ActorRestarted {
        path: String,
        reason: String,
        detail: String,
        used: u32,
        max: u32,
        window_s: u64,
        at: WallTime,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        down_ms: Option<u64>,
    },
    /// An actor used up its restarts and waits for a trial.
    ActorQuarantined {
        path: String,
        reason: String,
        detail: String,
        used: u32,
        max: u32,
        window_s: u64,
        retry_at: Option<WallTime>,
    },
    /// An actor was killed and has not ended: it blocks its thread. Nothing of it is started until it has.
    ActorStuck { path: String },
    /// An actor came back from its quarantine.
    ActorRecovered { path: String },
    /// A supervisor used up its restarts and gave the failure to its own supervisor.
    ActorEscalated {
        path: String,
        to: String,
        reason: String,
        detail: String,
        used: u32,
        max: u32,
        window_s: u64,
    },
    /// Messages reached nobody; written in batches, not for each message.
    DeadLetters { path: String, reason: String, count: u64 },

    /// A runtime is known from now on.
    RuntimeAdded { id: String, adapter: String, model: Option<String> },
    /// A runtime is forgotten.
    RuntimeRemoved { id: String },
    /// A runtime moved on in its life.
    RuntimeStateChanged { id: String, from: String, to: String, reason: Option<String>, hint: Option<String> },
    /// A runtime's program ended. `log_tail` holds the last lines that it printed.
    RuntimeExited {
        id: String,
        pid: Option<u32>,
        cause: String,
        detail: String,
        hint: Option<String>,
        restarts_used: u32,
        restarts_max: u32,
        /// Requests that it was working on.
        #[serde(default)]
        in_flight: u32,
        log_tail: Vec<String>,
    },
    /// A runtime used up its restarts and waits for a trial.
    RuntimeQuarantined {
        id: String,
        reason: String,
        hint: Option<String>,
        used: u32,
        max: u32,
        window_s: u64,
        retry_at: Option<WallTime>,
    },
    /// A runtime serves again after a failure, `down_ms` later.
    RuntimeRecovered { id: String, down_ms: u64 },
    /// A program that an earlier node process had left running was ended.
    OrphanEnded { id: String, pid: u32 },
    /// A program that an earlier node process had left running could not be ended.
    OrphanLeft { detail: String },

    /// A model file was taken in.
    ModelImported { name: String, sha256: String, size_bytes: u64 },
    /// A model file was given up.
    ModelRemoved { name: String, sha256: String },

    /// Somebody had this node change something: `call` is the method and the path. `answered`: the caller
    /// stayed for the answer.
    Control { by: Caller, call: String, subject: String, answered: bool },

    /// A token was made.
    TokenCreated { id: String, name: String, scopes: Vec<String>, expires_at: Option<WallTime> },
    /// A token is refused from now on.
    TokenRevoked { id: String, name: String },

    /// This node is in a cluster.
    ClusterEntered { cluster: String, roles: Vec<String> },
    /// This node is in no cluster any more, and so many other nodes are forgotten.
    ClusterExited { cluster: String, nodes: u64 },
    /// Something is wrong with this node as a member of its cluster.
    ClusterWarning { reason: String },
    /// Nothing is any more.
    ClusterWarningOver {},
    /// Another node runs twice.
    ClusterNodeCopied(ClusterNode),
    /// Another node is there.
    ClusterNodeJoined(ClusterNode),
    /// Another node was started anew.
    ClusterNodeRestarted(ClusterNode),
    /// Another node is gone without a word.
    ClusterNodeDown(ClusterNode),
    /// Another node is back; nothing of it is lost.
    ClusterNodeReturned(ClusterNode),
    /// Another node said good-bye.
    ClusterNodeLeft(ClusterNode),
    /// Another node was taken out of the cluster.
    ClusterNodeRemoved(ClusterNode),
    /// A node that was gone is no longer shown.
    ClusterNodeForgotten(ClusterNode),

    /// Events cannot be written; the newest stay in memory.
    JournalDegraded { reason: String },
    /// Events are written again; `lost` of them never were.
    JournalRecovered { lost: u64, degraded_ms: u64 },

    /// A row that a newer program wrote: readable, not understood.
    #[serde(skip)]
    Unknown { kind: String, severity: Severity, subject: String, message: String, data: Value },
}

impl Event {
    /// The stable word for what happened, for example `actor_restarted`.
    #[must_use]
    pub fn kind(&self) -> &str {
        match self {
            Self::NodeStarted { .. } => "node_started",
            Self::NodeStopping { .. } => "node_stopping",
            Self::ActorCrashed { .. } => ACTOR_CRASHED,
            Self::EngineFailed { .. } => ENGINE_FAILED,
            Self::ActorRestarted { .. } => ACTOR_RESTARTED,
            Self::ActorQuarantined { .. } => "actor_quarantined",
            Self::ActorStuck { .. } => "actor_stuck",
            Self::ActorRecovered { .. } => "actor_recovered",
            Self::ActorEscalated { .. } => "actor_escalated",
            Self::DeadLetters { .. } => "dead_letters",
            Self::RuntimeAdded { .. } => "runtime_added",
            Self::RuntimeRemoved { .. } => "runtime_removed",
            Self::RuntimeStateChanged { .. } => "runtime_state_changed",
            Self::RuntimeExited { .. } => "runtime_exited",
            Self::RuntimeQuarantined { .. } => "runtime_quarantined",
            Self::RuntimeRecovered { .. } => "runtime_recovered",
            Self::OrphanEnded { .. } => "orphan_ended",
            Self::OrphanLeft { .. } => "orphan_left",
            Self::ModelImported { .. } => "model_imported",
            Self::ModelRemoved { .. } => "model_removed",
            Self::Control { .. } => "control",
            Self::TokenCreated { .. } => "token_created",
            Self::TokenRevoked { .. } => "token_revoked",
            Self::ClusterEntered { .. } => "cluster_entered",
            Self::ClusterExited { .. } => "cluster_exited",
            Self::ClusterWarning { .. } => "cluster_warning",
            Self::ClusterWarningOver {} => "cluster_warning_over",
            Self::ClusterNodeCopied(_) => "cluster_node_copied",
            Self::ClusterNodeJoined(_) => "cluster_node_joined",
            Self::ClusterNodeRestarted(_) => "cluster_node_restarted",
            Self::ClusterNodeDown(_) => "cluster_node_down",
            Self::ClusterNodeReturned(_) => "cluster_node_returned",
            Self::ClusterNodeLeft(_) => "cluster_node_left",
            Self::ClusterNodeRemoved(_) => "cluster_node_removed",
            Self::ClusterNodeForgotten(_) => "cluster_node_forgotten",
            Self::JournalDegraded { .. } => "journal_degraded",
            Self::JournalRecovered { .. } => "journal_recovered",
            Self::Unknown { kind, .. } => kind,
        }
    }

    /// How much it matters.
    #[must_use]
    pub fn severity(&self) -> Severity {
        match self {
            Self::NodeStarted { clean: false, .. }
            | Self::ActorCrashed { .. }
            | Self::EngineFailed { .. }
            | Self::ActorRestarted { .. }
            | Self::DeadLetters { .. }
            | Self::ClusterNodeRestarted(_)
            | Self::ClusterNodeDown(_)
            | Self::ClusterNodeCopied(_)
            | Self::OrphanEnded { .. } => Severity::Warning,
            Self::ActorQuarantined { .. }
            | Self::ActorStuck { .. }
            | Self::ActorEscalated { .. }
            | Self::RuntimeQuarantined { .. }
            | Self::OrphanLeft { .. }
            | Self::ClusterWarning { .. }
            | Self::JournalDegraded { .. } => Severity::Error,
            Self::RuntimeStateChanged { to, .. } => match to.as_str() {
                "quarantined" | "failed" => Severity::Error,
                "backoff" | "degraded" => Severity::Warning,
                _ => Severity::Info,
            },
            Self::RuntimeExited { cause, .. } => match cause.as_str() {
                "stopped" | "finished" => Severity::Info,
                _ => Severity::Warning,
            },
            Self::JournalRecovered { lost, .. } => {
                if *lost > 0 {
                    Severity::Warning
                } else {
                    Severity::Info
                }
            }
            Self::NodeStarted { clean: true, .. }
            | Self::NodeStopping { .. }
            | Self::ActorRecovered { .. }
            | Self::RuntimeAdded { .. }
            | Self::RuntimeRemoved { .. }
            | Self::RuntimeRecovered { .. }
            | Self::ModelImported { .. }
            | Self::ModelRemoved { .. }
            | Self::Control { .. }
            | Self::TokenCreated { .. }
            | Self::TokenRevoked { .. }
            | Self::ClusterEntered { .. }
            | Self::ClusterExited { .. }
            | Self::ClusterWarningOver {}
            | Self::ClusterNodeJoined(_)
            | Self::ClusterNodeReturned(_)
            | Self::ClusterNodeLeft(_)
            | Self::ClusterNodeRemoved(_)
            | Self::ClusterNodeForgotten(_) => Severity::Info,
            Self::Unknown { severity, .. } => *severity,
        }
    }

    /// What it is about: an actor's path, a runtime's id, a model's name, a token's or another node's id, what was called about, `cluster`, `node` or `journal`.
    #[must_use]
    pub fn subject(&self) -> &str {
        match self {
            Self::NodeStarted { .. } | Self::NodeStopping { .. } | Self::OrphanLeft { .. } => "node",
            Self::ActorCrashed { path, .. }
            | Self::EngineFailed { path, .. }
            | Self::ActorRestarted { path, .. }
            | Self::ActorQuarantined { path, .. }
            | Self::ActorStuck { path }
            | Self::ActorRecovered { path }
            | Self::ActorEscalated { path, .. }
            | Self::DeadLetters { path, .. } => path,
            Self::RuntimeAdded { id, .. }
            | Self::RuntimeRemoved { id }
            | Self::RuntimeStateChanged { id, .. }
            | Self::RuntimeExited { id, .. }
            | Self::RuntimeQuarantined { id, .. }
            | Self::RuntimeRecovered { id, .. }
            | Self::OrphanEnded { id, .. }
            | Self::TokenCreated { id, .. }
            | Self::TokenRevoked { id, .. }
            | Self::ClusterNodeCopied(ClusterNode { id, .. })
            | Self::ClusterNodeJoined(ClusterNode { id, .. })
            | Self::ClusterNodeRestarted(ClusterNode { id, .. })
            | Self::ClusterNodeDown(ClusterNode { id, .. })
            | Self::ClusterNodeReturned(ClusterNode { id, .. })
            | Self::ClusterNodeLeft(ClusterNode { id, .. })
            | Self::ClusterNodeRemoved(ClusterNode { id, .. })
            | Self::ClusterNodeForgotten(ClusterNode { id, .. }) => id,
            Self::ClusterEntered { .. }
            | Self::ClusterExited { .. }
            | Self::ClusterWarning { .. }
            | Self::ClusterWarningOver {} => "cluster",
            Self::ModelImported { name, .. } | Self::ModelRemoved { name, .. } => name,
            Self::JournalDegraded { .. } | Self::JournalRecovered { .. } => "journal",
            Self::Control { subject, .. } | Self::Unknown { subject, .. } => subject,
        }
    }

    /// The fields as JSON, without the kind.
    #[must_use]
    pub fn data(&self) -> Value {
        if let Self::Unknown { data, .. } = self {
            return data.clone();
        }
        match serde_json::to_value(self) {
            Ok(Value::Object(mut object)) => object.remove("data").unwrap_or_else(empty),
            Ok(_) | Err(_) => empty(),
        }
    }

    /// Reads an event back from its stored parts. What this program does not understand becomes [`Event::Unknown`].
    pub(super) fn from_parts(kind: &str, severity: &str, subject: &str, message: &str, data: &str) -> Self {
        let data: Value = serde_json::from_str(data).unwrap_or_else(|_| Value::String(data.to_owned()));
        let tagged = serde_json::json!({"kind": kind, "data": data});
        serde_json::from_value(tagged).unwrap_or_else(|_| Self::Unknown {
            kind: kind.to_owned(),
            severity: Severity::from_word(severity),
            subject: subject.to_owned(),
            message: message.to_owned(),
            data,
        })
    }

    /// The same event with long texts cut, so that events that wait in memory stay small.
    pub(super) fn bounded(mut self) -> Self {
        match &mut self {
            Self::RuntimeExited { detail, hint, log_tail, .. } => {
                let surplus = log_tail.len().saturating_sub(LOG_LINES_MAX);
                log_tail.drain(..surplus);
                log_tail.iter_mut().for_each(|line| cut(line, LOG_LINE_BYTES_MAX));
                cut(detail, TEXT_BYTES_MAX);
                hint.iter_mut().for_each(|hint| cut(hint, TEXT_BYTES_MAX));
            }
            Self::ActorCrashed { detail, .. }
            | Self::EngineFailed { detail, .. }
            | Self::ActorRestarted { detail, .. }
            | Self::ActorQuarantined { detail, .. }
            | Self::ActorEscalated { detail, .. }
            | Self::OrphanLeft { detail } => cut(detail, TEXT_BYTES_MAX),
            Self::RuntimeStateChanged { reason, hint, .. } => {
                reason.iter_mut().chain(hint).for_each(|text| cut(text, TEXT_BYTES_MAX));
            }
            Self::RuntimeQuarantined { reason, hint, .. } => {
                cut(reason, TEXT_BYTES_MAX);
                hint.iter_mut().for_each(|hint| cut(hint, TEXT_BYTES_MAX));
            }
            Self::NodeStopping { reason }
            | Self::JournalDegraded { reason }
            | Self::ClusterWarning { reason }
            | Self::DeadLetters { reason, .. } => cut(reason, TEXT_BYTES_MAX),
            Self::ClusterNodeCopied(node)
            | Self::ClusterNodeJoined(node)
            | Self::ClusterNodeRestarted(node)
            | Self::ClusterNodeDown(node)
            | Self::ClusterNodeReturned(node)
            | Self::ClusterNodeLeft(node)
            | Self::ClusterNodeRemoved(node)
            | Self::ClusterNodeForgotten(node) => {
                node.name.iter_mut().chain(&mut node.reason).for_each(|text| cut(text, TEXT_BYTES_MAX));
            }
            Self::Control { call, subject, .. } => {
                cut(call, TEXT_BYTES_MAX);
                cut(subject, TEXT_BYTES_MAX);
            }
            // Names and ids only: bounded where they are made.
            Self::NodeStarted { .. }
            | Self::ActorStuck { .. }
            | Self::ActorRecovered { .. }
            | Self::RuntimeAdded { .. }
            | Self::RuntimeRemoved { .. }
            | Self::RuntimeRecovered { .. }
            | Self::OrphanEnded { .. }
            | Self::ModelImported { .. }
            | Self::ModelRemoved { .. }
            | Self::TokenCreated { .. }
            | Self::TokenRevoked { .. }
            | Self::ClusterEntered { .. }
            | Self::ClusterExited { .. }
            | Self::ClusterWarningOver {}
            | Self::JournalRecovered { .. }
            | Self::Unknown { .. } => {}
        }
        self
    }
}

/// The kinds from which restart windows are rebuilt.
pub(super) const ACTOR_CRASHED: &str = "actor_crashed";
pub(super) const ENGINE_FAILED: &str = "engine_failed";
/// Of journals of earlier versions.
pub(super) const ACTOR_RESTARTED: &str = "actor_restarted";

/// Enough lines to see why a program died; the log file holds the rest.
const LOG_LINES_MAX: usize = 20;
const LOG_LINE_BYTES_MAX: usize = 400;
/// A reason for people is a sentence or two; a panic may carry more than anyone reads in a list.
const TEXT_BYTES_MAX: usize = 2_000;

fn empty() -> Value {
    Value::Object(serde_json::Map::new())
}

fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
}
