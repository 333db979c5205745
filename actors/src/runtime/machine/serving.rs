//! While the program runs: what its probes mean, when it is trusted again, when it is unloaded.

use std::path::Path;
use std::time::Duration;

use arw_kit::moment::Moment;

use super::health::{HealthAnswer, ProbeKind};
use super::words::{RuntimeAction, RuntimeState};
use super::{After, Program, RuntimeMachine};
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
        if let HealthAnswer::SocketGone(path) = answer {
            self.socket_gone(now, path, actions);
            return;
        }
        match self.state {
            RuntimeState::Starting | RuntimeState::Warming => match answer {
                HealthAnswer::Ok => self.ready(now, actions),
                HealthAnswer::Loading if self.state == RuntimeState::Starting => {
                    self.enter(now, RuntimeState::Warming, actions);
                }
                // A program that starts is not there yet.
                HealthAnswer::Unreachable(_) if self.rules.is_managed => {}
                HealthAnswer::Failed(_) | HealthAnswer::Unreachable(_) => self.start_fails(actions),
                HealthAnswer::Loading | HealthAnswer::Busy | HealthAnswer::SocketGone(_) => {}
            },
            RuntimeState::Ready | RuntimeState::Degraded => self.judge_probes(now, actions),
            RuntimeState::Draining
            | RuntimeState::Stopped
            | RuntimeState::Backoff
            | RuntimeState::Quarantined
            | RuntimeState::Failed => {}
        }
    }

    /// RUN-7: the program is well, but nobody can reach it, and it cannot know.
    pub(super) fn socket_gone(&mut self, now: Moment, path: &Path, actions: &mut Vec<RuntimeAction>) {
        let is_up = matches!(self.state, RuntimeState::Ready | RuntimeState::Degraded);
        // A program that is starting has made none yet; one that is ending may have removed it itself.
        if !(is_up || self.state == RuntimeState::Warming)
            || self.program != Program::Running
            || !self.rules.is_managed
        {
            return;
        }
        let diagnosis = Diagnosis {
            cause: Cause::Unknown,
            detail: format!("its socket {} was removed by somebody else", path.display()),
            hint: Some(SOCKET_HINT.to_owned()),
            permanent: false,
        };
        // Somebody who cleans up once costs the engine nothing; a socket that never stays must not be made
        // anew for ever.
        let has_served = is_up && now >= self.ready_since + self.rules.probation;
        self.after = After::SocketGone { diagnosis: diagnosis.clone(), is_failure: !has_served };
        self.diagnosis = Some(diagnosis);
        self.end_program(now, actions);
    }

    /// RUN-7: a request got no connection. Its engine is asked now, and not only when that is due.
    pub(super) fn refused(&mut self, now: Moment, actions: &mut Vec<RuntimeAction>) {
        let is_up = matches!(self.state, RuntimeState::Ready | RuntimeState::Degraded);
        if is_up && self.rules.has_http {
            self.health.doubt(now);
            self.probe_if_due(now, actions);
        }
    }

    /// A start's probe has failed: that is shown at once. It counts only at the start's deadline, and who
    /// waits for a server of somebody else is refused sooner.
    fn start_fails(&mut self, actions: &mut Vec<RuntimeAction>) {
        let Some((failures, detail)) = self.health.failing() else { return };
        let diagnosis = self.failing_diagnosis(detail);
        if self.diagnosis.as_ref() != Some(&diagnosis) {
            self.diagnosis = Some(diagnosis);
            actions.push(RuntimeAction::ReasonChanged);
        }
        if !self.rules.is_managed && failures >= self.rules.failures_to_restart {
            // Nobody knows when it is back.
            actions.push(RuntimeAction::RefuseWaiting);
        }
    }

    /// Why its probes fail, and what to do.
    pub(super) fn failing_diagnosis(&self, detail: String) -> Diagnosis {
        let hint = if self.rules.is_managed { LOG_HINT } else { SERVER_HINT };
        Diagnosis { cause: Cause::Unknown, detail, hint: Some(hint.to_owned()), permanent: false }
    }

    /// It was not ready in time.
    pub(super) fn late_diagnosis(&self, now: Moment) -> Diagnosis {
        let waited = now.since(self.start_began).as_secs();
        match self.health.failing() {
            Some((_, detail)) => self.failing_diagnosis(format!("not ready after {waited} s: {detail}")),
            None => Diagnosis {
                cause: Cause::Unknown,
                detail: format!(
                    "not ready after {waited} s, and no progress seen for {} s",
                    self.rules.start_timeout.as_secs()
                ),
                hint: Some(LATE_HINT.to_owned()),
                permanent: false,
            },
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
        let diagnosis = self.failing_diagnosis(detail);
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

const LOG_HINT: &str = "see `arw runtime logs` for what it was doing";
const SOCKET_HINT: &str = "it is started again; look for who removes files there, such as a clean-up job for temporary files, and leave out that folder";
const LATE_HINT: &str = "see `arw runtime logs`; raise `runtime.start_timeout` if it only needs longer";
const SERVER_HINT: &str = "start that server, or correct the runtime's `base_url` and `api_key_env`; the server is asked again every few seconds";
