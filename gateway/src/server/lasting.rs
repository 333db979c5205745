//! Which calls may last.
//!
//! Owns what a request's head tells of it. Refuses to know what follows: `progress.rs` keeps some places free of
//! them.

use axum::extract::Query;
use http::Request;

use crate::sse;

/// HTTP-6: an answer that may take longer than this node needs to look something up or to set something going: it
/// hangs on an engine, on what happens next, or on the size of a file.
pub(super) fn may_last<B>(request: &Request<B>) -> bool {
    let path = request.uri().path();
    path.starts_with("/v1/")
        || path.ends_with("/stream")
        || path == "/models/import"
        || (path == "/events" && sse::is_wanted(request.headers()))
        || waits(request)
}

/// For a newer document, or until a runtime has settled. Read as `extract.rs` reads it.
fn waits<B>(request: &Request<B>) -> bool {
    Query::<Vec<(String, String)>>::try_from_uri(request.uri())
        .is_ok_and(|Query(pairs)| pairs.iter().any(|(name, _)| name == "wait"))
}

#[cfg(test)]
mod tests {
    use http::header::ACCEPT;

    use super::*;
    use crate::routes::table;

    fn lasts(path: &str, accept: &str) -> bool {
        may_last(&Request::get(path).header(ACCEPT, accept).body(()).unwrap())
    }

    /// HTTP-6: each row of the table is one or the other; a new one has to be thought of here.
    #[test]
    fn health_checks_and_control_are_over_in_a_moment_and_everything_else_may_last() {
        let short = [
            "GET /healthz",
            "GET /readyz",
            "GET /metrics",
            "GET /spec/openapi.json",
            "GET /state/node",
            "GET /state/actors",
            "GET /state/runtimes",
            "GET /state/models",
            "GET /state/cluster",
            "GET /state/{name}",
            "GET /events",
            "GET /runtimes/{id}/logs",
            "POST /runtimes",
            "DELETE /runtimes/{id}",
            "POST /runtimes/{id}/start",
            "POST /runtimes/{id}/stop",
            "POST /runtimes/{id}/restart",
            "DELETE /models/{name}",
            "GET /tokens",
            "POST /tokens",
            "DELETE /tokens/{id}",
            "GET /cluster/tokens",
            "POST /cluster/tokens",
            "DELETE /cluster/tokens/{id}",
            "POST /cluster/join",
            "POST /cluster/leave",
            "DELETE /cluster/nodes/{node}",
            "POST /cluster/nodes/{node}/drain",
            "POST /cluster/nodes/{node}/resume",
        ];
        let rows = table();
        let told: Vec<String> = rows
            .iter()
            .filter(|row| !lasts(&row.path.replace(['{', '}', '*'], ""), "*/*"))
            .map(|row| format!("{} {}", row.method, row.path))
            .collect();
        assert_eq!(told, short);
    }

    /// HTTP-6: the same path may be a document and a stream, or be asked to wait.
    #[test]
    fn a_document_that_is_waited_for_or_followed_may_last() {
        for path in [
            "/state/node?wait=30s",
            "/state/node?after=3.1&wait=60s",
            "/state/node?%77ait=60s",
            "/state/cluster?wait=60s&node=box-b",
            "/runtimes/x/start?wait=10m",
            "/runtimes/x/stop?wait=10m",
            "/runtimes/x/restart?wait=10m",
        ] {
            assert!(lasts(path, "*/*"), "{path}");
        }
        assert!(!lasts("/state/node?after=3.1", "*/*") && !lasts("/runtimes/x/logs?tail=5", "*/*"));
        assert!(lasts("/events", "text/event-stream"));
        assert!(lasts("/events?after=5", "application/json;q=0.1, text/event-stream"));
        assert!(!lasts("/events?after=5", "application/json"));
    }
}
