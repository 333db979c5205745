//! The end of all children, and when it comes by itself.

use super::words::{AutoShutdown, ChildKey, StopOrder, SupervisorAction};
use super::{Child, ChildState, Phase, Step, SupervisorMachine};
use crate::life::ExitReason;
use crate::tree::ActorState;

impl SupervisorMachine {
    pub(super) fn shut_down_by_itself(&mut self, significant: bool, actions: &mut Vec<SupervisorAction>) {
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

    /// Ends everything, in reverse order.
    pub(super) fn end(&mut self, reason: ExitReason, actions: &mut Vec<SupervisorAction>) {
        if matches!(self.phase, Phase::Ending(_) | Phase::Ended) {
            return;
        }
        self.phase = Phase::Ending(reason);
        self.steps.clear();
        for (&key, child) in self.children.iter_mut().rev() {
            child.comes_back = false;
            let was_in_group = std::mem::take(&mut child.with_group);
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
                // Nobody knows when it ends: the end does not wait for it.
                ChildState::Stuck => actions.push(SupervisorAction::Show(key, ActorState::Failed)),
                // It had ended with its group, and was to come back with it.
                ChildState::Stopped if was_in_group => {
                    actions.push(SupervisorAction::Show(key, ActorState::Stopped));
                }
                ChildState::Idle | ChildState::Stopped => {}
            }
        }
        if self.rules.stop_order == StopOrder::Together {
            let runs = |(key, child): (&ChildKey, &Child)| {
                matches!(child.state, ChildState::Running).then_some(*key)
            };
            let running: Vec<ChildKey> = self.children.iter().rev().filter_map(runs).collect();
            running.into_iter().for_each(|key| self.stop_now(key, actions));
        }
    }
}
