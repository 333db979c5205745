//! What everyone holds of an actor on another node.
//!
//! Owns tell, ask and monitor, and what an ask leaves behind when it ends: nothing. Refuses to know the
//! actor.

use std::fmt;
use std::future::Future;
use std::num::NonZeroU32;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::sync::oneshot;

use super::answers::RemoteAnswers;
use super::calls::{Answer, OpenError, Outcome};
use super::link::Link;
use super::links::Peer;
use super::protocol::{
    NodeDown, RemoteAskError, RemoteCall, RemoteMonitorError, RemoteStream, RemoteTell, RemoteTellError,
    target_of,
};
use crate::codec;
use crate::endpoint::{PeerStream, StreamPurpose};
use crate::frame::{Address, CallId, Header, MessageType, TargetActor, Trace};
use crate::identity::NodeId;
use crate::lanes::{PushError, Room, stream_start};
use crate::wire::{DownReason, Refused};

/// The address of an actor on another node. It stays valid over restarts of the actor and over new
/// connections to the same start of the node; another start of the node is never reached by it: see
/// [`RemoteHandle::rebind`].
#[derive(Clone)]
pub struct RemoteHandle {
    peer: Arc<Peer>,
    incarnation: u64,
    name: Arc<str>,
    target: TargetActor,
    trace: Option<Trace>,
}

impl fmt::Debug for RemoteHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteHandle({} on {}#{})", self.name, self.peer.id.short(), self.incarnation)
    }
}

/// How a watched actor ended, or why that cannot be known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteDown {
    /// An incarnation of the actor ended, or there is none. The handle stays valid: the actor may be started
    /// again.
    Actor {
        /// How.
        reason: DownReason,
        /// The same with all that is known, for people.
        text: Arc<str>,
    },
    /// The node cannot be reached any more.
    Node(NodeDown),
}

impl RemoteHandle {
    pub(super) fn new(peer: Arc<Peer>, incarnation: u64, name: &str) -> Self {
        Self { peer, incarnation, name: name.into(), target: target_of(name), trace: None }
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.peer.id
    }

    /// The start of the node that it is bound to.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// The name under which the node offers the actor.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same actor; what is sent through the new handle belongs to this trace.
    #[must_use]
    pub fn with_trace(&self, trace: Option<Trace>) -> Self {
        Self { trace, ..self.clone() }
    }

    /// The same name on the start of the node that is connected now. What the actor knew of an earlier start
    /// is gone.
    ///
    /// # Errors
    /// [`NodeDown::NotConnected`].
    pub fn rebind(&self) -> Result<Self, NodeDown> {
        Ok(Self { incarnation: self.peer.incarnation()?, ..self.clone() })
    }

    /// Sends without waiting. That it was sent does not say that the actor has handled it.
    ///
    /// # Errors
    /// See [`RemoteTellError`].
    pub fn try_tell<T: RemoteTell>(&self, message: &T) -> Result<(), RemoteTellError> {
        let header = Header::Tell { to: self.address(T::TYPE), trace: self.trace };
        let sent = self.peer.with_link(self.incarnation, |link| {
            link.lanes.push(self.target, &header, message, Room::Message)
        })?;
        sent.map(drop).map_err(|error| self.tell_error(error))
    }

    /// Sends, waiting for at most `patience` while too much waits for the node to read or for the actor to
    /// handle.
    ///
    /// # Errors
    /// As [`RemoteHandle::try_tell`], after `patience` when there is no room.
    pub async fn tell<T: RemoteTell>(&self, message: &T, patience: Duration) -> Result<(), RemoteTellError> {
        match self.try_tell(message) {
            Err(RemoteTellError::Overloaded) => {}
            done => return done,
        }
        let link = self.peer.link(self.incarnation)?;
        let header = Header::Tell { to: self.address(T::TYPE), trace: self.trace };
        let sent = link.lanes.push_within(self.target, |_| header, message, patience).await;
        sent.map_err(|error| self.tell_error(error))
    }

    /// Asks, and waits for the answer for at most `patience` in all. When that has passed, or the future is
    /// dropped, the actor is told that nobody waits any more.
    ///
    /// # Errors
    /// See [`RemoteAskError`]. It never waits longer than `patience`, and not at all once the connection is
    /// gone.
    pub async fn ask<C: RemoteCall>(
        &self,
        message: &C,
        patience: Duration,
    ) -> Result<C::Reply, RemoteAskError> {
        let link = self.peer.link(self.incarnation)?;
        let due = link.clock.now() + patience;
        let id = std::future::poll_fn(|cx| Poll::Ready(link.open_call(due, cx.waker().clone()))).await;
        let id = id.map_err(|error| match error {
            OpenError::TooMany => RemoteAskError::Overloaded,
            OpenError::Down => self.peer.why_down(self.incarnation).into(),
        })?;
        // From here on the call's place is freed however this ends.
        let (target, is_over) = (self.target, false);
        let mut call = Call { link: &link, target, id, is_waited_for: true, is_over, is_under_way: false };
        let header = |left| self.ask_header(C::TYPE, id, left);
        let sent = match link.lanes.push(self.target, &header(patience), message, Room::Message) {
            Err(PushError::Full) => {
                call.is_waited_for = false;
                // Rare, and large: it would make every ask as large.
                Box::pin(link.lanes.push_within(self.target, header, message, patience)).await
            }
            done => done.map(drop),
        };
        sent.map_err(|error| match error {
            PushError::Full => RemoteAskError::Overloaded,
            PushError::Closed => self.peer.why_down(self.incarnation).into(),
            PushError::Write(problem) => RemoteAskError::Write(problem),
        })?;
        call.is_under_way = true;
        match call.await {
            Outcome::Answered(answer) => read_answer::<C>(&answer),
            Outcome::Down => Err(self.peer.why_down(self.incarnation).into()),
            Outcome::Expired => Err(RemoteAskError::Expired(patience)),
        }
    }

