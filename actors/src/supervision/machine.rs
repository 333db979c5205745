//! Decides what a supervisor does: which child to start or stop next, whether a failure may be healed, when to give up.
//!
//! Plain code: events and the time go in, actions come out. Refuses to start anything itself (`supervisor.rs`).
//!
//! ```text
//! child:  Idle ─► Starting ─► Running ─► Stopping ─► Stopped          (asked to stop, or ended in order)
//!                    │           │
//!                    └──► Backoff(due) ◄──┘ failure within budget
//!                    └──► Quarantined(due) ◄─ budget used up, for children that are quarantined; a trial start when due
//!                    └──► Failed            ◄─ budget used up otherwise: the supervisor ends all children and itself
//! ```
//!
//! Rules: SUP-1 children start in order, and stop in the reverse of it. SUP-2 a child is never started before its last incarnation
//! has fully ended. SUP-3 a failed start counts as a failure. SUP-4 a stop request wins over everything, a running start included.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::budget::{Backoff, Chance, RestartBudget, RestartLimits};
use super::exit::ExitReason;
use crate::moment::Moment;
use crate::tree::{ActorPath, ActorState, RestartUse};

/// Which children a failure concerns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Only the one that failed.
    #[default]
    OneForOne,
    /// All of them.
    OneForAll,
    /// The one that failed and those that were started after it.
    RestForOne,
}

/// When a child is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Restart {
    /// After every exit.
    #[default]
    Permanent,
    /// After an abnormal exit.
    Transient,
    /// Never; it is forgotten once it has ended.
    Temporary,
}

/// What a supervisor does once significant children have ended by themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoShutdown {
    /// Nothing; significant children are not allowed.
    #[default]
    Never,
    /// Ends when one of them has.
    AnySignificant,
    /// Ends when all of them have.
    AllSignificant,
}

/// What happens to a child whose restart budget is used up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnExhausted {
    /// The supervisor ends all its children and itself: its own supervisor decides.
    #[default]
    Escalate,
    /// The child alone is set aside, with a budget of its own, and tried again later. For leaf resources.
    Quarantine(Quarantine),
}

/// How a quarantined child is tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quarantine {
    /// Until the first trial; doubled after each failed one.
    pub first: Duration,
    /// Never longer than this.
    pub max: Duration,
    /// A trial has succeeded once the child has run so long.
    pub probation: Duration,
    /// The child's own budget.
    pub limits: RestartLimits,
}

/// What the machine must know of a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChildRules {
    /// Unique under its supervisor.
    pub id: Arc<str>,
    /// When it is started again.
    pub restart: Restart,
    /// Its own end counts for [`AutoShutdown`].
    pub significant: bool,
    /// What happens when its budget is used up.
    pub on_exhausted: OnExhausted,
}

/// The rules of a supervisor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SupervisorRules {
    /// Which children a failure concerns.
    pub strategy: Strategy,
    /// The budget that all children share, except quarantined ones.
    pub limits: RestartLimits,
    /// Waits before restarts.
    pub backoff: Backoff,
    /// What significant children mean.
    pub auto_shutdown: AutoShutdown,
}

/// Names a child within its supervisor; never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChildKey(u64);

