//! From memory to the disk, and what happens when the disk does not take it.
//!
//! Owns the one write that is under way, the outage, and the steps of retention. What to keep and to show is
//! decided in `tail.rs`. Refuses to know what events mean.

use std::sync::{Arc, Weak};
use std::time::Duration;

use arw_kit::clock::Clock;
use arw_kit::moment::{Moment, WallTime};
use parking_lot::{Condvar, Mutex};
use rusqlite::Connection;
use tokio::sync::watch;
use tracing::{error, warn};

use super::Retention;
use super::event::{self, Event};
use super::record::Record;
use super::table::{self, Bounds};
use super::tail::{Look, Tail};
use crate::store::{Durability, Store, StoreHealth, WriteError};

/// Retention looks again after so many events or so long, and removes few rows at a time so that other writes
/// get through.
const RETENTION_EVERY: u64 = 500;
const RETENTION_PAUSE: Duration = Duration::from_secs(600);
const RETENTION_STEP: usize = 500;

pub(super) struct Shared {
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) retention: Retention,
    pub(super) stopped_cleanly: bool,
    pub(super) state: Mutex<State>,
    pub(super) settled: Condvar,
    pub(super) visible: watch::Sender<u64>,
}

pub(super) struct State {
    pub(super) tail: Tail,
    pub(super) oldest: u64,
    // At most one write of ours is in the store's queue at any time.
    pub(super) writing: bool,
    pub(super) outage: Option<Outage>,
    pub(super) retention: RetentionState,
}

pub(super) struct Outage {
    pub(super) reason: String,
    pub(super) since: Moment,
    pub(super) lost_before: u64,
}

#[derive(Default)]
pub(super) struct RetentionState {
    pub(super) running: bool,
    pub(super) checked_at: Option<Moment>,
    pub(super) checked_seq: u64,
}

impl State {
    /// True when the caller should write now: something waits, and nobody is at it.
    pub(super) fn take_turn(&mut self) -> bool {
        let turn = !self.writing && self.outage.is_none() && self.tail.has_waiting();
        self.writing |= turn;
        turn
    }
}

/// One consistent look at what is stored and what is only in memory.
pub(super) struct Glance {
    pub(super) settled: u64,
    pub(super) unsettled: Vec<Arc<Record>>,
    pub(super) last: u64,
    pub(super) oldest: u64,
}

impl Shared {
    pub(super) fn start(store: Store, clock: Clock, retention: Retention, bounds: &Bounds) -> Arc<Self> {
        let shared = Arc::new(Self {
            clock,
            retention,
            stopped_cleanly: bounds.last_kind.as_ref().is_none_or(|kind| kind == "node_stopping"),
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
        // Weak: the store outlives its watchers only if none of them keeps it alive.
        let weak = Arc::downgrade(&shared);
        shared.store.on_health(move |health| Self::heard(&weak, health));
        let health = shared.store.health().borrow().clone();
        shared.on_health(&health);
        Self::retire(&shared);
        shared
    }

    pub(super) fn glance(&self) -> Glance {
        let state = self.state.lock();
        let tail = &state.tail;
        Glance {
            settled: tail.settled(),
            unsettled: tail.unsettled(),
            last: tail.last(),
            oldest: state.oldest,
        }
    }

    pub(super) fn look(&self, seq: u64) -> Look {
        self.state.lock().tail.look(seq)
    }

    /// Waits until everything appended so far is stored; false when that takes longer than `patience`, or
    /// cannot be now.
    pub(super) fn settle(&self, patience: Duration) -> bool {
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
    pub(super) fn show(&self) {
        let visible = self.state.lock().tail.visible();
        self.visible.send_if_modified(|shown| std::mem::replace(shown, visible) != visible);
        self.settled.notify_all();
    }

    /// Queues the one write that takes everything that waits. Events are few (the life cycle only, never one
    /// per request), so each is made safe against a power cut.
    pub(super) fn write(this: &Arc<Self>) {
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
                    let recovered = event::Journal::Recovered { lost, degraded_ms };
                    state.tail.push(wall, recovered.into());
                }
                (StoreHealth::Degraded { reason, .. }, Some(outage)) => {
                    state.outage = Some(Outage { reason: reason.clone(), ..outage });
                }
                (StoreHealth::Degraded { reason, .. }, None) => {
                    state.tail.set_degraded(true);
                    let lost_before = state.tail.lost();
                    state.outage = Some(Outage { reason: reason.clone(), since: now, lost_before });
                    let degraded = Event::from(event::Journal::Degraded { reason: reason.clone() });
                    state.tail.push(wall, degraded.bounded());
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

    pub(super) fn retire(this: &Arc<Self>) {
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
