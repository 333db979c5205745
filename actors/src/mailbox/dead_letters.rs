//! Messages that nobody handled: counted by reason, the newest remembered.
//!
//! Refuses to keep the messages themselves: they may be large or secret.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

use crate::moment::WallTime;
use crate::tree::ActorPath;

/// Why a message was not handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadLetterReason {
    /// Its actor had stopped, or stopped before it came to this message.
    Stopped,
    /// The mailbox was full.
    Overloaded,
    /// Its asker's deadline passed first.
    Expired,
}

/// One dead letter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// The actor it was for.
    pub path: ActorPath,
    /// The variant of its message enum.
    pub message: &'static str,
    /// Why.
    pub reason: DeadLetterReason,
    /// When.
    pub at: WallTime,
}

/// How many so far, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "named like the reasons")]
pub struct DeadLetterCounts {
    pub stopped: u64,
    pub overloaded: u64,
    pub expired: u64,
}

impl DeadLetterCounts {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.stopped + self.overloaded + self.expired
    }
}

/// A system's dead letters.
#[derive(Debug, Default)]
pub struct DeadLetters {
    stopped: AtomicU64,
    overloaded: AtomicU64,
    expired: AtomicU64,
    newest: Mutex<VecDeque<DeadLetter>>,
}

/// Enough to see who is flooded or asked in vain; a log of all of them would itself be a flood.
const REMEMBERED_MAX: usize = 64;

impl DeadLetters {
    pub(crate) fn add(&self, letter: DeadLetter) {
        let counter = match letter.reason {
            DeadLetterReason::Stopped => &self.stopped,
            DeadLetterReason::Overloaded => &self.overloaded,
            DeadLetterReason::Expired => &self.expired,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let mut newest = self.newest.lock();
        if newest.len() == REMEMBERED_MAX {
            newest.pop_front();
        }
        newest.push_back(letter);
    }

    /// The counts.
    #[must_use]
    pub fn counts(&self) -> DeadLetterCounts {
        DeadLetterCounts {
            stopped: self.stopped.load(Ordering::Relaxed),
            overloaded: self.overloaded.load(Ordering::Relaxed),
            expired: self.expired.load(Ordering::Relaxed),
        }
    }

    /// The newest ones, oldest first; at most 64.
    #[must_use]
    pub fn newest(&self) -> Vec<DeadLetter> {
        self.newest.lock().iter().cloned().collect()
    }
}
