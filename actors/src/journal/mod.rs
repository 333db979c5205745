//! What happened on this node, in order.
//!
//! Owns the journal: numbers, the newest events in memory, writing them through the store, reading them back, retention.
//! Refuses to know who acts on an event.
//!
//! [`Journal::append`] never waits and never fails: while the store cannot write, the newest events stay in memory, are
//! shown to readers from there, and are written when it recovers. Events are shown once they are stored, so whoever has
//! seen number 7 finds the same number 7 after a crash (except during an outage of the disk, where memory is all there is).

mod event;
mod message;
mod record;
mod subscription;
mod table;
mod tail;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;
use tokio::sync::watch;
use tracing::{error, warn};

pub use self::event::{Event, Severity};
pub use self::record::{JournalItem, JournalStatus, Page, Record, RestartRecord};
pub use self::subscription::Subscription;

use self::tail::{Look, Tail};
use crate::clock::Clock;
use crate::moment::{Moment, WallTime};
use crate::store::{Durability, ReadError, Store, StoreHealth, WriteError};

/// How long events are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Older events are removed. At least an hour counts, so that restart windows can be rebuilt.
    pub max_age: Duration,
    /// Only so many of the newest numbers are kept. At least 1,000 count, for the same reason.
    pub max_rows: u64,
}

impl Default for Retention {
    /// 30 days and 100,000 events: about 50 MB of disk at most.
    fn default() -> Self {
        Self { max_age: Duration::from_secs(30 * 24 * 3600), max_rows: 100_000 }
    }
}

/// How a journal is opened.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// How long events are kept.
    pub retention: Retention,
    /// Where the times of events come from.
    pub clock: Clock,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self { retention: Retention::default(), clock: Clock::system() }
    }
}

/// The most events that one page holds.
pub const PAGE_MAX: usize = 1_000;

/// A read waits this long for events that are on their way to the disk, then shows them from memory.
const SETTLE_WAIT: Duration = Duration::from_secs(1);

/// Retention looks again after so many events or so long, and removes few rows at a time so that other writes get through.
const RETENTION_EVERY: u64 = 500;
const RETENTION_PAUSE: Duration = Duration::from_secs(600);
const RETENTION_STEP: usize = 500;

const MIN_AGE: Duration = Duration::from_secs(3600);
const MIN_ROWS: u64 = 1_000;

/// The node's journal. Cheap to clone; every clone is the same journal.
///
/// ```
/// use arw_actors::journal::{Event, Journal, JournalOptions};
/// use arw_actors::store::{Store, StoreOptions};
///
/// let folder = tempfile::tempdir().unwrap();
/// let store = Store::open(&folder.path().join("arw.db"), StoreOptions::default()).unwrap();
/// let journal = Journal::open(store, JournalOptions::default()).unwrap();
/// let seq = journal.append(Event::RuntimeRemoved { id: "smollm2".to_owned() });
/// let page = journal.replay_blocking(None, 10, None).unwrap();
/// assert_eq!(page.events[0].seq, seq);
/// assert_eq!(page.events[0].event.message(), "Removed the runtime smollm2.");
/// ```
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    clock: Clock,
    retention: Retention,
    stopped_cleanly: bool,
    state: Mutex<State>,
    settled: Condvar,
    visible: watch::Sender<u64>,
}

struct State {
    tail: Tail,
    oldest: u64,
    // At most one write of ours is in the store's queue at any time.
    writing: bool,
    outage: Option<Outage>,
    retention: RetentionState,
}

struct Outage {
    reason: String,
    since: Moment,
    lost_before: u64,
}

#[derive(Default)]
struct RetentionState {
    running: bool,
    checked_at: Option<Moment>,
    checked_seq: u64,
}

