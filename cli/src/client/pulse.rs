//! When a node was last heard, for whoever shows what it said.
//!
//! Owns [`Beat`], a decider that says how old the picture is, and its sharing. Refuses to ask the node.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arw_kit::clock::Clock;
use arw_kit::moment::Moment;

/// Cheap to clone; every clone is about the same node.
#[derive(Clone, Debug)]
pub(crate) struct Pulse {
    clock: Clock,
    beat: Arc<Mutex<Beat>>,
}

#[derive(Clone, Copy, Debug)]
struct Beat {
    heard: Moment,
    /// The stream is gone: whatever else the node answers, nothing new is shown.
    is_broken: bool,
}

/// A node that answers is asked again after so long without a byte from it: its stream says something every
/// 15 s only (HTTP-8).
const ASK_AFTER: Duration = Duration::from_secs(2);
/// A node that is well has answered by then.
const QUIET_MAX: Duration = Duration::from_secs(5);

impl Beat {
    fn is_to_be_asked(self, now: Moment) -> bool {
        !self.is_broken && now.since(self.heard) >= ASK_AFTER
    }

    fn answered(&mut self, now: Moment) {
        if !self.is_broken {
            self.heard = now;
        }
    }

    fn stale_for(self, now: Moment) -> Option<Duration> {
        let quiet = now.since(self.heard);
        (self.is_broken || quiet >= QUIET_MAX).then_some(quiet)
    }
}

impl Pulse {
    pub(crate) fn new(clock: &Clock) -> Self {
        let beat = Beat { heard: clock.now(), is_broken: false };
        Self { clock: *clock, beat: Arc::new(Mutex::new(beat)) }
    }

    /// Something came over the stream, or a new one stands.
    pub(crate) fn streams(&self) {
        *self.beat() = Beat { heard: self.clock.now(), is_broken: false };
    }

    /// The node answered something else: it lives, and a stream that still stands is up to date.
    pub(crate) fn answered(&self) {
        self.beat().answered(self.clock.now());
    }

    /// The stream broke, or could not be made anew.
    pub(crate) fn broke(&self) {
        self.beat().is_broken = true;
    }

    /// It is time to ask whether the node still answers.
    pub(crate) fn is_to_be_asked(&self) -> bool {
        self.beat().is_to_be_asked(self.clock.now())
    }

    /// For how long nothing was heard, where that is too long for what is shown to be believed.
    pub(crate) fn stale_for(&self) -> Option<Duration> {
        self.beat().stale_for(self.clock.now())
    }

    fn beat(&self) -> MutexGuard<'_, Beat> {
        self.beat.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_quiet_node_is_asked_and_stale_only_when_it_does_not_answer() {
        let mut now = Moment::default();
        let mut beat = Beat { heard: now, is_broken: false };
        assert!(!beat.is_to_be_asked(now) && beat.stale_for(now).is_none());
        for _ in 0..10 {
            now = now + ASK_AFTER;
            assert!(beat.is_to_be_asked(now) && beat.stale_for(now).is_none());
            beat.answered(now);
        }
        assert_eq!(beat.stale_for(now + SECOND * 4), None);
        assert_eq!(beat.stale_for(now + SECOND * 7), Some(SECOND * 7));
        beat.answered(now + SECOND * 7);
        assert_eq!(beat.stale_for(now + SECOND * 8), None);
    }

    #[test]
    fn without_a_stream_the_picture_is_stale_whatever_else_the_node_answers() {
        let now = Moment::default();
        let mut beat = Beat { heard: now, is_broken: true };
        beat.answered(now + SECOND * 3);
        assert_eq!(beat.stale_for(now + SECOND * 3), Some(SECOND * 3));
        assert!(!beat.is_to_be_asked(now + SECOND * 9), "a new stream is being made");
    }
}
