//! Server-sent events.
//!
//! Owns their form, the heartbeat, and that a stream ends when the gateway stops. An event's data is shared
//! by all readers: a large body is sent as a slice between a small head and two line ends, which hyper
//! gathers into one write. Refuses to know what events mean.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

use crate::limits;
use crate::problem::Problem;
use crate::shared::Gate;

/// HTTP-8: silent connections are cut by proxies after 30 to 60 s.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(15);

const DATA: &[u8] = b"data: ";
const END: &[u8] = b"\n\n";

/// Data up to this size is copied behind its head; larger data is shared.
const COPIED_BYTES_MAX: usize = 2048;

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// Proxies that buffer answers would hold events back.
pub(crate) const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// One event.
#[derive(Clone, Debug)]
pub(crate) struct Event {
    head: String,
    data: Bytes,
}

impl Event {
    /// An event of this name. `data` is one line (JSON as serde writes it is).
    pub(crate) fn new(name: &str, data: Bytes) -> Self {
        let mut head = String::with_capacity(48);
        // Writing to a String cannot fail.
        let _ = writeln!(head, "event: {name}");
        Self { head, data }
    }

    /// What the client sends as `Last-Event-ID` when it comes back.
    pub(crate) fn id(mut self, id: impl std::fmt::Display) -> Self {
        let _ = writeln!(self.head, "id: {id}");
        self
    }

    /// The whole event as it is sent, for those that go to many clients.
    pub(crate) fn into_bytes(self) -> Bytes {
        let mut whole = self.head.into_bytes();
        whole.extend_from_slice(DATA);
        whole.extend_from_slice(&self.data);
        whole.extend_from_slice(END);
        whole.into()
    }

    fn push(self, frames: &mut VecDeque<Bytes>) {
        if self.data.len() <= COPIED_BYTES_MAX {
            frames.push_back(self.into_bytes());
        } else {
            let mut head = self.head.into_bytes();
            head.extend_from_slice(DATA);
            frames.extend([head.into(), self.data, Bytes::from_static(END)]);
        }
    }
}

/// What a stream of events yields.
#[derive(Clone, Debug)]
pub(crate) enum Item {
    /// An event for this client.
    Event(Event),
    /// Events that others get too, as they are sent.
    Shared(Bytes),
}

impl From<Event> for Item {
    fn from(event: Event) -> Self {
        Self::Event(event)
    }
}

/// The id of the last event that a client got before it lost the connection.
pub(crate) fn last_event_id(headers: &HeaderMap) -> Option<&str> {
    headers.get(LAST_EVENT_ID)?.to_str().ok().filter(|id| !id.is_empty())
}

/// The client wants events rather than one document.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    let accept = headers.get(http::header::ACCEPT).and_then(|accept| accept.to_str().ok());
    accept.is_some_and(|accept| accept.split(',').any(|kind| kind.trim().starts_with("text/event-stream")))
}

/// Answers with a stream of events.
pub(crate) fn respond(
    gate: &Gate,
    events: impl Stream<Item: Into<Item>> + Send + 'static,
) -> Result<Response, Problem> {
    Ok(respond_holding(limits::stream_permit(gate)?, gate, events))
}

