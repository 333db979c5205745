//! One try: a request goes to whoever holds its ticket, and the answer comes back.
//!
//! Owns what is sent and what of the answer goes on. Refuses to choose who is asked, and to
//! try again (`forward.rs` does).

use arw_actors::cluster::ModelHost;
use arw_actors::runtime::engine_client::EngineError;
use arw_actors::runtime::lease::{EngineEnd, Usage};
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::Value;
use tracing::debug;

use super::answer;
use super::forward::Call;
use super::idle_timeout::{IdleTimeoutBody, ReadError};
use super::model_name::ModelName;
use super::refusal;
use super::stream::RelayedStream;
use super::ticket::{Ticket, death_id};
use crate::metrics::Outcome;
use crate::peer::{PeerError, X_ARW_NODE};
use crate::problem::{Kind, Problem, X_SHOULD_RETRY};
use crate::sse::X_ACCEL_BUFFERING;
use crate::trace::TRACEPARENT;

/// Tells the client who answered.
const X_ARW_RUNTIME: HeaderName = HeaderName::from_static("x-arw-runtime");

/// A whole answer is held in memory while it is metered: some hundred embeddings of a large model fit in it
/// many times.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// Another node's words for the end of an engine are kept for minutes.
const DETAIL_CHARS_MAX: usize = 300;
/// No id of a runtime is longer.
const RUNTIME_CHARS_MAX: usize = 100;
/// An error is words.
const REFUSAL_BYTES_MAX: usize = 256 << 10;

/// What came of one try.
pub(super) enum Attempt {
    /// The answer's head is on its way to the client.
    Answered(Response),
    /// There is an answer, but not for the client.
    Refused(Problem),
    /// There is nobody to ask, or nobody here who takes it.
    Nobody(Problem),
    /// Nothing has come of it that the client knows of.
    Failed(Box<Ticket>, Failure),
}

/// Why nothing came of a try.
pub(super) enum Failure {
    /// The engine takes no connection; why.
    NotSent(String),
    /// The connection to the engine broke.
    Dropped,
    /// The other node was lost on the way.
    NodeLost,
    /// There was no way to the other node.
    NotReached(Problem),
    /// The engine there was lost, and what that node says of it; it does not try again itself.
    LostThere(Response),
    /// The other node does not take the request; a third one may.
    PassedOver(Response),
    /// The prompt has so many tokens, and the context does not hold it; a larger one may.
    TooSmall(Response, u64),
}

/// Sends a request to the engine that was lent.
pub(super) async fn to_engine(call: &Call, mut ticket: Ticket) -> Attempt {
    let idle_max = ticket.idle_max();
    let sent = match ticket.lease() {
        Some(lease) => {
            let mut request = outgoing(call, lease.model());
            // llama.cpp closes the connection after a stream without saying so: what is sent on it meanwhile
            // would be lost.
            if call.body.is_stream() && lease.is_managed() {
                request.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            let sending = call.gate.node.engines.send(lease.endpoint(), lease.secret(), request);
            tokio::time::timeout(idle_max, sending).await
        }
        None => return Attempt::Failed(Box::new(ticket), Failure::Dropped),
    };
    let answer = match sent {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) if error.is_connect() => {
            if let Some(lease) = ticket.lease() {
                lease.report_unreachable();
            }
            return Attempt::Failed(Box::new(ticket), Failure::NotSent(error.cause()));
        }
        Ok(Err(error @ EngineError::NoAnswer(_))) => {
            debug!(runtime = ticket.runtime(), %error, "no answer from the engine");
            return Attempt::Failed(Box::new(ticket), Failure::Dropped);
        }
        Ok(Err(error @ (EngineError::BadRequest(_) | EngineError::BadKey))) => {
            ticket.settle(&Usage::default(), Outcome::Refused);
            return Attempt::Refused(Problem::new(
                Kind::EngineError,
                error.to_string(),
                "check the runtime's `base_url` and `api_key_env`",
            ));
        }
        Err(_) => return silent(ticket),
    };
    if answer.status().is_success() {
        return pass_on(call, answer, ticket).await;
    }
    let (head, incoming) = answer.into_parts();
    let body = match words(IdleTimeoutBody::new(incoming, idle_max)).await {
        Ok(body) => body,
        Err(ReadError::Lost) => return Attempt::Failed(Box::new(ticket), Failure::Dropped),
        Err(ReadError::IdleTimeout) => return silent(ticket),
    };
    let (status, envelope) = answer::engine_refusal(head.status, &body, ticket.runtime());
    let needed = prompt_tokens(&envelope["error"]);
    let response = refused(call, &ticket, status, envelope.to_string().into(), &head.headers);
    if let Some(tokens) = needed {
        return Attempt::Failed(Box::new(ticket), Failure::TooSmall(response, tokens));
    }
    ticket.settle(&Usage::default(), Outcome::Refused);
    Attempt::Answered(response)
}

