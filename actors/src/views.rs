//! The read models of a node: what `/state/*` shows.
//!
//! Owns when they are rendered and brought up to date. What each is called, shows and says is handed in as a
//! [`View`], by whoever knows the form in which it is served. Refuses to know that form, and to decide
//! anything.

mod actor;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arw_kit::clock::Clock;
use arw_kit::moment::Moment;
use arw_kit::supervision::ActorSystem;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::sync::watch;

pub(crate) use self::actor::{ViewsActor, ViewsArgs};
use crate::cluster::Cluster;
use crate::hardware::Hardware;
use crate::journal::Journal;
use crate::model::ModelLibrary;
use crate::node_info::{NodeInfo, NodeStatus};
use crate::projection::{PUBLISH_INTERVAL, ReadModel};
use crate::runtime::directory::Runtimes;

/// One read model: what it is called, when it is rendered, and how.
#[derive(Clone, Copy, Debug)]
pub struct View {
    /// As in `/state/{name}`.
    pub name: &'static str,
    /// When it is rendered beside the times at which somebody asks for it.
    pub pace: Pace,
    /// Counts the changes that a reader must find at once; always the same where its age decides.
    pub changes: fn(&Sources) -> u64,
    /// Resolves at the next change of what it shows.
    pub changed: fn(&Sources) -> BoxFuture<'static, ()>,
    /// The whole of it, once for all readers. Whatever is in it counts as a change when it differs.
    pub render: fn(&Sources) -> Map<String, Value>,
}

/// When a view is published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pace {
    /// When it changes.
    Changes,
    /// When it changes; and, while somebody streams it, this often, for what changes without telling.
    ChangesAndEvery(Duration),
    /// When it changes, but only while somebody streams it: for what moves all the time.
    WhileWatched,
    /// This often, and when it changes, but only while somebody streams it: for what moves with every
    /// message.
    WhileWatchedAndEvery(Duration),
}

impl Pace {
    fn needs_watchers(self) -> bool {
        match self {
            Self::Changes | Self::ChangesAndEvery(_) => false,
            Self::WhileWatched | Self::WhileWatchedAndEvery(_) => true,
        }
    }

    fn every(self) -> Option<Duration> {
        match self {
            Self::Changes | Self::WhileWatched => None,
            Self::ChangesAndEvery(span) | Self::WhileWatchedAndEvery(span) => Some(span),
        }
    }
}

/// What views are made of.
pub struct Sources {
    /// What does not change while the node runs.
    pub info: Arc<NodeInfo>,
    /// Its actors.
    pub system: ActorSystem,
    /// What happened.
    pub journal: Journal,
    /// Its models.
    pub models: ModelLibrary,
    /// Its runtimes.
    pub runtimes: Runtimes,
    /// All nodes.
    pub cluster: Cluster,
    /// What the machine is and has free.
    pub hardware: Arc<Mutex<Hardware>>,
    /// Whether it serves.
    pub status: watch::Receiver<NodeStatus>,
    /// Where the gateway listens; empty until it does.
    pub http: Arc<Mutex<String>>,
    /// Its clock.
    pub clock: Clock,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sources")
    }
}

/// For [`View::changed`]: resolves when something is sent after this call.
#[must_use]
pub fn next_change<T: Send + Sync + 'static>(mut changes: watch::Receiver<T>) -> BoxFuture<'static, ()> {
    // A clone has seen what its origin has seen, and that one may never look.
    changes.mark_unchanged();
    async move {
        if changes.changed().await.is_err() {
            // Its sender is gone, which happens only while the node ends.
            std::future::pending::<()>().await;
        }
    }
    .boxed()
}

/// All read models of a node. Cheap to clone.
#[derive(Clone)]
pub struct Views {
    shared: Arc<Shared>,
}

struct Shared {
    published: Vec<Published>,
    clock: Clock,
}

struct Published {
    model: ReadModel,
    /// When it was last brought up to date, in nanoseconds.
    fresh_at: AtomicU64,
    /// The count of changes that it shows.
    shows: AtomicU64,
    /// Held while it is rendered and published: of two at once the older rendering must not come last.
    publishing: Mutex<()>,
    /// `None`: the content is fixed.
    live: Option<(View, Arc<Sources>)>,
}

impl Published {
    fn new(model: ReadModel, live: Option<(View, Arc<Sources>)>) -> Self {
        let (fresh_at, shows) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { model, fresh_at, shows, publishing: Mutex::new(()), live }
    }

    /// With `publishing` held.
    fn publish(&self, clock: Clock) {
        let Some((view, sources)) = &self.live else { return };
        let at = clock.now().as_nanos();
        let changes = (view.changes)(sources);
        self.model.publish((view.render)(sources));
        // Only now: who finds it up to date without the lock finds what was published.
        self.fresh_at.store(at, Ordering::Release);
        self.shows.store(changes, Ordering::Release);
    }

    /// Something has changed that is not shown yet.
    fn is_behind(&self) -> bool {
        let live = self.live.as_ref();
        live.is_some_and(|(view, sources)| (view.changes)(sources) != self.shows.load(Ordering::Acquire))
    }
}

impl fmt::Debug for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}

impl Views {
    pub(crate) fn new(epoch: u64, views: &[View], sources: &Arc<Sources>) -> Self {
        let clock = sources.clock;
        let publish = |view: &View| {
            let model = ReadModel::new(view.name, epoch, clock, (view.render)(sources));
            Published::new(model, Some((*view, Arc::clone(sources))))
        };
        Self { shared: Arc::new(Shared { published: views.iter().map(publish).collect(), clock }) }
    }

    /// Views with a content that only the test changes.
    #[cfg(feature = "testkit")]
    #[must_use]
    pub fn fixed(models: Vec<ReadModel>, clock: Clock) -> Self {
        let published = models.into_iter().map(|model| Published::new(model, None)).collect();
        Self { shared: Arc::new(Shared { published, clock }) }
    }

    /// The read model of this name, brought up to date; `None` when there is none.
    #[must_use]
    pub fn fresh(&self, name: &str) -> Option<&ReadModel> {
        let it = self.shared.published.iter().find(|it| it.model.name() == name)?;
        let at = self.shared.clock.now();
        let age = at.as_nanos().saturating_sub(it.fresh_at.load(Ordering::Acquire));
        // Whoever has changed something finds it here at once. What moves all the time is rendered once in an
        // interval, however many ask.
        if it.is_behind() || u128::from(age) >= PUBLISH_INTERVAL.as_nanos() {
            self.bring_up_to_date(it, at);
        }
        Some(&it.model)
    }

    /// Every name.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        self.shared.published.iter().map(|it| it.model.name())
    }

    pub(crate) fn publish(&self, at: usize) {
        let it = &self.shared.published[at];
        let _publishing = it.publishing.lock();
        it.publish(self.shared.clock);
    }

    /// For somebody who has asked at `asked`: what another one has brought up to date since then is new
    /// enough.
    fn bring_up_to_date(&self, it: &Published, asked: Moment) {
        let _publishing = it.publishing.lock();
        if it.is_behind() || it.fresh_at.load(Ordering::Relaxed) < asked.as_nanos() {
            it.publish(self.shared.clock);
        }
    }

    /// Somebody streams the one at this place, or waits for a version of it.
    pub(crate) fn has_watchers(&self, at: usize) -> bool {
        self.shared.published[at].model.has_subscribers()
    }

    /// Something has changed that the one at this place does not show yet.
    pub(crate) fn is_behind(&self, at: usize) -> bool {
        self.shared.published[at].is_behind()
    }
}
