//! Whether the log of this program reaches whoever keeps it.
//!
//! Owns the count of lines that were lost, and why. Refuses to write: whoever does says here how it went, and
//! must not end the program by it.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::watch;

thread_local! {
    /// What is written on this thread tells of the loss: it is no loss itself.
    static TELLS: Cell<bool> = const { Cell::new(false) };
}

/// How the log does. Cheap to clone; every clone is the same log.
#[derive(Clone, Debug, Default)]
pub struct LogHealth {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    lost: AtomicU64,
    /// The last line did not go out. Beside the channel, so that a line that goes out costs one load.
    failing: AtomicBool,
    outage: watch::Sender<Option<Arc<str>>>,
}

impl LogHealth {
    /// A line could not be written.
    pub fn line_lost(&self, why: &str) {
        if !TELLS.get() {
            self.shared.lost.fetch_add(1, Ordering::Relaxed);
        }
        self.shared.failing.store(true, Ordering::Relaxed);
        self.shared.outage.send_if_modified(|outage| {
            let changes = outage.as_deref() != Some(why);
            if changes {
                *outage = Some(why.into());
            }
            changes
        });
    }

    /// A line was written.
    pub fn line_written(&self) {
        if self.shared.failing.swap(false, Ordering::Relaxed) {
            self.shared.outage.send_replace(None);
        }
    }

    /// How many lines were lost since the program began.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Why lines are being lost; `None` while they are written.
    #[must_use]
    pub fn outage(&self) -> watch::Receiver<Option<Arc<str>>> {
        self.shared.outage.subscribe()
    }

    /// Logs something by which the loss is told, and says whether it went out.
    pub(crate) fn tell(&self, log: impl FnOnce()) -> bool {
        let before = TELLS.replace(true);
        log();
        TELLS.set(before);
        self.shared.outage.borrow().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_begins_with_a_lost_line_and_ends_with_a_written_one() {
        let health = LogHealth::default();
        let mut seen = health.outage();
        health.line_written();
        assert!(!seen.has_changed().unwrap());
        for _ in 0..3 {
            health.line_lost("disk full");
        }
        assert_eq!((health.lost(), seen.borrow_and_update().as_deref()), (3, Some("disk full")));
        health.line_lost("disk full");
        assert!(!seen.has_changed().unwrap(), "the same outage");
        health.line_written();
        assert_eq!((health.lost(), seen.borrow_and_update().as_deref()), (4, None));
    }

    #[test]
    fn what_tells_of_the_loss_is_not_counted_as_lost() {
        let health = LogHealth::default();
        health.line_lost("disk full");
        assert!(!health.tell(|| health.line_lost("disk full")));
        assert!(health.tell(|| health.line_written()));
        assert_eq!(health.lost(), 1);
    }
}
