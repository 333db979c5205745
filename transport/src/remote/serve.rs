//! What becomes of a message that another node sent to an actor of this one.
//!
//! Owns the refusals, the way back of an answer, and what is done about a full mailbox: an ask is refused, a
//! tell is kept until there is room (`parking.rs`). Refuses to wait, so that one full mailbox never holds the
//! others of its lane up.

mod answer_path;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use arw_kit::clock::Clock;
use arw_kit::moment::Moment;
use parking_lot::{Mutex, RwLock};

use super::begun::Begun;
use super::exports::{Deliver, Exports, Route};
use super::parking::{ParkedTell, Parking, Parks};
use super::protocol::Origin;
use crate::codec::DecodeError;
use crate::frame::{Address, CallId, FrameRefusal, MessageType, TargetActor, Trace};
use crate::identity::NodeId;
use crate::lanes::{Gate, Lanes, Tells};
use crate::wire::{Refused, ReplyRefusal};

pub(super) use answer_path::AnswerPath;

/// A message did not reach its actor.
#[derive(Debug)]
pub(super) enum Undelivered {
    Overloaded,
    Expired,
    UnknownActor,
    UnknownMessage(MessageType),
    Fenced {
        meant: u64,
        own: u64,
    },
    Decode(DecodeError),
    Down,
    /// What makes the actor's message of it panicked.
    Crashed,
}

impl Undelivered {
    pub(super) fn refusal(&self) -> Refused {
        match self {
            Self::Overloaded => Refused::new(ReplyRefusal::Overloaded, ""),
            Self::Expired => Refused::new(ReplyRefusal::Expired, ""),
            Self::UnknownActor => Refused::new(ReplyRefusal::Unknown, ""),
            Self::UnknownMessage(MessageType(number)) => {
                Refused::new(ReplyRefusal::UnknownMessage, &format!("type {number}"))
            }
            Self::Fenced { meant, own } => {
                Refused::new(ReplyRefusal::Fenced, &format!("it was for start {meant}, this is start {own}"))
            }
            Self::Decode(problem) => Refused::new(ReplyRefusal::Decode, &problem.to_string()),
            Self::Down => Refused::new(ReplyRefusal::Down, ""),
            Self::Crashed => Refused::new(ReplyRefusal::Unanswerable, "what converts the message panicked"),
        }
    }
}

/// Serves the messages of one connection.
pub(super) struct Server {
    pub(super) exports: Arc<Exports>,
    pub(super) lanes: Arc<Lanes>,
    pub(super) peer: NodeId,
    pub(super) own_incarnation: u64,
    pub(super) clock: Clock,
    pub(super) counters: ServeCounters,
    /// Whether anything that comes is still delivered.
    pub(super) gate: RwLock<Gate>,
    pub(super) waiting: Waiting,
    pub(super) begun: Mutex<Begun>,
}

/// A lane of the peer, from one frame to the next.
pub(crate) struct ServedLane {
    /// The start of this node that its frames are for.
    meant: u64,
    /// When the frames that are served now came, once that was asked.
    came: Option<Moment>,
    route: Option<Route>,
    /// Tells to one actor that were taken since another one was told something.
    took: (TargetActor, Tells),
}

/// What waits for actors without room, of all lanes of a connection.
#[derive(Default)]
pub(super) struct Waiting {
    /// Whether anything does, for who would rather not lock.
    any: AtomicBool,
    parking: Mutex<Parking>,
}

/// An ask's header.
pub(super) struct Ask {
    pub(super) to: Address,
    pub(super) trace: Option<Trace>,
    pub(super) call: CallId,
    pub(super) deadline_ms: u32,
}

/// What was not delivered or answered.
#[derive(Debug, Default)]
pub(super) struct ServeCounters {
    pub(super) lost_tells: AtomicU64,
    pub(super) refused_asks: AtomicU64,
    pub(super) cancelled_asks: AtomicU64,
    pub(super) refused_answers: AtomicU64,
    pub(super) conversions_crashed: AtomicU64,
}

impl ServedLane {
    pub(super) fn new(meant: u64) -> Self {
        let took = (TargetActor(0), Tells::default());
        Self { meant, came: None, route: None, took }
    }

    /// The frames that follow have just come.
    pub(super) fn begin(&mut self) {
        self.came = None;
    }

    pub(super) fn meant(&self) -> u64 {
        self.meant
    }
}

impl Waiting {
    /// Something waits for this actor.
    #[inline]
    fn is_for(&self, actor: TargetActor) -> bool {
        self.any.load(Ordering::Acquire) && self.parking.lock().holds(actor)
    }
}

