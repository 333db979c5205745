//! Turns of the requests for a model, where some are suspected.
//!
//! Owns the table of suspects, and for each model who goes with whom. Those that nothing speaks against go as
//! they come. Of those that were there at one death, one goes at a time, beside the others: a death then has
//! one old suspect, and new ones. Who was there at more goes alone, while nothing else of the model is in
//! flight: a death then tells that it was this one. It does not hold back the others while it waits for that,
//! so that a busy model may have no turn for it. Refuses to decide who is suspected (`suspects.rs`).

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arw_actors::moment::{Moment, WallTime};
use arw_actors::runtime::lease::EngineEnd;
use tokio::sync::{
    Notify, OwnedRwLockReadGuard, OwnedRwLockWriteGuard, OwnedSemaphorePermit, RwLock, Semaphore,
};

use super::suspects::{Death, Suspect, Suspects, Verdict};

/// Everything that is known of suspected bodies. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trials {
    suspects: Arc<Mutex<Suspects>>,
    lanes: Arc<Mutex<HashMap<String, Weak<Lane>>>>,
    outages: Arc<Mutex<Outages>>,
    hasher: RandomState,
}

/// Ends of servers that ARW does not run: nobody numbers their launches.
#[derive(Debug, Default)]
struct Outages {
    count: u64,
    last: HashMap<String, Outage>,
}

#[derive(Debug)]
struct Outage {
    number: u64,
    began: Moment,
    in_flight: u32,
}

/// Who is in flight for one model.
#[derive(Debug)]
struct Lane {
    /// For the suspects that go one at a time.
    one: Arc<Semaphore>,
    /// Shared by all that are in flight; who goes alone has it for himself.
    room: Arc<RwLock<()>>,
    /// Somebody has left the room.
    left: Notify,
}

/// A request's place among those of its model, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    held: Arc<Mutex<Held>>,
    lane: Arc<Lane>,
}

#[derive(Debug, Default)]
struct Held {
    permit: Option<OwnedSemaphorePermit>,
    room: Room,
}

#[derive(Debug, Default)]
enum Room {
    #[default]
    Left,
    Shared(#[expect(dead_code, reason = "held")] OwnedRwLockReadGuard<()>),
    Alone(OwnedRwLockWriteGuard<()>),
}

/// What kills an engine does so when it is read, or soon after. Who waits in the lane shall not wait for a
/// whole long answer.
const TRIAL_LASTS: Duration = Duration::from_secs(10);
/// What breaks off later was not in flight then.
const OUTAGE_REMEMBERED: Duration = Duration::from_secs(3_600);

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

    pub(crate) fn note(&self, (now, at): (Moment, WallTime), suspect: Suspect, id: String, end: &EngineEnd) {
        let death = Death { id, at, detail: end.detail.clone(), is_lone: end.in_flight <= 1 };
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        suspects.note(now, suspect, death);
    }

    /// The number of an outage of a server that ARW does not run, and how many requests were in flight when it
    /// began. A request that was `sent` before the last one began broke off with that one; one that was sent
    /// later got through to the server, so that it is another outage.
    pub(crate) fn outage(&self, runtime: &str, sent: Moment, now: Moment, in_flight: u32) -> (u64, u32) {
        let mut outages = self.outages.lock().unwrap_or_else(PoisonError::into_inner);
        outages.last.retain(|_, outage| outage.began + OUTAGE_REMEMBERED > now);
        if let Some(outage) = outages.last.get(runtime).filter(|outage| sent <= outage.began) {
            return (outage.number, outage.in_flight);
        }
        outages.count += 1;
        let number = outages.count;
        outages.last.insert(runtime.to_owned(), Outage { number, began: now, in_flight });
        (number, in_flight)
    }

    /// Waits until a request with this verdict may go.
    pub(crate) async fn turn(&self, model: &str, verdict: &Verdict) -> Turn {
        let lane = self.lane(model);
        let (is_one, is_alone) = match verdict {
            Verdict::Free | Verdict::Refused(..) => (false, false),
            Verdict::OneAtATime => (true, false),
            // With nobody in the room, nobody is on the lane.
            Verdict::Alone => (false, true),
        };
        // The semaphore is never closed.
        let permit = if is_one { Arc::clone(&lane.one).acquire_owned().await.ok() } else { None };
        let room = if is_alone {
            Room::Alone(lane.empty().await)
        } else {
            Room::Shared(Arc::clone(&lane.room).read_owned().await)
        };
        Turn { held: Arc::new(Mutex::new(Held { permit, room })), lane }
    }

    fn lane(&self, model: &str) -> Arc<Lane> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(model).and_then(Weak::upgrade) {
            return lane;
        }
        lanes.retain(|_, lane| lane.strong_count() > 0);
        let one = Arc::new(Semaphore::new(1));
        let lane = Arc::new(Lane { one, room: Arc::default(), left: Notify::new() });
        lanes.insert(model.to_owned(), Arc::downgrade(&lane));
        lane
    }
}

