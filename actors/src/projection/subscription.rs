//! A reader that follows a read model.
//!
//! Owns its place. It pulls: a slow reader costs no memory, leaps to the newest version and is told how far.
//! Refuses to know who reads.

use std::collections::VecDeque;

use futures_util::Stream;
use tokio::sync::watch;

use super::history::CatchUp;
use super::snapshot::{ResyncReason, Update, Version};
use super::{Interest, ReadModel};

/// Follows a read model. Made by [`ReadModel::subscribe`]; counts as a subscriber until it is dropped.
#[derive(Debug)]
pub struct Subscription {
    model: ReadModel,
    place: Place,
    version: watch::Receiver<u64>,
    ready: VecDeque<Update>,
    _interest: Interest,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    /// Has nothing yet, and perhaps wants to hear why.
    Nowhere(Option<ResyncReason>),
    /// Came back with this version.
    Back(u64),
    /// Has this version.
    At(u64),
}

impl Subscription {
    pub(super) fn new(model: ReadModel, resume: Option<Version>, interest: Interest) -> Self {
        let place = match resume {
            None => Place::Nowhere(None),
            Some(at) if at.epoch != model.epoch() => Place::Nowhere(Some(ResyncReason::Epoch)),
            Some(at) => Place::Back(at.version),
        };
        let version = model.shared.version.subscribe();
        Self { model, place, version, ready: VecDeque::new(), _interest: interest }
    }

    /// The next update. Waits until there is one. Safe to drop and call again.
    pub async fn next(&mut self) -> Update {
        loop {
            if let Some(update) = self.ready.pop_front() {
                return update;
            }
            // Before the look: what is published after it then wakes this reader.
            self.version.borrow_and_update();
            if !self.advance() {
                // The sender lives in the model that `self` holds, so this only ends with a change.
                let _ = self.version.changed().await;
            }
        }
    }

    /// The same as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Update> + Send {
        futures_util::stream::unfold(self, async |mut this| Some((this.next().await, this)))
    }

    /// Makes the next updates ready; false when the reader has the newest version.
    fn advance(&mut self) -> bool {
        let history = self.model.shared.history.lock();
        let newest = history.newest();
        let whole = |resync| Update::Snapshot { snapshot: newest.clone(), resync };
        let from = match self.place {
            Place::Nowhere(resync) => {
                self.ready.push_back(whole(resync));
                self.place = Place::At(newest.version);
                return true;
            }
            Place::Back(version) | Place::At(version) => version,
        };
        let back = matches!(self.place, Place::Back(_));
        let way = history.way_from(from);
        let missed = newest.version.saturating_sub(from).saturating_sub(1);
        // Who comes back has not been slow.
        if !back && missed > 0 {
            self.ready.push_back(Update::Lag { missed });
        }
        self.place = Place::At(newest.version);
        match way {
            CatchUp::Current => return false,
            CatchUp::Patch(patch) => {
                let from = Version { epoch: newest.epoch, version: from };
                self.ready.push_back(Update::Patch { from, to: newest.id(), patch });
            }
            CatchUp::Snapshot => self.ready.push_back(whole(back.then_some(ResyncReason::Gap))),
        }
        true
    }
}
