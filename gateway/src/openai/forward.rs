//! A request's way to an engine: acquire, send, relay.
//!
//! Owns the order of steps, the one second try, and the refusals. Refuses to decide who serves and when (`runtime/` in the kernel does).

use std::time::Duration;

use arw_actors::moment::Moment;
use arw_actors::runtime::engine_client::EngineError;
use arw_actors::runtime::lease::{AcquireError, NotReady, Usage};
use arw_actors::runtime::machine::RuntimeState;
use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde_json::json;
use tracing::debug;

use super::answer;
use super::body::RequestBody;
use super::model_name::ModelName;
use super::stream::RelayedStream;
use super::ticket::Ticket;
use crate::metrics::Outcome;
use crate::problem::{Kind, Problem};
use crate::shared::Gate;
use crate::sse::X_ACCEL_BUFFERING;

/// Where a request came in; it goes to the same path of the engine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Route {
    pub(super) path: &'static str,
    /// This route has streams.
    pub(super) streams: bool,
}

/// Tells the client who answered.
const X_ARW_RUNTIME: HeaderName = HeaderName::from_static("x-arw-runtime");

/// A whole answer is held in memory while it is metered: some hundred embeddings of a large model fit in it many times.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// An error is words.
const REFUSAL_BYTES_MAX: usize = 256 << 10;
/// The kernel notices an engine's end within milliseconds of its connection breaking, except when the machine is overloaded.
const LOSS_NOTICED_WITHIN: Duration = Duration::from_millis(500);

/// Brings a request to an engine and the answer back.
pub(super) async fn forward(gate: &Gate, route: Route, bytes: Bytes) -> Result<Response, Problem> {
    let started = gate.now();
    let request = RequestBody::read(bytes, route.streams)?;
    let deadline = started + gate.settings.wait_for_runtime;
    let ticket = acquire(gate, route, &request, started, deadline).await?;
    let lost = match attempt(gate, route, &request, ticket).await {
        Attempt::Answered(response) => return Ok(response),
        Attempt::Refused(problem) => return Err(problem),
        Attempt::Lost(ticket) => ticket,
    };
    // Nothing of an answer has been passed on, so the client need not know: its runtime restarts, and the request waits for that.
    debug!(
        runtime = lost.runtime(),
        route = route.path,
        "the engine was lost before its answer; trying once more"
    );
    let runtime = lost.runtime().to_owned();
    lost.forget();
    until_noticed(gate, &runtime).await;
    let ticket = acquire(gate, route, &request, started, deadline).await?;
    match attempt(gate, route, &request, ticket).await {
        Attempt::Answered(response) => Ok(response),
        Attempt::Refused(problem) => Err(problem),
        Attempt::Lost(mut ticket) => {
            ticket.settle(&Usage { is_partial: true, ..Usage::default() }, Outcome::EngineLost);
            Err(answer::lost(ticket.runtime()))
        }
    }
}

async fn acquire(
    gate: &Gate,
    route: Route,
    request: &RequestBody,
    started: Moment,
    deadline: Moment,
) -> Result<Ticket, Problem> {
    // HTTP-11: what a first try took is no longer there for a second one.
    let patience = deadline.since(gate.now());
    let lease = gate.node.runtimes.acquire(request.model(), patience).await.map_err(not_acquired)?;
    Ok(Ticket::new(gate, lease, route.path, started))
}

/// HTTP-10 and HTTP-11.
fn not_acquired(error: AcquireError) -> Problem {
    let detail = error.to_string();
    match error {
        AcquireError::UnknownModel { known, .. } => {
            let help = "name one of `known`; GET /v1/models lists them";
            Problem::new(Kind::ModelNotFound, detail, help).at("model").with("known", known)
        }
        AcquireError::ModelNotNamed { known } if known.is_empty() => {
            let help = "add a runtime first: `arw run FILE.gguf`, or `arw runtime add`";
            Problem::new(Kind::ModelNotFound, "no runtime serves a model yet", help)
                .at("model")
                .with("known", known)
        }
        AcquireError::ModelNotNamed { known } => {
            let help = "set `model` to one of `known`";
            Problem::new(Kind::ModelNotNamed, detail, help).at("model").with("known", known)
        }
        AcquireError::NotReady(not_ready) => refuse_not_ready(detail, &not_ready),
        AcquireError::QueueFull { runtime, waiting } => {
            let help = "send fewer requests at once, or try again in a moment";
            let facts = json!({ "id": runtime, "waiting": waiting });
            Problem::new(Kind::QueueFull, detail, help).retry_after(QUEUE_RETRY).with("runtime", facts)
        }
        AcquireError::Unavailable(_) => {
            Problem::new(Kind::NotReady, detail, "try again in a moment").retry_after(NODE_RETRY)
        }
    }
}

/// A short answer takes about this long.
const QUEUE_RETRY: Duration = Duration::from_secs(2);
/// An actor is back in milliseconds, a node in a second.
const NODE_RETRY: Duration = Duration::from_secs(1);