/// HTTP-17: how many tokens the prompt has, where an engine says that its context does not hold them.
fn prompt_tokens(error: &Value) -> Option<u64> {
    let is_about_context =
        error["type"] == "exceed_context_size_error" || error["code"] == "context_length_exceeded";
    // An engine that does not count says at least how large its own context is.
    let tokens = || error["n_prompt_tokens"].as_u64().or_else(|| error["n_ctx"].as_u64());
    is_about_context.then(|| tokens().unwrap_or(0))
}

fn silent(mut ticket: Ticket) -> Attempt {
    let problem = ticket.silent();
    ticket.give_up();
    Attempt::Refused(problem)
}

/// Sends a request to the other node that was chosen; `name` is what its runtime or model is called there.
pub(super) async fn to_node(call: &Call, name: &str, mut ticket: Ticket) -> Attempt {
    let Some(host) = ticket.host().cloned() else {
        return Attempt::Failed(Box::new(ticket), Failure::NodeLost);
    };
    let idle_max = ticket.idle_max();
    let sending = call.gate.peers.send(host.node, outgoing(call, Some(name)));
    let answer = match tokio::time::timeout(idle_max, sending).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => {
            debug!(node = host.node.short(), %error, "no answer from another node");
            let failure = match error {
                PeerError::NotReached(_) => Failure::NotReached(refusal::no_answer(&host, &error)),
                PeerError::Lost(_) => Failure::NodeLost,
            };
            return Attempt::Failed(Box::new(ticket), failure);
        }
        Err(_) => return silent(ticket),
    };
    if let Some(runtime) = answer.headers().get(X_ARW_RUNTIME).and_then(|value| value.to_str().ok()) {
        ticket.answered_by(runtime);
    }
    if answer.status().is_success() {
        return pass_on(call, answer, ticket).await;
    }
    let (head, incoming) = answer.into_parts();
    let body = match words(IdleTimeoutBody::new(incoming, idle_max)).await {
        Ok(body) => body,
        Err(ReadError::Lost) => return Attempt::Failed(Box::new(ticket), Failure::NodeLost),
        Err(ReadError::IdleTimeout) => return silent(ticket),
    };
    // HTTP-18: it refuses in the same form as this node, so that its words go on as they are.
    let status = if head.status.is_client_error() || head.status.is_server_error() {
        head.status
    } else {
        StatusCode::BAD_GATEWAY
    };
    let error = error_of(&body);
    if status == StatusCode::PAYLOAD_TOO_LARGE && error["code"] == "body_too_large" {
        ticket.settle(&Usage::default(), Outcome::Refused);
        return Attempt::Refused(refusal::too_large_there(&host, error["bytes_max"].as_u64()));
    }
    note_death_there(&ticket, &host, &error);
    // HTTP-22: where that node says that the request is the cause, it goes nowhere else.
    let is_final = head.headers.get(X_SHOULD_RETRY).is_some_and(|should| should == "false");
    let is_lost_there = error["code"] == "engine_lost" && !is_final;
    let is_about_that_node = is_about_the_node(status, &error);
    let needed = prompt_tokens(&error);
    let response = refused(call, &ticket, status, body, &head.headers);
    if let Some(tokens) = needed {
        return Attempt::Failed(Box::new(ticket), Failure::TooSmall(response, tokens));
    }
    if is_lost_there {
        return Attempt::Failed(Box::new(ticket), Failure::LostThere(response));
    }
    if is_about_that_node {
        return Attempt::Failed(Box::new(ticket), Failure::PassedOver(response));
    }
    ticket.settle(&Usage::default(), Outcome::Refused);
    Attempt::Answered(response)
}

fn error_of(body: &[u8]) -> Value {
    let mut body: Value = serde_json::from_slice(body).unwrap_or_default();
    body.get_mut("error").map(Value::take).unwrap_or_default()
}

/// A refusal that says something of the node, not of the request: it has no such model any more, is not
/// ready, or has no room.
fn is_about_the_node(status: StatusCode, error: &Value) -> bool {
    let code = match status {
        StatusCode::NOT_FOUND => "model_not_found",
        StatusCode::TOO_MANY_REQUESTS => "queue_full",
        StatusCode::SERVICE_UNAVAILABLE => "not_ready",
        _ => return false,
    };
    error["code"] == code
}

