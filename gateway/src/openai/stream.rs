//! An engine's stream on its way to the client.
//!
//! Owns the body: it pulls, so a slow client slows its engine and costs no memory. Refuses to look into events (`relay.rs` does).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;

use super::model_name::ModelName;
use super::relay::{End, Relay};
use super::ticket::Ticket;
use crate::metrics::Outcome;

/// The body of a streaming answer.
///
/// HTTP-14 and HTTP-18: dropping it, as hyper does when the client is gone, drops the engine's answer, which closes the engine's connection, or the
/// stream to the other node.
#[derive(Debug)]
pub(super) struct RelayedStream {
    /// `None` once it has ended.
    incoming: Option<Incoming>,
    relay: Relay,
    out: VecDeque<Bytes>,
    ticket: Ticket,
}

impl RelayedStream {
    pub(super) fn new(incoming: Incoming, wants_usage: bool, name: ModelName, ticket: Ticket) -> Self {
        Self { incoming: Some(incoming), relay: Relay::new(wants_usage, name), out: VecDeque::new(), ticket }
    }

    fn take(&mut self, chunk: Bytes) {
        self.relay.push(chunk, &mut self.out);
        if self.relay.has_content() {
            self.ticket.note_content();
        }
    }

    fn end(&mut self, end: End) {
        // First, so that the engine's slot is free before the client hears of the end.
        self.incoming = None;
        let (problem, lost) = self.ticket.loss();
        let is_lost = self.relay.end(end, || problem, &mut self.out);
        let outcome = if is_lost { lost } else { Outcome::Ok };
        self.ticket.settle(&self.relay.usage(), outcome);
    }
}

impl Body for RelayedStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        loop {
            if let Some(bytes) = this.out.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            let Some(incoming) = this.incoming.as_mut() else { return Poll::Ready(None) };
            match ready!(Pin::new(incoming).poll_frame(cx)) {
                Some(Ok(frame)) => {
                    if let Ok(chunk) = frame.into_data() {
                        this.take(chunk);
                    }
                }
                Some(Err(_)) => this.end(End::Broken),
                None => this.end(End::Orderly),
            }
        }
    }
}

impl Drop for RelayedStream {
    fn drop(&mut self) {
        self.ticket.settle(&self.relay.usage(), Outcome::ClientGone);
    }
}