impl Server {
    /// Delivers a tell, or keeps it until there is room.
    #[inline]
    pub(super) fn tell(
        self: &Arc<Self>,
        lane: &mut ServedLane,
        to: Address,
        trace: Option<Trace>,
        body: &[u8],
    ) {
        // What is not for this start of the node is not kept for it either.
        if self.waiting.is_for(to.actor) && self.judge(lane).is_ok() {
            return self.park(lane, ParkedTell { to, trace, body: body.into() });
        }
        match self.deliver_tell(lane, to, trace, body) {
            Ok(()) => {}
            Err(Undelivered::Overloaded) => {
                return self.park(lane, ParkedTell { to, trace, body: body.into() });
            }
            Err(_) => _ = self.counters.lost_tells.fetch_add(1, Ordering::Relaxed),
        }
        self.took(lane, to.actor, body.len());
    }

    /// LANE-17: a tell was taken or lost, which is told now and then.
    #[inline]
    fn took(&self, lane: &mut ServedLane, actor: TargetActor, bytes: usize) {
        let (last, tells) = &mut lane.took;
        if *last != actor {
            let (last, tells) = std::mem::replace(&mut lane.took, (actor, Tells { count: 1, bytes }));
            return self.owe(last, tells);
        }
        tells.add(Tells { count: 1, bytes });
        if tells.is_worth_telling() {
            let tells = std::mem::take(tells);
            self.owe(actor, tells);
        }
    }

    fn owe(&self, actor: TargetActor, taken: Tells) {
        if taken.count == 0 {
            return;
        }
        let due = self.waiting.parking.lock().owe(actor, taken);
        for (actor, taken) in due {
            self.lanes.tell_taken(actor, taken);
        }
    }

    /// LANE-18: the actor has no room, or others wait for it already.
    #[cold]
    fn park(self: &Arc<Self>, lane: &mut ServedLane, tell: ParkedTell) {
        let (actor, bytes) = (tell.to.actor, tell.body.len());
        let parks = {
            let mut parking = self.waiting.parking.lock();
            self.waiting.any.store(true, Ordering::Release);
            parking.park(tell)
        };
        match parks {
            Parks::Behind => {}
            Parks::First => {
                let seen_to = SeenTo { server: Arc::clone(self), actor, is_done: false };
                self.lanes.spawn(async move { seen_to.unpark().await });
            }
            Parks::TooMany => {
                self.counters.lost_tells.fetch_add(1, Ordering::Relaxed);
                self.took(lane, actor, bytes);
            }
        }
    }

    /// Delivers an ask, or answers it with a refusal.
    pub(super) fn ask(self: &Arc<Self>, lane: &mut ServedLane, ask: &Ask, body: &[u8]) {
        let mut path = self.path(ask.to.actor, ask.call);
        // LANE-10: where no answer finds room, the work for it is not begun. Nor does it overtake what waits
        // for the actor.
        if self.waiting.is_for(ask.to.actor) || !path.promise() {
            return path.refuse(&Undelivered::Overloaded);
        }
        let came = *lane.came.get_or_insert_with(|| self.clock.now());
        let deliver = match self.judge(lane).and_then(|()| self.find(lane, ask.to)) {
            _ if ask.deadline_ms == 0 => return path.refuse(&Undelivered::Expired),
            Ok(Deliver::Call(deliver)) => deliver,
            Ok(Deliver::Tell(_) | Deliver::Stream(_)) => {
                return path.refuse(&Undelivered::UnknownMessage(ask.to.message));
            }
            Err(why) => return path.refuse(&why),
        };
        let left = Duration::from_millis(ask.deadline_ms.into());
        let (origin, wait) = (self.origin(ask.trace), (self.clock.instant(came), left));
        // The path goes down with it, which tells the asker.
        let delivered = catch_unwind(AssertUnwindSafe(|| deliver(body, &origin, wait, path)));
        if delivered.is_err() {
            self.note_crash(ask.to);
        }
    }

    /// LANE-20: the peer waits no more for the answer to one of its asks. Whatever it says, nothing is kept
    /// because of it.
    #[cold]
    pub(super) fn cancel(&self, lane: &ServedLane, call: CallId) {
        if self.judge(lane).is_err() {
            return;
        }
        let Some(cancelled) = self.begun.lock().cancel(call) else { return };
        self.counters.cancelled_asks.fetch_add(1, Ordering::Relaxed);
        if cancelled.gives_promise_back {
            self.lanes.promises.keep();
        }
        cancelled.ask.cancel();
    }

    /// LANE-19: application code that panics takes nothing with it but its own message.
    #[cold]
    pub(super) fn note_crash(&self, to: Address) {
        self.counters.conversions_crashed.fetch_add(1, Ordering::Relaxed);
        let (actor, message) = (to.actor.0, to.message.0);
        tracing::warn!(peer = %self.peer.short(), actor, message, "a message from another node could not be converted: that panicked");
    }

    /// A frame that this version does not understand. WIRE-3: who waits for an answer is told.
    pub(super) fn refuse_frame(self: &Arc<Self>, refusal: FrameRefusal) {
        let Some(call) = refusal.answer_to else { return };
        let mut path = self.path(TargetActor(0), call);
        path.send_refusal(&Refused::new(refusal.reason.into(), &refusal.reason.to_string()));
    }

