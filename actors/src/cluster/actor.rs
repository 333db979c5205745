//! Keeps the picture of the cluster, and this node's own card, up to date.
//!
//! Reads news, looks at the node, and shows both. What follows from them is decided in `view.rs` and
//! `own_card.rs`.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arw_kit::mailbox::{Actor, Context, Fault, TaskHandle};
use arw_kit::moment::Moment;
use arw_kit::tree::ActorState;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::handle::Cluster;
use super::own_card::{CARD_SPACING, DEAD_LETTERS_WITHIN, OwnCard, Seen};
use super::picture::At;
use super::view::{ClusterChange, ClusterView, NodeChange, NodeChanged};
use crate::hardware::{Hardware, HardwareSources, refresh_memory};
use crate::journal::{ClusterNode, Journal, event};
use crate::node_info::NodeStatus;
use crate::projection::{Coalesced, Coalescer, PUBLISH_INTERVAL};
use crate::runtime::directory::Runtimes;

pub(crate) struct ClusterArgs {
    pub(crate) cluster: Cluster,
    /// Outlives the actor: nobody tells old news again.
    pub(crate) view: Arc<Mutex<ClusterView>>,
    pub(crate) version: &'static str,
    pub(crate) runtimes: Runtimes,
    pub(crate) hardware: Arc<Mutex<Hardware>>,
    pub(crate) sources: HardwareSources,
    pub(crate) status: watch::Receiver<NodeStatus>,
    pub(crate) journal: Journal,
}

pub(crate) struct ClusterActor {
    cluster: Cluster,
    view: Arc<Mutex<ClusterView>>,
    version: &'static str,
    runtimes: Runtimes,
    hardware: Arc<Mutex<Hardware>>,
    sources: HardwareSources,
    status: watch::Receiver<NodeStatus>,
    journal: Journal,
    own: OwnCard,
    cpu_permille: Option<u32>,
    /// The figures are being read.
    is_measuring: bool,
    /// The count of dead letters at each of the last measurements, the oldest first.
    dead_letters: VecDeque<u64>,
    pace: Coalescer,
    /// A version that was held back is due then.
    timer: Option<TaskHandle>,
    /// A row changes by time alone.
    by_time: Option<(Moment, TaskHandle)>,
}

pub(crate) enum ClusterMessage {
    /// The transport has told something, or somebody has changed what this node says of itself.
    Told,
    /// See how this node does.
    Look,
    /// Read the machine's figures.
    Measure,
    /// They were read.
    Measured(Option<u32>),
    /// A picture that was held back is due.
    Due,
    /// A row changes by time alone.
    Later,
}
arw_kit::message!(ClusterMessage { Told, Look, Measure, Measured, Due, Later });

/// Free memory and load steer where work goes; they are not read at each look because a graphics driver may
/// take its time.
const MEASURE_EVERY: Duration = Duration::from_secs(10);
const DEAD_LETTER_COUNTS: usize = (DEAD_LETTERS_WITHIN.as_secs() / MEASURE_EVERY.as_secs()) as usize;

impl Actor for ClusterActor {
    type Message = ClusterMessage;
    type Args = ClusterArgs;
    const KIND: &'static str = "cluster";

    async fn start(args: &ClusterArgs, context: &mut Context<ClusterMessage>) -> Result<Self, Fault> {
        context.every(CARD_SPACING, || ClusterMessage::Look);
        context.every(MEASURE_EVERY, || ClusterMessage::Measure);
        let mut actor = Self {
            cluster: args.cluster.clone(),
            view: Arc::clone(&args.view),
            version: args.version,
            runtimes: args.runtimes.clone(),
            hardware: Arc::clone(&args.hardware),
            sources: args.sources.clone(),
            status: args.status.clone(),
            journal: args.journal.clone(),
            own: OwnCard::default(),
            cpu_permille: None,
            is_measuring: false,
            dead_letters: VecDeque::new(),
            pace: Coalescer::new(PUBLISH_INTERVAL),
            timer: None,
            by_time: None,
        };
        actor.listen(context);
        // An incarnation before may have died with a message in hand that stood for all of these.
        actor.read_news(context);
        actor.look(context);
        actor.show(context);
        actor.measure(context);
        Ok(actor)
    }

    async fn handle(
        &mut self,
        message: ClusterMessage,
        context: &mut Context<ClusterMessage>,
    ) -> Result<(), Fault> {
        match message {
            ClusterMessage::Told => {
                self.listen(context);
                self.read_news(context);
                self.look(context);
            }
            ClusterMessage::Look => self.look(context),
            ClusterMessage::Measure => self.measure(context),
            ClusterMessage::Measured(cpu_permille) => {
                self.is_measuring = false;
                self.cpu_permille = cpu_permille;
            }
            ClusterMessage::Due => {
                self.timer = None;
                if self.pace.due(context.now()) {
                    self.show(context);
                }
            }
            ClusterMessage::Later => {
                self.by_time = None;
                self.changed(context);
            }
        }
        Ok(())
    }
}

impl ClusterActor {
    /// The next news come as one message.
    fn listen(&self, context: &mut Context<ClusterMessage>) {
        let cluster = self.cluster.clone();
        context.spawn(async move {
            cluster.inlet().told().await;
            ClusterMessage::Told
        });
    }

    fn read_news(&mut self, context: &mut Context<ClusterMessage>) {
        let (news, refused) = self.cluster.inlet().take();
        self.cluster.count_refused(refused);
        if news.is_empty() {
            return;
        }
        let at = at(context);
        let mut view = self.view.lock();
        for change in news.into_iter().flat_map(|news| view.fold(at, news)) {
            self.journal.append(event(change));
        }
        drop(view);
        self.changed(context);
    }