impl Journal {
    /// Opens the journal in `store`. Blocks for a short read: call it while the node starts.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn open(store: Store, options: JournalOptions) -> Result<Self, ReadError> {
        let bounds = store.read_blocking(table::bounds)?;
        let stopped_cleanly = bounds.last_kind.is_none_or(|kind| kind == "node_stopping");
        let retention = Retention {
            max_age: options.retention.max_age.max(MIN_AGE),
            max_rows: options.retention.max_rows.max(MIN_ROWS),
        };
        let shared = Arc::new(Shared {
            clock: options.clock,
            retention,
            stopped_cleanly,
            state: Mutex::new(State {
                tail: Tail::after(bounds.last),
                oldest: bounds.oldest,
                writing: false,
                outage: None,
                retention: RetentionState::default(),
            }),
            settled: Condvar::new(),
            visible: watch::Sender::new(bounds.last),
            store,
        });
        let weak = Arc::downgrade(&shared);
        shared.store.on_health(move |health| Shared::heard(&weak, health));
        let health = shared.store.health().borrow().clone();
        shared.on_health(&health);
        Shared::retire(&shared);
        Ok(Self { shared })
    }

    /// Adds an event and returns its number. Never waits for the disk and never fails; texts beyond 2,000 bytes and log
    /// lines beyond the last 20 are cut.
    pub fn append(&self, event: Event) -> u64 {
        let event = event.bounded();
        let (seq, show, write) = {
            let mut state = self.shared.state.lock();
            let seq = state.tail.push(self.shared.clock.wall(), event);
            (seq, state.tail.degraded(), state.take_turn())
        };
        if show {
            self.shared.show();
        }
        if write {
            Shared::write(&self.shared);
        }
        seq
    }

    /// Events after the number `after` (from the oldest when `None`), at most `limit` (and at most [`PAGE_MAX`]), all of
    /// one `kind` when it is given. Includes everything that was appended before the call.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn replay(
        &self,
        after: Option<u64>,
        limit: usize,
        kind: Option<String>,
    ) -> Result<Page, ReadError> {
        let journal = self.clone();
        off_the_async_threads(move || journal.replay_blocking(after, limit, kind.as_deref())).await
    }

    /// As [`Journal::replay`]. Not for async code: it blocks the thread.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn replay_blocking(
        &self,
        after: Option<u64>,
        limit: usize,
        kind: Option<&str>,
    ) -> Result<Page, ReadError> {
        let (after, limit) = (after.unwrap_or(0), limit.min(PAGE_MAX));
        self.shared.settle(SETTLE_WAIT);
        let now = self.shared.glance();
        let mut events =
            self.shared.store.read_blocking(|db| table::page(db, after, now.settled, limit, kind))?;
        let fits =
            |record: &Arc<Record>| record.seq > after && kind.is_none_or(|kind| record.event.kind() == kind);
        let room = limit - events.len();
        events.extend(now.unsettled.into_iter().filter(fits).take(room));
        // A full page may have more behind it; otherwise everything up to the newest event has been looked at.
        let next = match events.last() {
            Some(last) if events.len() == limit => last.seq,
            Some(_) | None if limit > 0 => now.last.max(after),
            Some(_) | None => after,
        };
        Ok(Page { events, next, oldest: now.oldest })
    }

    /// Yields the events after the number `after`, then each new one as it comes, without a hole or a double. With `None`
    /// (or a number that is not there yet) it starts with the next event.
    #[must_use]
    pub fn subscribe(&self, after: Option<u64>) -> Subscription {
        let last = self.last_seq();
        let after = after.unwrap_or(last).min(last);
        Subscription::new(self.clone(), after + 1, self.shared.visible.subscribe())
    }

    /// The restarts at or after `since`, oldest first, from which budgets are rebuilt when a node starts.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub async fn restarts_since(&self, since: WallTime) -> Result<Vec<RestartRecord>, ReadError> {
        let journal = self.clone();
        off_the_async_threads(move || journal.restarts_since_blocking(since)).await
    }

    /// As [`Journal::restarts_since`]. Not for async code: it blocks the thread.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn restarts_since_blocking(&self, since: WallTime) -> Result<Vec<RestartRecord>, ReadError> {
        self.shared.settle(SETTLE_WAIT);
        let now = self.shared.glance();
        let mut found = self.shared.store.read_blocking(|db| table::restarts(db, since, now.settled))?;
        found.extend(now.unsettled.iter().filter_map(|record| table::restart(record, since)));
        Ok(found)
    }

    /// Waits until everything appended so far is stored, at most `patience`; tells whether it is.
    pub async fn flush(&self, patience: Duration) -> bool {
        let shared = Arc::clone(&self.shared);
        tokio::task::spawn_blocking(move || shared.settle(patience)).await.unwrap_or(false)
    }

    /// The newest number; 0 before the first event.
    #[must_use]
    pub fn last_seq(&self) -> u64 {
        self.shared.state.lock().tail.last()
    }

    /// The oldest number that is still kept.
    #[must_use]
    pub fn oldest_seq(&self) -> u64 {
        self.shared.state.lock().oldest
    }

    /// How the journal does, for the read model of the node.
    #[must_use]
    pub fn status(&self) -> JournalStatus {
        let state = self.shared.state.lock();
        JournalStatus {
            degraded: state.outage.as_ref().map(|outage| outage.reason.clone()),
            last_seq: state.tail.last(),
            lost: state.tail.lost(),
        }
    }

    /// Whether the process before this one ended in order (its last event was `node_stopping`, or there was none).
    #[must_use]
    pub fn last_stop_was_clean(&self) -> bool {
        self.shared.stopped_cleanly
    }

    /// Removes what is too old or too much, in small steps on the store's thread. Happens by itself while events are
    /// appended; a node that is idle for days may call it from a timer.
    pub fn enforce_retention(&self) {
        Shared::retire(&self.shared);
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("status", &self.status()).finish_non_exhaustive()
    }
}