/// A child cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadChild {
    /// The id is in use.
    #[error("child `{0}` exists already")]
    Duplicate(Arc<str>),
    /// A significant child must be able to end by itself.
    #[error("child `{0}` is significant and permanent: a permanent child never ends by itself")]
    SignificantPermanent(Arc<str>),
    /// Nothing would come of it.
    #[error("child `{0}` is significant, but its supervisor never shuts down by itself")]
    SignificantForNothing(Arc<str>),
    /// The supervisor is ending.
    #[error("the supervisor is stopping")]
    Stopping,
}

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SupervisorEvent {
    /// Start the children that were added so far.
    Begun,
    /// A start succeeded.
    Started(ChildKey),
    /// A start failed or was cancelled; nothing of it is left.
    StartFailed(ChildKey, Arc<str>),
    /// An incarnation has fully ended.
    Ended(ChildKey, ExitReason),
    /// The time of [`SupervisorMachine::next_deadline`] has come.
    TimerFired,
    /// Start this child (again), whatever its state.
    StartWanted(ChildKey),
    /// Stop this child and leave it so.
    StopWanted(ChildKey),
    /// Stop this child and forget it.
    RemoveWanted(ChildKey),
    /// End all children in reverse order, then finish.
    StopRequested,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SupervisorAction {
    /// Start a new incarnation; answer with `Started` or `StartFailed`.
    Start(ChildKey),
    /// Give up the start that is running; answer with `StartFailed` (or `Started`, when it was too late).
    CancelStart(ChildKey),
    /// Stop the incarnation, killing it after its grace; answer with `Ended`.
    Stop(ChildKey),
    /// Show this in the tree.
    Show(ChildKey, ActorState),
    /// A failure is being healed.
    Healing {
        /// Which child failed.
        child: ChildKey,
        /// How.
        reason: ExitReason,
        /// The budget after it.
        budget: RestartUse,
        /// The wait before its next start.
        delay: Duration,
    },
    /// A child's budget is used up: it is set aside.
    Quarantined {
        /// Which child.
        child: ChildKey,
        /// How it last ended.
        reason: ExitReason,
        /// When it is tried again.
        until: Moment,
    },
    /// A trial has succeeded.
    Recovered(ChildKey),
    /// Forget this child: it has fully ended.
    Forget(ChildKey),
    /// Every child has been started for the first time.
    Ready,
    /// Every child has ended: end with this reason.
    Finish(ExitReason),
}

#[derive(Clone, Debug)]
enum ChildState {
    Idle,
    Starting,
    Running,
    Stopping,
    Stopped,
    Backoff(Moment),
    Quarantined(Moment),
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
            | ChildState::Stopped => None,
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

    /// Adds a child at the end of the start order, without starting it. `history`: its earlier restarts, as far as known.
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
        if self.children.get(&key).is_some_and(|child| child.halt) {
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
        let is_new = never_ran && !is_over && !comes_back && matches!(self.phase, Phase::Running);
        let forget = child.forget || is_new;
        child.stop_planned = false;
        self.step_done(Step::Start(key));
        self.step_done(Step::Stop(key));
        if forget {
            // A child that was added to a running supervisor and cannot start is not kept: whoever added it is told.
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
        // One that its group's plan was about to stop has only been quicker: as in OTP that is no failure of its own.
        let was_asked = matches!(child.state, ChildState::Stopping) || child.with_group;
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

    fn shut_down_by_itself(&mut self, significant: bool, actions: &mut Vec<SupervisorAction>) {
        let ends = significant
            && match self.rules.auto_shutdown {
                AutoShutdown::Never => false,
                AutoShutdown::AnySignificant => true,
                AutoShutdown::AllSignificant => !self.children.values().any(|child| {
                    let has_ended = matches!(child.state, ChildState::Stopped) && !child.with_group;
                    child.rules.significant && !has_ended
                }),
            };
        if ends {
            self.end(ExitReason::Normal, actions);
        }
    }

    /// Heals a failure, or gives up.
    fn failed(
        &mut self,
        now: Moment,
        key: ChildKey,
        reason: ExitReason,
        actions: &mut Vec<SupervisorAction>,
    ) {
        let chance = self.chance.next();
        let backoff = self.rules.backoff;
        let Some(child) = self.children.get_mut(&key) else { return };
        if !matches!(reason, ExitReason::StartFailed { .. })
            && now.since(child.started_at) >= backoff.reset_after
        {
            child.consecutive = 0;
        }
        let allowed = child.own_budget.as_mut().unwrap_or(&mut self.budget).spend(now);
        if child.trials_failed > 0 || !allowed {
            self.exhausted(now, key, reason, actions);
            return;
        }
        let delay = backoff.delay(child.consecutive, chance);
        child.consecutive = child.consecutive.saturating_add(1);
        let budget = self.budget(key).usage(now);
        actions.push(SupervisorAction::Healing { child: key, reason, budget, delay });
        self.restart_group(key, now + delay, delay.is_zero(), actions);
    }

    fn restart_group(
        &mut self,
        key: ChildKey,
        due: Moment,
        at_once: bool,
        actions: &mut Vec<SupervisorAction>,
    ) {
        if self.rules.strategy == Strategy::OneForOne {
            if at_once {
                self.start_now(key, actions);
            } else {
                self.wait_for(key, due, false, actions);
            }
            return;
        }
        // A plan that is under way is widened: half of it would start before the other half has ended.
        let is_planned = |child: &Child| child.with_group || child.stop_planned;
        let planned = self.children.iter().find(|(_, child)| is_planned(child)).map(|(key, _)| *key);
        let from = match self.rules.strategy {
            Strategy::OneForAll => ChildKey(0),
            Strategy::RestForOne | Strategy::OneForOne => planned.map_or(key, |planned| planned.min(key)),
        };
        let affected: Vec<ChildKey> = self.children.range(from..).map(|(key, _)| *key).collect();
        // What it has stopped is affected too, and a wait that goes on longer is kept.
        let waits = !at_once || self.steps.iter().any(|step| matches!(step, Step::Wait(_)));
        let due = self.steps.iter().fold(due, |due, step| match step {
            Step::Wait(other) => due.max(*other),
            Step::Start(_) | Step::Stop(_) => due,
        });
        let keeps = |step: &Step| match step {
            Step::Start(other) | Step::Stop(other) => *other < from,
            Step::Wait(_) => false,
        };
        self.steps.retain(keeps);
        let mut starts = Vec::new();
        for &other in affected.iter().rev() {
            let Some(child) = self.children.get_mut(&other) else { continue };
            let runs =
                matches!(child.state, ChildState::Running | ChildState::Starting | ChildState::Stopping);
            // What somebody has stopped stays so, even while it still ends.
            let returns = other == key
                || child.with_group
                || (runs && !child.halt)
                || matches!(child.state, ChildState::Backoff(_) | ChildState::Idle);
            child.stop_planned = runs;
            if runs {
                self.steps.push_back(Step::Stop(other));
            }
            // A temporary child does not return, but one that has yet to be started for the first time is not forgotten.
            let is_new = matches!(child.state, ChildState::Idle) || child.with_group;
            if !returns || child.forget || (child.rules.restart == Restart::Temporary && !is_new) {
                continue;
            }
            starts.push(Step::Start(other));
            child.with_group = true;
            if !runs {
                self.wait_for(other, due, true, actions);
            }
        }
        if waits {
            self.steps.push_back(Step::Wait(due));
        }
        self.steps.extend(starts.into_iter().rev());
    }

    fn wait_for(
        &mut self,
        key: ChildKey,
        due: Moment,
        with_group: bool,
        actions: &mut Vec<SupervisorAction>,
    ) {
        if let Some(child) = self.children.get_mut(&key) {
            child.state = ChildState::Backoff(due);
            child.with_group = with_group;
            self.timed.insert(key);
            actions.push(SupervisorAction::Show(key, ActorState::Backoff));
        }
    }

    /// The budget is used up, or a trial has failed.
    fn exhausted(
        &mut self,
        now: Moment,
        key: ChildKey,
        reason: ExitReason,
        actions: &mut Vec<SupervisorAction>,
    ) {
        let Some(child) = self.children.get_mut(&key) else { return };
        match child.rules.on_exhausted {
            OnExhausted::Escalate => {
                actions.push(SupervisorAction::Show(key, ActorState::Failed));
                let child = self.path.child(&child.rules.id);
                self.end(ExitReason::Escalated { child, text: reason.to_string().into() }, actions);
            }
            OnExhausted::Quarantine(quarantine) => {
                let factor = 1_u32.checked_shl(child.trials_failed).unwrap_or(u32::MAX);
                let until = now + quarantine.first.saturating_mul(factor).min(quarantine.max);
                child.trials_failed = child.trials_failed.saturating_add(1);
                child.state = ChildState::Quarantined(until);
                child.with_group = false;
                self.timed.insert(key);
                actions.push(SupervisorAction::Show(key, ActorState::Quarantined));
                actions.push(SupervisorAction::Quarantined { child: key, reason, until });
            }
        }
    }

    fn timer_fired(&mut self, now: Moment, actions: &mut Vec<SupervisorAction>) {
        if matches!(self.phase, Phase::Ending(_) | Phase::Ended) {
            return;
        }
        self.timed.retain(|key| self.children.get(key).is_some_and(|child| child.due().is_some()));
        let is_due =
            |key: &ChildKey| self.children.get(key).and_then(Child::due).is_some_and(|due| due <= now);
        let due: Vec<ChildKey> = self.timed.iter().copied().filter(is_due).collect();
        for key in due {
            let Some(child) = self.children.get_mut(&key) else { continue };
            if matches!(child.state, ChildState::Running) {
                self.timed.remove(&key);
                child.trial_until = None;
                child.trials_failed = 0;
                child.consecutive = 0;
                if let Some(budget) = child.own_budget.as_mut() {
                    budget.reset();
                }
                actions.push(SupervisorAction::Recovered(key));
            } else {
                self.start_now(key, actions);
            }
        }
    }

    fn start_wanted(&mut self, key: ChildKey, actions: &mut Vec<SupervisorAction>) {
        if matches!(self.phase, Phase::Ending(_) | Phase::Ended) {
            return;
        }
        let Some(child) = self.children.get_mut(&key) else { return };
        match child.state {
            ChildState::Idle | ChildState::Stopped | ChildState::Backoff(_) | ChildState::Quarantined(_)
                if !child.with_group =>
            {
                self.start_now(key, actions);
            }
            ChildState::Starting | ChildState::Stopping
                if child.halt && !child.forget && child.rules.restart != Restart::Temporary =>
            {
                child.halt = false;
                child.comes_back = true;
                self.join_group(key);
            }
            // A group's plan will start it, or it runs already, or it is to be forgotten.
            ChildState::Idle
            | ChildState::Stopped
            | ChildState::Backoff(_)
            | ChildState::Quarantined(_)
            | ChildState::Starting
            | ChildState::Running
            | ChildState::Stopping => {}
        }
    }

    /// A child that is wanted again returns with its group, if its group's plan waits for its end.
    fn join_group(&mut self, key: ChildKey) {
        match self.children.get_mut(&key) {
            Some(child) if child.stop_planned => child.with_group = true,
            Some(_) | None => return,
        }
        let later = self.steps.iter().position(|step| matches!(step, Step::Start(other) if *other > key));
        self.steps.insert(later.unwrap_or(self.steps.len()), Step::Start(key));
    }

    /// A child that is wanted again has ended, or its cancelled start has.
    fn come_back(&mut self, key: ChildKey, actions: &mut Vec<SupervisorAction>) {
        if self.children.get(&key).is_some_and(|child| child.with_group) {
            self.rest(key, actions);
        } else {
            self.start_now(key, actions);
        }
    }

    fn stop_wanted(&mut self, key: ChildKey, forget: bool, actions: &mut Vec<SupervisorAction>) {
        self.steps.retain(|step| *step != Step::Start(key));
        let Some(child) = self.children.get_mut(&key) else { return };
        child.forget |= forget;
        let is_ending = matches!(self.phase, Phase::Ending(_) | Phase::Ended);
        if is_ending && matches!(child.state, ChildState::Starting | ChildState::Running) {
            // SUP-1: its turn comes.
            return;
        }
        child.halt = true;
        child.comes_back = false;
        child.with_group = false;
        match child.state {
            ChildState::Starting => actions.push(SupervisorAction::CancelStart(key)),
            ChildState::Running => self.stop_now(key, actions),
            ChildState::Stopping => {}
            ChildState::Idle | ChildState::Stopped | ChildState::Backoff(_) | ChildState::Quarantined(_) => {
                child.state = ChildState::Stopped;
                actions.push(SupervisorAction::Show(key, ActorState::Stopped));
                if forget {
                    self.forget(key, actions);
                }
            }
        }
    }

    /// Ends everything, in reverse order.
    fn end(&mut self, reason: ExitReason, actions: &mut Vec<SupervisorAction>) {
        if matches!(self.phase, Phase::Ending(_) | Phase::Ended) {
            return;
        }
        self.phase = Phase::Ending(reason);
        self.steps.clear();
        for (&key, child) in self.children.iter_mut().rev() {
            child.comes_back = false;
            child.with_group = false;
            match child.state {
                ChildState::Running | ChildState::Stopping => {
                    child.stop_planned = true;
                    self.steps.push_back(Step::Stop(key));
                }
                ChildState::Starting => {
                    child.stop_planned = true;
                    actions.push(SupervisorAction::CancelStart(key));
                    self.steps.push_back(Step::Stop(key));
                }
                ChildState::Backoff(_) | ChildState::Quarantined(_) => {
                    child.state = ChildState::Stopped;
                    actions.push(SupervisorAction::Show(key, ActorState::Stopped));
                }
                ChildState::Idle | ChildState::Stopped => {}
            }
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
            | ChildState::Quarantined(_) => false,
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
