//! What still lives of incarnations whose supervisor waits for them no longer.
//!
//! An actor that blocks its thread cannot be killed, and its supervisor may have to end before it does. Owns
//! that the next incarnation waits for such a one all the same (SUP-2), also under another supervisor.
//! Refuses to end anything.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::record::Record;

/// One per system.
#[derive(Debug, Default)]
pub(crate) struct Lingering {
    /// Forgotten actors of which something lives. Those that are still known are asked by their own record.
    forgotten: Mutex<Vec<Arc<Record>>>,
    /// Who waits for an end.
    waiting: AtomicUsize,
    ends: Notify,
}

impl Lingering {
    /// An actor is forgotten; what lives of it is remembered until it is gone.
    pub(crate) fn forget(&self, record: &Arc<Record>) {
        let mut forgotten = self.forgotten.lock();
        forgotten.retain(|known| known.is_alive());
        if record.is_alive() {
            forgotten.push(Arc::clone(record));
        }
    }

    /// Something of an earlier incarnation at this path lives.
    pub(crate) fn is_before(&self, record: &Record) -> bool {
        if record.is_alive() {
            return true;
        }
        let mut forgotten = self.forgotten.lock();
        forgotten.retain(|known| known.is_alive());
        forgotten.iter().any(|known| known.path() == record.path())
    }

    /// Resolves when nothing of an earlier incarnation at this path lives.
    pub(crate) async fn ended(&self, record: &Record) {
        let _waiting = Waiting::among(&self.waiting);
        loop {
            // Registered before the look, or an end in between would not be noticed.
            let mut notified = std::pin::pin!(self.ends.notified());
            notified.as_mut().enable();
            if !self.is_before(record) {
                return;
            }
            notified.await;
        }
    }

    /// All of an incarnation is gone.
    pub(crate) fn something_ended(&self) {
        if self.waiting.load(Ordering::SeqCst) != 0 {
            self.ends.notify_waiters();
        }
    }
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn among(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}
