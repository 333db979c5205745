//! One try: a request goes to whoever holds its ticket, and the answer comes back.
//!
//! Owns what is sent and what of the answer goes on. Refuses to choose who is asked, and to try again (`forward.rs` does).

use arw_actors::runtime::engine_client::EngineError;
use arw_actors::runtime::lease::Usage;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use tracing::debug;

use super::answer;
use super::forward::Asked;
use super::model_name::ModelName;
use super::refusal;
use super::stream::RelayedStream;
use super::ticket::Ticket;
use crate::metrics::Outcome;
use crate::peer::{PeerError, X_ARW_NODE};
use crate::problem::{Kind, Problem};
use crate::sse::X_ACCEL_BUFFERING;
use crate::trace::TRACEPARENT;

/// Tells the client who answered.
const X_ARW_RUNTIME: HeaderName = HeaderName::from_static("x-arw-runtime");

/// A whole answer is held in memory while it is metered: some hundred embeddings of a large model fit in it many times.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// An error is words.
const REFUSAL_BYTES_MAX: usize = 256 << 10;

/// What came of one try.
pub(super) enum Attempt {
    /// The answer's head is on its way to the client.
    Answered(Response),
    /// There is an answer, but not for the client.
    Refused(Problem),
    /// Whoever was asked went away before anything was passed on.
    Lost(Ticket),
    /// There was no way to the other node.
    NotReached(Ticket, Problem),
    /// The other node does not take the request; a third one may.
    PassedOver(Ticket, Response),
}

/// Sends a request to the engine that was lent.
pub(super) async fn to_engine(asked: &Asked<'_>, mut ticket: Ticket) -> Attempt {
    let sent = match ticket.lease() {
        Some(lease) => {
            let request = outgoing(asked, lease.model());
            asked.gate.node.engines.send(lease.endpoint(), lease.secret(), request).await
        }
        None => return Attempt::Lost(ticket),
    };
    let answer = match sent {
        Ok(answer) => answer,
        Err(error @ EngineError::NoAnswer(_)) => {
            debug!(runtime = ticket.runtime(), %error, "no answer from the engine");
            return Attempt::Lost(ticket);
        }
        Err(error @ (EngineError::BadRequest(_) | EngineError::BadKey)) => {
            ticket.settle(&Usage::default(), Outcome::Refused);
            return Attempt::Refused(Problem::new(
                Kind::EngineError,
                error.to_string(),
                "check the runtime's `base_url` and `api_key_env`",
            ));
        }
    };
    if answer.status().is_success() {
        return pass_on(asked, answer, ticket).await;
    }
    let (head, incoming) = answer.into_parts();
    let Some(body) = words(incoming).await else { return Attempt::Lost(ticket) };
    ticket.settle(&Usage::default(), Outcome::Refused);
    let (status, envelope) = answer::engine_refusal(head.status, &body, ticket.runtime());
    let retry_after = head.headers.get(RETRY_AFTER).cloned();
    Attempt::Answered(refused(asked, &ticket, status, envelope.to_string().into(), retry_after))
}

/// Sends a request to the other node that was chosen; `name` is what its runtime or model is called there.
pub(super) async fn to_node(asked: &Asked<'_>, name: &str, mut ticket: Ticket) -> Attempt {
    let Some(host) = ticket.host().cloned() else { return Attempt::Lost(ticket) };
    let answer = match asked.gate.peers.send(host.node, outgoing(asked, Some(name))).await {
        Ok(answer) => answer,
        Err(error) => {
            debug!(node = host.node.short(), %error, "no answer from another node");
            return match error {
                PeerError::NotReached(_) => Attempt::NotReached(ticket, refusal::no_answer(&host, &error)),
                PeerError::Lost(_) => Attempt::Lost(ticket),
            };
        }
    };
    if let Some(runtime) = answer.headers().get(X_ARW_RUNTIME).and_then(|value| value.to_str().ok()) {
        ticket.answered_by(runtime);
    }
    if answer.status().is_success() {
        return pass_on(asked, answer, ticket).await;
    }
    let (head, incoming) = answer.into_parts();
    let Some(body) = words(incoming).await else { return Attempt::Lost(ticket) };
    // HTTP-18: it refuses in the same form as this node, so that its words go on as they are.
    let status = if head.status.is_client_error() || head.status.is_server_error() {
        head.status
    } else {
        StatusCode::BAD_GATEWAY
    };
    let is_about_that_node = is_about_the_node(status, &body);
    let response = refused(asked, &ticket, status, body, head.headers.get(RETRY_AFTER).cloned());
    if is_about_that_node {
        return Attempt::PassedOver(ticket, response);
    }
    ticket.settle(&Usage::default(), Outcome::Refused);
    Attempt::Answered(response)
}

