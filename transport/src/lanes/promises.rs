//! Answers that this node owes over one connection.
//!
//! Owns how many bytes of them wait in all lanes, and whether one more ask may be begun. Refuses to know
//! lanes and calls.
//!
//! ```text
//! ask ── promised? ──► begun ──► answer ── fits? ──► waits ──► written
//!            └─ no ──► refusal                └─ no ──► refusal
//! ```
//!
//! LANE-10: an ask that is begun is answered or refused, and whoever asked learns which. How long an answer
//! will be is not known when the ask comes, so it is taken to be as long as those before it. Where all turn
//! out longer than that, the last ones are refused.

use std::sync::atomic::{AtomicUsize, Ordering};

use crate::frame::FRAME_BYTES_MAX;

/// A refusal has some twenty bytes, and at most a frame. A node that reads has no more asks open than it may
/// (LANE-6), and refusals of all of them take less than this.
const REFUSAL_BYTES_MAX: usize = 1024 * 1024;

/// What an answer is taken for before the first one: a short one, so that a burst of asks is let in.
const ANSWER_BYTES_FIRST: usize = 256;

/// Each answer moves what the next is taken for by a sixteenth of the difference.
const ANSWERS_REMEMBERED: usize = 16;

/// The answers of one connection.
#[derive(Debug)]
pub(crate) struct Promises {
    bytes_max: usize,
    /// Bytes that wait, refusals included.
    waiting: AtomicUsize,
    /// Asks that were begun and are not over.
    open: AtomicUsize,
    /// Bytes of an answer, as they were of late.
    usual: AtomicUsize,
}

impl Promises {
    /// So many bytes may wait, and the answer that reaches them; at least some of the longest.
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max: bytes_max.max(2 * FRAME_BYTES_MAX),
            waiting: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            usual: AtomicUsize::new(ANSWER_BYTES_FIRST),
        }
    }

    /// Whether an ask is begun: its answer would find room, and so would those of all that were begun before.
    /// If it is, it must be followed by [`Promises::keep`].
    pub(crate) fn make(&self) -> bool {
        let open = self.open.fetch_add(1, Ordering::Relaxed);
        let expected = (open + 1).saturating_mul(self.usual.load(Ordering::Relaxed));
        // One at a time is begun whatever the ones before were.
        let fits = if open == 0 {
            self.has_room_for_answer()
        } else {
            self.waiting_bytes() + expected <= self.bytes_max
        };
        if !fits {
            self.open.fetch_sub(1, Ordering::Relaxed);
        }
        fits
    }

    /// An ask that was begun is over.
    pub(crate) fn keep(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// An answer had so many bytes.
    pub(crate) fn note(&self, bytes: usize) {
        // Two that write at once may forget one of them: nothing depends on it.
        let usual = self.usual.load(Ordering::Relaxed);
        let usual = (usual * (ANSWERS_REMEMBERED - 1) + bytes).div_ceil(ANSWERS_REMEMBERED);
        self.usual.store(usual, Ordering::Relaxed);
    }

    pub(super) fn has_room_for_answer(&self) -> bool {
        self.waiting_bytes() < self.bytes_max
    }

    pub(super) fn has_room_for_refusal(&self) -> bool {
        self.waiting_bytes() < self.bytes_max + REFUSAL_BYTES_MAX
    }

    pub(super) fn has_room_for_taken(&self) -> bool {
        self.waiting_bytes() < self.bytes_max + 2 * REFUSAL_BYTES_MAX
    }

    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub(super) fn queued(&self, bytes: usize) {
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn written(&self, bytes: usize) {
        self.waiting.fetch_sub(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: usize = 1024 * 1024;

    fn made(promises: &Promises) -> usize {
        std::iter::from_fn(|| promises.make().then_some(())).count()
    }

    #[test]
    fn lane_10_as_many_asks_are_begun_as_their_answers_find_room() {
        // LANE-10
        let promises = Promises::new(MAX);
        assert_eq!(made(&promises), MAX / ANSWER_BYTES_FIRST);
        promises.keep();
        assert!(promises.make() && !promises.make());
        for _ in 0..MAX / ANSWER_BYTES_FIRST {
            promises.keep();
        }
        for _ in 0..1_000 {
            promises.note(4_096);
        }
        assert_eq!(made(&promises), MAX / 4_096, "they are longer than it was thought");
    }

    #[test]
    fn lane_10_what_waits_already_leaves_less_and_one_ask_is_begun_as_long_as_there_is_room() {
        // LANE-10
        let promises = Promises::new(MAX);
        promises.queued(MAX - 1);
        assert_eq!(made(&promises), 1);
        promises.keep();
        promises.queued(1);
        assert_eq!(made(&promises), 0);
        assert!(promises.has_room_for_refusal());
        promises.written(MAX);
        assert_eq!(made(&promises), MAX / ANSWER_BYTES_FIRST);
    }
}
