//! Another node's read model, fetched or followed.
//!
//! Owns which node a query means, and the one request to it. Refuses to look into the document.

use std::future::{Future, ready};
use std::time::Duration;

use arw_actors::cluster::{FindNodeError, find_node};
use arw_actors::ids::NodeId;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;

use super::{PeerError, X_ARW_NODE};
use crate::limits;
use crate::problem::{Kind, Problem};
use crate::shared::{Gate, Shared};
use crate::sse::X_ACCEL_BUFFERING;

const EVENTS: &str = "text/event-stream";

/// Which node a query means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Meant {
    /// The one that is asked.
    Own,
    /// Another one.
    Other(NodeId),
}

/// For the whole answer: a tree of 10,000 actors is 4 MB.
const WITHIN: Duration = Duration::from_secs(5);
/// A tree of 100,000 actors is about 40 MB.
const DOCUMENT_BYTES_MAX: usize = 64 << 20;
/// What of the other node's head goes on.
const PASSED_ON: [HeaderName; 4] =
    [ETAG, CACHE_CONTROL, RETRY_AFTER, HeaderName::from_static("x-arw-version")];

/// HTTP-19: an id, at least eight digits of one, or a name; this node's own, too.
pub(crate) fn meant(shared: &Shared, text: &str) -> Result<Meant, Problem> {
    let (info, others) = (&shared.node.info, shared.node.cluster.nodes());
    let own = std::iter::once((info.id, info.name.as_str()));
    let all = own.chain(others.iter().map(|node| (node.id, node.name.as_str())));
    let found = find_node(text, all).map_err(|error| {
        let detail = error.to_string();
        match error {
            FindNodeError::Unknown { known, .. } => {
                let help = "name one of `known`, or at least eight digits of a node's id";
                Problem::new(Kind::NotFound, detail, help).at("node").with("known", known)
            }
            FindNodeError::Ambiguous { ids, .. } => {
                let ids: Vec<String> = ids.iter().map(NodeId::to_string).collect();
                Problem::new(Kind::NotFound, detail, "give its id; `known` lists them")
                    .at("node")
                    .with("known", ids)
            }
        }
    })?;
    Ok(if found == info.id { Meant::Own } else { Meant::Other(found) })
}

/// HTTP-19: the document of another node as that node has it, or a refusal that says why there is none.
pub(crate) async fn fetch(
    gate: &Gate,
    node: NodeId,
    path_and_query: &str,
    headers: &HeaderMap,
    patience: Duration,
) -> Result<Response, Problem> {
    let whole = async { read(gate, node, ask(gate, node, path_and_query, headers).await?).await };
    tokio::select! {
        answered = within(gate, node, WITHIN + patience, whole) => answered,
        // HTTP-7: who waits for something newer does not hold up the end.
        () = gate.stopping(), if !patience.is_zero() => {
            Err(Problem::new(Kind::NotReady, "this node is stopping", "ask again when it is back").retry_after(RETRY))
        }
    }
}

/// HTTP-19: another node's stream of patches, as it comes. When it breaks it ends, and the client resumes it
/// as after any end.
pub(crate) async fn follow(gate: &Gate, node: NodeId, path_and_query: &str) -> Result<Response, Problem> {
    let permit = limits::stream_permit(gate)?;
    let answer = within(gate, node, WITHIN, ask(gate, node, path_and_query, &HeaderMap::new())).await?;
    if answer.status() != StatusCode::OK {
        return within(gate, node, WITHIN, read(gate, node, answer)).await;
    }
    let (head, body) = answer.into_parts();
    let kind = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    if kind.is_none_or(|kind| !kind.starts_with(EVENTS.as_bytes())) {
        let detail = format!("node {} answered with something that is no stream", name(gate, node));
        return Err(Problem::new(Kind::NodeRefused, detail, "check which version of arw runs there"));
    }
    let chunks = body.into_data_stream().take_while(|chunk| ready(chunk.is_ok())).take_until(gate.stopping());
    // The right to a stream is held for as long as the stream is.
    let chunks = chunks.inspect(move |_| {
        let _ = &permit;
    });
    let mut response = passed_on(node, &head, Body::from_stream(chunks));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(EVENTS));
    response.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

