//! One actor as it is read: a plain value.

use std::collections::HashMap;
use std::time::Duration;

use super::record::{ActorState, ExitRecord};
use crate::life::{ActorPath, RestartUse};
use crate::moment::Moment;

/// An actor and its children at one moment.
#[derive(Clone, Debug)]
pub struct ActorRow {
    /// Its place.
    pub path: ActorPath,
    /// Its role.
    pub kind: &'static str,
    /// Where it is in its life.
    pub state: ActorState,
    /// Since when.
    pub since: Moment,
    /// Its mailbox; `None` for supervisors and resources.
    pub mailbox: Option<MailboxRow>,
    /// Messages handled so far, over all incarnations.
    pub handled: u64,
    /// Time spent in handlers so far.
    pub busy: Duration,
    /// The message in hand.
    pub in_flight: Option<InFlight>,
    /// How much of its restart budget is used.
    pub restarts: Option<RestartUse>,
    /// How it last ended.
    pub last_exit: Option<ExitRecord>,
    /// Its children, in start order.
    pub children: Vec<ActorRow>,
    pub(super) order: u64,
}

/// Depth and bound of a mailbox, in messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the type says it")]
pub struct MailboxRow {
    pub depth: u32,
    pub bound: u32,
}

/// The message in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InFlight {
    /// The variant of its message enum.
    pub message: &'static str,
    /// For how long. Handlers that block without awaiting are noticed with a second's delay.
    pub age: Duration,
}

/// Nests rows under their parents; a row whose parent is not there becomes a root.
pub(super) fn nest(mut rows: Vec<ActorRow>) -> Vec<ActorRow> {
    rows.sort_by_key(|row| row.order);
    let index: HashMap<ActorPath, usize> =
        rows.iter().enumerate().map(|(at, row)| (row.path.clone(), at)).collect();
    let parents: Vec<Option<usize>> =
        rows.iter().map(|row| row.path.parent().and_then(|parent| index.get(parent).copied())).collect();
    let mut children: Vec<Vec<usize>> = vec![Vec::new(); rows.len()];
    for (at, parent) in parents.iter().enumerate() {
        if let Some(parent) = parent {
            children[*parent].push(at);
        }
    }
    let mut rows: Vec<Option<ActorRow>> = rows.into_iter().map(Some).collect();
    let roots = (0..rows.len()).filter(|&at| parents[at].is_none());
    roots.filter_map(|at| take(at, &mut rows, &children)).collect()
}

// Paths are finite, so the recursion is as deep as the deepest path.
fn take(at: usize, rows: &mut [Option<ActorRow>], children: &[Vec<usize>]) -> Option<ActorRow> {
    let mut row = rows[at].take()?;
    row.children = children[at].iter().filter_map(|&child| take(child, rows, children)).collect();
    Some(row)
}
