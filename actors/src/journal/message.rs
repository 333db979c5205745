//! The sentence that people read for each event: what happened, why, what comes next.
//!
//! Owns the wording. Refuses to know anything that is not in the event.

use std::fmt::Write as _;
use std::time::Duration;

use arw_kit::moment::WallTime;

use super::caller::Caller;
use super::event::{ClusterNode, CountedFailure, Event};

impl Event {
    /// A plain sentence for people: what happened, why, and what comes next or what to do.
    #[must_use]
    pub fn message(&self) -> String {
        match self {
            Self::NodeStarted { name, version, clean, .. } => node_started(name, version, *clean),
            Self::NodeStopping { reason } => format!("The node stops: {}.", bare(reason)),
            Self::ActorCrashed { path, reason, detail, handling, budget } => {
                crashed(path, &cause(reason, detail), handling.as_deref(), budget.as_ref())
            }
            Self::EngineFailed { path, reason, detail, budget, .. } => {
                crashed(path, &cause(reason, detail), None, Some(budget))
            }
            Self::ActorRestarted { path, reason, detail, used, max, window_s, down_ms, .. } => {
                restarted(path, &cause(reason, detail), *down_ms, &budget(*used, *max, *window_s))
            }
            Self::ActorQuarantined { path, reason, detail, used, max, window_s, retry_at } => {
                let (cause, budget) = (cause(reason, detail), budget(*used, *max, *window_s));
                format!("{path} is quarantined after {cause}. {budget}. {}.", next_try(retry_at.as_ref()))
            }
            Self::ActorStuck { path } => stuck(path),
            Self::ActorRecovered { path } => format!("{path} works again; its quarantine is over."),
            Self::ActorEscalated { path, to, reason, detail, used, max, window_s } => {
                let (cause, budget) = (cause(reason, detail), budget(*used, *max, *window_s));
                format!("{path} gave up after {cause}. {budget}. {to} decides what happens next.")
            }
            Self::DeadLetters { path, reason, count } => {
                format!("{count} {} to {path} reached nobody: {reason}.", plural(*count, "message"))
            }
            Self::OrphanEnded { id, pid } => {
                format!("Ended process {pid}, which an earlier arw had left running for the runtime {id}.")
            }
            Self::OrphanLeft { detail } => orphan_left(bare(detail)),
            Self::ModelImported { name, size_bytes, .. } => {
                format!("Imported the model {name} ({}).", size(*size_bytes))
            }
            Self::ModelRemoved { name, .. } => format!("Removed the model {name}."),
            Self::Control { by, call, subject, answered } => control(by, call, subject, *answered),
            Self::TokenCreated { name, scopes, expires_at, .. } => {
                token_created(name, scopes, expires_at.as_ref())
            }
            Self::TokenRevoked { name, .. } => {
                format!("Revoked the token {name}; it is refused from now on.")
            }
            Self::JournalDegraded { reason } => journal_degraded(bare(reason)),
            Self::JournalRecovered { lost, degraded_ms } => journal_recovered(*lost, *degraded_ms),
            Self::Unknown { message, .. } => message.clone(),
            Self::RuntimeAdded { id, adapter, model } => runtime_added(id, adapter, model.as_deref()),
            Self::RuntimeRemoved { id } => format!("Removed the runtime {id}."),
            Self::RuntimeStateChanged { id, from, to, reason, hint } => {
                let why = reason.as_ref().map(|reason| format!(": {}", bare(reason))).unwrap_or_default();
                with_hint(format!("{id} is {to} (was {from}){why}."), hint.as_deref())
            }
            Self::RuntimeExited { hint, .. } => with_hint(exited(self), hint.as_deref()),
            Self::RuntimeQuarantined { id, reason, hint, used, max, window_s, retry_at } => {
                let next = (budget(*used, *max, *window_s), next_try(retry_at.as_ref()));
                with_hint(quarantined(id, reason, next), hint.as_deref())
            }
            Self::RuntimeRecovered { id, down_ms } => format!("{id} serves again after {}.", span(*down_ms)),
            Self::ClusterEntered { cluster, roles } => entered(cluster, roles),
            Self::ClusterExited { cluster, nodes } => exited_cluster(cluster, *nodes),
            Self::ClusterWarning { reason } => format!("{}.", bare(reason)),
            Self::ClusterWarningOver {} => warning_over(),
            Self::ClusterNodeCopied(it) => node_copied(it),
            Self::ClusterNodeJoined(it) => format!("{} is in the cluster{}.", node(it), place(it)),
            Self::ClusterNodeRestarted(it) => node_restarted(it),
            Self::ClusterNodeDown(it) => node_down(it),
            Self::ClusterNodeReturned(it) => node_returned(it),
            Self::ClusterNodeLeft(it) => format!("{} has left the cluster in order.", node(it)),
            Self::ClusterNodeRemoved(it) => node_removed(it),
            Self::ClusterNodeForgotten(it) => format!("{} was gone, and is no longer shown.", node(it)),
        }
    }
}

