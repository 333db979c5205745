//! Why a request gets no engine, for the client.
//!
//! Owns the words. Refuses to decide anything.

use std::time::Duration;

use arw_actors::cluster::{Absence, AbsentHost, ModelHost};
use arw_actors::runtime::lease::{AcquireError, EngineEnd, NotReady};
use arw_actors::runtime::machine::RuntimeState;
use serde_json::{Value, json};

use super::near_name;
use super::suspects::Death;
use crate::peer::PeerError;
use crate::problem::{Kind, Problem};

/// A short answer takes about this long.
const QUEUE_RETRY: Duration = Duration::from_secs(2);
/// A node that is away is back in seconds, or after minutes of work.
const ABSENT_NODE_RETRY: Duration = Duration::from_secs(5);
/// Somebody has to act, or a quarantine (a minute at first) has to pass.
const ABSENT_RUNTIME_RETRY: Duration = Duration::from_secs(30);
/// More nodes than that tell a reader nothing new.
const ABSENT_TOLD_MAX: usize = 8;
/// No name of a model is longer.
const NAME_CHARS_MAX: usize = 80;
/// An actor is back in milliseconds, a node in a second.
const NODE_RETRY: Duration = Duration::from_secs(1);

/// HTTP-10.
pub(super) fn unknown_model(asked: &str, known: Vec<String>) -> Problem {
    let help = match near_name::nearest(asked, &known) {
        Some(near) => format!("did you mean `{near}`? GET /v1/models lists what can be named"),
        None => "name one of `known`; GET /v1/models lists them".to_owned(),
    };
    let asked: String = asked.chars().take(NAME_CHARS_MAX).collect();
    let detail = format!("no runtime serves `{asked}`");
    Problem::new(Kind::ModelNotFound, detail, help).at("model").with("known", known)
}

/// HTTP-10.
pub(super) fn not_named(runtimes: usize, known: Vec<String>) -> Problem {
    if known.is_empty() {
        let help = "add a runtime first: `arw run FILE.gguf`, or `arw runtime add`";
        return Problem::new(Kind::ModelNotFound, "no runtime serves a model yet", help)
            .at("model")
            .with("known", known);
    }
    let detail = format!("the request names no model, and {runtimes} runtimes serve");
    Problem::new(Kind::ModelNotNamed, detail, "set `model` to one of `known`")
        .at("model")
        .with("known", known)
}

/// HTTP-10 and HTTP-11.
pub(super) fn not_acquired(error: AcquireError) -> Problem {
    let detail = error.to_string();
    match error {
        AcquireError::Unknown(_) => {
            Problem::new(Kind::NotReady, detail, "it was just removed: ask again").retry_after(NODE_RETRY)
        }
        AcquireError::NotReady(not_ready) => refuse_not_ready(detail, &not_ready),
        AcquireError::QueueFull { runtime, waiting } => {
            let help = "send fewer requests at once, or try again in a moment";
            let facts = json!({ "id": runtime, "waiting": waiting });
            Problem::new(Kind::QueueFull, detail, help).retry_after(QUEUE_RETRY).with("runtime", facts)
        }
        AcquireError::Unavailable(_) => {
            Problem::new(Kind::NotReady, detail, "try again in a moment").retry_after(NODE_RETRY)
        }
    }
}

fn refuse_not_ready(detail: String, not_ready: &NotReady) -> Problem {
    let NotReady { runtime, state, reason, hint, retry_after } = not_ready;
    let help = match (hint, state) {
        (Some(hint), _) => hint.clone(),
        (None, RuntimeState::Quarantined | RuntimeState::Failed) => {
            format!("see `arw runtime logs {runtime}`; `arw runtime start {runtime}` tries again at once")
        }
        (None, RuntimeState::Stopped) => format!("start it: `arw runtime start {runtime}`"),
        (
            None,
            RuntimeState::Starting
            | RuntimeState::Warming
            | RuntimeState::Ready
            | RuntimeState::Degraded
            | RuntimeState::Draining
            | RuntimeState::Backoff,
        ) => "try again later; /state/runtimes shows how it does".to_owned(),
    };
    let facts = json!({ "id": runtime, "state": state.word(), "reason": reason, "hint": hint });
    let problem = Problem::new(Kind::NotReady, detail, help).with("runtime", facts);
    match retry_after {
        Some(after) => problem.retry_after(*after),
        // Nobody knows when somebody will act.
        None => problem,
    }
}

