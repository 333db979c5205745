//! The read models of a node: what `/state/*` shows.
//!
//! Owns their content (spec/http.md, section 2) and when they are brought up to date. Refuses to know HTTP, and to decide anything.

mod actor;
mod cluster;
mod render;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arw_kit::clock::Clock;
use arw_kit::moment::Moment;
use arw_kit::supervision::ActorSystem;
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

/// All read models of a node. Cheap to clone.
#[derive(Clone)]
pub struct Views {
    shared: Arc<Shared>,
}

struct Shared {
    models: [ReadModel; COUNT],
    /// When each was last brought up to date, in nanoseconds.
    fresh_at: [AtomicU64; COUNT],
    /// The count of changes that each shows.
    shows: [AtomicU64; COUNT],
    /// Held while a view is rendered and published: of two at once the older rendering must not come last.
    publishing: [Mutex<()>; COUNT],
    /// `None`: the content is fixed.
    sources: Option<Arc<Sources>>,
    clock: Clock,
}

/// What the views are made of.
pub(crate) struct Sources {
    pub(crate) info: Arc<NodeInfo>,
    pub(crate) system: ActorSystem,
    pub(crate) journal: Journal,
    pub(crate) models: ModelLibrary,
    pub(crate) runtimes: Runtimes,
    pub(crate) cluster: Cluster,
    pub(crate) hardware: Arc<Mutex<Hardware>>,
    pub(crate) status: watch::Receiver<NodeStatus>,
    /// Where the gateway listens; empty until it does.
    pub(crate) http: Arc<Mutex<String>>,
    pub(crate) clock: Clock,
}

/// Which view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum View {
    Node,
    Actors,
    Runtimes,
    Models,
    Cluster,
}

/// How many there are.
pub const COUNT: usize = 5;

const VIEWS: [(View, &str); COUNT] = [
    (View::Node, "node"),
    (View::Actors, "actors"),
    (View::Runtimes, "runtimes"),
    (View::Models, "models"),
    (View::Cluster, "cluster"),
];

/// What `/state/cluster` says of this cluster, for tests.
#[cfg(feature = "testkit")]
#[must_use]
pub fn cluster_body(shown: &Cluster) -> Map<String, Value> {
    cluster::cluster(shown)
}

impl fmt::Debug for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Views")
    }
}

impl Views {
    pub(crate) fn new(epoch: u64, sources: Arc<Sources>) -> Self {
        let clock = sources.clock;
        let models = VIEWS.map(|(view, name)| ReadModel::new(name, epoch, clock, render(view, &sources)));
        Self::over(models, Some(sources), clock)
    }

    /// Views with a fixed content, in the order `node`, `actors`, `runtimes`, `models`, `cluster`, for tests.
    #[cfg(feature = "testkit")]
    #[must_use]
    pub fn fixed(models: [ReadModel; COUNT], clock: Clock) -> Self {
        Self::over(models, None, clock)
    }

    fn over(models: [ReadModel; COUNT], sources: Option<Arc<Sources>>, clock: Clock) -> Self {
        let (fresh_at, shows) = ([const { AtomicU64::new(0) }; COUNT], [const { AtomicU64::new(0) }; COUNT]);
        let publishing = [const { Mutex::new(()) }; COUNT];
        Self { shared: Arc::new(Shared { models, fresh_at, shows, publishing, sources, clock }) }
    }

    /// The read model of this name, brought up to date; `None` when there is none.
    #[must_use]
    pub fn fresh(&self, name: &str) -> Option<&ReadModel> {
        let (view, _) = VIEWS.into_iter().find(|(_, known)| *known == name)?;
        let at = self.shared.clock.now();
        let last = &self.shared.fresh_at[view as usize];
        let age = at.as_nanos().saturating_sub(last.load(Ordering::Acquire));
        // Whoever has changed something finds it here at once. What moves all the time is rendered once in an interval,
        // however many ask.
        if self.is_behind(view) || u128::from(age) >= PUBLISH_INTERVAL.as_nanos() {
            self.bring_up_to_date(view, at);
        }
        Some(self.model(view))
    }

    /// Every name.
    #[must_use]
    pub fn names(&self) -> [&'static str; COUNT] {
        VIEWS.map(|(_, name)| name)
    }

    pub(crate) fn model(&self, view: View) -> &ReadModel {
        &self.shared.models[view as usize]
    }

    pub(crate) fn publish(&self, view: View) {
        let _publishing = self.shared.publishing[view as usize].lock();
        self.publish_alone(view);
    }

    /// For somebody who has asked at `asked`: what another one has brought up to date since then is new enough.
    fn bring_up_to_date(&self, view: View, asked: Moment) {
        let _publishing = self.shared.publishing[view as usize].lock();
        let last = self.shared.fresh_at[view as usize].load(Ordering::Relaxed);
        if self.is_behind(view) || last < asked.as_nanos() {
            self.publish_alone(view);
        }
    }

    /// With `publishing` held.
    fn publish_alone(&self, view: View) {
        let Some(sources) = &self.shared.sources else { return };
        let at = self.shared.clock.now().as_nanos();
        let changes = self.changes(view);
        self.model(view).publish(render(view, sources));
        // Only now: who finds it up to date without the lock finds what was published.
        self.shared.fresh_at[view as usize].store(at, Ordering::Release);
        self.shared.shows[view as usize].store(changes, Ordering::Release);
    }

    /// Something has changed that is not shown yet.
    pub(crate) fn is_behind(&self, view: View) -> bool {
        self.changes(view) != self.shared.shows[view as usize].load(Ordering::Acquire)
    }

    /// Counts the changes that a reader must find at once.
    fn changes(&self, view: View) -> u64 {
        let Some(sources) = &self.shared.sources else { return 0 };
        match view {
            View::Node | View::Actors => 0,
            View::Runtimes => *sources.runtimes.changes().borrow(),
            View::Models => *sources.models.changes().borrow() + *sources.runtimes.changes().borrow(),
            View::Cluster => *sources.cluster.changes().borrow(),
        }
    }
}

fn render(view: View, sources: &Sources) -> Map<String, Value> {
    match view {
        View::Node => render::node(sources),
        View::Actors => render::actors(sources),
        View::Runtimes => render::runtimes(sources),
        View::Models => render::models(sources),
        View::Cluster => cluster::cluster(&sources.cluster),
    }
}
