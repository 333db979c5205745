//! One live connection to another node, as remote actors see it.
//!
//! Owns what must end with the connection: asks that wait, watches of both sides, lanes. Refuses to open or
//! keep connections.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::task::Waker;
use std::time::Duration;

use arw_kit::clock::Clock;
use arw_kit::mailbox::{AskCancel, MonitorGuard};
use arw_kit::moment::Moment;
use parking_lot::{Mutex, RwLock};
use quinn::{Connection, RecvStream};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::task::AbortHandle;

use super::begun::Begun;
use super::calls::{CallTable, OpenError};
use super::handle::RemoteDown;
use super::links::{Own, PeerUp};
use super::protocol::NodeDown;
use super::serve::{Ask, ServeCounters, ServedLane, Server, Waiting};
use super::serve_answers::{self, Place};
use super::watches::{WatchRefusal, Watched, Watching};
use crate::endpoint::PeerStream;
use crate::frame::{CallId, FrameRefusal, Header, TargetActor};
use crate::identity::NodeId;
use crate::lanes::{Gate, Lanes, Receive, Tells};
use crate::wire::{Control, Demonitor, Down, DownReason, Monitor, StreamRefusal};

/// Where messages for the peer's control stream go. It must not block.
pub trait ControlOut: Send + Sync + 'static {
    /// Queues a message for the control stream.
    ///
    /// # Errors
    /// [`ControlFull`]: the peer does not read, or is gone.
    fn try_send(&self, message: &Control) -> Result<(), ControlFull>;

    /// Ends the connection: something that must be said found no room.
    fn give_up(&self);
}

/// The control stream takes nothing more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the control stream takes nothing more")]
pub struct ControlFull;

/// One connection to one start of a peer. Made by [`Links::peer_up`](super::Links::peer_up).
pub struct Link {
    peer: NodeId,
    incarnation: u64,
    own_incarnation: u64,
    pub(super) lanes: Arc<Lanes>,
    pub(super) calls: Mutex<CallTable<Waker>>,
    /// Wakes who watches over the deadlines of asks.
    sooner: Arc<Notify>,
    is_watched_over: AtomicBool,
    pub(super) clock: Clock,
    server: Arc<Server>,
    watching: Mutex<Watching<oneshot::Sender<RemoteDown>>>,
    watched: Mutex<Watched<MonitorGuard>>,
    /// Taken away at the end: it may hold the connection.
    control: Mutex<Option<Arc<dyn ControlOut>>>,
    runtime: Handle,
    /// Streams of answers that are served.
    answered: Arc<AtomicUsize>,
    is_down: AtomicBool,
    /// Waits for the connection's end, and holds the connection meanwhile.
    watcher: OnceLock<AbortHandle>,
}

/// What a link counted since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounts {
    /// Asks of this node that wait for their answers now.
    pub open_calls: usize,
    /// Bytes that wait to be sent now.
    pub waiting_bytes: usize,
    /// Answers that came after their ask had ended.
    pub late_answers: u64,
    /// Tells of the peer that were not delivered.
    pub lost_tells: u64,
    /// Asks of the peer that were refused.
    pub refused_asks: u64,
    /// Asks of the peer that actors of this node have and have not answered now.
    pub begun_asks: usize,
    /// Asks of the peer that it cancelled before they were answered.
    pub cancelled_asks: u64,
    /// Answers for the peer that found no room: it was told so instead.
    pub refused_answers: u64,
    /// Messages of the peer whose conversion panicked.
    pub conversions_crashed: u64,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Link({}#{})", self.peer.short(), self.incarnation)
    }
}

impl Link {
    pub(super) fn new(up: PeerUp, own: &Own) -> Arc<Self> {
        let Own { incarnation: own_incarnation, clock, options, .. } = *own;
        let PeerUp { node, incarnation, connection, control, runtime } = up;
        let lanes = Lanes::new((connection, incarnation), runtime.clone(), clock, options.lanes);
        let server = Arc::new(Server {
            exports: Arc::clone(&own.exports),
            lanes: Arc::clone(&lanes),
            peer: node,
            own_incarnation,
            clock,
            counters: ServeCounters::default(),
            gate: RwLock::new(Gate::Open),
            waiting: Waiting::default(),
            begun: Mutex::new(Begun::default()),
        });
        Arc::new(Self {
            peer: node,
            incarnation,
            own_incarnation,
            lanes,
            calls: Mutex::new(CallTable::new(options.open_calls_max)),
            sooner: Arc::default(),
            is_watched_over: AtomicBool::new(false),
            clock,
            server,
            watching: Mutex::new(Watching::new(options.watches_max)),
            watched: Mutex::new(Watched::new(options.watches_max)),
            control: Mutex::new(Some(control)),
            runtime,
            answered: Arc::default(),
            is_down: AtomicBool::new(false),
            watcher: OnceLock::new(),
        })
    }

    /// Fails by itself when the connection ends.
    pub(super) fn watch_connection(self: &Arc<Self>, connection: Connection) {
        let link = Arc::downgrade(self);
        let watcher = self.runtime.spawn(async move {
            let _ = connection.closed().await;
            if let Some(link) = link.upgrade() {
                link.fail();
            }
        });
        // It is begun once.
        let _ = self.watcher.set(watcher.abort_handle());
    }

