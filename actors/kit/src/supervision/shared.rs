//! What all supervisors of a system share, and whom they tell of what they do.
//!
//! Owns the observer, the restarts that a journal remembers, and the seed of all jitter. Refuses to know any
//! supervisor.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::life::{ActorPath, ExitReason, RestartUse};
use crate::mailbox::Services;
use crate::moment::Moment;

/// Is told about every failure, restart, quarantine and escalation, synchronously: it must not block.
pub trait SupervisionObserver: Send + Sync + fmt::Debug + 'static {
    /// Something happened.
    fn observe(&self, event: &RestartEvent);
}

/// What a [`SupervisionObserver`] is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RestartEvent {
    /// A child failed, and will be started again.
    Restarting {
        /// The child.
        path: ActorPath,
        /// How it failed.
        reason: ExitReason,
        /// The budget after it.
        budget: RestartUse,
        /// The wait before its start.
        delay: Duration,
    },
    /// A child runs again after a failure.
    Restarted {
        /// The child.
        path: ActorPath,
        /// How it had failed last.
        reason: ExitReason,
        /// The budget now.
        budget: RestartUse,
        /// How long it did not run.
        down: Duration,
    },
    /// A stuck child has ended after all.
    StuckEnded {
        /// The child.
        path: ActorPath,
    },
    /// A child is forgotten.
    Forgotten {
        /// The child.
        path: ActorPath,
    },
    /// A child used up its own budget and was set aside.
    Quarantined {
        /// The child.
        path: ActorPath,
        /// How it failed.
        reason: ExitReason,
        /// Its budget.
        budget: RestartUse,
        /// Until it is tried again.
        wait: Duration,
    },
    /// A child was killed and has not ended: it blocks its thread. Nothing of it is started until it has.
    Stuck {
        /// The child.
        path: ActorPath,
    },
    /// A quarantined child runs again and has stayed up.
    Recovered {
        /// The child.
        path: ActorPath,
    },
    /// A supervisor gave up.
    Escalated {
        /// The supervisor.
        path: ActorPath,
        /// The child that used up the budget.
        child: ActorPath,
        /// How that child last ended.
        text: Arc<str>,
        /// The budget that it used up.
        budget: RestartUse,
    },
}

/// Earlier restarts by path, as read from the journal: budgets go on across a restart of the node.
pub type RestartHistory = HashMap<ActorPath, Vec<Moment>>;

pub(crate) struct SystemShared {
    pub(crate) services: Arc<Services>,
    observer: Option<Arc<dyn SupervisionObserver>>,
    history: Mutex<RestartHistory>,
    seed: AtomicU64,
}

impl SystemShared {
    pub(crate) fn new(
        services: Arc<Services>,
        observer: Option<Arc<dyn SupervisionObserver>>,
        history: RestartHistory,
        seed: u64,
    ) -> Arc<Self> {
        let (history, seed) = (Mutex::new(history), AtomicU64::new(seed));
        Arc::new(Self { services, observer, history, seed })
    }

    pub(crate) fn observe(&self, event: &RestartEvent) {
        if let Some(observer) = &self.observer {
            observer.observe(event);
        }
    }

    pub(crate) fn take_history(&self, path: &ActorPath) -> Vec<Moment> {
        self.history.lock().remove(path).unwrap_or_default()
    }

    pub(crate) fn next_seed(&self) -> u64 {
        // An odd step, so that no seed repeats.
        self.seed.fetch_add(0x9E37_79B9_7F4A_7C15, Ordering::Relaxed)
    }
}
