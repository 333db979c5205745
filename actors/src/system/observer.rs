//! Writes what supervisors do into the journal, and what is set aside into the node's condition.

use std::sync::Arc;

use arw_kit::clock::Clock;
use arw_kit::life::{ActorPath, ExitReason, RestartUse};
use arw_kit::supervision::{RestartEvent, SupervisionObserver};

use super::condition::Condition;
use crate::journal::{CountedFailure, Journal, event};

/// Journals failures, restarts, quarantines and escalations. Appending never blocks.
#[derive(Debug)]
pub(super) struct JournalObserver {
    journal: Journal,
    condition: Arc<Condition>,
    clock: Clock,
}

impl JournalObserver {
    pub(super) fn new(journal: Journal, condition: Arc<Condition>, clock: Clock) -> Self {
        Self { journal, condition, clock }
    }

    fn crashed(&self, path: &ActorPath, reason: &ExitReason, budget: &RestartUse) {
        self.journal.append(event::Actor::Crashed {
            path: path.to_string(),
            reason: reason.word().to_owned(),
            detail: reason.to_string(),
            handling: handling(reason),
            budget: Some(CountedFailure::new(budget, self.clock.wall())),
        });
    }
}

impl SupervisionObserver for JournalObserver {
    fn observe(&self, event: &RestartEvent) {
        match event {
            RestartEvent::Restarting { path, reason, budget, .. } => self.crashed(path, reason, budget),
            RestartEvent::Restarted { path, reason, budget, down } => {
                self.journal.append(event::Actor::Restarted {
                    path: path.to_string(),
                    reason: reason.word().to_owned(),
                    detail: reason.to_string(),
                    used: budget.used,
                    max: budget.max,
                    window_s: budget.window.as_secs(),
                    at: self.clock.wall(),
                    down_ms: Some(u64::try_from(down.as_millis()).unwrap_or(u64::MAX)),
                });
            }
            RestartEvent::Quarantined { path, reason, budget, wait } => {
                self.crashed(path, reason, budget);
                self.journal.append(event::Actor::Quarantined {
                    path: path.to_string(),
                    reason: reason.word().to_owned(),
                    detail: reason.to_string(),
                    used: budget.used,
                    max: budget.max,
                    window_s: budget.window.as_secs(),
                    retry_at: Some(self.clock.wall() + *wait),
                });
                let why = format!("{path} is quarantined after {reason}; it is tried again by itself");
                self.condition.note(path.as_str(), Some(why));
            }
            RestartEvent::StuckEnded { path } | RestartEvent::Forgotten { path } => {
                self.condition.note(path.as_str(), None);
            }
            RestartEvent::Stuck { path } => {
                self.journal.append(event::Actor::Stuck { path: path.to_string() });
                let why = format!("{path} was killed and has not ended: it blocks its thread");
                self.condition.note(path.as_str(), Some(why));
            }
            RestartEvent::Recovered { path } => {
                self.journal.append(event::Actor::Recovered { path: path.to_string() });
                self.condition.note(path.as_str(), None);
            }
            RestartEvent::Escalated { path, child, text, budget } => {
                self.journal.append(event::Actor::Escalated {
                    path: child.to_string(),
                    to: path.to_string(),
                    reason: "escalated".to_owned(),
                    detail: text.to_string(),
                    used: budget.used,
                    max: budget.max,
                    window_s: budget.window.as_secs(),
                });
            }
        }
    }
}

fn handling(reason: &ExitReason) -> Option<String> {
    match reason {
        ExitReason::Crash { while_handling, .. } => while_handling.map(str::to_owned),
        ExitReason::Normal
        | ExitReason::Stop
        | ExitReason::Killed
        | ExitReason::StartFailed { .. }
        | ExitReason::ProcessExit { .. }
        | ExitReason::ProcessSignal { .. }
        | ExitReason::Escalated { .. }
        | ExitReason::Dependency { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::leaf;
    use super::*;
    use crate::journal::JournalOptions;
    use crate::node_info::NodeStatus;
    use crate::store::{Store, StoreOptions};
    use arw_kit::mailbox::{Actor, Context, Fault};
    use arw_kit::supervision::{ActorSpec, ActorSystem, RestartHistory};

    struct Fragile;

    enum FragileMessage {
        Fail,
    }
    arw_kit::message!(FragileMessage { Fail });

    impl Actor for Fragile {
        type Message = FragileMessage;
        type Args = ();
        const KIND: &'static str = "fragile";

        async fn start((): &(), _: &mut Context<FragileMessage>) -> Result<Self, Fault> {
            Ok(Self)
        }

        async fn handle(
            &mut self,
            FragileMessage::Fail: FragileMessage,
            _: &mut Context<FragileMessage>,
        ) -> Result<(), Fault> {
            Err(Fault::new("a row that cannot be rendered"))
        }
    }

    fn kinds(journal: &Journal) -> Vec<String> {
        let page = journal.replay_blocking(Some(0), 100, None).unwrap();
        page.events.iter().map(|record| record.event.kind().to_owned()).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn a_leaf_that_fails_again_and_again_leaves_the_node_running_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let store = Store::open(&folder.path().join("db"), StoreOptions::default()).unwrap();
        let journal = Journal::open(store, JournalOptions::default()).unwrap();
        let condition = Arc::new(Condition::new());
        let status = condition.status();
        condition.serves();
        let observer = Arc::new(JournalObserver::new(journal.clone(), condition, clock));
        let system = ActorSystem::with("node", clock, Some(observer), RestartHistory::new(), 0);
        let mut root = system.root();
        let views = root.actor(leaf(ActorSpec::<Fragile>::new("views", ())));
        let other = root.actor(ActorSpec::<Fragile>::new("other", ()));
        system.start(root).await.unwrap();
        for _ in 0..4 {
            views.tell(FragileMessage::Fail, Duration::from_secs(1)).await.unwrap();
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        let NodeStatus::Degraded(reasons) = status.borrow().clone() else { panic!("{status:?}") };
        assert!(reasons[0].contains("node/views is quarantined after a row that cannot"), "{reasons:?}");
        assert_eq!(system.tree().get("node").unwrap().state(), arw_kit::tree::ActorState::Running);
        assert!(other.depth() == 0 && system.tree().get("node/other").is_some());
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(*status.borrow(), NodeStatus::Ready, "a trial has brought it back");
        let failures = ["actor_crashed", "actor_restarted"].repeat(3);
        let last = ["actor_crashed", "actor_quarantined", "actor_restarted", "actor_recovered"];
        assert_eq!(kinds(&journal), [failures, last.to_vec()].concat());
        system.shutdown(Duration::from_secs(1)).await.unwrap();
    }
}
