//! Writes what supervisors do into the journal.

use crate::clock::Clock;
use crate::journal::{Event, Journal};
use crate::supervision::{ExitReason, RestartEvent, SupervisionObserver};

/// Journals restarts, quarantines and escalations. Appending never blocks.
#[derive(Debug)]
pub(super) struct JournalObserver {
    journal: Journal,
    clock: Clock,
}

impl JournalObserver {
    pub(super) fn new(journal: Journal, clock: Clock) -> Self {
        Self { journal, clock }
    }
}

impl SupervisionObserver for JournalObserver {
    fn observe(&self, event: &RestartEvent) {
        match event {
            RestartEvent::Restarting { path, reason, budget, .. } => {
                self.journal.append(Event::ActorCrashed {
                    path: path.to_string(),
                    reason: reason.word().to_owned(),
                    detail: reason.to_string(),
                    handling: handling(reason),
                });
                self.journal.append(Event::ActorRestarted {
                    path: path.to_string(),
                    reason: reason.word().to_owned(),
                    detail: reason.to_string(),
                    used: budget.used,
                    max: budget.max,
                    window_s: budget.window.as_secs(),
                    at: self.clock.wall(),
                });
            }
            RestartEvent::Quarantined { path, reason, budget, wait } => {
                self.journal.append(Event::ActorQuarantined {
                    path: path.to_string(),
                    reason: reason.word().to_owned(),
                    detail: reason.to_string(),
                    used: budget.used,
                    max: budget.max,
                    window_s: budget.window.as_secs(),
                    retry_at: Some(self.clock.wall() + *wait),
                });
            }
            RestartEvent::Stuck { path } => {
                self.journal.append(Event::ActorStuck { path: path.to_string() });
            }
            RestartEvent::Recovered { path } => {
                self.journal.append(Event::ActorRecovered { path: path.to_string() });
            }
            RestartEvent::Escalated { path, child, text, budget } => {
                self.journal.append(Event::ActorEscalated {
                    path: child.to_string(),
                    to: path.to_string(),
                    reason: "escalated".to_owned(),
                    detail: text.to_string(),
                    used: budget.used,
                    max: budget.max,
                    window_s: budget.window.as_secs(),
                });
            }
        }
    }
}

fn handling(reason: &ExitReason) -> Option<String> {
    match reason {
        ExitReason::Crash { while_handling, .. } => while_handling.map(str::to_owned),
        ExitReason::Normal
        | ExitReason::Stop
        | ExitReason::Killed
        | ExitReason::StartFailed { .. }
        | ExitReason::ProcessExit { .. }
        | ExitReason::ProcessSignal { .. }
        | ExitReason::Escalated { .. }
        | ExitReason::Dependency { .. } => None,
    }
}
