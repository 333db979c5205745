//! Messages that nobody handled: counted by reason and by actor, the newest remembered.
//!
//! Refuses to keep the messages themselves: they may be large or secret.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use serde::Serialize;

use crate::life::ActorPath;
use crate::moment::WallTime;

/// Why a message was not handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum DeadLetterReason {
    /// Its actor had stopped, or stopped before it came to this message.
    Stopped,
    /// The mailbox was full.
    Overloaded,
    /// Its asker's deadline passed before it was begun.
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
    remembered: Mutex<Remembered>,
}

#[derive(Debug, Default)]
struct Remembered {
    newest: VecDeque<DeadLetter>,
    /// Since they were last taken. `None`: of all actors beyond the most that are told apart.
    tallies: BTreeMap<(Option<ActorPath>, DeadLetterReason), u64>,
}

/// Dead letters of one actor, for one reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterTally {
    /// The actor that they were for; `None` for further actors.
    pub path: Option<ActorPath>,
    /// Why.
    pub reason: DeadLetterReason,
    /// How many.
    pub count: u64,
}

/// Enough to see who is flooded or asked in vain; a log of all of them would itself be a flood.
const REMEMBERED_MAX: usize = 64;
/// Actors and reasons that are told apart between two looks: each becomes an event.
const TALLIES_MAX: usize = 32;

impl DeadLetterReason {
    /// The word in JSON and in events.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Overloaded => "overloaded",
            Self::Expired => "expired",
        }
    }
}

impl DeadLetters {
    pub(crate) fn add(&self, letter: DeadLetter) {
        let counter = match letter.reason {
            DeadLetterReason::Stopped => &self.stopped,
            DeadLetterReason::Overloaded => &self.overloaded,
            DeadLetterReason::Expired => &self.expired,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        let mut remembered = self.remembered.lock();
        let own = (Some(letter.path.clone()), letter.reason);
        let is_told_apart = remembered.tallies.len() < TALLIES_MAX || remembered.tallies.contains_key(&own);
        let key = if is_told_apart { own } else { (None, letter.reason) };
        *remembered.tallies.entry(key).or_default() += 1;
        if remembered.newest.len() == REMEMBERED_MAX {
            remembered.newest.pop_front();
        }
        remembered.newest.push_back(letter);
    }

    /// Counts by actor and reason since this was last called.
    #[must_use]
    pub fn take_tallies(&self) -> Vec<DeadLetterTally> {
        let tallies = std::mem::take(&mut self.remembered.lock().tallies);
        let tally = |((path, reason), count)| DeadLetterTally { path, reason, count };
        tallies.into_iter().map(tally).collect()
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
        self.remembered.lock().newest.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(path: &str, reason: DeadLetterReason) -> DeadLetter {
        DeadLetter { path: ActorPath::root(path), message: "Ping", reason, at: WallTime::from_millis(0) }
    }

    #[test]
    fn each_actor_has_its_own_tally_for_each_reason() {
        let letters = DeadLetters::default();
        for _ in 0..500 {
            letters.add(letter("a", DeadLetterReason::Overloaded));
        }
        letters.add(letter("b", DeadLetterReason::Expired));
        let found = letters.take_tallies();
        let found: Vec<_> =
            found.iter().map(|it| (it.path.as_ref().unwrap().as_str(), it.reason.word(), it.count)).collect();
        assert_eq!(found, [("a", "overloaded", 500), ("b", "expired", 1)]);
        assert_eq!(letters.take_tallies(), []);
        assert_eq!(letters.counts().total(), 501);
    }

    #[test]
    fn dead_letters_of_many_actors_are_counted_together_and_none_is_lost() {
        let letters = DeadLetters::default();
        for n in 0..10 * TALLIES_MAX {
            letters.add(letter(&format!("a{n}"), DeadLetterReason::Stopped));
        }
        let found = letters.take_tallies();
        assert!(found.len() <= TALLIES_MAX + 3, "{}", found.len());
        assert_eq!(found.iter().map(|it| it.count).sum::<u64>(), 10 * TALLIES_MAX as u64);
        assert!(found.iter().any(|it| it.path.is_none()));
    }
}
