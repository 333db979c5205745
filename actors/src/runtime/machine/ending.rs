//! Once the program has ended: whether that was a failure, and what follows.

use arw_kit::moment::Moment;

use super::health::Health;
use super::words::{RuntimeAction, RuntimeState};
use super::{After, Program, RuntimeMachine};
use crate::runtime::launcher::{Cause, Diagnosis};

impl RuntimeMachine {
    /// The program has ended, or never began.
    pub(super) fn ended(
        &mut self,
        now: Moment,
        by_us: bool,
        diagnosis: Diagnosis,
        actions: &mut Vec<RuntimeAction>,
    ) {
        if self.program == Program::None {
            return;
        }
        let was_ending = self.program == Program::Ending;
        self.program = Program::None;
        self.end_deadline = None;
        if std::mem::take(&mut self.is_stuck) {
            self.diagnosis = None;
        }
        let after = std::mem::replace(&mut self.after, After::Stop);
        match after {
            // RUN-4: what we asked for is no failure.
            After::Stop if was_ending || by_us || self.state == RuntimeState::Draining => {
                self.rest(now, actions);
            }
            After::Restart if was_ending || by_us || self.state == RuntimeState::Draining => {
                self.launch(now, actions);
            }
            After::Failure(diagnosis) => self.failed(now, diagnosis, actions),
            // RUN-7. One that ended by itself took its socket with it, or failed of something else meanwhile.
            After::SocketGone { is_failure: false, .. } if by_us => self.launch(now, actions),
            After::SocketGone { diagnosis, .. } if by_us => self.failed(now, diagnosis, actions),
            After::SocketGone { .. } => self.failed(now, diagnosis, actions),
            After::Stop | After::Restart => self.failed(now, diagnosis, actions),
        }
    }

    /// RUN-6: it was killed, and is not gone. Nothing is begun beside it (RUN-1): its end, when it comes,
    /// decides what follows.
    pub(super) fn found_stuck(&mut self, now: Moment, actions: &mut Vec<RuntimeAction>) {
        self.end_deadline = None;
        self.is_stuck = true;
        let asked = now.since(self.since).as_secs();
        let diagnosis = Diagnosis {
            cause: Cause::Unknown,
            detail: format!(
                "its program was killed and has not ended; the runtime has been draining for {asked} s"
            ),
            hint: Some(STUCK_HINT.to_owned()),
            permanent: false,
        };
        self.diagnosis = Some(diagnosis.clone());
        actions.push(RuntimeAction::Stuck { diagnosis });
        actions.push(RuntimeAction::RefuseWaiting);
    }

    pub(super) fn found_no_room(
        &mut self,
        now: Moment,
        diagnosis: Diagnosis,
        actions: &mut Vec<RuntimeAction>,
    ) {
        match self.program {
            Program::Launching => {
                self.program = Program::None;
                self.rest(now, actions);
                self.diagnosis = Some(diagnosis);
            }
            // The launch was cancelled meanwhile: what is wanted now counts.
            Program::Ending => self.ended(now, true, diagnosis, actions),
            Program::None | Program::Running => {}
        }
    }

    pub(super) fn rest(&mut self, now: Moment, actions: &mut Vec<RuntimeAction>) {
        self.diagnosis = None;
        self.failing_since = None;
        self.health = Health::default();
        self.enter(now, RuntimeState::Stopped, actions);
        actions.push(RuntimeAction::RefuseWaiting);
    }

    pub(super) fn failed(&mut self, now: Moment, mut diagnosis: Diagnosis, actions: &mut Vec<RuntimeAction>) {
        let chance = self.chance.next();
        self.failing_since.get_or_insert(now);
        self.health.stopped();
        let allowed = self.budget.spend(now);
        self.diagnosis = Some(diagnosis.clone());
        actions.push(RuntimeAction::Failed { diagnosis: diagnosis.clone() });
        if diagnosis.permanent {
            // RUN-5: trying again without a change cannot help.
            self.enter(now, RuntimeState::Failed, actions);
            actions.push(RuntimeAction::RefuseWaiting);
        } else if self.trials_failed > 0 || !allowed {
            diagnosis.hint.get_or_insert_with(|| QUARANTINE_HINT.to_owned());
            self.diagnosis = Some(diagnosis.clone());
            let factor = 1_u32.checked_shl(self.trials_failed).unwrap_or(u32::MAX);
            let wait = self.rules.quarantine_first.saturating_mul(factor).min(self.rules.quarantine_max);
            self.due = now + wait;
            self.trials_failed = self.trials_failed.saturating_add(1);
            self.enter(now, RuntimeState::Quarantined, actions);
            actions.push(RuntimeAction::Quarantined { until: self.due, diagnosis });
            actions.push(RuntimeAction::RefuseWaiting);
        } else {
            self.due = now + self.rules.backoff.delay(self.consecutive, chance);
            self.consecutive = self.consecutive.saturating_add(1);
            self.enter(now, RuntimeState::Backoff, actions);
            if self.due <= now {
                self.launch(now, actions);
            }
        }
    }
}

const STUCK_HINT: &str = "the kernel cannot end a process while it waits for a disk, a network file system or a driver: mend that, or restart the machine; \
                          it is gone on with by itself once the process ends";

const QUARANTINE_HINT: &str = "it is tried again by itself; see `arw runtime logs` for its last lines, and `arw runtime start` to try now";