impl State {
    /// True when the caller should write now: something waits, and nobody is at it.
    fn take_turn(&mut self) -> bool {
        let turn = !self.writing && self.outage.is_none() && self.tail.has_waiting();
        self.writing |= turn;
        turn
    }
}

/// One consistent look at what is stored and what is only in memory.
struct Glance {
    settled: u64,
    unsettled: Vec<Arc<Record>>,
    last: u64,
    oldest: u64,
}

impl Shared {
    fn glance(&self) -> Glance {
        let state = self.state.lock();
        let tail = &state.tail;
        Glance {
            settled: tail.settled(),
            unsettled: tail.unsettled(),
            last: tail.last(),
            oldest: state.oldest,
        }
    }

    fn look(&self, seq: u64) -> Look {
        self.state.lock().tail.look(seq)
    }

    /// Waits until everything appended so far is stored; false when that takes longer than `patience`, or cannot be now.
    fn settle(&self, patience: Duration) -> bool {
        let mut state = self.state.lock();
        let wanted = state.tail.last();
        self.settled.wait_while_for(
            &mut state,
            |state| state.tail.settled() < wanted && state.outage.is_none() && state.writing,
            patience,
        );
        state.tail.settled() >= wanted
    }

    /// Tells readers what can be seen now. Must not be called with the state locked.
    fn show(&self) {
        let visible = self.state.lock().tail.visible();
        self.visible.send_if_modified(|shown| std::mem::replace(shown, visible) != visible);
        self.settled.notify_all();
    }

    /// Queues the one write that takes everything that waits. Events are few (the life cycle only, never one per request),
    /// so each is made safe against a power cut.
    fn write(this: &Arc<Self>) {
        let (writer, teller) = (Arc::clone(this), Arc::clone(this));
        this.store.submit_reserved(
            Durability::Full,
            move |db: &Connection| {
                let batch = writer.state.lock().tail.start_write();
                Ok(table::insert(db, &batch)?)
            },
            move |outcome| Self::wrote(&teller, outcome),
        );
    }