/// HTTP-14: an engine of this node is gone.
pub(super) fn engine_lost(runtime: &str) -> Problem {
    let detail = format!("the engine of runtime `{runtime}` was lost before the answer was whole");
    let help = format!(
        "the runtime restarts by itself, and `arw runtime logs {runtime}` says why; where the same request loses it again, the request is the cause"
    );
    Problem::new(Kind::EngineLost, detail, help)
}

/// HTTP-22: the engine died while it worked on this request. `is_alone`: and on no other.
pub(super) fn engine_died(runtime: &str, end: &EngineEnd, is_alone: bool) -> Problem {
    if !(is_alone && end.may_be_a_request) {
        let mut problem = engine_lost(runtime);
        problem.add_detail(&end.detail);
        return problem.with("engine", engine_facts(runtime, end, is_alone));
    }
    let detail =
        format!("the engine of runtime `{runtime}` died of this request or during it: {}", end.detail);
    let help = format!(
        "do not send it again as it is: nothing else was in flight, so that it is likely to be the cause; `arw runtime logs {runtime}` says more"
    );
    Problem::new(Kind::EngineLost, detail, help)
        .for_good()
        .with("engine", engine_facts(runtime, end, is_alone))
}

/// What another node needs to count this end of an engine (HTTP-22).
fn engine_facts(runtime: &str, end: &EngineEnd, is_alone: bool) -> Value {
    let (id, launch, pid, detail) = (runtime, end.launch, end.pid, &end.detail);
    json!({ "id": id, "launch": launch, "pid": pid, "detail": detail, "may_be_a_request": end.may_be_a_request, "alone": is_alone })
}

/// HTTP-22: this body was there when engines died.
pub(super) fn kills_engine(model: &str, deaths: &[Death], wait: Duration) -> Problem {
    let told: Vec<String> = deaths.iter().map(|death| format!("{} ({})", death.at, death.detail)).collect();
    let detail = format!(
        "this request was in flight at each of the last {} deaths of the engine of `{model}`: {}",
        deaths.len(),
        told.join(", ")
    );
    let help = format!(
        "change the request (its grammar, length or options), or update the engine; as it is, it is refused for {} s more",
        wait.as_secs().max(1)
    );
    let facts: Vec<Value> =
        deaths.iter().map(|death| json!({ "at": death.at, "detail": death.detail })).collect();
    Problem::new(Kind::KillsEngine, detail, help).for_good().with("deaths", facts)
}

/// HTTP-22: others that were there when the engine died go first.
pub(super) fn no_turn(model: &str, waited: Duration) -> Problem {
    let detail = format!(
        "requests that were in flight when the engine of `{model}` died are tried one at a time, or alone; the turn of this one did not come within {} s",
        waited.as_secs()
    );
    Problem::new(Kind::NotReady, detail, "try again in a moment").retry_after(QUEUE_RETRY)
}

/// HTTP-11: the engine's process may be there, but nobody gets through to it.
pub(super) fn no_connection(runtime: &str, why: &str) -> Problem {
    let detail = format!("the engine of runtime `{runtime}` takes no connection: {why}");
    let help = format!(
        "the runtime restarts it when its health endpoint cannot be reached either; `arw runtime restart {runtime}` does so at once"
    );
    Problem::new(Kind::NotReady, detail, help).retry_after(QUEUE_RETRY)
}

