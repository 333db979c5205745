//! The record of one actor.
//!
//! Owns its counters and states as atomics with one writer each. Refuses locks on the message path.

use std::fmt;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use super::probe::Probe;
use super::row::{ActorRow, InFlight, MailboxRow};
use crate::clock::Clock;
use crate::life::{ActorPath, ExitReason, RestartBudget, RestartUse};
use crate::moment::{Moment, WallTime};

/// Where an actor is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ActorState {
    /// Its start is running, or it has not been started yet.
    Starting,
    /// It handles messages.
    Running,
    /// It was asked to end.
    Stopping,
    /// It ended and stays so.
    Stopped,
    /// It waits for its next start.
    Backoff,
    /// It is set aside: it used up its restart budget and waits for a trial, or it was killed and has not
    /// ended.
    Quarantined,
    /// It ended for good, and not in order.
    Failed,
}

impl ActorState {
    /// `starting`, `running`, `stopping`, `stopped`, `backoff`, `quarantined` or `failed`.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Backoff => "backoff",
            Self::Quarantined => "quarantined",
            Self::Failed => "failed",
        }
    }
}

const STATES: [ActorState; 7] = [
    ActorState::Starting,
    ActorState::Running,
    ActorState::Stopping,
    ActorState::Stopped,
    ActorState::Backoff,
    ActorState::Quarantined,
    ActorState::Failed,
];

/// How an actor last ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExitRecord {
    /// Why.
    pub reason: ExitReason,
    /// When.
    pub at: WallTime,
}

/// The live record of one actor. Reading it never asks the actor.
pub struct Record {
    path: ActorPath,
    kind: &'static str,
    kinds: &'static [&'static str],
    pub(super) order: u64,
    clock: Clock,
    state: AtomicU8,
    since: AtomicU64,
    /// Upper half: the kind of the message in hand plus one, or 0. Lower half: messages of the batch not yet
    /// handled.
    in_flight: AtomicU64,
    /// When the handler in hand began to wait, in nanoseconds; 0 while it has not.
    waits_since: AtomicU64,
    handled: AtomicU64,
    busy_nanos: AtomicU64,
    pending_nanos: AtomicU64,
    /// For handlers that block without waiting: `handled` as last observed, and since when it has not moved.
    observed_handled: AtomicU64,
    observed_since: AtomicU64,
    cold: Mutex<Cold>,
    mailbox: OnceLock<Weak<dyn Probe>>,
    /// The number of the newest incarnation; 0 before the first.
    incarnation: AtomicU32,
    /// What lives of its incarnations: states and tasks.
    living: AtomicU32,
}

/// What changes only at the turns of a life.
#[derive(Default)]
struct Cold {
    budget: Option<Arc<Mutex<RestartBudget>>>,
    last_exit: Option<Box<ExitRecord>>,
    /// How an incarnation ends, with its number.
    offered_exit: Option<(u32, ExitReason)>,
}

impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Record({}, {:?})", self.path, self.state())
    }
}

