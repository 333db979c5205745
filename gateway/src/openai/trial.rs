//! Turns of the requests for a model, where some are suspected.
//!
//! Owns the table of suspects and each model's lane, and waits for what those decide. Refuses to decide who
//! is suspected (`suspects.rs`), and who goes when (`lane.rs`).

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arw_actors::ids::NodeId;
use arw_actors::runtime::lease::EngineEnd;
use arw_kit::clock::Clock;
use arw_kit::moment::Moment;
use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::lane::{Kind, Lane, PlaceId};
use super::suspects::{Death, Suspect, Suspects, Verdict};

/// Everything that is known of suspected bodies.
#[derive(Debug)]
pub(crate) struct Trials {
    clock: Clock,
    suspects: Mutex<Suspects>,
    lanes: Mutex<HashMap<String, Weak<SharedLane>>>,
    outages: Mutex<Outages>,
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

/// One model's lane, and who waits for it.
#[derive(Debug)]
struct SharedLane {
    clock: Clock,
    state: Mutex<LaneState>,
}

#[derive(Debug, Default)]
struct LaneState {
    lane: Lane,
    /// By who waits.
    grants: HashMap<PlaceId, oneshot::Sender<()>>,
    /// When somebody looks at the lane again, whoever comes and goes before.
    due: Option<Moment>,
}

/// How the end of an engine was seen from one request.
#[derive(Debug)]
pub(crate) struct Seen {
    /// Tells the ends of engines apart.
    pub(crate) id: String,
    /// The runtime that it was an engine of.
    pub(crate) runtime: String,
    /// No other request was in flight.
    pub(crate) is_lone: bool,
    /// The other node that tells of it.
    pub(crate) told_by: Option<NodeId>,
}

/// A request's place among those of its model, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    lane: Arc<SharedLane>,
    id: PlaceId,
    kind: Kind,
    has_waited: bool,
}

/// What breaks off later was not in flight then.
const OUTAGE_REMEMBERED: Duration = Duration::from_secs(3_600);

impl Trials {
    pub(crate) fn new(clock: Clock) -> Self {
        Self {
            clock,
            suspects: Mutex::default(),
            lanes: Mutex::default(),
            outages: Mutex::default(),
            hasher: RandomState::default(),
        }
    }

    /// A number for a body: the same for the same bytes, and another one in each process, so that nobody can
    /// make two that are the same.
    pub(crate) fn number(&self, body: &[u8]) -> u64 {
        self.hasher.hash_one(body)
    }

    pub(crate) fn verdict(&self, suspect: &Suspect) -> Verdict {
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        if suspects.is_empty() { Verdict::Free } else { suspects.verdict(self.clock.now(), suspect) }
    }

    /// An engine died with it in flight.
    pub(crate) fn note(&self, suspect: &Suspect, end: &EngineEnd, seen: Seen) {
        let Seen { id, runtime, is_lone, told_by } = seen;
        let (at, detail) = (self.clock.wall(), end.detail.clone());
        let death = Death { id, runtime, at, detail, is_lone, told_by };
        let mut suspects = self.suspects.lock().unwrap_or_else(PoisonError::into_inner);
        suspects.note(self.clock.now(), suspect.clone(), death);
    }

    /// It has got a whole answer from this runtime of this node.
    pub(crate) fn passed(&self, suspect: &Suspect, runtime: &str) {
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner).pass(suspect, runtime);
    }

    /// The number of an outage of a server that ARW does not run, and how many requests were in flight when
    /// it began. A request that was `sent` before the last one began broke off with that one; one that was
    /// sent later got through to the server, so that it is another outage.
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

    /// Waits until a request with this verdict, which came at `since`, may go.
    pub(crate) async fn turn(&self, model: &str, verdict: &Verdict, since: Moment) -> Turn {
        let kind = Kind::of(verdict);
        let lane = self.lane(model);
        let (id, waits) = lane.arrive(kind, since);
        let turn = Turn { lane, id, kind, has_waited: waits.is_some() };
        if let Some(granted) = waits {
            // It is never dropped unsent while its turn lives.
            let _ = granted.await;
        }
        turn
    }

    /// A turn's request goes to its engine now. False: meanwhile a suspect has come first, or it has become
    /// one itself, or it took too long to come so far; it has to wait for another turn.
    pub(crate) fn enter(&self, turn: &Turn, suspect: &Suspect) -> bool {
        Kind::of(&self.verdict(suspect)) == turn.kind && turn.enter()
    }

    fn lane(&self, model: &str) -> Arc<SharedLane> {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lane) = lanes.get(model).and_then(Weak::upgrade) {
            return lane;
        }
        lanes.retain(|_, lane| lane.strong_count() > 0);
        let lane = Arc::new(SharedLane { clock: self.clock, state: Mutex::default() });
        lanes.insert(model.to_owned(), Arc::downgrade(&lane));
        lane
    }
}

impl Kind {
    fn of(verdict: &Verdict) -> Self {
        match verdict {
            Verdict::Free | Verdict::Refused(..) => Self::Free,
            Verdict::Suspect => Self::Suspect,
            Verdict::Alone => Self::Alone,
        }
    }
}

