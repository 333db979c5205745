//! `/metrics`: for Prometheus.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::header::CONTENT_TYPE;

use crate::metrics::CONTENT_TYPE as TEXT;
use crate::problem::{Kind, Problem};
use crate::shared::Gate;

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
    Ok(([(CONTENT_TYPE, TEXT)], text).into_response())
}
