//! Looks after what no other actor does: whether the journal can be written, how long it is kept, and dead letters.

use std::time::Duration;

use tokio::sync::watch;

use crate::cluster::Cluster;
use crate::journal::{Event, Journal};
use crate::mailbox::{Actor, Context, DeadLetterCounts, Fault};
use crate::node::NodeStatus;
use crate::store::{Store, StoreHealth};

pub(super) struct CaretakerArgs {
    pub(super) journal: Journal,
    pub(super) store: Store,
    pub(super) status: watch::Sender<NodeStatus>,
    pub(super) cluster: Cluster,
}

impl CaretakerArgs {
    pub(super) fn new(
        journal: &Journal,
        store: &Store,
        status: &watch::Sender<NodeStatus>,
        cluster: &Cluster,
    ) -> Self {
        let (journal, store) = (journal.clone(), store.clone());
        Self { journal, store, status: status.clone(), cluster: cluster.clone() }
    }
}

pub(super) struct CaretakerActor {
    journal: Journal,
    health: watch::Receiver<StoreHealth>,
    /// What is wrong with the node as a member of a cluster.
    warnings: watch::Receiver<Vec<String>>,
    status: watch::Sender<NodeStatus>,
    dead_letters: DeadLetterCounts,
}

pub(super) enum CaretakerMessage {
    StoreChanged,
    ClusterChanged,
    Retain,
    CountDeadLetters,
}
crate::message!(CaretakerMessage { StoreChanged, ClusterChanged, Retain, CountDeadLetters });

/// Rows grow old slowly, and each round removes a bounded chunk.
const RETAIN_EVERY: Duration = Duration::from_secs(60);
/// One event for all dead letters of this time: a flood of them must not become a flood of events.
const DEAD_LETTERS_EVERY: Duration = Duration::from_secs(10);

impl Actor for CaretakerActor {
    type Message = CaretakerMessage;
    type Args = CaretakerArgs;
    const KIND: &'static str = "caretaker";

    async fn start(args: &CaretakerArgs, context: &mut Context<CaretakerMessage>) -> Result<Self, Fault> {
        context.every(RETAIN_EVERY, || CaretakerMessage::Retain);
        context.every(DEAD_LETTERS_EVERY, || CaretakerMessage::CountDeadLetters);
        let actor = Self {
            journal: args.journal.clone(),
            health: args.store.health(),
            warnings: args.cluster.warnings(),
            status: args.status.clone(),
            dead_letters: context.system().dead_letters().counts(),
        };
        actor.watch_store(context);
        actor.watch_cluster(context);
        actor.show_health();
        Ok(actor)
    }

    async fn handle(
        &mut self,
        message: CaretakerMessage,
        context: &mut Context<CaretakerMessage>,
    ) -> Result<(), Fault> {
        match message {
            CaretakerMessage::StoreChanged => {
                self.health.mark_unchanged();
                self.watch_store(context);
                self.show_health();
            }
            CaretakerMessage::ClusterChanged => {
                self.warnings.mark_unchanged();
                self.watch_cluster(context);
                self.show_health();
            }
            CaretakerMessage::Retain => self.journal.enforce_retention(),
            CaretakerMessage::CountDeadLetters => self.count_dead_letters(context),
        }
        Ok(())
    }
}

impl CaretakerActor {
    fn watch_store(&self, context: &mut Context<CaretakerMessage>) {
        let mut health = self.health.clone();
        context.spawn(async move {
            if health.changed().await.is_err() {
                // The store is closing, and the node with it.
                std::future::pending::<()>().await;
            }
            CaretakerMessage::StoreChanged
        });
    }

    fn watch_cluster(&self, context: &mut Context<CaretakerMessage>) {
        let mut warnings = self.warnings.clone();
        context.spawn(async move {
            if warnings.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            CaretakerMessage::ClusterChanged
        });
    }

    fn show_health(&self) {
        let mut reasons = match &*self.health.borrow() {
            StoreHealth::Ok => Vec::new(),
            StoreHealth::Degraded { reason, .. } => vec![format!("events cannot be written: {reason}")],
        };
        reasons.extend(self.warnings.borrow().iter().cloned());
        let degraded = (!reasons.is_empty()).then_some(reasons);
        self.status.send_if_modified(|status| {
            let next = match (&*status, degraded) {
                (NodeStatus::Stopping | NodeStatus::Starting, None) | (NodeStatus::Stopping, Some(_)) => {
                    return false;
                }
                (_, Some(reasons)) => NodeStatus::Degraded(reasons),
                (NodeStatus::Ready | NodeStatus::Degraded(_), None) => NodeStatus::Ready,
            };
            let changes = *status != next;
            *status = next;
            changes
        });
    }

    fn count_dead_letters(&mut self, context: &Context<CaretakerMessage>) {
        let system = context.system();
        let counts = system.dead_letters().counts();
        let before = std::mem::replace(&mut self.dead_letters, counts);
        let newest = system.dead_letters().newest();
        let path = newest.last().map_or_else(String::new, |letter| letter.path.to_string());
        let by_reason = [
            ("stopped", counts.stopped - before.stopped),
            ("overloaded", counts.overloaded - before.overloaded),
            ("expired", counts.expired - before.expired),
        ];
        for (reason, count) in by_reason.into_iter().filter(|(_, count)| *count > 0) {
            self.journal.append(Event::DeadLetters { path: path.clone(), reason: reason.to_owned(), count });
        }
    }
}
