//! Decides what a runtime does next: launch, probe, drain, stop, wait, give up.
//!
//! Plain code: events and the time go in, actions come out. Refuses to touch processes, sockets and clocks
//! (`actor.rs`).
//!
//! ```text
//!            start            launched          /health 200            probes fail
//! Stopped ─────────► Starting ────────► Warming ───────────► Ready ⇄ Degraded ───┐
//!    ▲  ▲               │ exit, deadline   │                   │        │ too long │
//!    │  │ done          ▼                  ▼                   ▼ exit   ▼          │
//!    │  └─ Draining ◄── Backoff(due) ◄─────┴───────────────────┴────────┴──────────┘
//!    │        ▲            │ budget used up          permanent cause
//!    │ stop   └ stop       ▼                              ▼
//!    └──────────────── Quarantined(due) ── trial ─►     Failed
//! ```
//!
//! Rules: RUN-1 no two programs of a runtime are ever alive. RUN-2 a program that is asked to end is killed
//! after its grace, always. RUN-3 results that carry an old attempt number change nothing. RUN-4 an exit that
//! we caused spends no budget. RUN-5 past its budget a runtime is quarantined and tried again later; a
//! permanent cause waits for an operator instead. RUN-6 a program that the kernel cannot end is reported, and
//! waited for. RUN-7 a program whose socket was removed is started again at once.

mod words;

mod health;
mod rules;

mod ending;
mod past;
mod serving;

pub use words::{By, RuntimeAction, RuntimeEvent, RuntimeState};

use arw_kit::life::{Chance, RestartBudget};
use arw_kit::moment::Moment;
pub use health::{Health, HealthAnswer, Probe, ProbeKind, ProbeStatus};
pub use past::Past;
pub use rules::RuntimeRules;

use super::launcher::Diagnosis;

/// What is known of the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Program {
    None,
    Launching,
    Running,
    /// Asked to end (or its launch was cancelled).
    Ending,
}

/// Why a program that is ending was asked to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum After {
    Stop,
    Restart,
    /// It failed a probe: this counts as a failure.
    Failure(Diagnosis),
    /// Its socket was removed: it is started again, as after a failure or, when it had served for long, as if
    /// asked to.
    SocketGone {
        diagnosis: Diagnosis,
        is_failure: bool,
    },
}

/// The decider of one runtime.
#[derive(Debug)]
pub struct RuntimeMachine {
    rules: RuntimeRules,
    state: RuntimeState,
    since: Moment,
    attempt: u64,
    program: Program,
    after: After,
    /// An operator has stopped it: requests do not start it.
    held: bool,
    budget: RestartBudget,
    consecutive: u32,
    trials_failed: u32,
    diagnosis: Option<Diagnosis>,
    failing_since: Option<Moment>,
    health: Health,
    in_flight: u32,
    idle_since: Moment,
    ready_since: Moment,
    /// When the start counts as failed; pushed out while the program makes progress.
    start_deadline: Moment,
    start_began: Moment,
    progress: u64,
    drain_deadline: Moment,
    /// When a program that was asked to end must be gone; `None` where nothing is left to wait for, or it was
    /// told.
    end_deadline: Option<Moment>,
    /// It has not gone in time, and that was told.
    is_stuck: bool,
    due: Moment,
    chance: Chance,
}

impl RuntimeMachine {
    /// A stopped runtime. `budget` may hold restarts of earlier processes; `seed` spreads the backoff.
    #[must_use]
    pub fn new(rules: RuntimeRules, budget: RestartBudget, now: Moment, seed: u64) -> Self {
        Self {
            rules,
            state: RuntimeState::Stopped,
            since: now,
            attempt: 0,
            program: Program::None,
            after: After::Stop,
            held: false,
            budget,
            consecutive: 0,
            trials_failed: 0,
            diagnosis: None,
            failing_since: None,
            health: Health::default(),
            in_flight: 0,
            idle_since: now,
            ready_since: now,
            start_deadline: now,
            start_began: now,
            progress: 0,
            drain_deadline: now,
            end_deadline: None,
            is_stuck: false,
            due: now,
            chance: Chance::new(seed),
        }
    }

    /// Where it is in its life, and since when.
    #[must_use]
    pub fn state(&self) -> (RuntimeState, Moment) {
        (self.state, self.since)
    }