async fn within<T>(
    gate: &Gate,
    node: NodeId,
    limit: Duration,
    what: impl Future<Output = Result<T, Problem>>,
) -> Result<T, Problem> {
    tokio::time::timeout(limit, what).await.unwrap_or_else(|_| {
        Err(unreachable(format!("node {} did not answer within {} s", name(gate, node), limit.as_secs())))
    })
}

async fn ask(
    gate: &Gate,
    node: NodeId,
    path_and_query: &str,
    headers: &HeaderMap,
) -> Result<http::Response<Incoming>, Problem> {
    let mut request = Request::new(Full::new(Bytes::new()));
    // Of parts that were checked: a name and a version.
    *request.uri_mut() = path_and_query.parse().map_err(|_| {
        Problem::new(Kind::NotFound, "there is no such read model", "/spec/openapi.json lists every path")
    })?;
    if let Some(tags) = headers.get(IF_NONE_MATCH) {
        request.headers_mut().insert(IF_NONE_MATCH, tags.clone());
    }
    gate.peers.send(node, request).await.map_err(|error| {
        let what = match &error {
            PeerError::NotReached(_) => error.to_string(),
            PeerError::Lost(_) => format!("it was lost before its answer ({error})"),
        };
        unreachable(format!("node {}: {what}", name(gate, node)))
    })
}

async fn read(gate: &Gate, node: NodeId, answer: http::Response<Incoming>) -> Result<Response, Problem> {
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, DOCUMENT_BYTES_MAX).collect().await.map_err(|error| {
        unreachable(format!("node {}: its answer cannot be read ({error})", name(gate, node)))
    })?;
    Ok(passed_on(node, &head, body.to_bytes().into()))
}

/// It speaks for itself: what it refuses, it refuses in our form. HTTP-19: its word on what kind of text that
/// is counts for nothing.
fn passed_on(node: NodeId, head: &http::response::Parts, body: Body) -> Response {
    let mut response = Response::new(body);
    let is_ours = [StatusCode::OK, StatusCode::NOT_MODIFIED].contains(&head.status)
        || head.status.is_client_error()
        || head.status.is_server_error();
    let status = if is_ours { head.status } else { StatusCode::BAD_GATEWAY };
    *response.status_mut() = status;
    let kind = match status {
        StatusCode::OK => Some("application/json"),
        StatusCode::NOT_MODIFIED => None,
        _ => Some("application/problem+json"),
    };
    let headers = response.headers_mut();
    headers.extend(kind.map(|kind| (CONTENT_TYPE, HeaderValue::from_static(kind))));
    for passed in PASSED_ON {
        if let Some(value) = head.headers.get(&passed) {
            headers.insert(passed, value.clone());
        }
    }
    headers.extend(HeaderValue::try_from(node.to_string()).ok().map(|id| (X_ARW_NODE, id)));
    response
}

pub(super) fn unreachable(detail: String) -> Problem {
    let help =
        "check that node and the network between; `arw cluster nodes` on a node beside it shows how it is";
    Problem::new(Kind::NodeUnreachable, detail, help).retry_after(RETRY)
}

/// Nodes connect again within seconds.
const RETRY: Duration = Duration::from_secs(2);

/// `box-b (0f0f0f0f)`.
pub(super) fn name(shared: &Shared, node: NodeId) -> String {
    let nodes = shared.node.cluster.nodes();
    let name = nodes.iter().find(|other| other.id == node).map_or("", |other| other.name.as_str());
    if name.is_empty() { node.short() } else { format!("`{name}` ({})", node.short()) }
}