impl SharedLane {
    /// Changes the lane, and tells those that may go after it.
    fn change<T>(self: &Arc<Self>, change: impl FnOnce(&mut LaneState) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut state);
        self.advance(&mut state);
        changed
    }

    /// `None`: it may go at once.
    fn arrive(self: &Arc<Self>, kind: Kind, since: Moment) -> (PlaceId, Option<oneshot::Receiver<()>>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let id = state.lane.arrive(kind, since);
        if self.advance(&mut state).contains(&id) {
            return (id, None);
        }
        let (grant, granted) = oneshot::channel();
        state.grants.insert(id, grant);
        (id, Some(granted))
    }

    fn advance(self: &Arc<Self>, state: &mut LaneState) -> Vec<PlaceId> {
        let admitted = state.lane.advance(self.clock.now());
        for id in &admitted {
            // Whoever does not wait any longer is about to leave.
            state.grants.remove(id).and_then(|grant| grant.send(()).ok());
        }
        let due = state.lane.due();
        if std::mem::replace(&mut state.due, due) != due
            && let Some(due) = due
        {
            self.look_again(due, None);
        }
        admitted
    }

    /// Then, and whose trial is over by then. Does nothing where nobody is left, or where everything ends.
    fn look_again(self: &Arc<Self>, when: Moment, trial: Option<PlaceId>) {
        let (lane, Ok(runtime)) = (Arc::downgrade(self), Handle::try_current()) else { return };
        let when = self.clock.instant(when);
        runtime.spawn(async move {
            tokio::time::sleep_until(when).await;
            if let Some(lane) = lane.upgrade() {
                lane.change(|state| match trial {
                    Some(id) => state.lane.make_way(id),
                    None => state.due = None,
                });
            }
        });
    }
}

impl Turn {
    fn enter(&self) -> bool {
        let (id, kind) = (self.id, self.kind);
        let trial = self.lane.change(|state| state.lane.enter(id, kind).then(|| state.lane.trial(id)));
        if let Some(Some(trial)) = trial {
            let over = self.lane.clock.now() + trial;
            self.lane.look_again(over, Some(self.id));
        }
        trial.is_some()
    }

    /// It had to wait, and everything may be different now.
    pub(crate) fn has_waited(&self) -> bool {
        self.has_waited
    }

    /// Its client has left; its engine may work on it for a moment longer.
    pub(crate) fn go(&self) {
        self.lane.change(|state| state.lane.go(self.id));
    }

    /// An engine may work on another request of the model whose client has left.
    pub(crate) fn has_gone_others(&self) -> bool {
        self.lane.state.lock().unwrap_or_else(PoisonError::into_inner).lane.has_gone_others(self.id)
    }

    /// No other request of the model is in flight on this node, and none comes.
    pub(crate) fn is_solitary(&self) -> bool {
        self.lane.state.lock().unwrap_or_else(PoisonError::into_inner).lane.is_solitary(self.id)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.lane.change(|state| {
            state.grants.remove(&self.id);
            state.lane.leave(self.id);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::lane;
    use super::*;

    fn trials() -> Trials {
        Trials::new(Clock::system())
    }

    async fn is_free(trials: &Trials, model: &str, verdict: &Verdict) -> bool {
        tokio::time::timeout(Duration::from_secs(1), trials.turn(model, verdict, trials.clock.now()))
            .await
            .is_ok()
    }

    /// HTTP-22: of requests that broke off together, the last one to notice is not alone.
    #[test]
    fn an_outage_of_a_foreign_server_is_one_death_for_all_that_were_in_flight() {
        let trials = trials();
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

    /// HTTP-22: the lane's decisions reach those that wait, also where nobody comes or goes.
    #[tokio::test(start_paused = true)]
    async fn a_suspect_goes_alone_and_makes_way_when_its_trial_is_over() {
        let trials = trials();
        let first = trials.turn("smol", &Verdict::Suspect, trials.clock.now()).await;
        assert!(first.enter() && first.is_solitary());
        assert!(!is_free(&trials, "smol", &Verdict::Free).await);
        assert!(is_free(&trials, "large", &Verdict::Suspect).await, "each model has its own lane");
        tokio::time::sleep(lane::TRIAL_MAX).await;
        assert!(is_free(&trials, "smol", &Verdict::Free).await);
        assert!(!first.is_solitary());
        let second = tokio::time::timeout(
            Duration::from_secs(60),
            trials.turn("smol", &Verdict::Suspect, trials.clock.now()),
        )
        .await;
        assert!(second.unwrap().enter(), "beside the first one, after it has held back others in vain");
        drop(first);
        assert!(trials.lanes.lock().unwrap().values().all(|lane| lane.strong_count() == 0));
    }

    /// HTTP-22.
    #[tokio::test(start_paused = true)]
    async fn whoever_is_held_back_goes_when_the_suspect_gives_up() {
        let trials = trials();
        let long = trials.turn("smol", &Verdict::Free, trials.clock.now()).await;
        assert!(long.enter());
        let late = trials.turn("smol", &Verdict::Free, trials.clock.now()).await;
        let mut alone = Box::pin(trials.turn("smol", &Verdict::Alone, trials.clock.now()));
        assert!(tokio::time::timeout(Duration::from_secs(1), &mut alone).await.is_err());
        assert!(!late.enter(), "it was admitted before, and comes again");
        let mut waits = std::pin::pin!(trials.turn("smol", &Verdict::Free, trials.clock.now()));
        assert!(tokio::time::timeout(Duration::from_secs(1), &mut waits).await.is_err());
        drop(alone);
        assert!(waits.await.enter());
    }
}
