//! Whether the node serves, and what is wrong with it.
//!
//! Owns the status that everyone reads: the phase of the node's life, and one reason for each thing that is
//! not well. Refuses to find out what is wrong.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::node_info::NodeStatus;

/// The condition of one node.
#[derive(Debug)]
pub(super) struct Condition {
    now: Mutex<Now>,
    status: watch::Sender<NodeStatus>,
}

#[derive(Debug)]
struct Now {
    phase: Phase,
    /// Why, by what is not well.
    wrong: BTreeMap<String, Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Starting,
    Serving,
    Stopping,
}

impl Condition {
    pub(super) fn new() -> Self {
        let now = Now { phase: Phase::Starting, wrong: BTreeMap::new() };
        Self { now: Mutex::new(now), status: watch::channel(NodeStatus::Starting).0 }
    }

    /// The status, and each change of it.
    pub(super) fn status(&self) -> watch::Receiver<NodeStatus> {
        self.status.subscribe()
    }

    /// Something is not well, for these reasons; without any it is well again.
    pub(super) fn note(&self, what: &str, why: impl IntoIterator<Item = String>) {
        let why: Vec<String> = why.into_iter().collect();
        self.change(|now| {
            if why.is_empty() {
                now.wrong.remove(what);
            } else {
                now.wrong.insert(what.to_owned(), why);
            }
        });
    }

    /// The node serves from now on.
    pub(super) fn serves(&self) {
        self.change(|now| {
            if now.phase == Phase::Starting {
                now.phase = Phase::Serving;
            }
        });
    }

    /// The node ends.
    pub(super) fn stops(&self) {
        self.change(|now| now.phase = Phase::Stopping);
    }

    fn change(&self, change: impl FnOnce(&mut Now)) {
        let mut now = self.now.lock();
        change(&mut now);
        let next = match now.phase {
            Phase::Starting => NodeStatus::Starting,
            Phase::Stopping => NodeStatus::Stopping,
            Phase::Serving if now.wrong.is_empty() => NodeStatus::Ready,
            Phase::Serving => NodeStatus::Degraded(now.wrong.values().flatten().cloned().collect()),
        };
        // With the lock, so that the last change is the one that is shown.
        self.status.send_if_modified(|status| {
            let changes = *status != next;
            *status = next;
            changes
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_thing_that_is_not_well_has_a_reason_until_it_is_well_again() {
        let condition = Condition::new();
        let status = condition.status();
        condition.note("journal", Some("the disk is full".into()));
        assert_eq!(*status.borrow(), NodeStatus::Starting);
        condition.serves();
        condition.note("node/views", Some("views".into()));
        let both = NodeStatus::Degraded(vec!["the disk is full".into(), "views".into()]);
        assert_eq!(*status.borrow(), both);
        condition.note("journal", None);
        assert_eq!(*status.borrow(), NodeStatus::Degraded(vec!["views".into()]));
        condition.note("node/views", None);
        condition.note("node/views", None);
        assert_eq!(*status.borrow(), NodeStatus::Ready);
    }

    #[test]
    fn a_node_that_stops_stays_so() {
        let condition = Condition::new();
        condition.stops();
        condition.serves();
        condition.note("journal", Some("the disk is full".into()));
        assert_eq!(*condition.status().borrow(), NodeStatus::Stopping);
    }
}
