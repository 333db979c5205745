//! What must follow from an event, by the rules of `spec/runtime.md`, worked out without the machine.
//!
//! Owns when a failure counts (RUN-4), and what it leads to (RUN-5), OTP's budget included.

use super::super::*;
use super::stage::{Asked, Program, Stage};

/// What one failure must lead to; each item is taken out when it happens.
#[derive(Debug, Default)]
pub(super) struct Foreseen {
    /// A failure with this diagnosis; `None` in it: whatever the machine found.
    failure: Option<Option<Diagnosis>>,
    enters: Option<RuntimeState>,
    quarantine: Option<Moment>,
}

impl Foreseen {
    pub(super) fn failed(&mut self, diagnosis: &Diagnosis) {
        let foreseen = self.failure.take().expect("RUN-4: this was no failure");
        assert!(foreseen.is_none_or(|foreseen| foreseen == *diagnosis));
    }

    pub(super) fn entered(&mut self, state: RuntimeState) {
        assert_eq!(self.enters.take(), Some(state), "RUN-5");
    }

    pub(super) fn quarantined(&mut self, until: Moment) {
        assert_eq!(self.quarantine.take(), Some(until), "RUN-5");
    }

    pub(super) fn must_be_done(&self) {
        assert!(self.failure.is_none(), "this failure was not counted");
        assert_eq!(self.enters, None, "RUN-5");
        assert_eq!(self.quarantine, None, "RUN-5");
    }
}

impl Stage {
    /// Works out what must follow, and notes what the event itself says.
    pub(super) fn foresee(&mut self, event: &RuntimeEvent) -> Foreseen {
        match event {
            RuntimeEvent::StartWanted(By::Operator) => {
                self.is_held = false;
                self.is_wanted = true;
                self.forgive_past();
            }
            RuntimeEvent::StartWanted(By::Demand | By::Boot | By::Eviction) => {
                self.is_wanted |= !self.is_held && self.state != RuntimeState::Failed;
            }
            RuntimeEvent::StopWanted(By::Eviction) => {
                if self.state == RuntimeState::Ready && self.in_flight == 0 {
                    self.is_wanted = false;
                }
            }
            RuntimeEvent::StopWanted(by) => {
                self.is_held |= *by == By::Operator;
                self.is_wanted = false;
                self.failing_since = if self.program == Program::None { None } else { self.failing_since };
                self.forgive_end();
            }
            RuntimeEvent::RestartWanted => {
                self.is_held = false;
                self.is_wanted = true;
                if self.program == Program::None {
                    self.forgive_past();
                }
                self.forgive_end();
            }
            RuntimeEvent::LaunchFailed { diagnosis, .. } => return self.foresee_end(false, diagnosis),
            RuntimeEvent::Exited { by_us, diagnosis, .. } => return self.foresee_end(*by_us, diagnosis),
            // The launch was given up meanwhile: this is its end like any other.
            RuntimeEvent::NoRoom { diagnosis, .. } if self.asked != Asked::Not => {
                return self.foresee_end(true, diagnosis);
            }
            RuntimeEvent::NoRoom { .. } => {
                self.is_wanted = false;
                self.failing_since = None;
            }
            RuntimeEvent::TimerFired => self.foresee_timer(),
            RuntimeEvent::Launched { .. }
            | RuntimeEvent::Probed { .. }
            | RuntimeEvent::Refused { .. }
            | RuntimeEvent::SocketGone { .. }
            | RuntimeEvent::Progressed { .. }
            | RuntimeEvent::InFlight(_) => {}
        }
        Foreseen::default()
    }

    /// Somebody who starts it by hand has looked at it.
    fn forgive_past(&mut self) {
        if matches!(self.state, RuntimeState::Quarantined | RuntimeState::Failed) {
            self.failures.clear();
            self.trials_failed = 0;
        }
    }

    /// The end that is under way is wanted now, whatever began it.
    fn forgive_end(&mut self) {
        if matches!(self.asked, Asked::Failing | Asked::CutOff { .. }) {
            self.asked = Asked::Wanted;
        }
    }

    fn foresee_timer(&mut self) {
        let is_up = matches!(self.state, RuntimeState::Ready | RuntimeState::Degraded);
        if is_up && self.now >= self.ready_at + self.rules.probation && self.trials_failed > 0 {
            self.failures.clear();
            self.trials_failed = 0;
        }
    }

    /// The program has ended, or could not be started.
    fn foresee_end(&mut self, by_us: bool, diagnosis: &Diagnosis) -> Foreseen {
        let asked = std::mem::replace(&mut self.asked, Asked::Not);
        // RUN-7: one that ends by itself all the same has failed of something else.
        let asked = if by_us || !matches!(asked, Asked::CutOff { .. }) { asked } else { Asked::Not };
        let is_forgiven = matches!(asked, Asked::Wanted | Asked::CutOff { is_failure: false });
        if is_forgiven || (asked == Asked::Not && by_us) {
            // RUN-4.
            if !self.is_wanted {
                self.failing_since = None;
            }
            return Foreseen::default();
        }
        let is_permanent = diagnosis.permanent && asked == Asked::Not;
        let found = (asked == Asked::Not).then(|| diagnosis.clone());
        self.failing_since.get_or_insert(self.now);
        self.failures.push(self.now);
        let limits = self.rules.limits;
        let counts = |at: &&Moment| self.now.since(**at) <= limits.window;
        let allowed = self.failures.iter().filter(counts).count() <= limits.max as usize;
        let mut foreseen = Foreseen { failure: Some(found), ..Foreseen::default() };
        if is_permanent {
            foreseen.enters = Some(RuntimeState::Failed);
        } else if self.trials_failed == 0 && allowed {
            foreseen.enters = Some(RuntimeState::Backoff);
        } else {
            let wait = self.rules.quarantine_first * 2_u32.pow(self.trials_failed.min(16));
            foreseen.enters = Some(RuntimeState::Quarantined);
            foreseen.quarantine = Some(self.now + wait.min(self.rules.quarantine_max));
            self.trials_failed += 1;
        }
        foreseen
    }
}
