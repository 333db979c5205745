//! What happens to actors, their failures and restarts included.

use super::words::{budget, cause, next_try, plural, span};
use super::{CountedFailure, Severity, cut, events};
use arw_kit::moment::WallTime;

events! {
    /// What happens to actors. `path` is an actor's path: `node/runtimes/runtime/smollm2`.
    Actor:
    /// An actor ended in an unplanned way. Where it counts against a restart budget, `budget` says so.
    "actor_crashed" Crashed {
        path: String,
        reason: String,
        detail: String,
        handling: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        budget: Option<CountedFailure>,
    },
    /// An actor or a runtime's program runs again, `down_ms` after its failure. Without `down_ms` an earlier
    /// version wrote it, in place of the failure itself.
    "actor_restarted" Restarted {
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
    "actor_quarantined" Quarantined {
        path: String,
        reason: String,
        detail: String,
        used: u32,
        max: u32,
        window_s: u64,
        retry_at: Option<WallTime>,
    },
    /// An actor was killed and has not ended: it blocks its thread. Nothing of it is started until it has.
    "actor_stuck" Stuck { path: String },
    /// An actor came back from its quarantine.
    "actor_recovered" Recovered { path: String },
    /// A supervisor used up its restarts and gave the failure to its own supervisor.
    "actor_escalated" Escalated {
        path: String,
        to: String,
        reason: String,
        detail: String,
        used: u32,
        max: u32,
        window_s: u64,
    },
    /// Messages reached nobody; written in batches, not for each message.
    "dead_letters" DeadLetters { path: String, reason: String, count: u64 },
}

impl Actor {
    pub(super) fn severity(&self) -> Severity {
        match self {
            Self::Crashed { .. } | Self::Restarted { .. } | Self::DeadLetters { .. } => Severity::Warning,
            Self::Quarantined { .. } | Self::Stuck { .. } | Self::Escalated { .. } => Severity::Error,
            Self::Recovered { .. } => Severity::Info,
        }
    }

    pub(super) fn subject(&self) -> &str {
        match self {
            Self::Crashed { path, .. }
            | Self::Restarted { path, .. }
            | Self::Quarantined { path, .. }
            | Self::Stuck { path }
            | Self::Recovered { path }
            | Self::Escalated { path, .. }
            | Self::DeadLetters { path, .. } => path,
        }
    }

    pub(super) fn message(&self) -> String {
        match self {
            Self::Crashed { path, reason, detail, handling, budget } => {
                crashed(path, &cause(reason, detail), handling.as_deref(), budget.as_ref())
            }
            Self::Restarted { path, reason, detail, used, max, window_s, down_ms, .. } => {
                let down = down_ms.map(|down| format!(" {}", span(down))).unwrap_or_default();
                let (cause, budget) = (cause(reason, detail), budget(*used, *max, *window_s));
                format!("{path} was restarted{down} after {cause}. {budget}.")
            }
            Self::Quarantined { path, reason, detail, used, max, window_s, retry_at } => {
                let (cause, budget) = (cause(reason, detail), budget(*used, *max, *window_s));
                format!("{path} is quarantined after {cause}. {budget}. {}.", next_try(retry_at.as_ref()))
            }
            Self::Stuck { path } => format!(
                "{path} was killed and has not ended: it blocks its thread. It is started again once it has ended; restart the node if that \
                 does not happen."
            ),
            Self::Recovered { path } => format!("{path} works again; its quarantine is over."),
            Self::Escalated { path, to, reason, detail, used, max, window_s } => {
                let (cause, budget) = (cause(reason, detail), budget(*used, *max, *window_s));
                format!("{path} gave up after {cause}. {budget}. {to} decides what happens next.")
            }
            Self::DeadLetters { path, reason, count } => {
                format!("{count} {} to {path} reached nobody: {reason}.", plural(*count, "message"))
            }
        }
    }

    pub(super) fn cut_texts(&mut self) {
        match self {
            Self::Crashed { detail, .. }
            | Self::Restarted { detail, .. }
            | Self::Quarantined { detail, .. }
            | Self::Escalated { detail, .. } => cut(detail),
            Self::DeadLetters { reason, .. } => cut(reason),
            // Names and ids only: bounded where they are made.
            Self::Stuck { .. } | Self::Recovered { .. } => {}
        }
    }
}

/// Also of a program, which has a row in the tree of actors.
pub(super) fn crashed(
    path: &str,
    cause: &str,
    handling: Option<&str>,
    counted: Option<&CountedFailure>,
) -> String {
    let doing = handling.map(|message| format!(" while handling {message}")).unwrap_or_default();
    let used = counted.map(|it| format!(" {}.", budget(it.used, it.max, it.window_s))).unwrap_or_default();
    format!("{path} ended{doing}: {cause}.{used}")
}