    fn deliver_tell(
        &self,
        lane: &mut ServedLane,
        to: Address,
        trace: Option<Trace>,
        body: &[u8],
    ) -> Result<(), Undelivered> {
        self.judge(lane)?;
        self.hand_over(self.find(lane, to)?, to, trace, body)
    }

    fn deliver_parked(&self, tell: &ParkedTell) -> Result<(), Undelivered> {
        let route = self.exports.route(tell.to)?;
        self.hand_over(route.deliver()?, tell.to, tell.trace, &tell.body)
    }

    #[inline]
    fn hand_over(
        &self,
        found: &Deliver,
        to: Address,
        trace: Option<Trace>,
        body: &[u8],
    ) -> Result<(), Undelivered> {
        match found {
            Deliver::Tell(deliver) => {
                let origin = self.origin(trace);
                // LANE-19
                catch_unwind(AssertUnwindSafe(|| deliver(body, &origin))).unwrap_or_else(|_| {
                    self.note_crash(to);
                    Err(Undelivered::Crashed)
                })
            }
            Deliver::Call(_) | Deliver::Stream(_) => Err(Undelivered::UnknownMessage(to.message)),
        }
    }

    pub(super) fn judge(&self, lane: &ServedLane) -> Result<(), Undelivered> {
        // WIRE-7: what was meant for another start of this node does nothing.
        if lane.meant != self.own_incarnation {
            return Err(Undelivered::Fenced { meant: lane.meant, own: self.own_incarnation });
        }
        Ok(())
    }

    /// LANE-8: who gets it, and how. Looked up anew only where the address, or what is offered, has changed
    /// since the last frame.
    #[inline]
    pub(super) fn find<'lane>(
        &self,
        lane: &'lane mut ServedLane,
        to: Address,
    ) -> Result<&'lane Deliver, Undelivered> {
        if !lane.route.as_ref().is_some_and(|route| route.leads_to(to, &self.exports)) {
            lane.route = Some(self.exports.route(to)?);
        }
        lane.route.as_ref().ok_or(Undelivered::UnknownActor)?.deliver()
    }

    pub(super) fn origin(&self, trace: Option<Trace>) -> Origin {
        Origin { node: self.peer, trace }
    }

    fn path(self: &Arc<Self>, actor: TargetActor, call: CallId) -> AnswerPath {
        AnswerPath::new(Arc::clone(self), actor, call)
    }
}

/// Sees to what waits for one actor. However that ends, nothing waits there any more that nobody sees to.
struct SeenTo {
    server: Arc<Server>,
    actor: TargetActor,
    is_done: bool,
}

/// How often what is offered under the actor's name is looked up again while it has no room: it may be
/// another actor now.
const LOOK_PERIOD: Duration = Duration::from_secs(1);

/// Tells that are delivered before others of the connection may come.
const BATCH: usize = 64;

impl SeenTo {
    /// Delivers what waits as there is room, until nothing does.
    async fn unpark(mut self) {
        loop {
            if let Some(offered) = self.server.exports.find(self.actor) {
                // Where there is no room in that time, it shows when it is tried.
                let _ = tokio::time::timeout(LOOK_PERIOD, offered.room()).await;
            }
            self.is_done = self.deliver();
            if self.is_done {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    /// Delivers as much of it as there is room for. `true`: nothing waits any more.
    fn deliver(&self) -> bool {
        let Self { server, actor, .. } = self;
        let gate = server.gate.read();
        // LANE-14
        if *gate == Gate::Closed {
            return true;
        }
        let mut taken = Tells::default();
        let mut parking = server.waiting.parking.lock();
        for _ in 0..BATCH {
            let Some(tell) = parking.take_first(*actor) else { break };
            match server.deliver_parked(&tell) {
                Ok(()) => {}
                Err(Undelivered::Overloaded) => {
                    parking.put_back(tell);
                    break;
                }
                Err(_) => _ = server.counters.lost_tells.fetch_add(1, Ordering::Relaxed),
            }
            taken.add(Tells { count: 1, bytes: tell.body.len() });
        }
        let is_done = parking.is_done(*actor);
        server.waiting.any.store(!parking.is_empty(), Ordering::Release);
        drop(parking);
        server.owe(*actor, taken);
        is_done
    }
}

impl Drop for SeenTo {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        let mut parking = self.server.waiting.parking.lock();
        let lost = parking.forget(self.actor);
        self.server.waiting.any.store(!parking.is_empty(), Ordering::Release);
        drop(parking);
        // The connection is over, and nobody counts any more.
        self.server.counters.lost_tells.fetch_add(lost.count.into(), Ordering::Relaxed);
        self.server.owe(self.actor, lost);
    }
}
