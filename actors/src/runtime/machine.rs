//! Decides what a runtime does next: launch, probe, drain, stop, wait, give up.
//!
//! Plain code: events and the time go in, actions come out. Refuses to touch processes, sockets and clocks (`actor.rs`).
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
//! Rules: RUN-1 no two programs of a runtime are ever alive. RUN-2 a program that is asked to end is killed after its grace, always. RUN-3 results that
//! carry an old attempt number change nothing. RUN-4 an exit that we caused spends no budget. RUN-5 past its budget a runtime is quarantined and tried
//! again later; a permanent cause waits for an operator instead.

mod health;
mod rules;

use std::time::Duration;

use serde::Serialize;

pub use health::{Health, HealthAnswer, Probe, ProbeKind, ProbeStatus};
pub use rules::RuntimeRules;

use super::launcher::{Cause, Diagnosis};
use crate::moment::Moment;
use crate::supervision::RestartBudget;
use crate::supervision::budget::Chance;

/// Where a runtime is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RuntimeState {
    /// No program, and none wanted now.
    Stopped,
    /// The program is being started.
    Starting,
    /// The program runs and loads its model.
    Warming,
    /// It serves.
    Ready,
    /// It runs, but a probe fails.
    Degraded,
    /// It ends: requests in flight may finish first.
    Draining,
    /// It failed and is started again soon.
    Backoff,
    /// It used up its restart budget and is tried again later.
    Quarantined,
    /// It failed in a way that only an operator can mend.
    Failed,
}

impl RuntimeState {
    /// The word in JSON, in tables and in events.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Starting => "starting",
            Self::Warming => "warming",
            Self::Ready => "ready",
            Self::Degraded => "degraded",
            Self::Draining => "draining",
            Self::Backoff => "backoff",
            Self::Quarantined => "quarantined",
            Self::Failed => "failed",
        }
    }

    /// `ok`, `info`, `warning` or `error`: how much it asks for attention.
    #[must_use]
    pub fn severity(self) -> &'static str {
        match self {
            Self::Ready => "ok",
            Self::Stopped | Self::Starting | Self::Warming | Self::Draining => "info",
            Self::Degraded | Self::Backoff => "warning",
            Self::Quarantined | Self::Failed => "error",
        }
    }
}

