//! Looks after what no other actor does: whether the journal can be written, how long it is kept, and dead letters.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::condition::Condition;
use crate::journal::{Event, Journal};
use crate::mailbox::{Actor, Context, Fault};
use crate::store::{Store, StoreHealth};

pub(super) struct CaretakerArgs {
    pub(super) journal: Journal,
    pub(super) store: Store,
    pub(super) condition: Arc<Condition>,
}

pub(super) struct CaretakerActor {
    journal: Journal,
    health: watch::Receiver<StoreHealth>,
    condition: Arc<Condition>,
}

pub(super) enum CaretakerMessage {
    StoreChanged,
    Retain,
    CountDeadLetters,
}
crate::message!(CaretakerMessage { StoreChanged, Retain, CountDeadLetters });

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
            condition: Arc::clone(&args.condition),
        };
        actor.watch_store(context);
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

    fn show_health(&self) {
        let why = match &*self.health.borrow() {
            StoreHealth::Ok => None,
            StoreHealth::Degraded { reason, .. } => Some(format!("events cannot be written: {reason}")),
        };
        self.condition.note("journal", why);
    }

    fn count_dead_letters(&self, context: &Context<CaretakerMessage>) {
        for tally in context.system().dead_letters().take_tallies() {
            self.journal.append(Event::DeadLetters {
                path: tally.path.map_or_else(|| "other actors".to_owned(), |path| path.to_string()),
                reason: tally.reason.word().to_owned(),
                count: tally.count,
            });
        }
    }
}