impl Lane {
    /// Waits for a moment at which nobody is in the room, and holds nobody back until then.
    async fn empty(&self) -> OwnedRwLockWriteGuard<()> {
        loop {
            let mut left = std::pin::pin!(self.left.notified());
            left.as_mut().enable();
            if let Ok(room) = Arc::clone(&self.room).try_write_owned() {
                return room;
            }
            left.await;
        }
    }
}

impl Turn {
    /// The request is with its engine now: others may go beside it when that has gone well for a while.
    pub(crate) fn begin(&self) {
        if !self.held.lock().unwrap_or_else(PoisonError::into_inner).holds_others_back() {
            return;
        }
        // Weak, so that whoever is done before leaves at once.
        let held = Arc::downgrade(&self.held);
        tokio::spawn(async move {
            tokio::time::sleep(TRIAL_LASTS).await;
            if let Some(held) = held.upgrade() {
                held.lock().unwrap_or_else(PoisonError::into_inner).make_way();
            }
        });
    }

    /// Its answer has begun.
    pub(crate) fn went_well(&self) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).make_way();
    }
}

impl Held {
    fn holds_others_back(&self) -> bool {
        self.permit.is_some() || matches!(self.room, Room::Alone(_))
    }

    /// Others may go; it counts as in flight as before.
    fn make_way(&mut self) {
        self.permit = None;
        self.room = match std::mem::take(&mut self.room) {
            Room::Alone(room) => Room::Shared(room.downgrade()),
            room @ (Room::Shared(_) | Room::Left) => room,
        };
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Held::default();
        self.lane.left.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn is_free(trials: &Trials, model: &str, verdict: Verdict) -> bool {
        tokio::time::timeout(Duration::from_secs(1), trials.turn(model, &verdict)).await.is_ok()
    }

    /// HTTP-22: of requests that broke off together, the last one to notice is not alone.
    #[test]
    fn an_outage_of_a_foreign_server_is_one_death_for_all_that_were_in_flight() {
        let trials = Trials::default();
        let at = |seconds| Moment::ZERO + Duration::from_secs(seconds);
        let first = trials.outage("r1", at(1), at(5), 3);
        assert_eq!(first.1, 3);
        assert_eq!(trials.outage("r1", at(4), at(6), 2), first);
        assert_eq!(trials.outage("r1", at(2), at(9), 1), first);
        let second = trials.outage("r1", at(7), at(9), 1);
        assert_eq!(second.1, 1);
        assert_ne!(second.0, first.0, "it was sent when the server was back");
        assert_ne!(trials.outage("r2", at(1), at(9), 1).0, second.0);
    }

    /// HTTP-22.
    #[tokio::test(start_paused = true)]
    async fn one_suspect_goes_at_a_time_and_makes_way_after_a_while() {
        let trials = Trials::default();
        let first = trials.turn("smol", &Verdict::OneAtATime).await;
        assert!(!is_free(&trials, "smol", Verdict::OneAtATime).await);
        assert!(is_free(&trials, "smol", Verdict::Free).await, "others go beside it");
        assert!(is_free(&trials, "large", Verdict::OneAtATime).await, "each model has its own");
        first.begin();
        tokio::time::sleep(TRIAL_LASTS).await;
        let second = trials.turn("smol", &Verdict::OneAtATime).await;
        assert!(!is_free(&trials, "smol", Verdict::OneAtATime).await);
        second.went_well();
        assert!(is_free(&trials, "smol", Verdict::OneAtATime).await);
        drop((first, second));
        assert!(trials.lanes.lock().unwrap().values().all(|lane| lane.strong_count() == 0));
    }

    /// HTTP-22.
    #[tokio::test(start_paused = true)]
    async fn who_goes_alone_waits_for_all_others_and_holds_them_back_only_while_it_goes() {
        let trials = Trials::default();
        let (free, suspect) =
            (trials.turn("smol", &Verdict::Free).await, trials.turn("smol", &Verdict::OneAtATime).await);
        let mut waits = std::pin::pin!(trials.turn("smol", &Verdict::Alone));
        assert!(tokio::time::timeout(Duration::from_secs(1), &mut waits).await.is_err());
        assert!(is_free(&trials, "smol", Verdict::Free).await, "nobody waits for who waits");
        drop(free);
        assert!(tokio::time::timeout(Duration::from_secs(1), &mut waits).await.is_err());
        drop(suspect);
        let alone = waits.await;
        assert!(!is_free(&trials, "smol", Verdict::Free).await);
        assert!(!is_free(&trials, "smol", Verdict::OneAtATime).await);
        alone.begin();
        tokio::time::sleep(TRIAL_LASTS).await;
        assert!(is_free(&trials, "smol", Verdict::Free).await);
        assert!(!is_free(&trials, "smol", Verdict::Alone).await, "it is still in flight");
        drop(alone);
        assert!(is_free(&trials, "smol", Verdict::Alone).await);
    }
}
