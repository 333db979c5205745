//! Decides what a supervisor does: which child to start or stop next, whether a failure may be healed, when
//! to give up.
//!
//! Plain code: events and the time go in, actions come out. Refuses to start anything itself
//! (`supervisor.rs`).
//!
//! ```text
//! child:  Idle ─► Starting ─► Running ─► Stopping ─► Stopped          (asked to stop, or ended in order)
//!                    │           │
//!                    └──► Backoff(due) ◄──┘ failure within budget
//!                    └──► Quarantined(due) ◄─ budget used up, for children that are quarantined; a trial start when due
//!                    └──► Failed            ◄─ budget used up otherwise: the supervisor ends all children and itself
//!                                Stopping ─► Stuck                   (killed, and not ended: set aside until it has)
//! ```
//!
//! Rules: SUP-1 children start in order, and stop in the reverse of it. SUP-2 a child is never started before
//! its last incarnation has fully ended. SUP-3 a failed start counts as a failure. SUP-4 a stop request wins
//! over everything, a running start included.

mod words;

mod ending;
mod healing;
mod wishes;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use crate::life::{ActorPath, Chance, ExitReason, RestartBudget};
use crate::moment::Moment;
use crate::tree::ActorState;

pub use words::{
    AutoShutdown, BadChild, ChildKey, ChildRules, OnExhausted, Quarantine, Restart, StopOrder, Strategy,
    SupervisorAction, SupervisorEvent, SupervisorRules,
};

#[derive(Clone, Debug)]
enum ChildState {
    Idle,
    Starting,
    Running,
    Stopping,
    Stopped,
    Backoff(Moment),
    Quarantined(Moment),
    /// It was killed and has not ended.
    Stuck,
}

#[derive(Debug)]
struct Child {
    rules: ChildRules,
    state: ChildState,
    /// Own budget of a child that is quarantined; `None`: the shared one.
    own_budget: Option<RestartBudget>,
    /// Failures in a row, for the backoff.
    consecutive: u32,
    started_at: Moment,
    /// Trials that failed in a row, while quarantined.
    trials_failed: u32,
    /// The trial that is running has succeeded at this time.
    trial_until: Option<Moment>,
    /// It has run at least once.
    ever_started: bool,
    /// It was added after the beginning.
    is_added: bool,
    /// Stop it as soon as its start is over.
    halt: bool,
    /// To be forgotten once it has ended.
    forget: bool,
    /// Stopped for a group restart, to be started again with the group.
    with_group: bool,
    /// A start was wanted while it was still ending: start it once it has.
    comes_back: bool,
    /// The plan has a stop for the incarnation that lives now; one for an earlier incarnation counts no more.
    stop_planned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Start(ChildKey),
    Stop(ChildKey),
    Wait(Moment),
}

#[derive(Debug)]
enum Phase {
    Idle,
    Starting,
    Running,
    Ending(ExitReason),
    Ended,
}

/// The decider of one supervisor.
#[derive(Debug)]
pub struct SupervisorMachine {
    rules: SupervisorRules,
    children: BTreeMap<ChildKey, Child>,
    by_id: HashMap<Arc<str>, ChildKey>,
    next_key: u64,
    budget: RestartBudget,
    /// What is done one after the other: starts and stops of the beginning, of groups and of the end.
    steps: VecDeque<Step>,
    /// Children that may wait for a time: all that a timer concerns are among them.
    timed: BTreeSet<ChildKey>,
    phase: Phase,
    chance: Chance,
    path: ActorPath,
}

impl Child {
    /// When something is to be done about it.
    fn due(&self) -> Option<Moment> {
        match self.state {
            ChildState::Backoff(due) if !self.with_group => Some(due),
            ChildState::Quarantined(due) => Some(due),
            ChildState::Running => self.trial_until,
            ChildState::Backoff(_)
            | ChildState::Idle
            | ChildState::Starting
            | ChildState::Stopping
            | ChildState::Stopped
            | ChildState::Stuck => None,
        }
    }
}

