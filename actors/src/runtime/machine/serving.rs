//! While the program runs: what its probes mean, when it is trusted again, when it is unloaded.

use std::time::Duration;

use super::health::{HealthAnswer, ProbeKind};
use super::words::{RuntimeAction, RuntimeState};
use super::{After, Program, RuntimeMachine};
use crate::moment::Moment;
use crate::runtime::launcher::{Cause, Diagnosis};

impl RuntimeMachine {
    pub(super) fn probed(
        &mut self,
        now: Moment,
        kind: ProbeKind,
        answer: &HealthAnswer,
        latency: Duration,
        actions: &mut Vec<RuntimeAction>,
    ) {
        if self.program != Program::Running {
            return;
        }
        self.health.answered(now, kind, answer, latency, &self.rules);
        match self.state {
            RuntimeState::Starting | RuntimeState::Warming => match answer {
                HealthAnswer::Ok => self.ready(now, actions),
                HealthAnswer::Loading if self.state == RuntimeState::Starting => {
                    self.enter(now, RuntimeState::Warming, actions);
                }
                // No failed probe counts before the start's deadline.
                HealthAnswer::Loading | HealthAnswer::Busy | HealthAnswer::Failed(_) => {}
            },
            RuntimeState::Ready | RuntimeState::Degraded => self.judge_probes(now, actions),
            RuntimeState::Draining
            | RuntimeState::Stopped
            | RuntimeState::Backoff
            | RuntimeState::Quarantined
            | RuntimeState::Failed => {}
        }
    }

    fn judge_probes(&mut self, now: Moment, actions: &mut Vec<RuntimeAction>) {
        let Some((failures, detail)) = self.health.failing() else {
            if self.state == RuntimeState::Degraded {
                self.diagnosis = None;
                self.enter(now, RuntimeState::Ready, actions);
                actions.push(RuntimeAction::ServeWaiting);
            }
            return;
        };
        let diagnosis = Diagnosis {
            cause: Cause::Unknown,
            detail,
            hint: Some("see `arw runtime logs` for what it was doing".to_owned()),
            permanent: false,
        };
        let is_hopeless = failures >= self.rules.failures_to_restart;
        if is_hopeless && self.rules.is_managed {
            self.after = After::Failure(diagnosis);
            // A stuck engine would not finish what is in flight.
            self.drain_deadline = now;
            self.enter(now, RuntimeState::Draining, actions);
            self.terminate(now, actions);
            return;
        }
        if failures >= self.rules.failures_to_degrade && self.state == RuntimeState::Ready {
            self.diagnosis = Some(diagnosis);
            self.enter(now, RuntimeState::Degraded, actions);
        }
        if is_hopeless && self.state == RuntimeState::Degraded {
            // We cannot restart it, and nobody knows when it is back.
            actions.push(RuntimeAction::RefuseWaiting);
        }
    }

    pub(super) fn progressed(&mut self, now: Moment, counter: u64) {
        if counter > self.progress && matches!(self.state, RuntimeState::Starting | RuntimeState::Warming) {
            self.progress = counter;
            let longest = self.start_began + self.rules.start_timeout_max;
            self.start_deadline = (now + self.rules.start_timeout).min(longest);
        }
    }

    pub(super) fn tick_ready(&mut self, now: Moment, actions: &mut Vec<RuntimeAction>) {
        if now >= self.ready_since + self.rules.probation {
            self.consecutive = 0;
            if std::mem::take(&mut self.trials_failed) > 0 {
                self.budget.reset();
            }
        }
        if self.unloads_at().is_some_and(|at| now >= at) {
            self.after = After::Stop;
            self.end_program(now, actions);
            return;
        }
        self.probe_if_due(now, actions);
    }

    pub(super) fn unloads_at(&self) -> Option<Moment> {
        let idle_after = self.rules.idle_after.filter(|_| self.rules.is_managed)?;
        Some(self.idle_since()? + idle_after)
    }

    pub(super) fn probe_if_due(&mut self, now: Moment, actions: &mut Vec<RuntimeAction>) {
        let is_up = matches!(self.state, RuntimeState::Ready | RuntimeState::Degraded);
        if let Some(kind) = self.health.take_due(now, is_up, &self.rules) {
            actions.push(RuntimeAction::Probe { attempt: self.attempt, kind });
        }
    }
}