impl Record {
    pub(super) fn new(
        path: ActorPath,
        kind: &'static str,
        kinds: &'static [&'static str],
        order: u64,
        clock: Clock,
    ) -> Self {
        Self {
            path,
            kind,
            kinds,
            order,
            clock,
            state: AtomicU8::new(ActorState::Starting as u8),
            since: AtomicU64::new(clock.now().as_nanos()),
            in_flight: AtomicU64::new(0),
            waits_since: AtomicU64::new(0),
            handled: AtomicU64::new(0),
            busy_nanos: AtomicU64::new(0),
            pending_nanos: AtomicU64::new(0),
            observed_handled: AtomicU64::new(0),
            observed_since: AtomicU64::new(0),
            cold: Mutex::default(),
            mailbox: OnceLock::new(),
            incarnation: AtomicU32::new(0),
            living: AtomicU32::new(0),
        }
    }

    /// Its place in the tree.
    #[must_use]
    pub fn path(&self) -> &ActorPath {
        &self.path
    }

    /// Its role, for example `runtime`.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        self.kind
    }

    /// Where it is in its life.
    #[must_use]
    pub fn state(&self) -> ActorState {
        STATES.get(usize::from(self.state.load(Ordering::Relaxed))).copied().unwrap_or(ActorState::Failed)
    }

    /// Messages handled so far, over all incarnations.
    #[must_use]
    pub fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    /// Messages that wait or are in the batch in hand; 0 without a mailbox.
    #[must_use]
    pub fn depth(&self) -> u32 {
        self.probe().map_or(0, |mailbox| mailbox.depth())
    }

    /// How it last ended.
    #[must_use]
    pub fn last_exit(&self) -> Option<ExitRecord> {
        self.cold.lock().last_exit.as_deref().cloned()
    }

    /// How much of its restart budget is used.
    #[must_use]
    pub fn restarts(&self) -> Option<RestartUse> {
        let budget = self.cold.lock().budget.clone();
        budget.map(|budget| budget.lock().usage(self.clock.now()))
    }

    /// Time spent in handlers so far; estimated from samples where handlers are short.
    #[must_use]
    pub fn busy(&self) -> Duration {
        Duration::from_nanos(
            self.busy_nanos.load(Ordering::Relaxed) + self.pending_nanos.load(Ordering::Relaxed),
        )
    }

    pub(crate) fn attach_mailbox(&self, mailbox: Weak<dyn Probe>) {
        // Attached once, where the mailbox is made.
        let _ = self.mailbox.set(mailbox);
    }

    pub(crate) fn probe(&self) -> Option<Arc<dyn Probe>> {
        self.mailbox.get().and_then(Weak::upgrade)
    }

    pub(crate) fn set_state(&self, state: ActorState) {
        if self.state.swap(state as u8, Ordering::Relaxed) != state as u8 {
            self.since.store(self.clock.now().as_nanos(), Ordering::Relaxed);
        }
    }

    /// Shows this budget, which siblings may share, from now on.
    pub(crate) fn show_budget(&self, budget: Arc<Mutex<RestartBudget>>) {
        self.cold.lock().budget = Some(budget);
    }

    pub(crate) fn set_last_exit(&self, reason: ExitReason) {
        let at = self.clock.wall();
        self.cold.lock().last_exit = Some(Box::new(ExitRecord { reason, at }));
    }

    /// Numbers the incarnation that begins now.
    pub(crate) fn begin_incarnation(&self) -> u32 {
        self.incarnation.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The number of the newest incarnation; 0 before the first.
    pub(crate) fn incarnation(&self) -> u32 {
        self.incarnation.load(Ordering::Acquire)
    }

    /// A state or a task of an incarnation begins to live.
    pub(crate) fn lives(&self) {
        self.living.fetch_add(1, Ordering::SeqCst);
    }

    /// A state or a task of an incarnation is gone. `true` when nothing is left.
    pub(crate) fn died(&self) -> bool {
        self.living.fetch_sub(1, Ordering::SeqCst) == 1
    }

    /// Something of an incarnation lives.
    pub(crate) fn is_alive(&self) -> bool {
        self.living.load(Ordering::SeqCst) > 0
    }

    /// Notes how the incarnation with this number ends. Its first reason counts, and an older incarnation has
    /// no say any more.
    pub(crate) fn offer_exit(&self, incarnation: u32, reason: ExitReason) {
        let mut cold = self.cold.lock();
        if cold.offered_exit.as_ref().is_none_or(|(known, _)| *known < incarnation) {
            cold.offered_exit = Some((incarnation, reason));
        }
    }

    /// How the incarnation with this number ends, as far as it has said so.
    pub(crate) fn exit_offered(&self, incarnation: u32) -> Option<ExitReason> {
        let cold = self.cold.lock();
        let offered = cold.offered_exit.as_ref().filter(|(known, _)| *known == incarnation);
        offered.map(|(_, reason)| reason.clone())
    }

    // The message path: one writer, relaxed stores.

    #[inline]
    pub(crate) fn begins(&self, kind: usize, remaining: usize) {
        self.in_flight.store(((kind as u64 + 1) << 32) | (remaining as u64 & LOWER), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn handled_one(&self) {
        self.handled.store(self.handled.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    pub(crate) fn batch_ended(&self) {
        self.in_flight.store(0, Ordering::Relaxed);
        self.waits_since.store(0, Ordering::Relaxed);
    }

    pub(crate) fn set_in_batch(&self, count: usize) {
        let kind = self.in_flight.load(Ordering::Relaxed) & !LOWER;
        self.in_flight.store(kind | (count as u64 & LOWER), Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn in_batch(&self) -> u32 {
        u32::try_from(self.in_flight.load(Ordering::Relaxed) & LOWER).unwrap_or(u32::MAX)
    }

    pub(crate) fn in_flight_kind(&self) -> Option<&'static str> {
        let index = usize::try_from(self.in_flight.load(Ordering::Relaxed) >> 32).ok()?.checked_sub(1)?;
        self.kinds.get(index).copied()
    }

    #[cold]
    pub(crate) fn wait_begins(&self) {
        self.waits_since.store(self.clock.now().as_nanos(), Ordering::Relaxed);
    }

    #[cold]
    pub(crate) fn wait_ended(&self) {
        let since = Moment::from_nanos(self.waits_since.swap(0, Ordering::Relaxed));
        let waited = u64::try_from(self.clock.now().since(since).as_nanos()).unwrap_or(u64::MAX);
        self.pending_nanos.fetch_add(waited, Ordering::Relaxed);
    }

    pub(crate) fn pending_nanos(&self) -> u64 {
        self.pending_nanos.load(Ordering::Relaxed)
    }

    pub(crate) fn add_busy(&self, nanos: u64) {
        self.busy_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// Notes whether the message in hand is still the one seen at the last look.
    pub(super) fn observe(&self, now: Moment) {
        let handled = self.handled();
        let is_same = self.observed_handled.swap(handled, Ordering::Relaxed) == handled;
        if self.in_flight_kind().is_none() || !is_same {
            self.observed_since.store(0, Ordering::Relaxed);
        } else if self.observed_since.load(Ordering::Relaxed) == 0 {
            self.observed_since.store(now.as_nanos(), Ordering::Relaxed);
        }
    }

    pub(super) fn row(&self, now: Moment) -> ActorRow {
        ActorRow {
            path: self.path.clone(),
            kind: self.kind,
            state: self.state(),
            since: Moment::from_nanos(self.since.load(Ordering::Relaxed)),
            mailbox: self.probe().map(|m| MailboxRow { depth: m.depth(), bound: m.bound() }),
            handled: self.handled(),
            busy: self.busy() + self.in_hand(now),
            in_flight: self.in_flight_kind().map(|message| InFlight { message, age: self.in_hand(now) }),
            restarts: self.restarts(),
            last_exit: self.last_exit(),
            children: Vec::new(),
            order: self.order,
        }
    }

    /// For how long the message in hand has been waiting, or was seen in hand without a move.
    fn in_hand(&self, now: Moment) -> Duration {
        let waits = self.waits_since.load(Ordering::Relaxed);
        let seen = self.observed_since.load(Ordering::Relaxed);
        let is_same = self.observed_handled.load(Ordering::Relaxed) == self.handled();
        match (waits, seen) {
            (0, 0) => Duration::ZERO,
            (0, seen) if is_same => now.since(Moment::from_nanos(seen)),
            (0, _) => Duration::ZERO,
            (waits, _) => now.since(Moment::from_nanos(waits)),
        }
    }
}

const LOWER: u64 = u32::MAX as u64;