/// A refusal that says something of the node, not of the request: it has no such model any more, is not ready, or has no room.
fn is_about_the_node(status: StatusCode, body: &[u8]) -> bool {
    let code = match status {
        StatusCode::NOT_FOUND => "model_not_found",
        StatusCode::TOO_MANY_REQUESTS => "queue_full",
        StatusCode::SERVICE_UNAVAILABLE => "not_ready",
        _ => return false,
    };
    serde_json::from_slice::<Value>(body).is_ok_and(|body| body["error"]["code"] == code)
}

/// HTTP-12: of the client's headers none goes on but the trace; its token is for this node only.
fn outgoing(asked: &Asked<'_>, model: Option<&str>) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(asked.body.for_engine(model)));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = http::Uri::from_static(asked.route.path);
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let accepted = if asked.body.is_stream() { "text/event-stream" } else { "application/json" };
    headers.insert(ACCEPT, HeaderValue::from_static(accepted));
    // HTTP-20.
    headers.extend(asked.trace.and_then(|trace| trace.header()).map(|trace| (TRACEPARENT, trace)));
    request
}

/// An answer that is one: as a stream, or whole.
async fn pass_on(asked: &Asked<'_>, answer: http::Response<Incoming>, ticket: Ticket) -> Attempt {
    let name = model_name(asked, &ticket);
    let (head, incoming) = answer.into_parts();
    let content_type = head.headers.get(CONTENT_TYPE).cloned();
    let is_events =
        content_type.as_ref().is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    // HTTP-18: what a client may take for a page would run in this node's name.
    let content_type = match ticket.host() {
        Some(_) if is_events => Some(HeaderValue::from_static("text/event-stream")),
        Some(_) => Some(HeaderValue::from_static("application/json")),
        None => content_type,
    };
    if asked.body.is_stream() && is_events {
        let mut response = respond(asked, &ticket, StatusCode::OK, content_type, Body::empty());
        response.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
        *response.body_mut() =
            Body::new(RelayedStream::new(incoming, asked.body.wants_usage(), name, ticket));
        return Attempt::Answered(response);
    }
    whole(asked, head.status, content_type, incoming, &name, ticket).await
}

/// HTTP-15: the name that the client asked for, else the one that `/v1/models` lists.
fn model_name(asked: &Asked<'_>, ticket: &Ticket) -> ModelName {
    ModelName::new(asked.body.model().or_else(|| ticket.listed_model()).unwrap_or(ticket.runtime()))
}

/// An answer in one piece: read whole, so that it is metered and so that a half one never reaches the client.
async fn whole(
    asked: &Asked<'_>,
    status: StatusCode,
    content_type: Option<HeaderValue>,
    incoming: Incoming,
    name: &ModelName,
    mut ticket: Ticket,
) -> Attempt {
    let body = match Limited::new(incoming, ANSWER_BYTES_MAX).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            ticket.settle(&Usage { is_partial: true, ..Usage::default() }, Outcome::Refused);
            let detail = format!("the engine's answer is larger than {ANSWER_BYTES_MAX} bytes");
            return Attempt::Refused(Problem::new(Kind::EngineError, detail, "ask for less at once"));
        }
        Err(_) => return Attempt::Lost(ticket),
    };
    ticket.note_content();
    let (usage, body) = answer::read_whole(body, name);
    ticket.settle(&usage, Outcome::Ok);
    Attempt::Answered(respond(asked, &ticket, status, content_type, body.into()))
}

/// A refusal's words; none where they are too many, `None` where whoever said them was lost.
async fn words(incoming: Incoming) -> Option<Bytes> {
    match Limited::new(incoming, REFUSAL_BYTES_MAX).collect().await {
        Ok(collected) => Some(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Some(Bytes::new()),
        Err(_) => None,
    }
}

fn refused(
    asked: &Asked<'_>,
    ticket: &Ticket,
    status: StatusCode,
    body: Bytes,
    retry_after: Option<HeaderValue>,
) -> Response {
    let json = Some(HeaderValue::from_static("application/json"));
    let mut response = respond(asked, ticket, status, json, body.into());
    response.headers_mut().extend(retry_after.map(|after| (RETRY_AFTER, after)));
    response
}

/// Of the answer's headers only the content type goes on: the engine's own connection, server and CORS headers are none of the client's business.
fn respond(
    asked: &Asked<'_>,
    ticket: &Ticket,
    status: StatusCode,
    content_type: Option<HeaderValue>,
    body: Body,
) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type.unwrap_or(HeaderValue::from_static("application/json")));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.extend(HeaderValue::from_str(ticket.runtime()).ok().map(|runtime| (X_ARW_RUNTIME, runtime)));
    // HTTP-18: who answered by this node's own knowledge, whatever the other one says of itself.
    let node = ticket.host().map_or(asked.gate.node.info.id, |host| host.node);
    headers.extend(HeaderValue::try_from(node.to_string()).ok().map(|node| (X_ARW_NODE, node)));
    response
}