    /// The node at the other end.
    #[must_use]
    pub fn peer(&self) -> NodeId {
        self.peer
    }

    /// Which start of that node.
    #[must_use]
    pub fn incarnation(&self) -> u64 {
        self.incarnation
    }

    /// Reads a stream of [`StreamPurpose::Lane`](crate::endpoint::StreamPurpose::Lane) that the peer opened,
    /// after that byte.
    pub fn accept(self: &Arc<Self>, stream: RecvStream) {
        self.lanes.accept(stream, self);
    }

    /// Serves a stream of [`StreamPurpose::Answers`](crate::endpoint::StreamPurpose::Answers) that the peer
    /// opened, after that byte.
    pub fn accept_answers(self: &Arc<Self>, stream: PeerStream) {
        let Some(place) = Place::take(&self.answered) else { return stream.refuse(StreamRefusal::Busy) };
        self.lanes.spawn(serve_answers::serve(Arc::clone(&self.server), stream, place));
    }

    /// A message of the peer's control stream. `false`: it is not about watched actors.
    pub fn control(self: &Arc<Self>, message: &Control) -> bool {
        match message {
            Control::Monitor(monitor) => self.watch_for_peer(*monitor),
            Control::Demonitor(Demonitor { monitor }) => {
                let ended = self.watched.lock().end(*monitor);
                drop(ended);
            }
            Control::Down(down) => {
                let watcher = self.watching.lock().end(down.monitor);
                if let Some(watcher) = watcher {
                    // Who watched may be gone.
                    let _ = watcher
                        .send(RemoteDown::Actor { reason: down.reason, text: down.text.as_str().into() });
                }
            }
            _ => return false,
        }
        true
    }

    /// What it counted.
    #[must_use]
    pub fn counts(&self) -> LinkCounts {
        let (open_calls, late_answers) = {
            let calls = self.calls.lock();
            (calls.open_count(), calls.late_count())
        };
        let counters = &self.server.counters;
        LinkCounts {
            open_calls,
            late_answers,
            waiting_bytes: self.lanes.waiting_bytes(),
            lost_tells: counters.lost_tells.load(Ordering::Relaxed),
            refused_asks: counters.refused_asks.load(Ordering::Relaxed),
            begun_asks: self.server.begun.lock().len(),
            cancelled_asks: counters.cancelled_asks.load(Ordering::Relaxed),
            refused_answers: counters.refused_answers.load(Ordering::Relaxed),
            conversions_crashed: counters.conversions_crashed.load(Ordering::Relaxed),
        }
    }

    /// The connection has ended: whoever waits is told at once.
    pub(super) fn fail(&self) {
        if self.is_down.swap(true, Ordering::AcqRel) {
            return;
        }
        *self.server.gate.write() = Gate::Closed;
        // A leaked connection would keep the endpoint's socket open.
        if let Some(watcher) = self.watcher.get() {
            watcher.abort();
        }
        self.lanes.close();
        drop(self.control.lock().take());
        // LANE-11
        let waiters = self.calls.lock().fail_all();
        waiters.into_iter().for_each(Waker::wake);
        self.sooner.notify_one();
        // LANE-20: the other way round, too.
        let begun = self.server.begun.lock().cancel_all();
        begun.iter().for_each(AskCancel::cancel);
        let watchers = self.watching.lock().end_all();
        for watcher in watchers {
            // Who watched may be gone.
            let _ = watcher.send(RemoteDown::Node(NodeDown::ConnectionLost));
        }
        let guards = self.watched.lock().end_all();
        drop(guards);
    }

    /// A new call, which waits until `due`. `waiter` is woken when it ends.
    #[inline]
    pub(super) fn open_call(self: &Arc<Self>, due: Moment, waiter: Waker) -> Result<CallId, OpenError> {
        let mut calls = self.calls.lock();
        let due_before = calls.next_due();
        let call = calls.open(due, waiter)?;
        let is_sooner = calls.next_due() != due_before;
        drop(calls);
        if is_sooner {
            self.watch_over_deadlines();
        }
        Ok(call)
    }

    /// A call is due before all others.
    #[cold]
    fn watch_over_deadlines(self: &Arc<Self>) {
        if self.is_watched_over.swap(true, Ordering::AcqRel) {
            self.sooner.notify_one();
        } else {
            self.runtime.spawn(watch_over_deadlines(
                Arc::downgrade(self),
                Arc::clone(&self.sooner),
                self.clock,
            ));
        }
    }

    pub(super) fn is_down(&self) -> bool {
        self.is_down.load(Ordering::Acquire)
    }

