//! `/healthz`, `/readyz`, `/metrics` and `/spec/*`: for those who watch the process or write a client.
//!
//! Owns what counts as ready. Refuses to probe anything: it reads what the node knows already.

use arw_actors::node_info::NodeStatus;
mod dto;

use std::sync::LazyLock;

use arw_actors::runtime::machine::RuntimeState;
use arw_actors::runtime::row::RuntimeRow;
use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};

use self::dto::{Check, Health, Readiness};
use crate::metrics::CONTENT_TYPE as METRICS_TEXT;
use crate::problem::{Kind, Problem};
use crate::resource::resource;
use crate::shared::Gate;

resource! { "node", "Health, metrics, this document":
    get("/healthz", Read, healthz),
    get("/readyz", Read, readyz),
    get("/metrics", Read, metrics),
    get("/spec/openapi.json", Read, openapi),
}

/// The process answers.
#[utoipa::path(get, path = "/healthz", tag = "node", responses((status = 200, body = Health)))]
pub(crate) async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// The node takes requests. What is wrong, but does not keep it from that, is a warning.
#[utoipa::path(get, path = "/readyz", tag = "node", responses(
    (status = 200, body = Readiness),
    (status = 503, body = Readiness, description = "it is starting or stopping"),
))]
pub(crate) async fn readyz(State(gate): State<Gate>) -> (StatusCode, Json<Readiness>) {
    let status = gate.node.status.borrow().clone();
    let code = match status {
        NodeStatus::Ready | NodeStatus::Degraded(_) => StatusCode::OK,
        NodeStatus::Starting | NodeStatus::Stopping => StatusCode::SERVICE_UNAVAILABLE,
    };
    let checks = vec![node(&status), journal(&gate), runtimes(&gate.node.runtimes.rows())];
    (code, Json(Readiness { status: status.word(), checks }))
}

fn node(status: &NodeStatus) -> Check {
    let (status, detail) = match status {
        NodeStatus::Ready => ("ok", None),
        NodeStatus::Degraded(reasons) => ("warning", Some(reasons.join("; "))),
        NodeStatus::Starting => ("failing", Some("the node is starting".to_owned())),
        NodeStatus::Stopping => ("failing", Some("the node is stopping".to_owned())),
    };
    Check { name: "node", status, detail }
}

fn journal(gate: &Gate) -> Check {
    let degraded = gate.node.journal.status().degraded;
    Check { name: "journal", status: if degraded.is_some() { "warning" } else { "ok" }, detail: degraded }
}

fn runtimes(rows: &[RuntimeRow]) -> Check {
    let broken =
        rows.iter().filter(|row| matches!(row.state, RuntimeState::Quarantined | RuntimeState::Failed));
    let told: Vec<String> = broken.map(|row| format!("{} is {}", row.id, row.state.word())).collect();
    if told.is_empty() {
        return Check { name: "runtimes", status: "ok", detail: None };
    }
    Check { name: "runtimes", status: "warning", detail: Some(told.join("; ")) }
}

/// Everything that is counted, in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "node", responses((status = 200, content_type = "text/plain", body = String)))]
pub(crate) async fn metrics(State(gate): State<Gate>) -> Result<Response, Problem> {
    let text = gate.metrics.render().map_err(|_| {
        Problem::new(
            Kind::Internal,
            "the metrics could not be written",
            "try again; report it if it happens again",
        )
    })?;
    Ok(([(CONTENT_TYPE, METRICS_TEXT)], text).into_response())
}

/// The same for every node of this program; `spec/openapi.json` is its committed copy.
static OPENAPI: LazyLock<Bytes> = LazyLock::new(|| crate::openapi::json().into());

/// This API as OpenAPI 3.1.
#[utoipa::path(get, path = "/spec/openapi.json", tag = "node", responses((status = 200, description = "an OpenAPI document")))]
pub(crate) async fn openapi() -> Response {
    let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "no-cache")];
    (headers, OPENAPI.clone()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_degraded_node_is_ready_with_a_warning() {
        let check = node(&NodeStatus::Degraded(vec!["disk full".to_owned(), "no GPU".to_owned()]));
        assert_eq!((check.status, check.detail.as_deref()), ("warning", Some("disk full; no GPU")));
        assert_eq!(node(&NodeStatus::Ready).status, "ok");
        assert_eq!(node(&NodeStatus::Starting).status, "failing");
    }
}