impl SupervisorMachine {
    /// A supervisor at `path` without children. `seed` spreads the backoff.
    #[must_use]
    pub fn new(path: ActorPath, rules: SupervisorRules, seed: u64) -> Self {
        Self {
            rules,
            children: BTreeMap::new(),
            by_id: HashMap::new(),
            next_key: 0,
            budget: RestartBudget::new(rules.limits),
            steps: VecDeque::new(),
            timed: BTreeSet::new(),
            phase: Phase::Idle,
            chance: Chance::new(seed),
            path,
        }
    }

    /// Adds a child at the end of the start order, without starting it. `history`: its earlier restarts, as
    /// far as known.
    ///
    /// # Errors
    /// See [`BadChild`].
    pub fn add(
        &mut self,
        rules: ChildRules,
        history: impl IntoIterator<Item = Moment>,
    ) -> Result<ChildKey, BadChild> {
        let id = Arc::clone(&rules.id);
        if matches!(self.phase, Phase::Ending(_) | Phase::Ended) {
            return Err(BadChild::Stopping);
        }
        if self.by_id.contains_key(&id) {
            return Err(BadChild::Duplicate(id));
        }
        if rules.significant && rules.restart == Restart::Permanent {
            return Err(BadChild::SignificantPermanent(id));
        }
        if rules.significant && self.rules.auto_shutdown == AutoShutdown::Never {
            return Err(BadChild::SignificantForNothing(id));
        }
        let mut own_budget = match rules.on_exhausted {
            OnExhausted::Escalate => None,
            OnExhausted::Quarantine(quarantine) => Some(RestartBudget::new(quarantine.limits)),
        };
        own_budget.as_mut().unwrap_or(&mut self.budget).restore(history);
        let key = ChildKey(self.next_key);
        self.next_key += 1;
        self.by_id.insert(id, key);
        self.children.insert(
            key,
            Child {
                rules,
                state: ChildState::Idle,
                own_budget,
                consecutive: 0,
                started_at: Moment::ZERO,
                trials_failed: 0,
                trial_until: None,
                ever_started: false,
                is_added: !matches!(self.phase, Phase::Idle),
                halt: false,
                forget: false,
                with_group: false,
                comes_back: false,
                stop_planned: false,
            },
        );
        Ok(key)
    }