fn crashed(path: &str, cause: &str, handling: Option<&str>, counted: Option<&CountedFailure>) -> String {
    let doing = handling.map(|message| format!(" while handling {message}")).unwrap_or_default();
    let used = counted.map(|it| format!(" {}.", budget(it.used, it.max, it.window_s))).unwrap_or_default();
    format!("{path} ended{doing}: {cause}.{used}")
}

fn restarted(path: &str, cause: &str, down_ms: Option<u64>, budget: &str) -> String {
    let down = down_ms.map(|down| format!(" {}", span(down))).unwrap_or_default();
    format!("{path} was restarted{down} after {cause}. {budget}.")
}

fn stuck(path: &str) -> String {
    format!(
        "{path} was killed and has not ended: it blocks its thread. It is started again once it has ended; restart the node if that \
         does not happen."
    )
}

fn runtime_added(id: &str, adapter: &str, model: Option<&str>) -> String {
    let model = model.map(|model| format!(" with the model {model}")).unwrap_or_default();
    format!("Added the runtime {id} ({adapter}){model}.")
}

fn entered(cluster: &str, roles: &[String]) -> String {
    let roles = if roles.is_empty() { String::new() } else { format!(" as {}", roles.join(", ")) };
    format!("This node is in the cluster {cluster}{roles}.")
}

fn exited_cluster(cluster: &str, nodes: u64) -> String {
    format!(
        "This node is no longer in the cluster {cluster}: {nodes} other {} forgotten.",
        are("node", nodes)
    )
}

fn are(word: &str, count: u64) -> String {
    format!("{} {}", plural(count, word), if count == 1 { "is" } else { "are" })
}

fn node(it: &ClusterNode) -> String {
    let short: String = it.id.chars().take(8).collect();
    it.name.as_ref().map_or_else(|| format!("Node {short}"), |name| format!("Node {name} ({short})"))
}

fn place(it: &ClusterNode) -> String {
    it.address.as_ref().map(|address| format!(", at {address}")).unwrap_or_default()
}

fn quarantined(id: &str, reason: &str, (budget, next): (String, String)) -> String {
    format!("{id} is quarantined: {}. {budget}. {next}.", bare(reason))
}

fn warning_over() -> String {
    "What was wrong with this node as a member of its cluster is over.".to_owned()
}

fn node_copied(it: &ClusterNode) -> String {
    let why = it.reason.as_ref().map(|reason| format!(", and {}", bare(reason))).unwrap_or_default();
    format!(
        "{} runs twice: it is{}{why}. Its state folder was copied: stop one of the two.",
        node(it),
        place(it).trim_start_matches(',')
    )
}

fn node_restarted(it: &ClusterNode) -> String {
    format!("{} was started anew{}; what it was doing before is gone.", node(it), place(it))
}

