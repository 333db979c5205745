//! After a failure: who is started again and when, and what happens when the budget is used up.

use super::words::{ChildKey, OnExhausted, Restart, Strategy, SupervisorAction};
use super::{Child, ChildState, Phase, Step, SupervisorMachine};
use crate::life::ExitReason;
use crate::moment::Moment;
use crate::tree::ActorState;

impl SupervisorMachine {
    /// Heals a failure, or gives up.
    pub(super) fn failed(
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
            // A temporary child does not return, but one that has yet to be started for the first time is not
            // forgotten.
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

    /// A child was killed and has not ended. It is set aside and leaves its group, as in quarantine: the
    /// others do not wait for it, and nothing of it is started beside it (SUP-2). Its end, when it comes, is
    /// a failure. The supervisor's own end does not wait for it.
    pub(super) fn stuck(&mut self, key: ChildKey, actions: &mut Vec<SupervisorAction>) {
        let is_ending = matches!(self.phase, Phase::Ending(_) | Phase::Ended);
        let Some(child) = self.children.get_mut(&key) else { return };
        if !matches!(child.state, ChildState::Running | ChildState::Stopping) {
            return;
        }
        child.state = ChildState::Stuck;
        child.trial_until = None;
        child.with_group = false;
        child.stop_planned = false;
        let shown = if is_ending { ActorState::Failed } else { ActorState::Quarantined };
        self.steps.retain(|step| *step != Step::Start(key));
        self.step_done(Step::Stop(key));
        actions.push(SupervisorAction::Show(key, shown));
        actions.push(SupervisorAction::Stuck(key));
    }

    /// Starts what is due, and trusts a trial that has lasted.
    pub(super) fn timer_fired(&mut self, now: Moment, actions: &mut Vec<SupervisorAction>) {
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
}