    /// Looks at the node, and tells its card where there is something to say.
    fn look(&mut self, context: &mut Context<ClusterMessage>) {
        let records = context.tree().records();
        let given_up: Vec<String> = records
            .iter()
            .filter(|record| matches!(record.state(), ActorState::Quarantined | ActorState::Failed))
            .map(|record| record.path().to_string())
            // Runtimes speak for themselves.
            .filter(|path| !path.contains("/runtimes/"))
            .collect();
        let now = context.dead_letters().counts().total();
        let status = self.status.borrow().clone();
        let (rows, served) = (self.runtimes.rows(), self.runtimes.served());
        let hardware = self.hardware.lock();
        let seen = Seen {
            version: self.version,
            status: &status,
            rows: &rows,
            served: &served,
            hardware: &hardware,
            cpu_permille: self.cpu_permille,
            actors: records.len(),
            given_up: &given_up,
            dead_letters: now.saturating_sub(self.dead_letters.front().copied().unwrap_or(now)),
            is_draining: self.cluster.is_draining(),
        };
        let card = self.own.look(at(context), &seen);
        drop(hardware);
        if let Some(card) = card {
            self.cluster.tell_own_card(card);
            self.changed(context);
        }
    }

    fn measure(&mut self, context: &mut Context<ClusterMessage>) {
        if self.dead_letters.len() >= DEAD_LETTER_COUNTS {
            self.dead_letters.pop_front();
        }
        self.dead_letters.push_back(context.dead_letters().counts().total());
        // A graphics driver that hangs costs one thread, not one more with each measurement.
        if std::mem::replace(&mut self.is_measuring, true) {
            return;
        }
        let (hardware, sources) = (Arc::clone(&self.hardware), self.sources.clone());
        context.spawn(async move {
            let read = tokio::task::spawn_blocking(move || {
                // Read without the lock, for which looks and readers would wait as long as the driver takes.
                let mut read = hardware.lock().clone();
                refresh_memory(&mut read, &sources);
                let usable_cores = read.cpu.usable_cores;
                *hardware.lock() = read;
                cpu_permille(usable_cores)
            });
            // A panic of the reading leaves the figures as they were.
            ClusterMessage::Measured(read.await.unwrap_or_default())
        });
    }

    fn changed(&mut self, context: &mut Context<ClusterMessage>) {
        match self.pace.changed(context.now()) {
            Coalesced::Publish => self.show(context),
            Coalesced::At(due) if self.timer.is_none() => {
                self.timer = Some(context.after(due.since(context.now()), ClusterMessage::Due));
            }
            Coalesced::At(_) => {}
        }
    }

    fn show(&mut self, context: &mut Context<ClusterMessage>) {
        let now = context.now();
        let mut view = self.view.lock();
        view.expire(now);
        let picture = view.picture(now, &self.cluster.own_card().borrow());
        let deadline = view.next_deadline(now);
        drop(view);
        self.cluster.show(picture);
        if deadline == self.by_time.as_ref().map(|(at, _)| *at) {
            return;
        }
        if let Some((_, timer)) = self.by_time.take() {
            timer.cancel();
        }
        self.by_time =
            deadline.map(|deadline| (deadline, context.after(deadline.since(now), ClusterMessage::Later)));
    }
}

fn at(context: &Context<ClusterMessage>) -> At {
    At { now: context.now(), wall: context.clock().wall() }
}

/// How many programs wanted to run during the last minute, as a part of all cores, where the system counts
/// them.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_precision_loss,
    reason = "between 0 and a thousand"
)]
fn cpu_permille(usable_cores: u64) -> Option<u32> {
    let load = sysinfo::System::load_average().ok()?.one;
    Some((load * 1_000.0 / usable_cores.max(1) as f64).clamp(0.0, 1_000.0) as u32)
}

/// CLUSTER-3.
fn event(change: ClusterChange) -> event::Cluster {
    let NodeChange { node, name, incarnation, address, what } = match change {
        ClusterChange::Entered { cluster, roles } => return event::Cluster::Entered { cluster, roles },
        ClusterChange::Exited { cluster, nodes } => {
            return event::Cluster::Exited { cluster, nodes: u64::try_from(nodes).unwrap_or(u64::MAX) };
        }
        ClusterChange::Warned { warning } => return event::Cluster::Warning { reason: warning },
        ClusterChange::Cleared => return event::Cluster::WarningOver {},
        ClusterChange::Node(change) => change,
    };
    let mut told =
        ClusterNode { id: node.to_string(), name, incarnation, address, reason: None, away_ms: None };
    match what {
        NodeChanged::Joined => event::Cluster::NodeJoined(told),
        NodeChanged::Restarted => event::Cluster::NodeRestarted(told),
        NodeChanged::Down { reason } => {
            told.reason = reason;
            event::Cluster::NodeDown(told)
        }
        NodeChanged::Returned { after } => {
            told.away_ms = Some(u64::try_from(after.as_millis()).unwrap_or(u64::MAX));
            event::Cluster::NodeReturned(told)
        }
        NodeChanged::Copied { kept, other } => {
            told.address = Some(kept.to_string());
            told.reason = Some(format!("another start of it came from {other}"));
            event::Cluster::NodeCopied(told)
        }
        NodeChanged::Left => event::Cluster::NodeLeft(told),
        NodeChanged::Removed => event::Cluster::NodeRemoved(told),
        NodeChanged::Forgotten => event::Cluster::NodeForgotten(told),
    }
}