/// The same with a right to a stream that is there already.
pub(crate) fn respond_holding(
    permit: OwnedSemaphorePermit,
    gate: &Gate,
    events: impl Stream<Item: Into<Item>> + Send + 'static,
) -> Response {
    let body = EventBody {
        events: Box::pin(events.map(Into::into)),
        frames: VecDeque::new(),
        heartbeat: Box::pin(tokio::time::sleep(HEARTBEAT)),
        silent_since: Instant::now(),
        stopping: Box::pin(gate.stopping()),
        _permit: permit,
    };
    let mut response = Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

struct EventBody {
    events: Pin<Box<dyn Stream<Item = Item> + Send>>,
    frames: VecDeque<Bytes>,
    heartbeat: Pin<Box<Sleep>>,
    /// The timer is not set anew for each event, which would cost more than sending one: when it fires, this
    /// tells how long it was silent.
    silent_since: Instant,
    stopping: Pin<Box<dyn Future<Output = ()> + Send>>,
    _permit: OwnedSemaphorePermit,
}

impl http_body::Body for EventBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        if let Some(bytes) = this.frames.pop_front() {
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if this.stopping.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        match this.events.as_mut().poll_next(cx) {
            Poll::Ready(Some(item)) => {
                this.silent_since = Instant::now();
                match item {
                    Item::Shared(bytes) => return Poll::Ready(Some(Ok(Frame::data(bytes)))),
                    Item::Event(event) => event.push(&mut this.frames),
                }
                Poll::Ready(this.frames.pop_front().map(|bytes| Ok(Frame::data(bytes))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => this.poll_heartbeat(cx),
        }
    }
}

impl EventBody {
    /// HTTP-8: a comment after a time of silence.
    fn poll_heartbeat(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        while self.heartbeat.as_mut().poll(cx).is_ready() {
            let now = Instant::now();
            let due = self.silent_since + HEARTBEAT;
            if due <= now {
                self.silent_since = now;
                self.heartbeat.as_mut().reset(now + HEARTBEAT);
                // Polled again at once, so the new timer is registered.
                cx.waker().wake_by_ref();
                return Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b": still here\n\n")))));
            }
            self.heartbeat.as_mut().reset(due);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frames(event: Event) -> Vec<Bytes> {
        let mut frames = VecDeque::new();
        event.push(&mut frames);
        frames.into()
    }

    #[test]
    fn a_small_event_is_one_piece() {
        let event = Event::new("patch", Bytes::from_static(b"{\"a\":1}")).id("3.17");
        assert_eq!(frames(event), [&b"event: patch\nid: 3.17\ndata: {\"a\":1}\n\n"[..]]);
    }

    #[test]
    fn a_large_body_is_shared_not_copied() {
        let body = Bytes::from(vec![b'x'; 100_000]);
        let frames = frames(Event::new("snapshot", body.clone()));
        assert_eq!(frames.len(), 3);
        assert_eq!(frames[1].as_ptr(), body.as_ptr());
    }

    /// What comes next, and how long it took.
    async fn next(body: &mut EventBody) -> (Bytes, Duration) {
        let asked = Instant::now();
        let frame = std::future::poll_fn(|cx| http_body::Body::poll_frame(Pin::new(&mut *body), cx)).await;
        (frame.unwrap().unwrap().into_data().unwrap(), asked.elapsed())
    }

    /// HTTP-8.
    #[tokio::test(start_paused = true)]
    async fn only_silence_is_broken_by_a_comment() {
        const PAUSE: Duration = Duration::from_secs(10);
        let one_event = futures_util::stream::once(async {
            tokio::time::sleep(PAUSE).await;
            Item::Shared(Bytes::from_static(b"an event"))
        });
        let permits = std::sync::Arc::new(tokio::sync::Semaphore::new(1));
        let mut body = EventBody {
            events: Box::pin(one_event.chain(futures_util::stream::pending())),
            frames: VecDeque::new(),
            heartbeat: Box::pin(tokio::time::sleep(HEARTBEAT)),
            silent_since: Instant::now(),
            stopping: Box::pin(std::future::pending()),
            _permit: permits.try_acquire_owned().unwrap(),
        };
        let comment = Bytes::from_static(b": still here\n\n");
        // Timers of tokio have a grain of a millisecond.
        let about = |wanted: Duration, took: Duration| took.abs_diff(wanted) < Duration::from_millis(5);
        let (first, took) = next(&mut body).await;
        assert!(first == "an event" && about(PAUSE, took), "{first:?} {took:?}");
        for _ in 0..3 {
            let (silence, took) = next(&mut body).await;
            assert!(silence == comment && about(HEARTBEAT, took), "{silence:?} {took:?}");
        }
    }

    #[test]
    fn the_accept_header_decides_between_page_and_stream() {
        let accepts = |text: &'static str| {
            is_wanted(&HeaderMap::from_iter([(http::header::ACCEPT, HeaderValue::from_static(text))]))
        };
        assert!(accepts("text/event-stream"));
        assert!(accepts("application/json;q=0.1, text/event-stream;q=0.9"));
        assert!(!accepts("*/*"));
        assert!(!is_wanted(&HeaderMap::new()));
    }
}