fn node_removed(it: &ClusterNode) -> String {
    format!("{} was taken out of the cluster; everybody refuses it from now on.", node(it))
}

fn node_down(it: &ClusterNode) -> String {
    let why = it.reason.as_ref().map(|reason| format!(": {}", bare(reason))).unwrap_or_default();
    format!("{} is down{why}. It is taken back as soon as it is heard of again.", node(it))
}

fn node_returned(it: &ClusterNode) -> String {
    let away = it.away_ms.map(|away| format!(" after {}", span(away))).unwrap_or_default();
    format!("{} is back{away}; nothing of it is lost.", node(it))
}

fn exited(event: &Event) -> String {
    let Event::RuntimeExited { id, pid, cause, detail, restarts_used, restarts_max, in_flight, .. } = event
    else {
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

fn node_started(name: &str, version: &str, clean: bool) -> String {
    let before = if clean { "" } else { " The process before it had been killed or had crashed." };
    format!("The node {name} started (arw {version}).{before}")
}

fn orphan_left(detail: &str) -> String {
    format!("A process that an earlier arw had left running could not be ended: {detail}. End it by hand.")
}

fn control(by: &Caller, call: &str, subject: &str, answered: bool) -> String {
    let about =
        if call.contains(subject) || subject == "node" { String::new() } else { format!(" for {subject}") };
    let end =
        if answered { "" } else { "; the caller did not wait for the answer, so see what else happened" };
    format!("Called by {by}: {call}{about}{end}.")
}

fn token_created(name: &str, scopes: &[String], expires_at: Option<&WallTime>) -> String {
    let end = expires_at.map_or_else(|| "does not expire".to_owned(), |at| format!("expires at {at}"));
    format!("Created the token {name} ({}); it {end}.", scopes.join(", "))
}

fn journal_degraded(reason: &str) -> String {
    format!(
        "Events cannot be written: {reason}. The newest stay in memory and are written once that is repaired."
    )
}

fn journal_recovered(lost: u64, degraded_ms: u64) -> String {
    let missing = match lost {
        0 => "none is missing".to_owned(),
        lost => format!("{lost} {} missing", if lost == 1 { "is" } else { "are" }),
    };
    format!("Events are written again after {}; {missing}.", span(degraded_ms))
}

fn cause(reason: &str, detail: &str) -> String {
    let reason = reason.replace('_', " ");
    if detail.is_empty() { reason } else { format!("{reason} ({})", bare(detail)) }
}

/// The text without a full stop, so that it fits into a sentence.
fn bare(text: &str) -> &str {
    text.trim().trim_end_matches('.')
}

fn budget(used: u32, max: u32, window_s: u64) -> String {
    format!("{used} of {max} restarts within {} are used", span(window_s.saturating_mul(1000)))
}

fn next_try(at: Option<&WallTime>) -> String {
    at.map_or_else(
        || "Start it by hand once the cause is repaired".to_owned(),
        |at| format!("The next try is at {at}"),
    )
}

fn with_hint(mut text: String, hint: Option<&str>) -> String {
    if let Some(hint) = hint.map(bare).filter(|hint| !hint.is_empty()) {
        let _ = write!(text, " What to do: {hint}.");
    }
    text
}

fn plural(count: u64, word: &str) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

fn span(millis: u64) -> String {
    let seconds = Duration::from_millis(millis).as_secs();
    match seconds {
        0 => format!("{millis} ms"),
        1..=119 => format!("{seconds} s"),
        120..=7199 => format!("{} min", seconds / 60),
        _ => format!("{} h", seconds / 3600),
    }
}

fn size(bytes: u64) -> String {
    const MEGABYTE: u64 = 1_000_000;
    if bytes < MEGABYTE { format!("{bytes} bytes") } else { format!("{} MB", bytes / MEGABYTE) }
}
