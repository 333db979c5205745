//! Why a request gets no engine, for the client.
//!
//! Owns the words. Refuses to decide anything.

use std::time::Duration;

use arw_actors::cluster::ModelHost;
use arw_actors::runtime::lease::{AcquireError, NotReady};
use arw_actors::runtime::machine::RuntimeState;
use serde_json::json;

use super::near_name;
use crate::peer::PeerError;
use crate::problem::{Kind, Problem};

/// A short answer takes about this long.
const QUEUE_RETRY: Duration = Duration::from_secs(2);
/// An actor is back in milliseconds, a node in a second.
const NODE_RETRY: Duration = Duration::from_secs(1);

/// HTTP-10.
pub(super) fn unknown_model(asked: &str, known: Vec<String>) -> Problem {
    let help = match near_name::nearest(asked, &known) {
        Some(near) => format!("did you mean `{near}`? GET /v1/models lists what can be named"),
        None => "name one of `known`; GET /v1/models lists them".to_owned(),
    };
    let asked: String = asked.chars().take(80).collect();
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
        AcquireError::UnknownModel { model, known } => unknown_model(&model, known),
        AcquireError::ModelNotNamed { known } => not_named(known.len(), known),
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
    let help = "ask again: the runtime restarts by itself; /state/runtimes and `arw runtime logs` say why";
    Problem::new(Kind::EngineLost, detail, help)
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
