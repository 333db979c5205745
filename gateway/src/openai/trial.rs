//! Lets suspected requests through one at a time.
//!
//! Owns the table of suspects and one lane for each model. With no two of them in flight at once, each death
//! after the first one tells which of them it was. Refuses to decide who is suspected (`suspects.rs`).

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arw_actors::moment::{Moment, WallTime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::suspects::{Death, Suspect, Suspects, Verdict};

/// Everything that is known of suspected bodies. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trials {
    suspects: Arc<Mutex<Suspects>>,
    lanes: Arc<Mutex<HashMap<String, Weak<Semaphore>>>>,
    hasher: RandomState,
}

/// The lane of a model, while a suspected request is on it. Dropping it lets the next one on.
#[derive(Debug)]
pub(crate) struct Trial {
    permit: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

/// What kills an engine does so when it is read, or soon after. Who waits in the lane shall not wait for a
/// whole long answer.
const TRIAL_LASTS: Duration = Duration::from_secs(10);

impl Trials {
    /// A number for a body: the same for the same bytes, and another one in each process, so that nobody can
    /// make two that are the same.
    pub(crate) fn number(&self, body: &[u8]) -> u64 {
        self.hasher.hash_one(body)
    }

    pub(crate) fn verdict(&self, now: Moment, suspect: &Suspect) -> Verdict {
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        if suspects.is_empty() { Verdict::Free } else { suspects.verdict(now, suspect) }
    }

    pub(crate) fn note(&self, (now, wall): (Moment, WallTime), suspect: Suspect, id: String, detail: String) {
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        suspects.note(now, suspect, Death { id, at: wall, detail });
    }

    /// Waits until no other suspected request is on the lane of this model.
    pub(crate) async fn lane(&self, model: &str) -> Trial {
        let lane = {
            let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
            lanes.retain(|_, lane| lane.strong_count() > 0);
            let lane = lanes.get(model).and_then(Weak::upgrade);
            let lane = lane.unwrap_or_else(|| Arc::new(Semaphore::new(1)));
            lanes.insert(model.to_owned(), Arc::downgrade(&lane));
            lane
        };
        // The semaphore is never closed.
        Trial { permit: Arc::new(Mutex::new(lane.acquire_owned().await.ok())) }
    }
}

impl Trial {
    /// The request is with its engine now: the lane is free when that has gone well for a while.
    pub(crate) fn begin(&self) {
        // Weak, so that whoever is done before leaves the lane at once.
        let permit = Arc::downgrade(&self.permit);
        tokio::spawn(async move {
            tokio::time::sleep(TRIAL_LASTS).await;
            if let Some(permit) = permit.upgrade() {
                permit.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// HTTP-22.
    #[tokio::test(start_paused = true)]
    async fn a_lane_has_one_at_a_time_and_is_free_after_a_while() {
        let trials = Trials::default();
        let is_free = async |model: &str| {
            tokio::time::timeout(Duration::from_secs(1), trials.lane(model)).await.is_ok()
        };
        let first = trials.lane("smol").await;
        assert!(!is_free("smol").await);
        assert!(is_free("large").await, "each model has its own");
        first.begin();
        tokio::time::sleep(TRIAL_LASTS).await;
        assert!(is_free("smol").await, "nothing has happened for a while");
        let second = trials.lane("smol").await;
        assert!(!is_free("smol").await);
        drop(second);
        assert!(is_free("smol").await);
        drop(first);
        assert!(trials.lanes.lock().unwrap().values().all(|lane| lane.strong_count() == 0));
    }
}
