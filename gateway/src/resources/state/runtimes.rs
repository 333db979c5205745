//! `/state/runtimes`: every runtime.

use arw_actors::views::{Pace, Sources, View, next_change};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::shown::{members, read_model};
use crate::resources::runtimes::dto::RuntimeRow;

read_model! {
    runtimes, runtimes_stream, "/state/runtimes", "/state/runtimes/stream", RuntimesState,
    "Every runtime.",
    for_peers: true,
    View {
        name: "runtimes",
        pace: Pace::Changes,
        changes: |sources| *sources.runtimes.changes().borrow(),
        changed: |sources| next_change(sources.runtimes.changes()),
        render,
    }
}

/// `/state/runtimes`.
#[derive(Debug, Serialize, ToSchema)]
struct RuntimesState {
    runtimes: Vec<RuntimeRow>,
}

fn render(sources: &Sources) -> Map<String, Value> {
    members(&RuntimesState { runtimes: sources.runtimes.rows().into_iter().map(RuntimeRow::from).collect() })
}