    /// Asks for many answers. They are read as they come; how fast they are read is how fast the actor can
    /// answer. Dropping what is returned tells the actor that nobody reads any more. It waits at most
    /// `patience` until the message is sent; what other messages this node sends to the actor may overtake
    /// it.
    ///
    /// # Errors
    /// See [`RemoteAskError`]; what the other node refuses is told by the first [`RemoteAnswers::next`].
    pub async fn stream<S: RemoteStream>(
        &self,
        message: &S,
        patience: Duration,
    ) -> Result<RemoteAnswers<S>, RemoteAskError> {
        let link = self.peer.link(self.incarnation)?;
        let deadline = link.clock.instant(link.clock.now() + patience);
        let opened = tokio::time::timeout_at(deadline, link.lanes.open_two_way()).await;
        let stream = opened.map_err(|_| RemoteAskError::Expired(patience))?;
        let (send, receive) = stream.ok_or_else(|| self.peer.why_down(self.incarnation))?;
        let start = stream_start(StreamPurpose::Answers, self.incarnation);
        // The stream is the call.
        let call = CallId { slot: 0, generation: NonZeroU32::MIN };
        RemoteAnswers::ask(
            (PeerStream::new(self.peer.id, send, receive), &start),
            (self.ask_header(S::TYPE, call, patience), message),
            (Arc::clone(&self.peer), self.incarnation),
            (deadline, patience),
        )
        .await
    }

    /// Watches the actor: resolves once, with how its current incarnation ends, or when the connection ends.
    /// Dropping it ends the watch.
    ///
    /// # Errors
    /// See [`RemoteMonitorError`].
    pub fn monitor(&self) -> Result<RemoteMonitor, RemoteMonitorError> {
        let link = self.peer.link(self.incarnation)?;
        let (number, told) = link.watch(self.target).ok_or(RemoteMonitorError::Overloaded)?;
        Ok(RemoteMonitor { peer: Arc::clone(&self.peer), link, number, told })
    }

    fn address(&self, message: MessageType) -> Address {
        Address { actor: self.target, message }
    }

    fn ask_header(&self, message: MessageType, call: CallId, left: Duration) -> Header {
        // Rounded up: an ask that is sent has time left.
        let millis = left.as_secs().saturating_mul(1000) + u64::from(left.subsec_nanos().div_ceil(1_000_000));
        let deadline_ms = u32::try_from(millis).unwrap_or(u32::MAX).max(1);
        Header::Ask { to: self.address(message), trace: self.trace, call, deadline_ms }
    }

    fn tell_error(&self, error: PushError) -> RemoteTellError {
        match error {
            PushError::Full => RemoteTellError::Overloaded,
            PushError::Closed => self.peer.why_down(self.incarnation).into(),
            PushError::Write(problem) => RemoteTellError::Write(problem),
        }
    }
}

fn read_answer<C: RemoteCall>(answer: &Answer) -> Result<C::Reply, RemoteAskError> {
    if answer.is_refusal {
        let Refused { reason, detail } = Refused::from_body(&answer.body).map_err(RemoteAskError::Answer)?;
        return Err(RemoteAskError::Refused { reason, detail });
    }
    codec::decode(&answer.body).map_err(RemoteAskError::Answer)
}

/// Waits for how a call ends, which is at its deadline at the latest. However it does, the call's place is
/// free then, and the other node does not work for nobody.
struct Call<'link> {
    link: &'link Link,
    target: TargetActor,
    id: CallId,
    /// The waker of the poll that goes on is in the table.
    is_waited_for: bool,
    /// The table has given its outcome, and the place away.
    is_over: bool,
    /// It was sent, and is neither answered nor lost.
    is_under_way: bool,
}

impl Future for Call<'_> {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        if std::mem::take(&mut this.is_waited_for) {
            return Poll::Pending;
        }
        let waiter = |known: Option<&std::task::Waker>| match known {
            Some(known) if known.will_wake(cx.waker()) => None,
            Some(_) | None => Some(cx.waker().clone()),
        };
        let polled = this.link.calls.lock().poll(this.id, waiter);
        this.is_over = polled.is_ready();
        if matches!(polled, Poll::Ready(Outcome::Answered(_) | Outcome::Down)) {
            this.is_under_way = false;
        }
        polled
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let is_unanswered = self.is_over || self.link.calls.lock().end(self.id);
        // LANE-20
        if self.is_under_way && is_unanswered {
            // Where there is no room for it, or no connection any more, the deadline or the connection's end
            // tells the actor.
            let _ = self.link.lanes.push(self.target, &Header::Cancel { call: self.id }, &(), Room::Cancel);
        }
    }
}

/// Watches an actor of another node, see [`RemoteHandle::monitor`].
#[must_use = "the watch ends when this is dropped"]
pub struct RemoteMonitor {
    peer: Arc<Peer>,
    link: Arc<Link>,
    number: u64,
    told: oneshot::Receiver<RemoteDown>,
}

impl fmt::Debug for RemoteMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteMonitor({} on {:?})", self.number, self.link)
    }
}

impl Future for RemoteMonitor {
    type Output = RemoteDown;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<RemoteDown> {
        Pin::new(&mut self.told).poll(cx).map(|told| match told {
            Ok(down @ RemoteDown::Actor { .. }) => down,
            Ok(RemoteDown::Node(_)) | Err(_) => RemoteDown::Node(self.peer.why_down(self.link.incarnation())),
        })
    }
}

impl Drop for RemoteMonitor {
    fn drop(&mut self) {
        self.link.unwatch(self.number);
    }
}