/// Who wants a start or stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// A person or the API.
    Operator,
    /// A request that needs the engine.
    Demand,
    /// The node, at its start.
    Boot,
    /// Another runtime that needs the memory.
    Eviction,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "`attempt` is the number of the launch that the event belongs to; the rest is said above each"
)]
pub enum RuntimeEvent {
    /// It shall run.
    StartWanted(By),
    /// It shall not run.
    StopWanted(By),
    /// It shall be stopped and started again.
    RestartWanted,
    /// The program runs.
    Launched { attempt: u64 },
    /// The program could not be started; nothing of it is left.
    LaunchFailed { attempt: u64, diagnosis: Diagnosis },
    /// There is no memory for it, and none can be freed.
    NoRoom { attempt: u64, diagnosis: Diagnosis },
    /// The program has ended and was reaped.
    Exited { attempt: u64, by_us: bool, diagnosis: Diagnosis },
    /// A probe was answered, or not.
    Probed { attempt: u64, kind: ProbeKind, answer: HealthAnswer, latency: Duration },
    /// The program's activity counter, read beside a start-up probe.
    Progressed { attempt: u64, counter: u64 },
    /// Requests that hold a lease now.
    InFlight(u32),
    /// The time of [`RuntimeMachine::next_deadline`] has come.
    TimerFired,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    missing_docs,
    reason = "`attempt` is the number of the launch that the action belongs to; the rest is said above each"
)]
pub enum RuntimeAction {
    /// Start the program; answer with `Launched` or `LaunchFailed`.
    Launch { attempt: u64 },
    /// Give up the launch that is running; answer as for a launch.
    CancelLaunch { attempt: u64 },
    /// Ask the program to end, and kill it after the grace; answer with `Exited`.
    Terminate { attempt: u64, grace: Duration },
    /// Probe it; answer with `Probed`.
    Probe { attempt: u64, kind: ProbeKind },
    /// The state has changed.
    Changed { from: RuntimeState, to: RuntimeState },
    /// A failure was counted.
    Failed { diagnosis: Diagnosis },
    /// Set aside until then.
    Quarantined { until: Moment, diagnosis: Diagnosis },
    /// It serves again after a failure that began then.
    Recovered { since: Moment },
    /// Requests that wait are let through.
    ServeWaiting,
    /// Requests that wait are refused.
    RefuseWaiting,
}

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
            due: now,
            chance: Chance::new(seed),
        }
    }

    /// Where it is in its life, and since when.
    #[must_use]
    pub fn state(&self) -> (RuntimeState, Moment) {
        (self.state, self.since)
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
            RuntimeState::Draining => (self.program == Program::Running).then_some(self.drain_deadline),
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
            RuntimeEvent::Progressed { attempt, counter } if attempt == self.attempt => {
                self.progressed(now, counter);
            }
            // RUN-3: an old number changes nothing.
            RuntimeEvent::Launched { .. }
            | RuntimeEvent::LaunchFailed { .. }
            | RuntimeEvent::NoRoom { .. }
            | RuntimeEvent::Exited { .. }
            | RuntimeEvent::Probed { .. }
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
                    self.terminate(actions);
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
            After::Stop | After::Failure(_) => self.rest(now, actions),
        }
    }

    fn terminate(&mut self, actions: &mut Vec<RuntimeAction>) {
        self.program = Program::Ending;
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
                self.terminate(actions);
            }
            return;
        }
        self.program = Program::Running;
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

    fn probed(
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
            self.terminate(actions);
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

    fn progressed(&mut self, now: Moment, counter: u64) {
        if counter > self.progress && matches!(self.state, RuntimeState::Starting | RuntimeState::Warming) {
            self.progress = counter;
            let longest = self.start_began + self.rules.start_timeout_max;
            self.start_deadline = (now + self.rules.start_timeout).min(longest);
        }
    }

    fn in_flight_changed(&mut self, now: Moment, count: u32, actions: &mut Vec<RuntimeAction>) {
        if count < self.in_flight || count > 0 {
            self.idle_since = now;
        }
        self.in_flight = count;
        if count == 0 && self.state == RuntimeState::Draining && self.program == Program::Running {
            self.terminate(actions);
        }
    }

    /// The program has ended, or never began.
    fn ended(&mut self, now: Moment, by_us: bool, diagnosis: Diagnosis, actions: &mut Vec<RuntimeAction>) {
        if self.program == Program::None {
            return;
        }
        let was_ending = self.program == Program::Ending;
        self.program = Program::None;
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
            After::Stop | After::Restart => self.failed(now, diagnosis, actions),
        }
    }

    fn found_no_room(&mut self, now: Moment, diagnosis: Diagnosis, actions: &mut Vec<RuntimeAction>) {
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

    fn rest(&mut self, now: Moment, actions: &mut Vec<RuntimeAction>) {
        self.diagnosis = None;
        self.failing_since = None;
        self.health = Health::default();
        self.enter(now, RuntimeState::Stopped, actions);
        actions.push(RuntimeAction::RefuseWaiting);
    }

    fn failed(&mut self, now: Moment, mut diagnosis: Diagnosis, actions: &mut Vec<RuntimeAction>) {
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

    fn timer_fired(&mut self, now: Moment, actions: &mut Vec<RuntimeAction>) {
        match self.state {
            RuntimeState::Starting | RuntimeState::Warming if now >= self.start_deadline => {
                let diagnosis = Diagnosis {
                    cause: Cause::Unknown,
                    detail: format!(
                        "not ready after {} s, and no progress seen for {} s",
                        now.since(self.start_began).as_secs(),
                        self.rules.start_timeout.as_secs()
                    ),
                    hint: Some(
                        "see `arw runtime logs`; raise `runtime.start_timeout` if it only needs longer"
                            .to_owned(),
                    ),
                    permanent: false,
                };
                self.after = After::Failure(diagnosis);
                self.give_up_start(now, actions);
            }
            RuntimeState::Starting | RuntimeState::Warming => self.probe_if_due(now, actions),
            RuntimeState::Ready | RuntimeState::Degraded => self.tick_ready(now, actions),
            RuntimeState::Draining if self.program == Program::Running && now >= self.drain_deadline => {
                self.terminate(actions);
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
            self.terminate(actions);
        } else {
            self.start_deadline = now + self.rules.start_timeout;
            self.diagnosis = match std::mem::replace(&mut self.after, After::Restart) {
                After::Failure(diagnosis) => Some(diagnosis),
                After::Stop | After::Restart => None,
            };
            actions.push(RuntimeAction::RefuseWaiting);
        }
    }

    fn tick_ready(&mut self, now: Moment, actions: &mut Vec<RuntimeAction>) {
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

    fn unloads_at(&self) -> Option<Moment> {
        let idle_after = self.rules.idle_after.filter(|_| self.rules.is_managed)?;
        Some(self.idle_since()? + idle_after)
    }

    fn probe_if_due(&mut self, now: Moment, actions: &mut Vec<RuntimeAction>) {
        let is_up = matches!(self.state, RuntimeState::Ready | RuntimeState::Degraded);
        if let Some(kind) = self.health.take_due(now, is_up, &self.rules) {
            actions.push(RuntimeAction::Probe { attempt: self.attempt, kind });
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

const QUARANTINE_HINT: &str = "it is tried again by itself; see `arw runtime logs` for its last lines, and `arw runtime start` to try now";

#[cfg(test)]
mod tests;
