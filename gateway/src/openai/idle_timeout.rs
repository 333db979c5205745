//! A body that may not be silent for ever.
//!
//! HTTP-25. Owns the limit between two pieces of an answer (`gateway.answer_idle_timeout`). Refuses to look
//! into them.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use tokio::time::{Sleep, sleep};

/// An answer's body, read piece by piece.
#[derive(Debug)]
pub(super) struct IdleTimeoutBody {
    incoming: Incoming,
    idle_max: Duration,
    due: Pin<Box<Sleep>>,
    /// Nothing has come since `due` was set.
    is_waiting: bool,
}

/// Why there is no next piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum ReadError {
    /// The connection broke.
    #[error("the connection broke")]
    Lost,
    /// Nothing came for too long.
    #[error("nothing came for too long")]
    IdleTimeout,
}

impl IdleTimeoutBody {
    pub(super) fn new(incoming: Incoming, idle_max: Duration) -> Self {
        Self { incoming, idle_max, due: Box::pin(sleep(idle_max)), is_waiting: true }
    }
}

impl Body for IdleTimeoutBody {
    type Data = Bytes;
    type Error = ReadError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ReadError>>> {
        let this = self.get_mut();
        match Pin::new(&mut this.incoming).poll_frame(cx) {
            Poll::Ready(frame) => {
                this.is_waiting = false;
                Poll::Ready(frame.map(|frame| frame.map_err(|_| ReadError::Lost)))
            }
            Poll::Pending => {
                if !std::mem::replace(&mut this.is_waiting, true) {
                    this.due.set(sleep(this.idle_max));
                }
                this.due.as_mut().poll(cx).map(|()| Some(Err(ReadError::IdleTimeout)))
            }
        }
    }
}
