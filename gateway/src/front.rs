//! What happens around every request.
//!
//! Owns the order: check host and head, catch panics, render refusals, measure and log. It is one service
//! rather than a stack of layers, because each layer of `from_fn` copies and boxes what lies below it for
//! each request. Refuses to know routes.

use std::any::Any;
use std::convert::Infallible;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::task::{Context, Poll};

use arw_actors::ids::NodeId;
use arw_kit::moment::Moment;
use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{CACHE_CONTROL, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderValue, Method};
use tower::Service;
use tracing::{debug, error};

use crate::problem::{Form, Kind, Problem, render_problem};
use crate::shared::Gate;
use crate::{host, limits, routes};

/// Set on an answer: the path of its route, as in the route table. Metrics need few different values.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoutePath(pub(crate) &'static str);

/// The whole service. Cheap to clone: each connection has one of its own.
#[derive(Clone, Debug)]
pub struct Front {
    gate: Gate,
    router: Router,
    /// The node that asks; `None` for clients.
    from: Option<NodeId>,
}

impl Front {
    pub(crate) fn new(gate: Gate) -> Self {
        let router = routes::router(&gate);
        Self { gate, router, from: None }
    }

    /// For what one other node asks, by routes of its own.
    pub(crate) fn for_peer(gate: Gate, router: Router, from: NodeId) -> Self {
        Self { gate, router, from: Some(from) }
    }
}

impl Service<Request> for Front {
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let Self { gate, router, from } = self.clone();
        let started = gate.now();
        let method = request.method().clone();
        // The path only: a query may hold what is nobody else's business.
        let path = request.uri().path().to_owned();
        Box::pin(async move {
            let answered = shielded(answer(&gate, router, request)).await;
            Ok(observe(&gate, started, from, &method, &path, answered))
        })
    }
}

/// Refuses what no route shall see; hands on the rest.
async fn answer(gate: &Gate, mut router: Router, request: Request) -> Response {
    let (uri, headers) = (request.uri(), request.headers());
    let verdict = host::check(request.version(), uri, headers, &gate.settings.allowed_hosts)
        .and_then(|()| limits::check_head(uri, headers, gate.settings.header_max_bytes));
    match verdict {
        Ok(()) => router.call(request).await.unwrap_or_else(|never| match never {}),
        Err(problem) => problem.into_response(),
    }
}

/// Renders a refusal, measures and logs the answer, and gives it the headers that all have.
fn observe(
    gate: &Gate,
    started: Moment,
    from: Option<NodeId>,
    method: &Method,
    path: &str,
    answered: Response,
) -> Response {
    let problem =
        answered.extensions().get::<Problem>().map(|problem| (problem.word(), problem.detail().to_owned()));
    let mut response = render_problem(answered, Form::of_path(path));
    let route = response.extensions().get::<RoutePath>().map_or("other", |route| route.0);
    let took = gate.now().since(started);
    let status = response.status();
    gate.metrics.requests.observe(route, status, took);
    let (refused, detail) = problem.map_or((None, None), |(word, detail)| (Some(word), Some(detail)));
    let from = from.map(|node| node.short());
    debug!(%method, path, from, status = status.as_u16(), took_us = took.as_micros(), refused, detail, "request");
    let headers = response.headers_mut();
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// A handler that panics fails its request and nothing else.
async fn shielded(answer: impl Future<Output = Response>) -> Response {
    let caught = AssertUnwindSafe(answer).catch_unwind().await;
    caught.unwrap_or_else(|panic| broken(&*panic).into_response())
}

/// A defect of ours. The client learns that, the log learns what.
fn broken(panic: &(dyn Any + Send)) -> Problem {
    let words =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    error!(panic = words.unwrap_or("without words"), "a request handler panicked");
    Problem::new(
        Kind::Internal,
        "the node failed at this request; it goes on serving others",
        "try again; if it happens again, report it with the node's log",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// HTTP-5: and nothing of the inside goes out.
    #[tokio::test]
    async fn a_handler_that_panics_is_a_500_without_internals() {
        async fn secretive() -> Response {
            panic!("the key is 42")
        }
        let response = render_problem(shielded(secretive()).await, Form::OpenAi);
        assert_eq!(response.status(), 500);
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        let text = String::from_utf8_lossy(&body);
        assert!(text.contains("\"code\":\"internal\"") && !text.contains("42"), "{text}");
    }
}
