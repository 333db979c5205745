//! The live record of every actor.
//!
//! Owns one [`Record`] per actor, written by its driver and supervisor with a few relaxed stores, and
//! [`Tree`], which reads all of them without asking any actor: a stuck actor is visible. Refuses to render
//! JSON (`projection/`).

mod lingering;
mod probe;
mod record;
mod row;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use parking_lot::Mutex;
use tokio::sync::watch;

pub use record::{ActorState, ExitRecord, Record};
pub use row::{ActorRow, InFlight, MailboxRow};

pub(crate) use lingering::Lingering;
pub(crate) use probe::Probe;

use crate::clock::Clock;
use crate::life::{ActorPath, ExitReason, RestartBudget};

/// All actors of a system, by path.
#[derive(Debug)]
pub struct Tree {
    records: DashMap<ActorPath, Arc<Record>>,
    next_order: AtomicU64,
    changes: watch::Sender<u64>,
    clock: Clock,
}

impl Tree {
    pub(crate) fn new(clock: Clock) -> Self {
        Self { records: DashMap::new(), next_order: AtomicU64::new(0), changes: watch::channel(0).0, clock }
    }

    /// Makes a record, to be entered later. Its place among its siblings is the order of making.
    pub(crate) fn make(
        &self,
        path: ActorPath,
        kind: &'static str,
        kinds: &'static [&'static str],
    ) -> Arc<Record> {
        let order = self.next_order.fetch_add(1, Ordering::Relaxed);
        Arc::new(Record::new(path, kind, kinds, order, self.clock))
    }

    /// Enters an actor (again).
    pub(crate) fn enter(&self, record: &Arc<Record>) {
        self.records.insert(record.path().clone(), Arc::clone(record));
        self.changed();
    }

    /// Takes an actor out, unless another one has taken its place.
    pub(crate) fn leave(&self, record: &Arc<Record>) {
        self.records.remove_if(record.path(), |_, known| Arc::ptr_eq(known, record));
        self.changed();
    }

    pub(crate) fn changed(&self) {
        self.changes.send_modify(|version| *version += 1);
    }

    /// Counts life-cycle changes (not messages): watch it to know when to read again.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// How many actors there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// No actor is left.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The record at `path`.
    #[must_use]
    pub fn get(&self, path: &str) -> Option<Arc<Record>> {
        self.records.get(path).map(|entry| Arc::clone(entry.value()))
    }

    /// Every record, in no order.
    #[must_use]
    pub fn records(&self) -> Vec<Arc<Record>> {
        self.records.iter().map(|entry| Arc::clone(entry.value())).collect()
    }

    /// All rows, nested under their roots, siblings in start order.
    #[must_use]
    pub fn rows(&self) -> Vec<ActorRow> {
        let now = self.clock.now();
        row::nest(self.records().iter().map(|record| record.row(now)).collect())
    }

    /// Enters something that is not an actor but has its life (an engine's process) as a row under `parent`.
    /// The row goes when the guard is dropped.
    #[must_use]
    pub fn enter_resource(
        self: &Arc<Self>,
        parent: &ActorPath,
        name: &str,
        kind: &'static str,
    ) -> ResourceRow {
        let record = self.make(parent.child(name), kind, &[]);
        self.enter(&record);
        ResourceRow { tree: Arc::clone(self), record }
    }

    /// Looks for handlers that neither wait nor end, which leave no trace of their own: to be called about
    /// once a second.
    pub fn watch_for_stuck_handlers(&self) {
        let now = self.clock.now();
        for entry in &self.records {
            entry.value().observe(now);
        }
    }
}

/// A row of the tree for something that is not an actor.
#[derive(Debug)]
pub struct ResourceRow {
    tree: Arc<Tree>,
    record: Arc<Record>,
}

impl ResourceRow {
    /// Shows a new state.
    pub fn set_state(&self, state: ActorState) {
        self.record.set_state(state);
        self.tree.changed();
    }

    /// Shows how much of this restart budget is used.
    pub fn set_budget(&self, budget: RestartBudget) {
        self.record.show_budget(Arc::new(Mutex::new(budget)));
        self.tree.changed();
    }

    /// How it last ended, as [`ResourceRow::set_last_exit`] was told.
    #[must_use]
    pub fn last_exit(&self) -> Option<ExitRecord> {
        self.record.last_exit()
    }

    /// Shows how it last ended.
    pub fn set_last_exit(&self, reason: ExitReason) {
        self.record.set_last_exit(reason);
        self.tree.changed();
    }
}

impl Drop for ResourceRow {
    fn drop(&mut self) {
        self.tree.leave(&self.record);
    }
}