/// The engine, here or on another node, is silent.
pub(super) fn silent(runtime: &str, host: Option<&ModelHost>, idle_max: Duration) -> Problem {
    let who = match host {
        Some(host) => format!("node `{}` ({})", host.node_name, host.node.short()),
        None => format!("the engine of runtime `{runtime}`"),
    };
    let detail = format!("{who} sent nothing for {} s", idle_max.as_secs_f64());
    let help = format!(
        "ask for less at once or for a stream, or raise `gateway.answer_idle_timeout`; `arw runtime logs {runtime}` says what the engine does"
    );
    Problem::new(Kind::EngineTimeout, detail, help).for_good()
}

/// HTTP-18: the other node takes no body of this size.
pub(super) fn too_large_there(host: &ModelHost, bytes_max: Option<u64>) -> Problem {
    let (name, id) = (&host.node_name, host.node.short());
    let detail = match bytes_max {
        Some(bytes) => format!("node `{name}` ({id}), which serves this model, takes at most {bytes} bytes"),
        None => format!("node `{name}` ({id}), which serves this model, takes no body of this size"),
    };
    let help = format!("send less at once, or raise `gateway.body_max_bytes` on node `{name}`");
    Problem::new(Kind::BodyTooLarge, detail, help).with("node", host.node.to_string())
}

/// HTTP-23: those who serve it take nothing now.
pub(super) fn absent(asked: Option<&str>, hosts: &[AbsentHost]) -> Problem {
    let is_away = hosts.iter().all(|host| host.absence == Absence::NodeAway);
    let kind = if is_away { Kind::NodeUnreachable } else { Kind::NotReady };
    let told = hosts.iter().map(|host| {
        format!("node `{}` ({}) serves it, but {}", host.node_name, host.node.short(), host.reason)
    });
    let mut told: Vec<String> = told.take(ABSENT_TOLD_MAX).collect();
    told.dedup();
    let what = asked.map_or_else(
        || "nobody serves a model now".to_owned(),
        |asked| format!("nobody serves `{}` now", asked.chars().take(NAME_CHARS_MAX).collect::<String>()),
    );
    let wait = hosts.iter().map(|host| host.absence).map(|absence| match absence {
        Absence::NodeAway | Absence::NodeNotReady => ABSENT_NODE_RETRY,
        Absence::RuntimeQuarantined | Absence::RuntimeDown => ABSENT_RUNTIME_RETRY,
    });
    let nodes: Vec<Value> = hosts
        .iter()
        .take(ABSENT_TOLD_MAX)
        .map(|host| {
            json!({ "id": host.node.to_string(), "name": host.node_name, "runtime": host.runtime, "reason": host.reason })
        })
        .collect();
    let help =
        "`arw cluster nodes` shows how the nodes are; on that node `arw runtime list` shows its runtimes";
    Problem::new(kind, format!("{what}: {}", told.join("; ")), help)
        .retry_after(wait.min().unwrap_or(ABSENT_NODE_RETRY))
        .with("nodes", nodes)
}

/// HTTP-18: another node is gone that was answering.
pub(super) fn node_lost(host: &ModelHost) -> Problem {
    let detail =
        format!("node `{}` ({}) was lost before the answer was whole", host.node_name, host.node.short());
    let help =
        "ask again: another node answers if it serves the model; `arw cluster nodes` shows how that node is";
    Problem::new(Kind::NodeLost, detail, help).with("node", host.node.to_string())
}

/// HTTP-18: another node did not answer.
pub(super) fn no_answer(host: &ModelHost, error: &PeerError) -> Problem {
    match error {
        PeerError::Lost(_) => node_lost(host),
        PeerError::NotReached(why) => {
            let detail =
                format!("node `{}` ({}), which serves this model: {why}", host.node_name, host.node.short());
            let help = "try again in a moment; `arw cluster nodes` shows how that node is";
            Problem::new(Kind::NodeUnreachable, detail, help)
                .retry_after(NODE_RETRY)
                .with("node", host.node.to_string())
        }
    }
}
