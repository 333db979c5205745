//! Looks after what no other actor does: whether the journal and the log can be written, how long the journal
//! is kept, and dead letters.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::sync::watch;
use tracing::warn;

use crate::journal::{Event, Journal};
use crate::log_health::LogHealth;
use crate::mailbox::{Actor, Context, DeadLetterCounts, Fault};
use crate::node::NodeStatus;
use crate::store::{Store, StoreHealth};

pub(super) struct CaretakerArgs {
    pub(super) journal: Journal,
    pub(super) store: Store,
    pub(super) status: watch::Sender<NodeStatus>,
    /// The program's log, once somebody has named it.
    pub(super) log: Arc<OnceLock<LogHealth>>,
}

pub(super) struct CaretakerActor {
    journal: Journal,
    health: watch::Receiver<StoreHealth>,
    status: watch::Sender<NodeStatus>,
    dead_letters: DeadLetterCounts,
    log: Arc<OnceLock<LogHealth>>,
    /// So many of the log's lost lines the log itself tells of.
    lost_lines_told: u64,
}

pub(super) enum CaretakerMessage {
    StoreChanged,
    LogChanged,
    Look,
    Retain,
}
crate::message!(CaretakerMessage { StoreChanged, LogChanged, Look, Retain });

/// Rows grow old slowly, and each round removes a bounded chunk.
const RETAIN_EVERY: Duration = Duration::from_secs(60);
/// One event for all dead letters of this time: a flood of them must not become a flood of events. A log that
/// could not be written is tried
/// again as often, by telling what was lost: a quiet node would else never learn that its disk has room
/// again.
const LOOK_EVERY: Duration = Duration::from_secs(10);

impl Actor for CaretakerActor {
    type Message = CaretakerMessage;
    type Args = CaretakerArgs;
    const KIND: &'static str = "caretaker";

    async fn start(args: &CaretakerArgs, context: &mut Context<CaretakerMessage>) -> Result<Self, Fault> {
        context.every(RETAIN_EVERY, || CaretakerMessage::Retain);
        context.every(LOOK_EVERY, || CaretakerMessage::Look);
        let actor = Self {
            journal: args.journal.clone(),
            health: args.store.health(),
            status: args.status.clone(),
            dead_letters: context.system().dead_letters().counts(),
            log: Arc::clone(&args.log),
            lost_lines_told: 0,
        };
        actor.watch_store(context);
        actor.watch_log(context);
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
            CaretakerMessage::LogChanged => {
                self.watch_log(context);
                self.tell_lost_lines();
                self.show_health();
            }
            CaretakerMessage::Look => {
                self.count_dead_letters(context);
                self.tell_lost_lines();
                self.show_health();
            }
            CaretakerMessage::Retain => self.journal.enforce_retention(),
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

    /// Called anew for each change: what it has waited for once, it does not wait for again.
    fn watch_log(&self, context: &mut Context<CaretakerMessage>) {
        let Some(log) = self.log.get() else { return };
        let mut outage = log.outage();
        outage.mark_unchanged();
        let known = self.outage().is_some();
        context.spawn(async move {
            // An outage that began or ended between two looks is news at once.
            if outage.wait_for(|outage| outage.is_some() != known).await.is_err() {
                std::future::pending::<()>().await;
            }
            CaretakerMessage::LogChanged
        });
    }

    fn outage(&self) -> Option<Arc<str>> {
        self.log.get().and_then(|log| log.outage().borrow().clone())
    }

    /// Once for each outage, when its first line gets through: until then this is what tries whether one
    /// does.
    fn tell_lost_lines(&mut self) {
        let Some(log) = self.log.get() else { return };
        let lost = log.lost();
        let untold = lost.saturating_sub(self.lost_lines_told);
        if untold > 0 && log.tell(|| warn!(lost = untold, "log lines could not be written and are lost")) {
            self.lost_lines_told = lost;
        }
    }

    fn show_health(&self) {
        let events = match &*self.health.borrow() {
            StoreHealth::Ok => None,
            StoreHealth::Degraded { reason, .. } => Some(format!("events cannot be written: {reason}")),
        };
        let log = self.outage().map(|why| {
            let lost = self.log.get().map_or(0, LogHealth::lost);
            format!("the node's log cannot be written: {why}; {lost} lines are lost")
        });
        let reasons: Vec<String> = events.into_iter().chain(log).collect();
        self.status.send_if_modified(|status| {
            let next = match (&*status, reasons.is_empty()) {
                (NodeStatus::Stopping | NodeStatus::Starting, true) | (NodeStatus::Stopping, false) => {
                    return false;
                }
                (_, false) => NodeStatus::Degraded(reasons),
                (NodeStatus::Ready | NodeStatus::Degraded(_), true) => NodeStatus::Ready,
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
