//! An engine's stream on its way to the client.
//!
//! Owns the body: it pulls, so a slow client slows its engine and costs no memory. Refuses to look into events (`relay.rs` does).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::{Sleep, sleep};

use super::early::COMMENT_EVERY;
use super::model_name::ModelName;
use super::patient::{Broken, PatientBody};
use super::relay::{End, Relay};
use super::ticket::Ticket;
use crate::metrics::Outcome;
use crate::problem::Problem;

/// The body of a streaming answer.
///
/// HTTP-14 and HTTP-18: dropping it, as hyper does when the client is gone, drops the engine's answer, which closes the engine's connection, or the
/// stream to the other node.
#[derive(Debug)]
pub(super) struct RelayedStream {
    /// `None` once it has ended.
    incoming: Option<PatientBody>,
    relay: Relay,
    out: VecDeque<Bytes>,
    ticket: Ticket,
    /// The client has got something of the answer.
    has_begun: bool,
    /// When a comment is due: some engines send their head at once and then read a long prompt.
    comment: Option<Pin<Box<Sleep>>>,
}

/// HTTP-24.
const FIRST_TOKEN: Bytes = Bytes::from_static(b": waiting for the first token\n\n");

impl RelayedStream {
    pub(super) fn new(incoming: PatientBody, wants_usage: bool, name: ModelName, ticket: Ticket) -> Self {
        Self {
            incoming: Some(incoming),
            relay: Relay::new(wants_usage, name),
            out: VecDeque::new(),
            ticket,
            has_begun: false,
            comment: None,
        }
    }

    fn take(&mut self, chunk: Bytes) {
        self.relay.push(chunk, &mut self.out);
        if self.relay.has_content() {
            self.ticket.note_content();
        }
    }

    fn end(&mut self, end: End, silent: Option<Problem>) {
        // First, so that the engine's slot is free before the client hears of the end.
        self.incoming = None;
        let (problem, lost) = self.ticket.loss();
        let is_lost = self.relay.end(end, || silent.unwrap_or(problem), &mut self.out);
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
                this.has_begun = true;
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            let Some(incoming) = this.incoming.as_mut() else { return Poll::Ready(None) };
            let frame = match Pin::new(incoming).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending if this.has_begun => return Poll::Pending,
                Poll::Pending => {
                    let comment = this.comment.get_or_insert_with(|| Box::pin(sleep(COMMENT_EVERY)));
                    ready!(comment.as_mut().poll(cx));
                    this.comment = None;
                    return Poll::Ready(Some(Ok(Frame::data(FIRST_TOKEN))));
                }
            };
            match frame {
                Some(Ok(frame)) => {
                    if let Ok(chunk) = frame.into_data() {
                        this.take(chunk);
                    }
                }
                Some(Err(Broken::Lost)) => this.end(End::Broken, None),
                Some(Err(Broken::Silent)) => {
                    let silent = this.ticket.silent();
                    this.end(End::Broken, Some(silent));
                }
                None => this.end(End::Orderly, None),
            }
        }
    }
}

impl Drop for RelayedStream {
    fn drop(&mut self) {
        self.ticket.settle(&self.relay.usage(), Outcome::ClientGone);
    }
}