    fn wrote(this: &Arc<Self>, outcome: Result<(), WriteError>) {
        let again = {
            let mut state = this.state.lock();
            state.writing = false;
            let mut go_on = true;
            match outcome {
                Ok(()) => state.tail.wrote(),
                Err(WriteError::Unavailable { .. } | WriteError::Closed | WriteError::Overloaded { .. }) => {
                    state.tail.write_failed();
                    // The recovery of the store, or the next event, brings the next try.
                    go_on = false;
                }
                Err(
                    problem @ (WriteError::Sql(_)
                    | WriteError::Refused(_)
                    | WriteError::Panicked(_)
                    | WriteError::TimedOut(_)),
                ) => {
                    // Trying these again would fail for ever and keep every later event from the disk.
                    error!(%problem, "events could not be journaled and are given up");
                    state.tail.write_refused();
                }
            }
            go_on && state.take_turn()
        };
        this.show();
        if again {
            Self::write(this);
        }
        if this.retention_is_due() {
            Self::retire(this);
        }
    }

    fn heard(this: &Weak<Self>, health: &StoreHealth) {
        let Some(this) = this.upgrade() else { return };
        if this.on_health(health) {
            Self::write(&this);
        }
    }

    /// Notes the change; true when the caller should write what waits.
    fn on_health(&self, health: &StoreHealth) -> bool {
        let write = {
            let mut state = self.state.lock();
            let (now, wall) = (self.clock.now(), self.clock.wall());
            match (health, state.outage.take()) {
                (StoreHealth::Ok, None) => {}
                (StoreHealth::Ok, Some(outage)) => {
                    state.tail.set_degraded(false);
                    let lost = state.tail.lost() - outage.lost_before;
                    let degraded_ms = u64::try_from(now.since(outage.since).as_millis()).unwrap_or(u64::MAX);
                    state.tail.push(wall, Event::JournalRecovered { lost, degraded_ms });
                }
                (StoreHealth::Degraded { reason, .. }, Some(outage)) => {
                    state.outage = Some(Outage { reason: reason.clone(), ..outage });
                }
                (StoreHealth::Degraded { reason, .. }, None) => {
                    state.tail.set_degraded(true);
                    let lost_before = state.tail.lost();
                    state.outage = Some(Outage { reason: reason.clone(), since: now, lost_before });
                    state.tail.push(wall, Event::JournalDegraded { reason: reason.clone() }.bounded());
                }
            }
            state.take_turn()
        };
        self.show();
        write
    }

    fn retention_is_due(&self) -> bool {
        let state = self.state.lock();
        let (seq, now) = (state.tail.last(), self.clock.now());
        let done = &state.retention;
        seq - done.checked_seq.min(seq) >= RETENTION_EVERY
            || done.checked_at.is_none_or(|at| now.since(at) >= RETENTION_PAUSE)
    }

    fn retire(this: &Arc<Self>) {
        {
            let mut state = this.state.lock();
            if state.retention.running {
                return;
            }
            let checked_seq = state.tail.last();
            state.retention =
                RetentionState { running: true, checked_at: Some(this.clock.now()), checked_seq };
        }
        Self::retire_step(this);
    }

    fn retire_step(this: &Arc<Self>) {
        let age = i64::try_from(this.retention.max_age.as_millis()).unwrap_or(i64::MAX);
        let cutoff = WallTime::from_millis(this.clock.wall().as_millis().saturating_sub(age));
        let (rows_max, teller) = (this.retention.max_rows, Arc::clone(this));
        this.store.submit(
            Durability::Relaxed,
            move |db: &Connection| Ok(table::retire(db, cutoff, rows_max, RETENTION_STEP)?),
            move |outcome| match outcome {
                Ok(retired) => {
                    teller.state.lock().oldest = retired.oldest;
                    if retired.more {
                        Self::retire_step(&teller);
                    } else {
                        teller.state.lock().retention.running = false;
                    }
                }
                Err(problem) => {
                    if !matches!(problem, WriteError::Closed | WriteError::Unavailable { .. }) {
                        warn!(%problem, "old events could not be removed; it is tried again later");
                    }
                    teller.state.lock().retention.running = false;
                }
            },
        );
    }
}

async fn off_the_async_threads<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ReadError> + Send + 'static,
) -> Result<T, ReadError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| Err(ReadError::Panicked(e.to_string())))
}
