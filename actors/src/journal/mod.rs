//! What happened on this node, in order.
//!
//! Owns the journal: numbers, the newest events in memory, writing them through the store, reading them back,
//! retention. Refuses to know who acts on an event.
//!
//! [`Journal::append`] never waits and never fails: while the store cannot write, the newest events stay in
//! memory, are shown to readers from there, and are written when it recovers. Events are shown once they are
//! stored, so whoever has seen number 7 finds the same number 7 after a crash (except during an outage of the
//! disk, where memory is all there is).

mod caller;
pub mod event;
mod pipeline;
mod record;
mod subscription;
mod table;
mod tail;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use self::caller::Caller;
pub use self::event::{ClusterNode, CountedFailure, Event, Severity};
pub use self::record::{JournalItem, JournalStatus, Page, Record, RestartRecord};
pub use self::subscription::Subscription;

use arw_kit::clock::Clock;
use arw_kit::moment::WallTime;

use self::pipeline::Shared;
use crate::store::{ReadError, Store};

/// How long events are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Older events are removed. At least an hour counts, so that restart windows can be rebuilt.
    pub max_age: Duration,
    /// Only so many of the newest numbers are kept. At least 1,000 count, for the same reason.
    pub max_rows: u64,
}

impl Default for Retention {
    /// 30 days and 100,000 events: about 50 MB of disk where most are changes of state, of some 500 bytes.
    /// The exit of an engine takes up to 25 KB with its last lines.
    fn default() -> Self {
        Self { max_age: Duration::from_secs(30 * 24 * 3600), max_rows: 100_000 }
    }
}

/// How a journal is opened.
#[derive(Clone, Copy, Debug)]
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

/// Whatever the settings say, so that restart windows can be rebuilt.
const MIN_AGE: Duration = Duration::from_secs(3600);
const MIN_ROWS: u64 = 1_000;

/// The node's journal. Cheap to clone; every clone is the same journal.
///
/// ```
/// use arw_actors::journal::{Event, Journal, JournalOptions, event};
/// use arw_actors::store::{Store, StoreOptions};
///
/// let folder = tempfile::tempdir().unwrap();
/// let store = Store::open(&folder.path().join("arw.db"), StoreOptions::default()).unwrap();
/// let journal = Journal::open(store, JournalOptions::default()).unwrap();
/// let seq = journal.append(event::Runtime::Removed { id: "smollm2".to_owned() });
/// let page = journal.replay_blocking(None, 10, None).unwrap();
/// assert_eq!(page.events[0].seq, seq);
/// assert_eq!(page.events[0].event.message(), "Removed the runtime smollm2.");
/// ```
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

impl Journal {
    /// Opens the journal in `store`. Blocks for a short read: call it while the node starts.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn open(store: Store, options: JournalOptions) -> Result<Self, ReadError> {
        let bounds = store.read_blocking(table::bounds)?;
        let retention = Retention {
            max_age: options.retention.max_age.max(MIN_AGE),
            max_rows: options.retention.max_rows.max(MIN_ROWS),
        };
        let shared = Shared::start(store, options.clock, retention, &bounds);
        Ok(Self { shared })
    }

    /// Adds an event and returns its number. Never waits for the disk and never fails; texts beyond 2,000
    /// bytes and log lines beyond the last 20 are cut.
    pub fn append(&self, event: impl Into<Event>) -> u64 {
        let event = event.into().bounded();
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

    /// Events after the number `after` (from the oldest when `None`), at most `limit` (and at most
    /// [`PAGE_MAX`]), all of one `kind` when it is given. Includes everything that was appended before the
    /// call.
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
        self.shared
            .store
            .off_the_async_threads(move || journal.replay_blocking(after, limit, kind.as_deref()))
            .await
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
        // A full page may have more behind it; otherwise everything up to the newest event has been looked
        // at.
        let next = match events.last() {
            Some(last) if events.len() == limit => last.seq,
            Some(_) | None if limit > 0 => now.last.max(after),
            Some(_) | None => after,
        };
        Ok(Page { events, next, oldest: now.oldest })
    }

    /// Yields the events after the number `after`, then each new one as it comes, without a hole or a double.
    /// With `None` (or a number that is not there yet) it starts with the next event.
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
        self.shared.store.off_the_async_threads(move || journal.restarts_since_blocking(since)).await
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

    /// Whether the process before this one ended in order (its last event was `node_stopping`, or there was
    /// none).
    #[must_use]
    pub fn last_stop_was_clean(&self) -> bool {
        self.shared.stopped_cleanly
    }

    /// Removes what is too old or too much, in small steps on the store's thread. Happens by itself while
    /// events are appended; a node that is idle for days may call it from a timer.
    pub fn enforce_retention(&self) {
        Shared::retire(&self.shared);
    }
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Journal").field("status", &self.status()).finish_non_exhaustive()
    }
}