    /// The child with this id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<ChildKey> {
        self.by_id.get(id).copied()
    }

    /// The budget that decides about a child: its own, or the one that all share.
    #[must_use]
    pub fn budget(&self, key: ChildKey) -> &RestartBudget {
        let own = self.children.get(&key).and_then(|child| child.own_budget.as_ref());
        own.unwrap_or(&self.budget)
    }

    /// The budget that all children share, except those with one of their own.
    #[must_use]
    pub fn shared_budget(&self) -> &RestartBudget {
        &self.budget
    }

    /// When [`SupervisorEvent::TimerFired`] is due.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        if matches!(self.phase, Phase::Ending(_) | Phase::Ended) {
            return None;
        }
        let waits = self.timed.iter().filter_map(|key| self.children.get(key)).filter_map(Child::due);
        let step = match self.steps.front() {
            Some(Step::Wait(due)) => Some(*due),
            Some(Step::Start(_) | Step::Stop(_)) | None => None,
        };
        waits.chain(step).min()
    }

    /// Takes in one event.
    pub fn handle(&mut self, now: Moment, event: SupervisorEvent) -> Vec<SupervisorAction> {
        let mut actions = Vec::new();
        match event {
            _ if matches!(self.phase, Phase::Ended) => {}
            SupervisorEvent::Begun => self.begin(),
            SupervisorEvent::Started(key) => self.started(now, key, &mut actions),
            SupervisorEvent::StartFailed(key, text) => self.start_failed(now, key, text, &mut actions),
            SupervisorEvent::Ended(key, reason) => self.ended(now, key, reason, &mut actions),
            SupervisorEvent::Stuck(key) => self.stuck(key, &mut actions),
            SupervisorEvent::TimerFired => self.timer_fired(now, &mut actions),
            SupervisorEvent::StartWanted(key) => self.start_wanted(key, &mut actions),
            SupervisorEvent::StopWanted(key) => self.stop_wanted(key, false, &mut actions),
            SupervisorEvent::RemoveWanted(key) => self.stop_wanted(key, true, &mut actions),
            SupervisorEvent::StopRequested => self.end(ExitReason::Stop, &mut actions),
        }
        self.advance(now, &mut actions);
        actions
    }

    fn begin(&mut self) {
        if !matches!(self.phase, Phase::Idle) {
            return;
        }
        self.phase = Phase::Starting;
        self.steps.extend(self.children.keys().copied().map(Step::Start));
    }

    fn started(&mut self, now: Moment, key: ChildKey, actions: &mut Vec<SupervisorAction>) {
        let Some(child) = self.children.get_mut(&key) else { return };
        child.state = ChildState::Running;
        child.started_at = now;
        child.ever_started = true;
        child.comes_back = false;
        if child.trials_failed > 0
            && let OnExhausted::Quarantine(quarantine) = child.rules.on_exhausted
        {
            child.trial_until = Some(now + quarantine.probation);
            self.timed.insert(key);
        }
        actions.push(SupervisorAction::Show(key, ActorState::Running));
        self.step_done(Step::Start(key));
        let ends_together =
            matches!(self.phase, Phase::Ending(_)) && self.rules.stop_order == StopOrder::Together;
        if ends_together || self.children.get(&key).is_some_and(|child| child.halt) {
            self.stop_now(key, actions);
        }
    }

    fn start_failed(
        &mut self,
        now: Moment,
        key: ChildKey,
        text: Arc<str>,
        actions: &mut Vec<SupervisorAction>,
    ) {
        let reason = ExitReason::StartFailed { text };
        let Some(child) = self.children.get_mut(&key) else { return };
        child.state = ChildState::Stopped;
        let is_temporary = child.rules.restart == Restart::Temporary;
        let never_ran = !child.ever_started && child.own_budget.is_none();
        let is_over = child.halt || matches!(self.phase, Phase::Ending(_) | Phase::Ended);
        let comes_back = child.comes_back;
        let is_later = child.is_added || matches!(self.phase, Phase::Running);
        let is_new = never_ran && !is_over && !comes_back && is_later;
        let forget = child.forget || is_new;
        child.stop_planned = false;
        self.step_done(Step::Start(key));
        self.step_done(Step::Stop(key));
        if forget {
            // A child that was added to a running supervisor and cannot start is not kept: whoever added it
            // is told.
            self.forget(key, actions);
        } else if comes_back {
            self.come_back(key, actions);
        } else if is_over || (is_temporary && !never_ran) {
            self.rest(key, actions);
        } else if never_ran {
            // As in OTP: a supervisor that cannot start its children fails to start.
            actions.push(SupervisorAction::Show(key, ActorState::Failed));
            let text = format!("{}: {reason}", self.id(key)).into();
            self.end(ExitReason::StartFailed { text }, actions);
        } else {
            self.failed(now, key, reason, actions);
        }
    }

    fn ended(&mut self, now: Moment, key: ChildKey, reason: ExitReason, actions: &mut Vec<SupervisorAction>) {
        let Some(child) = self.children.get_mut(&key) else { return };
        // One that its group's plan was about to stop has only been quicker: as in OTP that is no failure of
        // its own.
        let was_asked = matches!(child.state, ChildState::Stopping)
            || (matches!(child.state, ChildState::Stuck) && child.halt)
            || child.with_group;
        child.state = ChildState::Stopped;
        child.trial_until = None;
        let (forget, restart, significant) = (child.forget, child.rules.restart, child.rules.significant);
        let comes_back = child.comes_back;
        child.stop_planned = false;
        self.step_done(Step::Stop(key));
        if forget {
            self.forget(key, actions);
            return;
        }
        if comes_back {
            self.come_back(key, actions);
            return;
        }
        if matches!(self.phase, Phase::Ending(_) | Phase::Ended) || was_asked {
            self.rest(key, actions);
            return;
        }
        let is_final = match restart {
            Restart::Permanent => false,
            Restart::Transient => !reason.is_abnormal(),
            Restart::Temporary => true,
        };
        if !is_final {
            self.failed(now, key, reason, actions);
            return;
        }
        self.rest(key, actions);
        self.shut_down_by_itself(significant, actions);
    }

    /// A child has ended and is not to run (for now).
    fn rest(&mut self, key: ChildKey, actions: &mut Vec<SupervisorAction>) {
        let Some(child) = self.children.get_mut(&key) else { return };
        if child.rules.restart == Restart::Temporary {
            self.forget(key, actions);
        } else if child.with_group {
            actions.push(SupervisorAction::Show(key, ActorState::Backoff));
        } else {
            actions.push(SupervisorAction::Show(key, ActorState::Stopped));
        }
    }

    /// Carries the steps on as far as they go without waiting.
    fn advance(&mut self, now: Moment, actions: &mut Vec<SupervisorAction>) {
        while let Some(&step) = self.steps.front() {
            let waits = match step {
                Step::Wait(due) => now < due,
                Step::Start(key) => self.step_start(key, actions),
                Step::Stop(key) => self.step_stop(key, actions),
            };
            if waits {
                return;
            }
            self.steps.pop_front();
        }
        match &self.phase {
            Phase::Starting => {
                self.phase = Phase::Running;
                actions.push(SupervisorAction::Ready);
            }
            Phase::Ending(reason) => {
                actions.push(SupervisorAction::Finish(reason.clone()));
                self.phase = Phase::Ended;
            }
            Phase::Idle | Phase::Running | Phase::Ended => {}
        }
    }

    /// `true` while the child is still starting.
    fn step_start(&mut self, key: ChildKey, actions: &mut Vec<SupervisorAction>) -> bool {
        let Some(child) = self.children.get(&key) else { return false };
        match child.state {
            ChildState::Idle => {
                self.start_now(key, actions);
                true
            }
            ChildState::Stopped | ChildState::Backoff(_) if child.with_group => {
                self.start_now(key, actions);
                true
            }
            ChildState::Starting => true,
            // It was started before its turn.
            ChildState::Stopped
            | ChildState::Backoff(_)
            | ChildState::Running
            | ChildState::Stopping
            | ChildState::Quarantined(_)
            | ChildState::Stuck => false,
        }
    }

    /// `true` while the child has not ended yet.
    fn step_stop(&mut self, key: ChildKey, actions: &mut Vec<SupervisorAction>) -> bool {
        match self.children.get(&key) {
            Some(child) if child.stop_planned => {
                if matches!(child.state, ChildState::Running) {
                    self.stop_now(key, actions);
                }
                true
            }
            Some(_) | None => false,
        }
    }

    fn start_now(&mut self, key: ChildKey, actions: &mut Vec<SupervisorAction>) {
        if let Some(child) = self.children.get_mut(&key) {
            child.state = ChildState::Starting;
            child.halt = false;
            child.comes_back = false;
            child.with_group = false;
            actions.push(SupervisorAction::Show(key, ActorState::Starting));
            actions.push(SupervisorAction::Start(key));
        }
    }

    fn stop_now(&mut self, key: ChildKey, actions: &mut Vec<SupervisorAction>) {
        if let Some(child) = self.children.get_mut(&key) {
            child.state = ChildState::Stopping;
            actions.push(SupervisorAction::Show(key, ActorState::Stopping));
            actions.push(SupervisorAction::Stop(key));
        }
    }

    fn forget(&mut self, key: ChildKey, actions: &mut Vec<SupervisorAction>) {
        if let Some(child) = self.children.remove(&key) {
            self.by_id.remove(&child.rules.id);
            actions.push(SupervisorAction::Forget(key));
        }
    }

    /// The front step has done what it waited for.
    fn step_done(&mut self, step: Step) {
        if self.steps.front() == Some(&step) {
            self.steps.pop_front();
        }
    }

    fn id(&self, key: ChildKey) -> Arc<str> {
        self.children.get(&key).map_or_else(|| "?".into(), |child| Arc::clone(&child.rules.id))
    }
}

#[cfg(test)]
mod tests;
