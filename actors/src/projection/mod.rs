//! Read models: what the node shows under `/state/*`, as versioned snapshots with patches between them.
//!
//! Owns versions, rendering, patches and waiting readers. Refuses to know what a model means and who serves
//! it.
//!
//! A body is rendered once per version and shared by all readers. Equality is by value: the order of keys in
//! a body is not part of the contract, which is why `serde_json` keeps its sorted maps.

mod coalescer;
mod history;
mod patch;
mod snapshot;
mod subscription;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use serde_json::{Map, Value};
use tokio::sync::watch;

pub use self::coalescer::{Coalesced, Coalescer, PUBLISH_INTERVAL};
pub use self::snapshot::{BadVersion, ResyncReason, Snapshot, Update, Version};
pub use self::subscription::Subscription;

use arw_kit::clock::Clock;

use self::history::History;

/// One read model. Cheap to clone; every clone is the same model.
///
/// ```
/// # tokio_test(async {
/// use arw_kit::clock::Clock;
/// use arw_actors::projection::{ReadModel, Update};
/// use serde_json::{Map, json};
///
/// let fields = |runtimes| Map::from_iter([("runtimes".to_owned(), runtimes)]);
/// let model = ReadModel::new("runtimes", 3, Clock::system(), fields(json!([])));
/// let mut reader = model.subscribe(None);
/// assert!(matches!(reader.next().await, Update::Snapshot { .. }));
/// model.publish(fields(json!([{"id": "smollm2"}])));
/// let Update::Patch { from, to, .. } = reader.next().await else { panic!() };
/// assert_eq!((from.to_string(), to.to_string()), ("3.1".to_owned(), "3.2".to_owned()));
/// # });
/// # fn tokio_test(test: impl Future<Output = ()>) {
/// #     tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(test);
/// # }
/// ```
#[derive(Clone)]
pub struct ReadModel {
    shared: Arc<Shared>,
}

struct Shared {
    name: &'static str,
    epoch: u64,
    clock: Clock,
    history: Mutex<History>,
    // Beside the history, so that reading never waits for a version that is being rendered.
    current: ArcSwap<Snapshot>,
    version: watch::Sender<u64>,
    interested: watch::Sender<usize>,
}

impl ReadModel {
    /// A model at version 1 with the given content. `epoch` is the node's incarnation, so that a version of
    /// an earlier process is never taken for one of this.
    #[must_use]
    pub fn new(name: &'static str, epoch: u64, clock: Clock, fields: Map<String, Value>) -> Self {
        let history = History::new(epoch, fields, clock.wall());
        let current = ArcSwap::new(Arc::clone(history.newest()));
        let shared = Shared {
            name,
            epoch,
            clock,
            current,
            history: Mutex::new(history),
            version: watch::Sender::new(1),
            interested: watch::Sender::new(0),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The model's name, for example `runtimes`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.shared.name
    }

    /// The node's incarnation.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.shared.epoch
    }

    /// Publishes new content: everything of the body but `epoch`, `version` and `generated_at`, which are
    /// added here. True when it made a version; content that is equal to the last one makes none.
    pub fn publish(&self, fields: Map<String, Value>) -> bool {
        let mut history = self.shared.history.lock();
        let Some(snapshot) = history.publish(fields, self.shared.clock.wall()) else { return false };
        let version = snapshot.version;
        self.shared.current.store(snapshot);
        // Readers look into the history: wake them when they can.
        drop(history);
        self.shared.version.send_modify(|shown| *shown = version.max(*shown));
        true
    }

    /// The newest version.
    #[must_use]
    pub fn current(&self) -> Arc<Snapshot> {
        self.shared.current.load_full()
    }

    /// The newest version as soon as it is another than `than`; `None` when that takes longer than
    /// `patience`. Without `than`, at once. Counts as a subscriber while it waits.
    pub async fn wait_newer(&self, than: Option<Version>, patience: Duration) -> Option<Arc<Snapshot>> {
        let _interest = Interest::new(self);
        let mut version = self.shared.version.subscribe();
        let newer = async {
            loop {
                version.borrow_and_update();
                let current = self.current();
                if than != Some(current.id()) {
                    return current;
                }
                let _ = version.changed().await;
            }
        };
        tokio::time::timeout(patience, newer).await.ok()
    }

    /// Follows the model: a snapshot first, or patches from `resume` on where they are still kept.
    #[must_use]
    pub fn subscribe(&self, resume: Option<Version>) -> Subscription {
        Subscription::new(self.clone(), resume, Interest::new(self))
    }

    /// Somebody follows the model or waits for a version: worth sampling it.
    #[must_use]
    pub fn has_subscribers(&self) -> bool {
        *self.shared.interested.borrow() > 0
    }

    /// Waits until somebody follows the model, for samplers that rest until then.
    pub async fn until_subscribed(&self) {
        // The sender lives in `self`, so this only ends with a subscriber.
        let _ = self.shared.interested.subscribe().wait_for(|count| *count > 0).await;
    }
}

impl fmt::Debug for ReadModel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadModel")
            .field("name", &self.shared.name)
            .field("version", &self.current().id())
            .field("subscribers", &*self.shared.interested.borrow())
            .finish()
    }
}

/// Counts as a subscriber for as long as it lives.
struct Interest {
    model: ReadModel,
}

impl Interest {
    fn new(model: &ReadModel) -> Self {
        model.shared.interested.send_modify(|count| *count += 1);
        Self { model: model.clone() }
    }
}

impl Drop for Interest {
    fn drop(&mut self) {
        self.model.shared.interested.send_modify(|count| *count = count.saturating_sub(1));
    }
}

impl fmt::Debug for Interest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Interest")
    }
}
