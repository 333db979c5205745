//! What happens to runtimes and their programs.

use super::actor::crashed;
use super::words::{bare, budget, cause, next_try, plural, span, with_hint};
use super::{CountedFailure, Severity, cut, cut_to, events};
use arw_kit::moment::WallTime;

events! {
    /// What happens to runtimes. `id` is a runtime's id.
    Runtime:
    /// A runtime is known from now on.
    "runtime_added" Added { id: String, adapter: String, model: Option<String> },
    /// A runtime is forgotten.
    "runtime_removed" Removed { id: String },
    /// A runtime moved on in its life.
    "runtime_state_changed" StateChanged {
        id: String,
        from: String,
        to: String,
        reason: Option<String>,
        hint: Option<String>,
    },
    /// A runtime's program ended. `log_tail` holds the last lines that it printed.
    "runtime_exited" Exited {
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
    /// A runtime's program failed, or could not be started; this counts against its restart budget. `path` is
    /// that of its row in the tree of actors.
    "engine_failed" EngineFailed {
        id: String,
        path: String,
        reason: String,
        detail: String,
        budget: CountedFailure,
    },
    /// A runtime used up its restarts and waits for a trial.
    "runtime_quarantined" Quarantined {
        id: String,
        reason: String,
        hint: Option<String>,
        used: u32,
        max: u32,
        window_s: u64,
        retry_at: Option<WallTime>,
    },
    /// A runtime serves again after a failure, `down_ms` later.
    "runtime_recovered" Recovered { id: String, down_ms: u64 },
    /// A program that an earlier node process had left running was ended.
    "orphan_ended" OrphanEnded { id: String, pid: u32 },
    /// A program that an earlier node process had left running could not be ended.
    "orphan_left" OrphanLeft { detail: String },
}

impl Runtime {
    pub(super) fn severity(&self) -> Severity {
        match self {
            Self::EngineFailed { .. } | Self::OrphanEnded { .. } => Severity::Warning,
            Self::Quarantined { .. } | Self::OrphanLeft { .. } => Severity::Error,
            Self::StateChanged { to, .. } => match to.as_str() {
                "quarantined" | "failed" => Severity::Error,
                "backoff" | "degraded" => Severity::Warning,
                _ => Severity::Info,
            },
            Self::Exited { cause, .. } => match cause.as_str() {
                "stopped" | "finished" => Severity::Info,
                _ => Severity::Warning,
            },
            Self::Added { .. } | Self::Removed { .. } | Self::Recovered { .. } => Severity::Info,
        }
    }

    pub(super) fn subject(&self) -> &str {
        match self {
            Self::EngineFailed { path, .. } => path,
            Self::Added { id, .. }
            | Self::Removed { id }
            | Self::StateChanged { id, .. }
            | Self::Exited { id, .. }
            | Self::Quarantined { id, .. }
            | Self::Recovered { id, .. }
            | Self::OrphanEnded { id, .. } => id,
            Self::OrphanLeft { .. } => "node",
        }
    }

    pub(super) fn message(&self) -> String {
        match self {
            Self::Added { id, adapter, model } => {
                let model =
                    model.as_ref().map(|model| format!(" with the model {model}")).unwrap_or_default();
                format!("Added the runtime {id} ({adapter}){model}.")
            }
            Self::Removed { id } => format!("Removed the runtime {id}."),
            Self::StateChanged { id, from, to, reason, hint } => {
                let why = reason.as_ref().map(|reason| format!(": {}", bare(reason))).unwrap_or_default();
                with_hint(format!("{id} is {to} (was {from}){why}."), hint.as_deref())
            }
            Self::Exited { hint, .. } => with_hint(exited(self), hint.as_deref()),
            Self::EngineFailed { path, reason, detail, budget, .. } => {
                crashed(path, &cause(reason, detail), None, Some(budget))
            }
            Self::Quarantined { id, reason, hint, used, max, window_s, retry_at } => {
                let (budget, next) = (budget(*used, *max, *window_s), next_try(retry_at.as_ref()));
                let told = format!("{id} is quarantined: {}. {budget}. {next}.", bare(reason));
                with_hint(told, hint.as_deref())
            }
            Self::Recovered { id, down_ms } => format!("{id} serves again after {}.", span(*down_ms)),
            Self::OrphanEnded { id, pid } => {
                format!("Ended process {pid}, which an earlier arw had left running for the runtime {id}.")
            }
            Self::OrphanLeft { detail } => format!(
                "A process that an earlier arw had left running could not be ended: {}. End it by hand.",
                bare(detail)
            ),
        }
    }

    pub(super) fn cut_texts(&mut self) {
        match self {
            Self::Exited { detail, hint, log_tail, .. } => {
                let surplus = log_tail.len().saturating_sub(LOG_LINES_MAX);
                log_tail.drain(..surplus);
                log_tail.iter_mut().for_each(|line| cut_to(line, LOG_LINE_BYTES_MAX));
                cut(detail);
                hint.iter_mut().for_each(cut);
            }
            Self::EngineFailed { detail, .. } | Self::OrphanLeft { detail } => cut(detail),
            Self::StateChanged { reason, hint, .. } => reason.iter_mut().chain(hint).for_each(cut),
            Self::Quarantined { reason, hint, .. } => {
                cut(reason);
                hint.iter_mut().for_each(cut);
            }
            // Names and ids only: bounded where they are made.
            Self::Added { .. } | Self::Removed { .. } | Self::Recovered { .. } | Self::OrphanEnded { .. } => {
            }
        }
    }
}

/// Enough lines to see why a program died; the log file holds the rest.
const LOG_LINES_MAX: usize = 20;
const LOG_LINE_BYTES_MAX: usize = 400;

fn exited(event: &Runtime) -> String {
    let Runtime::Exited { id, pid, cause, detail, restarts_used, restarts_max, in_flight, .. } = event else {
        return String::new();
    };
    let pid = pid.map(|pid| format!(" (process {pid})")).unwrap_or_default();
    let why = if detail.is_empty() { cause.replace('_', " ") } else { bare(detail).to_owned() };
    let at_work = match *in_flight {
        0 => String::new(),
        count => format!(" It was working on {count} {}.", plural(count.into(), "request")),
    };
    let restarts = if *restarts_max > 0 {
        format!(" {restarts_used} of {restarts_max} restarts are used.")
    } else {
        String::new()
    };
    format!("The program of {id}{pid} ended: {why}.{at_work}{restarts}")
}
