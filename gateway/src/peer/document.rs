//! Another node's read model, fetched.
//!
//! Owns which node a query means, and the one request to it. Refuses to look into the document.

use std::time::Duration;

use arw_actors::cluster::{FindNodeError, find_node};
use arw_actors::ids::NodeId;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};

use super::{PeerError, X_ARW_NODE};
use crate::problem::{Kind, Problem};
use crate::shared::{Gate, Shared};

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
    [CONTENT_TYPE, ETAG, CACHE_CONTROL, HeaderName::from_static("x-arw-version")];

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
    let within = WITHIN + patience;
    let asked = tokio::time::timeout(within, ask(gate, node, path_and_query, headers)).await;
    let mut response = asked.unwrap_or_else(|_| {
        let detail = format!("node {} did not answer within {} s", name(gate, node), within.as_secs());
        Err(unreachable(detail))
    })?;
    response.headers_mut().extend(HeaderValue::try_from(node.to_string()).ok().map(|id| (X_ARW_NODE, id)));
    Ok(response)
}

async fn ask(
    gate: &Gate,
    node: NodeId,
    path_and_query: &str,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let mut request = Request::new(Full::new(Bytes::new()));
    // Of parts that were checked: a name and a version.
    *request.uri_mut() = path_and_query.parse().map_err(|_| {
        Problem::new(Kind::NotFound, "there is no such read model", "/spec/openapi.json lists every path")
    })?;
    if let Some(tags) = headers.get(IF_NONE_MATCH) {
        request.headers_mut().insert(IF_NONE_MATCH, tags.clone());
    }
    let lost = |why: &dyn std::fmt::Display| unreachable(format!("node {}: {why}", name(gate, node)));
    let answer = gate.peers.send(node, request).await.map_err(|error| match &error {
        PeerError::NotReached(_) => lost(&error),
        PeerError::Lost(_) => lost(&format!("it was lost before its answer ({error})")),
    })?;
    let (head, body) = answer.into_parts();
    let body = Limited::new(body, DOCUMENT_BYTES_MAX).collect().await;
    let body = body.map_err(|error| lost(&format!("its answer cannot be read ({error})")))?.to_bytes();
    let mut response = Response::new(body.into());
    // It speaks for itself: what it refuses, it refuses in our words.
    *response.status_mut() =
        if head.status.is_informational() { StatusCode::BAD_GATEWAY } else { head.status };
    for passed in PASSED_ON {
        if let Some(value) = head.headers.get(&passed) {
            response.headers_mut().insert(passed, value.clone());
        }
    }
    Ok(response)
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