    /// `ok`, `info`, `warning` or `error`: how much it asks for attention.
    #[must_use]
    pub fn severity(&self) -> &'static str {
        if self.is_stuck { "error" } else { self.state.severity() }
    }

    /// Why it is not well; `None` when it is.
    #[must_use]
    pub fn diagnosis(&self) -> Option<&Diagnosis> {
        self.diagnosis.as_ref()
    }

    /// Its restart budget.
    #[must_use]
    pub fn budget(&self) -> &RestartBudget {
        &self.budget
    }

    /// Its probes.
    #[must_use]
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// An operator has stopped it.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.held
    }

    /// It runs, or will by itself.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        match self.state {
            RuntimeState::Stopped | RuntimeState::Failed => false,
            RuntimeState::Draining => self.after != After::Stop,
            RuntimeState::Starting
            | RuntimeState::Warming
            | RuntimeState::Ready
            | RuntimeState::Degraded
            | RuntimeState::Backoff
            | RuntimeState::Quarantined => true,
        }
    }

    /// The number of the newest launch.
    #[must_use]
    pub fn attempt(&self) -> u64 {
        self.attempt
    }

    /// A program of this runtime may be alive.
    #[must_use]
    pub fn has_program(&self) -> bool {
        self.program != Program::None
    }

    /// Its program was asked to end because it failed a probe.
    #[must_use]
    pub fn ends_for_a_failure(&self) -> bool {
        self.program == Program::Ending && matches!(self.after, After::Failure(_))
    }

    /// Ready, without a request, since then.
    #[must_use]
    pub fn idle_since(&self) -> Option<Moment> {
        (self.state == RuntimeState::Ready && self.in_flight == 0).then_some(self.idle_since)
    }

    /// When a start will be tried by itself.
    #[must_use]
    pub fn retries_at(&self) -> Option<Moment> {
        matches!(self.state, RuntimeState::Backoff | RuntimeState::Quarantined).then_some(self.due)
    }

    /// When [`RuntimeEvent::TimerFired`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        match self.state {
            RuntimeState::Stopped | RuntimeState::Failed => None,
            RuntimeState::Starting if self.program == Program::Launching => Some(self.start_deadline),
            RuntimeState::Starting | RuntimeState::Warming => {
                Some(self.start_deadline.min(self.health.next_probe().unwrap_or(self.start_deadline)))
            }
            RuntimeState::Ready | RuntimeState::Degraded => {
                let idle = self.unloads_at();
                let proven = (self.trials_failed > 0 || self.consecutive > 0)
                    .then(|| self.ready_since + self.rules.probation);
                [self.health.next_probe(), idle, proven].into_iter().flatten().min()
            }
            RuntimeState::Draining if self.program == Program::Running => Some(self.drain_deadline),
            RuntimeState::Draining => self.end_deadline,
            RuntimeState::Backoff | RuntimeState::Quarantined => Some(self.due),
        }
    }

    /// Takes in one event.
    pub fn handle(&mut self, now: Moment, event: RuntimeEvent) -> Vec<RuntimeAction> {
        let mut actions = Vec::new();
        match event {
            RuntimeEvent::StartWanted(by) => self.start_wanted(now, by, &mut actions),
            RuntimeEvent::StopWanted(by) => self.stop_wanted(now, by, &mut actions),
            RuntimeEvent::RestartWanted => self.restart_wanted(now, &mut actions),
            RuntimeEvent::Launched { attempt } if attempt == self.attempt => {
                self.launched(now, &mut actions);
            }
            RuntimeEvent::LaunchFailed { attempt, diagnosis } if attempt == self.attempt => {
                self.ended(now, false, diagnosis, &mut actions);
            }
            RuntimeEvent::NoRoom { attempt, diagnosis } if attempt == self.attempt => {
                self.found_no_room(now, diagnosis, &mut actions);
            }
            RuntimeEvent::Exited { attempt, by_us, diagnosis } if attempt == self.attempt => {
                self.ended(now, by_us, diagnosis, &mut actions);
            }
            RuntimeEvent::Probed { attempt, kind, answer, latency } if attempt == self.attempt => {
                self.probed(now, kind, &answer, latency, &mut actions);
            }
            RuntimeEvent::Refused { attempt } if attempt == self.attempt => self.refused(now, &mut actions),
            RuntimeEvent::SocketGone { attempt, path } if attempt == self.attempt => {
                self.socket_gone(now, &path, &mut actions);
            }
            RuntimeEvent::Progressed { attempt, counter } if attempt == self.attempt => {
                self.progressed(now, counter);
            }
            // RUN-3: an old number changes nothing.
            RuntimeEvent::Launched { .. }
            | RuntimeEvent::LaunchFailed { .. }
            | RuntimeEvent::NoRoom { .. }
            | RuntimeEvent::Exited { .. }
            | RuntimeEvent::Probed { .. }
            | RuntimeEvent::Refused { .. }
            | RuntimeEvent::SocketGone { .. }
            | RuntimeEvent::Progressed { .. } => {}
            RuntimeEvent::InFlight(count) => self.in_flight_changed(now, count, &mut actions),
            RuntimeEvent::TimerFired => self.timer_fired(now, &mut actions),
        }
        actions
    }

    fn start_wanted(&mut self, now: Moment, by: By, actions: &mut Vec<RuntimeAction>) {
        match by {
            By::Operator => {
                self.held = false;
                // A person who starts it by hand has looked at it: it gets its whole budget again.
                if matches!(self.state, RuntimeState::Quarantined | RuntimeState::Failed) {
                    self.budget.reset();
                    self.trials_failed = 0;
                    self.consecutive = 0;
                }
            }
            By::Demand | By::Boot | By::Eviction if self.held => return,
            By::Demand | By::Boot | By::Eviction => {}
        }
        match self.state {
            RuntimeState::Draining => {
                if self.after == After::Stop {
                    self.after = After::Restart;
                }
                if self.is_stuck {
                    // RUN-6: nobody knows when it goes.
                    actions.push(RuntimeAction::RefuseWaiting);
                }
            }
            RuntimeState::Stopped => self.launch(now, actions),
            RuntimeState::Failed | RuntimeState::Quarantined | RuntimeState::Backoff
                if by == By::Operator =>
            {
                self.launch(now, actions);
            }
            RuntimeState::Failed | RuntimeState::Quarantined => actions.push(RuntimeAction::RefuseWaiting),
            RuntimeState::Backoff
            | RuntimeState::Starting
            | RuntimeState::Warming
            | RuntimeState::Ready
            | RuntimeState::Degraded => {}
        }
    }

    fn stop_wanted(&mut self, now: Moment, by: By, actions: &mut Vec<RuntimeAction>) {
        if by == By::Eviction && (self.state != RuntimeState::Ready || self.in_flight > 0) {
            // A busy or loading engine is never a victim.
            return;
        }
        self.held |= by == By::Operator;
        self.after = After::Stop;
        self.end_program(now, actions);
    }

    fn restart_wanted(&mut self, now: Moment, actions: &mut Vec<RuntimeAction>) {
        self.held = false;
        if self.program == Program::None {
            self.start_wanted(now, By::Operator, actions);
        } else {
            self.after = After::Restart;
            self.end_program(now, actions);
        }
    }

    /// Ends the program, letting requests in flight finish first; `self.after` says what follows.
    fn end_program(&mut self, now: Moment, actions: &mut Vec<RuntimeAction>) {
        match self.program {
            Program::None => self.rest(now, actions),
            Program::Launching => {
                self.program = Program::Ending;
                actions.push(RuntimeAction::CancelLaunch { attempt: self.attempt });
                self.enter(now, RuntimeState::Draining, actions);
            }
            Program::Running => {
                if !self.rules.is_managed {
                    self.let_go(now, actions);
                    return;
                }
                if self.state != RuntimeState::Draining {
                    self.drain_deadline = now + self.rules.drain_timeout;
                    self.enter(now, RuntimeState::Draining, actions);
                }
                if self.in_flight == 0 {
                    self.terminate(now, actions);
                }
            }
            Program::Ending => {}
        }
    }

    /// There is no program of ours to end.
    fn let_go(&mut self, now: Moment, actions: &mut Vec<RuntimeAction>) {
        self.program = Program::None;
        match std::mem::replace(&mut self.after, After::Stop) {
            After::Restart => self.launch(now, actions),
            After::Stop | After::Failure(_) | After::SocketGone { .. } => self.rest(now, actions),
        }
    }

    fn terminate(&mut self, now: Moment, actions: &mut Vec<RuntimeAction>) {
        self.program = Program::Ending;
        self.end_deadline = Some(now + self.rules.stop_grace + self.rules.end_patience);
        // RUN-2: the launcher kills after the grace, whatever the program does.
        actions.push(RuntimeAction::Terminate { attempt: self.attempt, grace: self.rules.stop_grace });
    }

    fn launch(&mut self, now: Moment, actions: &mut Vec<RuntimeAction>) {
        // RUN-1: every caller has checked that no program is left.
        debug_assert_eq!(self.program, Program::None);
        self.attempt += 1;
        self.program = Program::Launching;
        self.after = After::Restart;
        self.health = Health::starting(now);
        self.start_began = now;
        self.start_deadline = now + self.rules.start_timeout;
        self.progress = 0;
        self.enter(now, RuntimeState::Starting, actions);
        if self.rules.is_managed {
            actions.push(RuntimeAction::Launch { attempt: self.attempt });
        } else {
            self.launched(now, actions);
        }
    }

    fn launched(&mut self, now: Moment, actions: &mut Vec<RuntimeAction>) {
        if self.program != Program::Launching {
            // It was cancelled too late: now it runs, and must end.
            if self.program == Program::Ending {
                self.terminate(now, actions);
            }
            return;
        }
        self.program = Program::Running;
        if let Some(since) = self.failing_since.filter(|_| self.rules.is_managed) {
            actions.push(RuntimeAction::Restarted { since });
        }
        if self.rules.has_http {
            self.health.probe_soon(now);
            self.probe_if_due(now, actions);
        } else {
            self.ready(now, actions);
        }
    }

    fn ready(&mut self, now: Moment, actions: &mut Vec<RuntimeAction>) {
        self.health.started(now, now.since(self.start_began));
        self.ready_since = now;
        self.idle_since = now;
        self.enter(now, RuntimeState::Ready, actions);
        self.diagnosis = None;
        if let Some(since) = self.failing_since.take() {
            actions.push(RuntimeAction::Recovered { since });
        }
        actions.push(RuntimeAction::ServeWaiting);
    }

    fn in_flight_changed(&mut self, now: Moment, count: u32, actions: &mut Vec<RuntimeAction>) {
        if count < self.in_flight || count > 0 {
            self.idle_since = now;
        }
        self.in_flight = count;
        if count == 0 && self.state == RuntimeState::Draining && self.program == Program::Running {
            self.terminate(now, actions);
        }
    }

    fn timer_fired(&mut self, now: Moment, actions: &mut Vec<RuntimeAction>) {
        match self.state {
            RuntimeState::Starting | RuntimeState::Warming if now >= self.start_deadline => {
                let diagnosis = self.late_diagnosis(now);
                self.after = After::Failure(diagnosis);
                self.give_up_start(now, actions);
            }
            RuntimeState::Starting | RuntimeState::Warming => self.probe_if_due(now, actions),
            RuntimeState::Ready | RuntimeState::Degraded => self.tick_ready(now, actions),
            RuntimeState::Draining if self.program == Program::Running && now >= self.drain_deadline => {
                self.terminate(now, actions);
            }
            RuntimeState::Draining if self.end_deadline.is_some_and(|end| now >= end) => {
                self.found_stuck(now, actions);
            }
            RuntimeState::Backoff | RuntimeState::Quarantined if now >= self.due => {
                self.launch(now, actions);
            }
            RuntimeState::Draining
            | RuntimeState::Backoff
            | RuntimeState::Quarantined
            | RuntimeState::Stopped
            | RuntimeState::Failed => {}
        }
    }

    fn give_up_start(&mut self, now: Moment, actions: &mut Vec<RuntimeAction>) {
        if self.program == Program::Launching {
            actions.push(RuntimeAction::CancelLaunch { attempt: self.attempt });
            self.program = Program::Ending;
            self.enter(now, RuntimeState::Draining, actions);
        } else if self.rules.is_managed {
            // Nothing that it serves could be lost.
            self.drain_deadline = now;
            self.enter(now, RuntimeState::Draining, actions);
            self.terminate(now, actions);
        } else {
            self.start_deadline = now + self.rules.start_timeout;
            self.diagnosis = match std::mem::replace(&mut self.after, After::Restart) {
                After::Failure(diagnosis) => Some(diagnosis),
                After::Stop | After::Restart | After::SocketGone { .. } => None,
            };
            actions.push(RuntimeAction::RefuseWaiting);
        }
    }

    fn enter(&mut self, now: Moment, to: RuntimeState, actions: &mut Vec<RuntimeAction>) {
        let from = std::mem::replace(&mut self.state, to);
        if from != to {
            self.since = now;
            actions.push(RuntimeAction::Changed { from, to });
        }
    }
}

#[cfg(test)]
mod tests;
