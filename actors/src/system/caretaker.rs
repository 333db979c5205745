//! Looks after what no other actor does: whether the journal and the log can be written, how long the journal
//! is kept, and dead letters.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arw_kit::mailbox::{Actor, Context, Fault};
use tokio::sync::watch;
use tracing::warn;

use super::condition::Condition;
use crate::cluster::Cluster;
use crate::journal::{Journal, event};
use crate::log_health::LogHealth;
use crate::store::{Store, StoreHealth};

pub(super) struct CaretakerArgs {
    pub(super) journal: Journal,
    pub(super) store: Store,
    pub(super) condition: Arc<Condition>,
    /// The program's log, once somebody has named it.
    pub(super) log: Arc<OnceLock<LogHealth>>,
    pub(super) cluster: Cluster,
    /// Why the list of runtimes cannot be read.
    pub(super) list: watch::Receiver<Option<Arc<str>>>,
}

pub(super) struct CaretakerActor {
    journal: Journal,
    health: watch::Receiver<StoreHealth>,
    /// What is wrong with the node as a member of a cluster.
    warnings: watch::Receiver<Vec<String>>,
    list: watch::Receiver<Option<Arc<str>>>,
    condition: Arc<Condition>,
    log: Arc<OnceLock<LogHealth>>,
    /// So many of the log's lost lines the log itself tells of.
    lost_lines_told: u64,
}

pub(super) enum CaretakerMessage {
    StoreChanged,
    LogChanged,
    Look,
    ClusterChanged,
    ListChanged,
    Retain,
}
arw_kit::message!(CaretakerMessage { StoreChanged, LogChanged, ClusterChanged, ListChanged, Look, Retain });

/// Rows grow old slowly, and each round removes a bounded chunk.
const RETAIN_EVERY: Duration = Duration::from_secs(60);
/// One event for all dead letters of this time: a flood of them must not become a flood of events. A log that
/// could not be written is tried again as often, by telling what was lost: a quiet node would else never
/// learn that its disk has room again.
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
            warnings: args.cluster.warnings(),
            list: args.list.clone(),
            condition: Arc::clone(&args.condition),
            log: Arc::clone(&args.log),
            lost_lines_told: 0,
        };
        actor.watch_store(context);
        actor.watch_log(context);
        actor.watch_cluster(context);
        actor.watch_list(context);
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
            CaretakerMessage::ClusterChanged => {
                self.warnings.mark_unchanged();
                self.watch_cluster(context);
                self.show_health();
            }
            CaretakerMessage::ListChanged => {
                self.list.mark_unchanged();
                self.watch_list(context);
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

    fn watch_cluster(&self, context: &mut Context<CaretakerMessage>) {
        let mut warnings = self.warnings.clone();
        context.spawn(async move {
            if warnings.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            CaretakerMessage::ClusterChanged
        });
    }

    fn watch_list(&self, context: &mut Context<CaretakerMessage>) {
        let mut list = self.list.clone();
        context.spawn(async move {
            if list.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
            CaretakerMessage::ListChanged
        });
    }

    fn show_health(&self) {
        let events = match &*self.health.borrow() {
            StoreHealth::Ok => None,
            StoreHealth::Degraded { reason, .. } => Some(format!("events cannot be written: {reason}")),
        };
        self.condition.note("journal", events);
        let log = self.outage().map(|why| {
            let lost = self.log.get().map_or(0, LogHealth::lost);
            format!("the node's log cannot be written: {why}; {lost} lines are lost")
        });
        self.condition.note("log", log);
        let list = self.list.borrow().as_ref().map(|why| {
            format!(
                "runtimes added earlier are not known, nor which were stopped by hand, and none can be added or removed: {why}; repair the file, then restart the node"
            )
        });
        self.condition.note("runtimes", list);
        let warnings = self.warnings.borrow().clone();
        self.condition.note("cluster", warnings);
    }

    fn count_dead_letters(&self, context: &Context<CaretakerMessage>) {
        for tally in context.dead_letters().take_tallies() {
            self.journal.append(event::Actor::DeadLetters {
                path: tally.path.map_or_else(|| "other actors".to_owned(), |path| path.to_string()),
                reason: tally.reason.word().to_owned(),
                count: tally.count,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::{JournalOptions, Retention};
    use crate::node_info::NodeStatus;
    use crate::store::StoreOptions;
    use arw_kit::clock::Clock;
    use arw_kit::supervision::{ActorSpec, ActorSystem};

    #[tokio::test(start_paused = true)]
    async fn a_list_of_runtimes_that_cannot_be_read_is_in_the_status_until_it_can() {
        let folder = tempfile::tempdir().unwrap();
        let clock = Clock::system();
        let options = StoreOptions { clock, ..StoreOptions::default() };
        let store = Store::open(&folder.path().join("arw.db"), options).unwrap();
        let retention = Retention { max_age: Duration::from_secs(3600), max_rows: 1000 };
        let journal = Journal::open(store.clone(), JournalOptions { retention, clock }).unwrap();
        let condition = Arc::new(Condition::new());
        let list = watch::Sender::new(None);
        let args = CaretakerArgs {
            journal,
            store,
            condition: Arc::clone(&condition),
            log: Arc::default(),
            cluster: Cluster::default(),
            list: list.subscribe(),
        };
        let system = ActorSystem::new("node");
        let mut root = system.root();
        root.actor(ActorSpec::<CaretakerActor>::new("caretaker", args));
        system.start(root).await.unwrap();
        condition.serves();
        let mut status = condition.status();
        list.send_replace(Some("runtimes.json is damaged".into()));
        let told = status.wait_for(|status| matches!(status, NodeStatus::Degraded(_)));
        let told = tokio::time::timeout(LOOK_EVERY / 2, told).await.unwrap().unwrap().clone();
        let NodeStatus::Degraded(reasons) = told else { panic!() };
        assert!(reasons[0].contains("runtimes.json is damaged"), "{reasons:?}");
        list.send_replace(None);
        let well = status.wait_for(|status| *status == NodeStatus::Ready);
        tokio::time::timeout(LOOK_EVERY / 2, well).await.unwrap().unwrap();
        system.shutdown(LOOK_EVERY).await.unwrap();
    }
}
