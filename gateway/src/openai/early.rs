//! The head of a stream that comes before its engine's.
//!
//! Owns what a client of a stream gets while its request waits (HTTP-24): proxies end a connection on which
//! nothing comes for a minute, and a large model loads longer. Refuses to know what is waited for
//! (`forward.rs`).

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, Limited};
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::forward::Call;
use crate::problem::Problem;
use crate::sse::X_ACCEL_BUFFERING;

/// Most answers begin before, with a status of their own; proxies and clients wait longer.
const PATIENCE: Duration = COMMENT_EVERY;
/// Proxies of a common make end a connection after a minute of silence, some after 15 s.
pub(super) const COMMENT_EVERY: Duration = Duration::from_secs(10);
/// A refusal that is told as an event is held in memory.
const REFUSAL_BYTES_MAX: usize = 1 << 20;

type Answering = Pin<Box<dyn Future<Output = Result<Response, Problem>> + Send>>;

/// The answer, or after a while its head and a body that waits for the answer.
pub(super) async fn answer(call: Call) -> Result<Response, Problem> {
    let call = Arc::new(call);
    let mut answering: Answering = {
        let call = Arc::clone(&call);
        Box::pin(async move { call.answer().await })
    };
    tokio::select! {
        biased;
        answered = &mut answering => return answered,
        () = tokio::time::sleep(PATIENCE) => {}
    }
    let mut ticks = interval(COMMENT_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut response =
        Response::new(Body::new(EarlyStream { call, state: State::Waits { answering, ticks } }));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    Ok(response)
}

/// Comments while the request waits, then the answer. Dropping it takes the request back.
struct EarlyStream {
    call: Arc<Call>,
    state: State,
}

enum State {
    Waits { answering: Answering, ticks: Interval },
    Passes(Body),
    Tells(Pin<Box<dyn Future<Output = Bytes> + Send>>),
    Done,
}

impl http_body::Body for EarlyStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        loop {
            match &mut this.state {
                State::Waits { answering, ticks } => match answering.as_mut().poll(cx) {
                    Poll::Ready(answered) => this.state = State::of(answered),
                    Poll::Pending => {
                        ready!(ticks.poll_tick(cx));
                        let comment = format!(": {}\n\n", this.call.waits_for());
                        return Poll::Ready(Some(Ok(Frame::data(comment.into()))));
                    }
                },
                State::Passes(body) => match ready!(Pin::new(body).poll_frame(cx)) {
                    Some(Ok(frame)) => return Poll::Ready(Some(Ok(frame))),
                    // A relayed stream tells of its end itself.
                    Some(Err(_)) | None => this.state = State::Done,
                },
                State::Tells(event) => {
                    let event = ready!(event.as_mut().poll(cx));
                    this.state = State::Done;
                    return Poll::Ready(Some(Ok(Frame::data(event))));
                }
                State::Done => return Poll::Ready(None),
            }
        }
    }
}

impl State {
    /// HTTP-24: the status has gone out, so that a refusal is an event, and no `[DONE]` comes after it.
    fn of(answered: Result<Response, Problem>) -> Self {
        let response = match answered {
            Ok(response) => response,
            Err(problem) => {
                let event = event(problem.to_openai().to_string().as_bytes());
                return Self::Tells(Box::pin(std::future::ready(event)));
            }
        };
        let kind = response.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let is_events = kind.is_some_and(|kind| kind.starts_with(b"text/event-stream"));
        let is_ok = response.status() == StatusCode::OK;
        let body = response.into_body();
        if is_ok && is_events {
            return Self::Passes(body);
        }
        Self::Tells(Box::pin(async move {
            let told = Limited::new(body, REFUSAL_BYTES_MAX).collect().await;
            event(&told.map_or_else(|_| Bytes::new(), |told| told.to_bytes()))
        }))
    }
}

/// JSON in one line: what ends a line stands outside its texts only, and means nothing there.
fn event(json: &[u8]) -> Bytes {
    let line = json.iter().copied().filter(|byte| !matches!(byte, b'\n' | b'\r'));
    b"data: ".iter().copied().chain(line).chain(*b"\n\n").collect()
}