/// HTTP-22: what killed an engine there is not sent to a third node, and counts here, too.
pub(super) fn note_death_there(ticket: &Ticket, host: &ModelHost, error: &Value) {
    let engine = &error["engine"];
    if error["code"] != "engine_lost" || !engine.is_object() {
        return;
    }
    let end = EngineEnd {
        launch: engine["launch"].as_u64().unwrap_or(0),
        pid: engine["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()),
        detail: engine["detail"].as_str().unwrap_or("it died").chars().take(DETAIL_CHARS_MAX).collect(),
        may_be_a_request: engine["may_be_a_request"] == true,
        in_flight: if engine["alone"] == true { 1 } else { 2 },
    };
    let runtime: String = engine["id"].as_str().unwrap_or_default().chars().take(RUNTIME_CHARS_MAX).collect();
    let id = format!("{}/{}", host.node, death_id(&runtime, &end));
    ticket.note_death(id, &end);
}

/// HTTP-12: of the client's headers none goes on but the trace; its token is for this node only.
fn outgoing(call: &Call, model: Option<&str>) -> Request<Full<Bytes>> {
    let mut request = Request::new(Full::new(call.body.for_engine(model)));
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = http::Uri::from_static(call.route.path);
    let headers = request.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let accepted = if call.body.is_stream() { "text/event-stream" } else { "application/json" };
    headers.insert(ACCEPT, HeaderValue::from_static(accepted));
    // HTTP-20.
    headers.extend(call.trace.and_then(|trace| trace.header()).map(|trace| (TRACEPARENT, trace)));
    request
}

/// An answer that is one: as a stream, or whole.
async fn pass_on(call: &Call, answer: http::Response<Incoming>, ticket: Ticket) -> Attempt {
    let name = model_name(call, &ticket);
    let (head, incoming) = answer.into_parts();
    let incoming = IdleTimeoutBody::new(incoming, ticket.idle_max());
    let content_type = head.headers.get(CONTENT_TYPE).cloned();
    let is_events =
        content_type.as_ref().is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    // HTTP-18: what a client may take for a page would run in this node's name.
    let content_type = match ticket.host() {
        Some(_) if is_events => Some(HeaderValue::from_static("text/event-stream")),
        Some(_) => Some(HeaderValue::from_static("application/json")),
        None => content_type,
    };
    if call.body.is_stream() && is_events {
        let mut response = respond(call, &ticket, StatusCode::OK, content_type, Body::empty());
        response.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
        *response.body_mut() = Body::new(RelayedStream::new(incoming, call.body.wants_usage(), name, ticket));
        return Attempt::Answered(response);
    }
    whole(call, head.status, content_type, incoming, &name, ticket).await
}

/// HTTP-15: the name that the client asked for, else the one that `/v1/models` lists.
fn model_name(call: &Call, ticket: &Ticket) -> ModelName {
    ModelName::new(call.body.model().or_else(|| ticket.listed_model()).unwrap_or(ticket.runtime()))
}

/// An answer in one piece: read whole, so that it is metered and so that a half one never reaches the client.
async fn whole(
    call: &Call,
    status: StatusCode,
    content_type: Option<HeaderValue>,
    incoming: IdleTimeoutBody,
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
        Err(error) if is_silent(&*error) => return silent(ticket),
        Err(_) if ticket.host().is_some() => return Attempt::Failed(Box::new(ticket), Failure::NodeLost),
        Err(_) => return Attempt::Failed(Box::new(ticket), Failure::Dropped),
    };
    ticket.note_content();
    let (usage, body) = answer::read_whole(body, name);
    ticket.settle(&usage, Outcome::Ok);
    Attempt::Answered(respond(call, &ticket, status, content_type, body.into()))
}

fn is_silent(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    error.downcast_ref::<ReadError>() == Some(&ReadError::IdleTimeout)
}

/// A refusal's words; none where they are too many.
async fn words(incoming: IdleTimeoutBody) -> Result<Bytes, ReadError> {
    match Limited::new(incoming, REFUSAL_BYTES_MAX).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Ok(Bytes::new()),
        Err(error) if is_silent(&*error) => Err(ReadError::IdleTimeout),
        Err(_) => Err(ReadError::Lost),
    }
}

fn refused(call: &Call, ticket: &Ticket, status: StatusCode, body: Bytes, told: &HeaderMap) -> Response {
    let json = Some(HeaderValue::from_static("application/json"));
    let mut response = respond(call, ticket, status, json, body.into());
    for name in [RETRY_AFTER, X_SHOULD_RETRY] {
        response.headers_mut().extend(told.get(&name).cloned().map(|value| (name, value)));
    }
    response
}

/// Of the answer's headers only the content type goes on: the engine's own connection, server and CORS
/// headers are none of the client's business.
fn respond(
    call: &Call,
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
    let node = ticket.host().map_or(call.gate.node.info.id, |host| host.node);
    headers.extend(HeaderValue::try_from(node.to_string()).ok().map(|node| (X_ARW_NODE, node)));
    response
}
