//! What others ask for: that a child run, rest, or be forgotten.

use super::words::{ChildKey, Restart, SupervisorAction};
use super::{ChildState, Phase, Step, SupervisorMachine};
use crate::tree::ActorState;

impl SupervisorMachine {
    pub(super) fn start_wanted(&mut self, key: ChildKey, actions: &mut Vec<SupervisorAction>) {
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
            ChildState::Stuck if !child.forget && child.rules.restart != Restart::Temporary => {
                child.halt = false;
                child.comes_back = true;
            }
            // A group's plan will start it, or it runs already, or it is to be forgotten.
            ChildState::Idle
            | ChildState::Stopped
            | ChildState::Backoff(_)
            | ChildState::Quarantined(_)
            | ChildState::Starting
            | ChildState::Running
            | ChildState::Stopping
            | ChildState::Stuck => {}
        }
    }

    /// A child that is wanted again returns with its group, if its group's plan waits for its end.
    pub(super) fn join_group(&mut self, key: ChildKey) {
        match self.children.get_mut(&key) {
            Some(child) if child.stop_planned => child.with_group = true,
            Some(_) | None => return,
        }
        let later = self.steps.iter().position(|step| matches!(step, Step::Start(other) if *other > key));
        self.steps.insert(later.unwrap_or(self.steps.len()), Step::Start(key));
    }

    /// A child that is wanted again has ended, or its cancelled start has.
    pub(super) fn come_back(&mut self, key: ChildKey, actions: &mut Vec<SupervisorAction>) {
        if self.children.get(&key).is_some_and(|child| child.with_group) {
            self.rest(key, actions);
        } else {
            self.start_now(key, actions);
        }
    }

    pub(super) fn stop_wanted(&mut self, key: ChildKey, forget: bool, actions: &mut Vec<SupervisorAction>) {
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
            ChildState::Stopping | ChildState::Stuck => {}
            ChildState::Idle | ChildState::Stopped | ChildState::Backoff(_) | ChildState::Quarantined(_) => {
                child.state = ChildState::Stopped;
                actions.push(SupervisorAction::Show(key, ActorState::Stopped));
                if forget {
                    self.forget(key, actions);
                }
            }
        }
    }
}
