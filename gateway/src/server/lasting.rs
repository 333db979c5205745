//! Which calls may last.
//!
//! Owns what a request's head tells of it. Refuses to know what follows: `progress.rs` keeps some places free
//! of them.

use axum::extract::Query;
use http::Request;

use crate::sse;

/// HTTP-6: an answer that may take longer than this node needs to look something up or to set something
/// going: it hangs on an engine, on what happens next, or on the size of a file.
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
    use serde_json::Value;

    use super::*;

    fn lasts(path: &str, accept: &str) -> bool {
        may_last(&Request::get(path).header(ACCEPT, accept).body(()).unwrap())
    }

    /// HTTP-6: health checks and control are over in a moment.
    #[test]
    fn what_is_described_as_a_stream_or_asks_an_engine_may_last_and_nothing_else() {
        let document: Value = serde_json::from_str(&crate::openapi::json()).unwrap();
        for (path, item) in document["paths"].as_object().unwrap() {
            let plain = path.replace(['{', '}'], "");
            for (method, operation) in item.as_object().unwrap() {
                let body = &operation["responses"]["200"]["content"];
                let is_long =
                    ["text/event-stream", "application/x-ndjson"].iter().any(|it| !body[it].is_null())
                        || operation["tags"][0] == "v1";
                assert_eq!(lasts(&plain, "*/*"), is_long, "{method} {path}");
            }
        }
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
