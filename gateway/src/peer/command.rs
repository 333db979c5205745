//! A word to another node that changes something there.
//!
//! Owns the request and what a refusal of the other node becomes here. Refuses to know who may say what: the
//! other node judges that.

use std::time::Duration;

use arw_actors::ids::NodeId;
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use serde_json::Value;

use super::{name, unreachable};
use crate::problem::{Kind, Problem};
use crate::shared::Gate;

/// For the whole answer, which is a status or a few words.
const WITHIN: Duration = Duration::from_secs(5);
const REFUSAL_BYTES_MAX: usize = 64 << 10;

/// HTTP-21: says it to another node's peer route at `path`.
pub(crate) async fn tell(gate: &Gate, node: NodeId, path: &'static str) -> Result<(), Problem> {
    let said = tokio::time::timeout(WITHIN, say(gate, node, path)).await;
    said.unwrap_or_else(|_| {
        let detail = format!("node {} did not answer within {} s", name(gate, node), WITHIN.as_secs());
        Err(unreachable(detail))
    })
}

async fn say(gate: &Gate, node: NodeId, path: &'static str) -> Result<(), Problem> {
    let mut request = Request::new(Full::new(Bytes::new()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::Uri::from_static(path);
    let sent = gate.peers.send(node, request).await;
    let answer = sent.map_err(|error| unreachable(format!("node {}: {error}", name(gate, node))))?;
    let (head, body) = answer.into_parts();
    if head.status.is_success() {
        return Ok(());
    }
    let body = Limited::new(body, REFUSAL_BYTES_MAX).collect().await;
    let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let refusal: Value = serde_json::from_slice(&body).unwrap_or_default();
    let words = |member: &str| refusal[member].as_str().unwrap_or_default().to_owned();
    let kind = if head.status == StatusCode::FORBIDDEN { Kind::ScopeMissing } else { Kind::NodeRefused };
    let detail = format!("node {} refuses ({}): {}", name(gate, node), head.status, words("detail"));
    Err(Problem::new(kind, detail, words("help")))
}