    /// Watches an actor of the peer. `None`: no room for it, here or on the control stream.
    pub(super) fn watch(&self, target: TargetActor) -> Option<(u64, oneshot::Receiver<RemoteDown>)> {
        let (watcher, told) = oneshot::channel();
        let monitor = self.watching.lock().begin(watcher)?;
        let message = Monitor { monitor, actor: target.0, incarnation: self.incarnation };
        if !self.say(&message.into()) {
            self.watching.lock().end(monitor);
            return None;
        }
        // The connection may have ended since the caller looked; then nobody else would tell.
        if self.is_down()
            && let Some(watcher) = self.watching.lock().end(monitor)
        {
            let _ = watcher.send(RemoteDown::Node(NodeDown::ConnectionLost));
        }
        Some((monitor, told))
    }

    /// Watches it no longer.
    pub(super) fn unwatch(&self, monitor: u64) {
        let was_open = self.watching.lock().end(monitor).is_some();
        if was_open {
            self.must_say(&Demonitor { monitor }.into());
        }
    }

    fn watch_for_peer(self: &Arc<Self>, monitor: Monitor) {
        let Monitor { monitor: number, actor, incarnation } = monitor;
        let refuse = |reason: DownReason| {
            self.must_say(&Down { monitor: number, actor, reason, text: String::new() }.into());
        };
        if incarnation != self.own_incarnation {
            return refuse(DownReason::OtherIncarnation);
        }
        let Some(offered) = self.server.exports.find(TargetActor(actor)) else {
            return refuse(DownReason::NoSuchActor);
        };
        match self.watched.lock().begin(number) {
            Ok(()) => {}
            Err(WatchRefusal::TooMany) => return refuse(DownReason::TooManyWatches),
            Err(WatchRefusal::Known | WatchRefusal::Down) => return,
        }
        let link = Arc::downgrade(self);
        let guard = offered.watch(Box::new(move |down| {
            if let Some(link) = link.upgrade() {
                link.watched_ended(Down::of(number, actor, &down.reason));
            }
        }));
        let over = self.watched.lock().began(number, guard);
        drop(over);
    }

    /// An actor that the peer watches has ended. Runs in that actor's supervisor.
    fn watched_ended(&self, down: Down) {
        let ended = self.watched.lock().end(down.monitor);
        // A watch ends once.
        let Some(guard) = ended else { return };
        self.must_say(&down.into());
        drop(guard);
    }

    /// Queues a message for the peer. `false`: there is no room, or no connection.
    fn say(&self, message: &Control) -> bool {
        let control = self.control.lock().clone();
        control.is_some_and(|control| control.try_send(message).is_ok())
    }

    /// LANE-12: what must be said and cannot be ends the connection, which tells it.
    fn must_say(&self, message: &Control) {
        let control = self.control.lock().clone();
        if let Some(control) = control
            && control.try_send(message).is_err()
        {
            control.give_up();
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        // Who watches over deadlines waits for nothing else.
        self.sooner.notify_one();
    }
}

impl Receive for Link {
    type Lane = ServedLane;

    fn lane(&self, incarnation: u64) -> ServedLane {
        ServedLane::new(incarnation)
    }

    fn begin(&self, lane: &mut ServedLane) {
        lane.begin();
    }

    fn gate(&self) -> &RwLock<Gate> {
        &self.server.gate
    }

    #[inline]
    fn frame(&self, lane: &mut ServedLane, header: &Header, body: &[u8]) {
        let (call, is_refusal) = match *header {
            Header::Tell { to, trace } => return self.server.tell(lane, to, trace, body),
            Header::Ask { to, trace, call, deadline_ms } => {
                return self.server.ask(lane, &Ask { to, trace, call, deadline_ms }, body);
            }
            Header::Reply { call } => (call, false),
            Header::Refusal { call } => (call, true),
            Header::Cancel { call } => return self.server.cancel(lane, call),
            // What another start of this node sent is none of this one's.
            Header::Taken { .. } if lane.meant() != self.own_incarnation => return,
            Header::Taken { actor, tells, bytes } => {
                return self.lanes.taken(actor, Tells { count: tells, bytes: bytes as usize });
            }
        };
        if lane.meant() != self.own_incarnation {
            // WIRE-7: one for another start of this node meets nobody.
            return self.calls.lock().count_late();
        }
        let waiter = self.calls.lock().answer(call, is_refusal, body);
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }

    fn refused(&self, refusal: FrameRefusal) {
        self.server.refuse_frame(refusal);
    }
}

/// How often all open calls are looked at for deadlines at most; an ask ends so much late at most, and never
/// early.
const LOOK_PERIOD: Duration = Duration::from_millis(5);

/// Ends asks whose deadline has passed, for as long as there is the link.
async fn watch_over_deadlines(link: Weak<Link>, sooner: Arc<Notify>, clock: Clock) {
    loop {
        let Some(live) = link.upgrade().filter(|link| !link.is_down()) else { return };
        let expired = live.calls.lock().expire(clock.now());
        expired.into_iter().for_each(Waker::wake);
        let next_due = live.calls.lock().next_due();
        drop(live);
        tokio::time::sleep(LOOK_PERIOD).await;
        // What became due sooner in between has left its mark.
        match next_due {
            Some(due) => {
                tokio::select! {
                    biased;
                    () = sooner.notified() => {}
                    () = tokio::time::sleep_until(clock.instant(due)) => {}
                }
            }
            None => sooner.notified().await,
        }
    }
}
