//! An engine's stream on its way to the client.
//!
//! Owns the body: it pulls, so a slow client slows its engine and costs no memory. Refuses to look into
//! events (`relay.rs` does).

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::{Sleep, sleep, timeout};

use super::attempt;
use super::early::COMMENT_EVERY;
use super::fate::{Fate, NOTICED_WITHIN};
use super::idle_timeout::{IdleTimeoutBody, ReadError};
use super::model_name::ModelName;
use super::relay::{End, Relay};
use super::ticket::Ticket;
use crate::metrics::Outcome;
use crate::problem::Problem;

/// The body of a streaming answer.
///
/// HTTP-14 and HTTP-18: dropping it, as hyper does when the client is gone, drops the engine's answer, which
/// closes the engine's connection, or the stream to the other node.
#[derive(Debug)]
pub(super) struct RelayedStream {
    /// `None` once it has ended.
    incoming: Option<IdleTimeoutBody>,
    relay: Relay,
    out: VecDeque<Bytes>,
    account: Account,
    /// The client has got something of the answer.
    has_begun: bool,
    /// When a comment is due: some engines send their head at once and then read a long prompt.
    comment: Option<Pin<Box<Sleep>>>,
    /// Until when what the relay holds waits for more.
    held: Option<Pin<Box<Sleep>>>,
}

/// The request's ticket.
#[expect(clippy::large_enum_variant, reason = "it is open for nearly all of a stream")]
enum Account {
    Open(Ticket),
    /// HTTP-22: the engine is lost, and it is found out how.
    Inquires(End, Pin<Box<dyn Future<Output = (Ticket, Option<Fate>)> + Send>>),
    Closed,
}

/// Engines send the usage chunk at once after the last one.
const HELD_MAX: Duration = Duration::from_secs(1);

/// The kernel notices the end of most processes within milliseconds.
const INQUIRY_MAX: Duration = Duration::from_secs(2);

/// HTTP-24.
const FIRST_TOKEN: Bytes = Bytes::from_static(b": waiting for the first token\n\n");

impl RelayedStream {
    pub(super) fn new(incoming: IdleTimeoutBody, wants_usage: bool, name: ModelName, ticket: Ticket) -> Self {
        Self {
            incoming: Some(incoming),
            relay: Relay::new(wants_usage, name),
            out: VecDeque::new(),
            account: Account::Open(ticket),
            has_begun: false,
            comment: None,
            held: None,
        }
    }

    /// The engine sends nothing: what the client gets meanwhile; `None` where something is in `out` now.
    fn poll_meanwhile(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if self.relay.is_holding() {
            let held = self.held.get_or_insert_with(|| Box::pin(sleep(HELD_MAX)));
            ready!(held.as_mut().poll(cx));
            self.relay.let_go(&mut self.out);
            return Poll::Ready(None);
        }
        if self.has_begun {
            return Poll::Pending;
        }
        let comment = self.comment.get_or_insert_with(|| Box::pin(sleep(COMMENT_EVERY)));
        ready!(comment.as_mut().poll(cx));
        self.comment = None;
        Poll::Ready(Some(FIRST_TOKEN))
    }

    fn take(&mut self, chunk: Bytes) {
        self.relay.push(chunk, &mut self.out);
        if !self.relay.is_holding() {
            self.held = None;
        }
        let Account::Open(ticket) = &mut self.account else { return };
        if self.relay.has_content() {
            ticket.note_content();
        }
        if let (Some(error), Some(host)) = (self.relay.take_error(), ticket.host()) {
            attempt::note_death_there(ticket, host, &error);
        }
    }

    fn engine_is_done(&mut self, end: End, is_silent: bool) {
        // First, so that the engine's slot is free before the client hears of the end.
        self.incoming = None;
        let Account::Open(mut ticket) = std::mem::replace(&mut self.account, Account::Closed) else { return };
        let silent = is_silent.then(|| ticket.silent());
        if silent.is_none() && ticket.lease().is_some() && self.relay.is_lost(end) {
            ticket.note_usage(self.relay.usage());
            let inquiry = async move {
                let fate = timeout(INQUIRY_MAX, ticket.fate(NOTICED_WITHIN)).await.ok();
                (ticket, fate)
            };
            self.account = Account::Inquires(end, Box::pin(inquiry));
            return;
        }
        self.close(end, ticket, silent);
    }

    /// `problem`: what is known of the loss, if it is one.
    fn close(&mut self, end: End, mut ticket: Ticket, problem: Option<Problem>) {
        let (loss, lost) = ticket.loss();
        let is_lost = self.relay.end(end, || problem.unwrap_or(loss), &mut self.out);
        let outcome = if is_lost { lost } else { Outcome::Ok };
        ticket.settle(&self.relay.usage(), outcome);
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
            if let Account::Inquires(end, inquiry) = &mut this.account {
                let (end, (ticket, fate)) = (*end, ready!(inquiry.as_mut().poll(cx)));
                this.account = Account::Closed;
                let problem = match fate {
                    Some(Fate::Died(engine)) => Some(ticket.engine_died(&engine)),
                    Some(Fate::Lives) | None => None,
                };
                this.close(end, ticket, problem);
                continue;
            }
            let Some(incoming) = this.incoming.as_mut() else { return Poll::Ready(None) };
            let frame = match Pin::new(incoming).poll_frame(cx) {
                Poll::Ready(frame) => frame,
                Poll::Pending => match ready!(this.poll_meanwhile(cx)) {
                    Some(comment) => return Poll::Ready(Some(Ok(Frame::data(comment)))),
                    None => continue,
                },
            };
            match frame {
                Some(Ok(frame)) => {
                    if let Ok(chunk) = frame.into_data() {
                        this.take(chunk);
                    }
                }
                Some(Err(ReadError::Lost)) => this.engine_is_done(End::Broken, false),
                Some(Err(ReadError::IdleTimeout)) => this.engine_is_done(End::Broken, true),
                None => this.engine_is_done(End::Orderly, false),
            }
        }
    }
}

impl Drop for RelayedStream {
    fn drop(&mut self) {
        if let Account::Open(ticket) = &mut self.account {
            ticket.settle(&self.relay.usage(), Outcome::ClientGone);
        }
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open(_) => "Open",
            Self::Inquires(..) => "Inquires",
            Self::Closed => "Closed",
        })
    }
}
