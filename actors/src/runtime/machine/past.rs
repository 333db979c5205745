//! What is known of a runtime when the actor that looked after it has fallen, and its machine with it.

use super::{RuntimeMachine, RuntimeState};
use crate::moment::Moment;
use crate::runtime::launcher::Diagnosis;

/// What outlives a machine: that of an actor that falls is followed by another one, and its runtime has
/// failed as often as before.
#[derive(Clone, Debug, Default)]
pub struct Past {
    /// The number of the last launch.
    pub attempt: u64,
    /// An operator has stopped it.
    pub held: bool,
    pub(super) consecutive: u32,
    pub(super) trials_failed: u32,
    pub(super) failing_since: Option<Moment>,
    pub(super) rest: Option<Rest>,
}

impl Past {
    /// Of a runtime that has not run yet.
    #[must_use]
    pub fn none(held: bool) -> Self {
        Self { held, ..Self::default() }
    }

    /// A launch that may have been under way is over, whatever is still to be heard of it.
    #[must_use]
    pub fn past_its_launch(mut self) -> Self {
        self.attempt += u64::from(self.attempt > 0);
        self
    }
}

/// It had no program, and was to have none for a while.
#[derive(Clone, Debug)]
pub(super) struct Rest {
    state: RuntimeState,
    since: Moment,
    due: Moment,
    diagnosis: Option<Diagnosis>,
}

impl RuntimeMachine {
    /// RUN-3, RUN-5: goes on from an earlier machine of the same runtime.
    #[must_use]
    pub fn continuing(mut self, past: Past) -> Self {
        self.attempt = self.attempt.max(past.attempt);
        self.held |= past.held;
        (self.consecutive, self.trials_failed) = (past.consecutive, past.trials_failed);
        self.failing_since = past.failing_since;
        if let Some(rest) = past.rest {
            (self.state, self.since, self.due) = (rest.state, rest.since, rest.due);
            self.diagnosis = rest.diagnosis;
            self.health.stopped();
        }
        self
    }

    /// What the machine that follows this one must know.
    #[must_use]
    pub fn past(&self) -> Past {
        let rests =
            matches!(self.state, RuntimeState::Backoff | RuntimeState::Quarantined | RuntimeState::Failed);
        let rest = || Rest {
            state: self.state,
            since: self.since,
            due: self.due,
            diagnosis: self.diagnosis.clone(),
        };
        Past {
            attempt: self.attempt,
            held: self.held,
            consecutive: self.consecutive,
            trials_failed: self.trials_failed,
            failing_since: self.failing_since,
            rest: rests.then(rest),
        }
    }
}