fn refuse_not_ready(detail: String, not_ready: &NotReady) -> Problem {
    let NotReady { runtime, state, reason, hint, retry_after } = not_ready;
    let help = match (hint, state) {
        (Some(hint), _) => hint.clone(),
        (None, RuntimeState::Quarantined | RuntimeState::Failed) => {
            format!("see `arw runtime logs {runtime}`; `arw runtime start {runtime}` tries again at once")
        }
        (None, RuntimeState::Stopped) => format!("start it: `arw runtime start {runtime}`"),
        (
            None,
            RuntimeState::Starting
            | RuntimeState::Warming
            | RuntimeState::Ready
            | RuntimeState::Degraded
            | RuntimeState::Draining
            | RuntimeState::Backoff,
        ) => "try again later; /state/runtimes shows how it does".to_owned(),
    };
    let facts = json!({ "id": runtime, "state": state.word(), "reason": reason, "hint": hint });
    let problem = Problem::new(Kind::NotReady, detail, help).with("runtime", facts);
    match retry_after {
        Some(after) => problem.retry_after(*after),
        // Nobody knows when somebody will act.
        None => problem,
    }
}

/// What came of one try.
enum Attempt {
    /// The answer's head is on its way to the client.
    Answered(Response),
    /// There is an answer, but not for the client.
    Refused(Problem),
    /// The engine went away before anything was passed on.
    Lost(Ticket),
}

async fn attempt(gate: &Gate, route: Route, request: &RequestBody, mut ticket: Ticket) -> Attempt {
    let sent = match ticket.lease() {
        Some(lease) => {
            let to_engine = for_engine(route, request, lease.model());
            gate.node.engines.send(lease.endpoint(), lease.secret(), to_engine).await
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
    let name = model_name(request, &ticket);
    let (head, incoming) = answer.into_parts();
    let content_type = head.headers.get(CONTENT_TYPE).cloned();
    if !head.status.is_success() {
        return refused(head.status, head.headers.get(RETRY_AFTER).cloned(), incoming, ticket).await;
    }
    let is_events =
        content_type.as_ref().is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    if request.is_stream() && is_events {
        let runtime = header(ticket.runtime());
        let body = Body::new(RelayedStream::new(incoming, request.wants_usage(), name, ticket));
        let mut response = respond(StatusCode::OK, content_type, runtime, body);
        response.headers_mut().insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
        return Attempt::Answered(response);
    }
    whole(head.status, content_type, incoming, &name, ticket).await
}

/// HTTP-15: the name that the client asked for, else the one that `/v1/models` lists.
fn model_name(request: &RequestBody, ticket: &Ticket) -> ModelName {
    let listed = || ticket.lease().and_then(|lease| lease.model());
    ModelName::new(request.model().or_else(listed).unwrap_or(ticket.runtime()))
}

/// HTTP-12: of the client's headers none goes on; its token is for this node only.
fn for_engine(route: Route, request: &RequestBody, model: Option<&str>) -> Request<Full<Bytes>> {
    let mut to_engine = Request::new(Full::new(request.for_engine(model)));
    *to_engine.method_mut() = http::Method::POST;
    *to_engine.uri_mut() = http::Uri::from_static(route.path);
    let headers = to_engine.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    let accepted = if request.is_stream() { "text/event-stream" } else { "application/json" };
    headers.insert(ACCEPT, HeaderValue::from_static(accepted));
    to_engine
}

/// An answer in one piece: read whole, so that it is metered and so that a half one never reaches the client.
async fn whole(
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
    Attempt::Answered(respond(status, content_type, header(ticket.runtime()), body.into()))
}

async fn refused(
    status: StatusCode,
    retry_after: Option<HeaderValue>,
    incoming: Incoming,
    mut ticket: Ticket,
) -> Attempt {
    let body = match Limited::new(incoming, REFUSAL_BYTES_MAX).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => Bytes::new(),
        Err(_) => return Attempt::Lost(ticket),
    };
    ticket.settle(&Usage::default(), Outcome::Refused);
    let (status, envelope) = answer::engine_refusal(status, &body, ticket.runtime());
    let json = Some(HeaderValue::from_static("application/json"));
    let mut response = respond(status, json, header(ticket.runtime()), envelope.to_string().into());
    if let Some(after) = retry_after {
        response.headers_mut().insert(RETRY_AFTER, after);
    }
    Attempt::Answered(response)
}

fn header(runtime: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(runtime).ok()
}

/// Of the engine's headers only the content type goes on: its own connection, server and CORS headers are none of the client's business.
fn respond(
    status: StatusCode,
    content_type: Option<HeaderValue>,
    runtime: Option<HeaderValue>,
    body: Body,
) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, content_type.unwrap_or(HeaderValue::from_static("application/json")));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.extend(runtime.map(|runtime| (X_ARW_RUNTIME, runtime)));
    response
}

/// Waits until the kernel knows that the engine is gone: before that, it would lend it again.
async fn until_noticed(gate: &Gate, runtime: &str) {
    let mut changes = gate.node.runtimes.changes();
    let serves = || gate.node.runtimes.row(runtime).is_ok_and(|row| row.state == RuntimeState::Ready);
    let noticed = async {
        while serves() {
            if changes.changed().await.is_err() {
                return;
            }
        }
    };
    // An external server, or one that only dropped the connection, stays ready: then the second try may well succeed.
    let _ = tokio::time::timeout(LOSS_NOTICED_WITHIN, noticed).await;
}
