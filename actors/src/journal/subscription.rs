//! A reader that replays and then goes live.
//!
//! Owns its place in the journal. It pulls: a slow reader costs no memory and loses nothing that retention
//! has kept. Refuses to know who reads.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::Stream;
use tokio::sync::watch;

use super::record::{JournalItem, Record};
use super::tail::Look;
use super::{Journal, table};
use crate::store::ReadError;

/// Rows per read from the database: enough to replay quickly, little enough to hold for a slow reader.
const READ_ROWS: usize = 256;

/// Events from one number on, then live. Made by [`Journal::subscribe`].
pub struct Subscription {
    journal: Journal,
    next: u64,
    visible: watch::Receiver<u64>,
    ready: VecDeque<Arc<Record>>,
}

impl Subscription {
    pub(super) fn new(journal: Journal, next: u64, visible: watch::Receiver<u64>) -> Self {
        Self { journal, next, visible, ready: VecDeque::new() }
    }

    /// The next event, or the numbers of events that are gone. Waits until there is one. Safe to drop and
    /// call again.
    ///
    /// # Errors
    /// The journal cannot be read (the store is closed); the subscription may be used again.
    pub async fn next(&mut self) -> Result<JournalItem, ReadError> {
        loop {
            if let Some(item) = self.take_ready() {
                return Ok(item);
            }
            // Before the look: what becomes visible after it then wakes this reader.
            self.visible.borrow_and_update();
            match self.journal.shared.look(self.next) {
                Look::Here(records) => self.ready.extend(records),
                Look::NotYet => {
                    // The sender lives in the journal that `self` holds, so this only ends with a change.
                    let _ = self.visible.changed().await;
                }
                Look::Older { up_to } => {
                    let after = self.next - 1;
                    let store = &self.journal.shared.store;
                    let rows = store.read(move |db| table::page(db, after, up_to, READ_ROWS, None)).await?;
                    if rows.is_empty() {
                        return Ok(self.skip_to(up_to + 1));
                    }
                    self.ready.extend(rows);
                }
            }
        }
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<JournalItem, ReadError>> + Send {
        futures_util::stream::unfold(self, async |mut this| Some((this.next().await, this)))
    }

    fn take_ready(&mut self) -> Option<JournalItem> {
        let seq = self.ready.front()?.seq;
        if seq > self.next {
            return Some(self.skip_to(seq));
        }
        self.next = seq + 1;
        self.ready.pop_front().map(JournalItem::Event)
    }

    fn skip_to(&mut self, seq: u64) -> JournalItem {
        let from = std::mem::replace(&mut self.next, seq);
        JournalItem::Gap { from, to: seq - 1 }
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription").field("next", &self.next).finish_non_exhaustive()
    }
}
