//! The order in which requests for one model go to its engines, where some are suspected.
//!
//! Plain decider. HTTP-22: a suspect is tried alone, so that a death during its trial is its own. It goes
//! before whatever nothing speaks against, and holds that back until the room is empty. Right after a death
//! it is empty, since everybody was thrown out. Where it does not empty, because long answers go on in it,
//! one suspect at a time goes beside them. All trials of a crowd together, and all that others are held back
//! for them, have a limit. Owns who goes when. Refuses to decide who is suspected (`suspects.rs`), and to
//! wait (`trial.rs`).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use arw_kit::moment::Moment;

/// A request's place, as long as it waits or is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct PlaceId(u64);

/// What goes for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing speaks against it.
    Free,
    /// It is tried alone where that can be had soon, else beside those that are there.
    Suspect,
    /// It goes alone or not at all.
    Alone,
}

/// How long those that nothing speaks against are held back at a time.
const HOLD: Duration = Duration::from_secs(10);
/// After a hold that was in vain, so long nobody is held back.
const HOLD_PAUSE: Duration = Duration::from_secs(60);
/// What kills an engine does so when it is read, or soon after.
pub(crate) const TRIAL_MAX: Duration = Duration::from_secs(10);
/// Short prompts are read by then.
const TRIAL_MIN: Duration = Duration::from_millis(100);
/// All that wait for a trial have it within half of a request's usual wait for an engine.
const TRIALS_IN_ALL: Duration = Duration::from_secs(60);
/// How long a crowd of suspects holds others back besides its trials.
const HOLDS_IN_ALL: Duration = Duration::from_secs(30);
/// Whoever has been admitted has an engine by then, or is waited for no longer.
const RESERVED_MAX: Duration = Duration::from_secs(10);
/// Those that nothing speaks against wait no longer for suspects, however many come.
const FREE_WAIT_MAX: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Waiting {
    id: PlaceId,
    kind: Kind,
    since: Moment,
}

/// Who is inside, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stay {
    /// It has been admitted, and has no engine so far.
    Reserved {
        until: Moment,
        is_trial: bool,
    },
    OnTrial,
    Beside,
    /// Its client has left, and its engine may work on it for a moment longer.
    Gone,
}

/// The decider.
#[derive(Debug)]
pub(crate) struct Lane {
    last_id: u64,
    waiting: VecDeque<Waiting>,
    inside: HashMap<PlaceId, Stay>,
    /// It is alone inside, and nobody else gets in.
    solitary: Option<PlaceId>,
    /// Since when others are held back, and until when.
    hold: Option<(Moment, Moment)>,
    hold_not_before: Option<Moment>,
    /// How many suspects waited at most since none did, and how long they may still hold others back.
    crowd: u32,
    hold_left: Duration,
}

impl Default for Lane {
    fn default() -> Self {
        Self {
            last_id: 0,
            waiting: VecDeque::new(),
            inside: HashMap::new(),
            solitary: None,
            hold: None,
            hold_not_before: None,
            crowd: 0,
            hold_left: HOLDS_IN_ALL,
        }
    }
}

impl Lane {
    /// A request that came at `since`. It may go when [`Lane::advance`] names it.
    pub(crate) fn arrive(&mut self, kind: Kind, since: Moment) -> PlaceId {
        self.last_id += 1;
        let id = PlaceId(self.last_id);
        self.waiting.push_back(Waiting { id, kind, since });
        if kind != Kind::Free {
            let suspects = self.waiting.iter().filter(|waiting| waiting.kind != Kind::Free).count();
            self.crowd = self.crowd.max(u32::try_from(suspects).unwrap_or(u32::MAX));
        }
        id
    }

    /// Who may go now. A suspect counts as inside from now on, one that is free only when it has entered.
    pub(crate) fn advance(&mut self, now: Moment) -> Vec<PlaceId> {
        self.lapse(now);
        let mut admitted = Vec::new();
        let has_waited =
            |waiting: &Waiting| waiting.kind == Kind::Free && now.since(waiting.since) >= FREE_WAIT_MAX;
        if self.waiting.iter().any(has_waited) {
            self.admit_free(&mut admitted);
            // So that no suspect closes the way before they have entered.
            let until = now + RESERVED_MAX;
            self.inside.extend(admitted.iter().map(|id| (*id, Stay::Reserved { until, is_trial: false })));
        }
        while let Some(at) = self.next_suspect(now) {
            let Some(Waiting { id, .. }) = self.waiting.remove(at) else { break };
            if self.inside.is_empty() {
                self.solitary = Some(id);
                self.end_hold(now);
            }
            let until = now + RESERVED_MAX;
            self.inside.insert(id, Stay::Reserved { until, is_trial: true });
            admitted.push(id);
        }
        self.admit_free(&mut admitted);
        admitted
    }

    fn admit_free(&mut self, admitted: &mut Vec<PlaceId>) {
        if self.is_closed() {
            return;
        }
        self.waiting.retain(|waiting| {
            let is_free = waiting.kind == Kind::Free;
            admitted.extend(is_free.then_some(waiting.id));
            !is_free
        });
    }

    /// Whoever has no engine yet, as long as it might take one to load, does not keep the others from theirs.
    fn lapse(&mut self, now: Moment) {
        self.inside.retain(|_, stay| !matches!(stay, Stay::Reserved { until, .. } if *until <= now));
        self.solitary = self.solitary.filter(|id| self.inside.contains_key(id));
    }

    /// Which of those that wait goes now, of the suspects. Begins and ends holds.
    fn next_suspect(&mut self, now: Moment) -> Option<usize> {
        if self.solitary.is_some() {
            return None;
        }
        let Some(first) = self.waiting.iter().position(|waiting| waiting.kind != Kind::Free) else {
            self.end_hold(now);
            (self.crowd, self.hold_left) = (0, HOLDS_IN_ALL);
            return None;
        };
        if self.inside.is_empty() {
            return Some(first);
        }
        match self.hold {
            Some((_, ends)) if now < ends => return None,
            Some(_) => {
                self.end_hold(now);
                self.hold_not_before = Some(now + HOLD_PAUSE);
            }
            None if self.hold_not_before.is_none_or(|at| at <= now) && !self.hold_left.is_zero() => {
                self.hold = Some((now, now + HOLD.min(self.trial_length()).min(self.hold_left)));
                return None;
            }
            None => {}
        }
        let is_on_trial = |stay: &Stay| matches!(stay, Stay::OnTrial | Stay::Reserved { is_trial: true, .. });
        let is_one_on_trial = self.inside.values().any(is_on_trial);
        let beside = self.waiting.iter().position(|waiting| waiting.kind == Kind::Suspect);
        beside.filter(|_| !is_one_on_trial)
    }

    fn end_hold(&mut self, now: Moment) {
        if let Some((began, _)) = self.hold.take() {
            self.hold_left = self.hold_left.saturating_sub(now.since(began));
        }
    }

    /// Nobody may enter that nothing speaks against.
    fn is_closed(&self) -> bool {
        self.solitary.is_some() || self.hold.is_some()
    }

    /// Who has been admitted is about to be sent. False: the way was closed since then, or it took too long
    /// to come so far; it has to come again.
    pub(crate) fn enter(&mut self, id: PlaceId, kind: Kind) -> bool {
        let stay = match (self.inside.get(&id), kind) {
            (Some(_), Kind::Suspect | Kind::Alone) => Stay::OnTrial,
            (Some(_), Kind::Free) => Stay::Beside,
            (None, Kind::Free) if !self.is_closed() => Stay::Beside,
            (None, _) => return false,
        };
        self.inside.insert(id, stay);
        true
    }

    /// Nobody else is inside because of it.
    pub(crate) fn is_solitary(&self, id: PlaceId) -> bool {
        self.solitary == Some(id)
    }

    /// Another one is inside whose client has left: nobody counts it as in flight.
    pub(crate) fn has_gone_others(&self, id: PlaceId) -> bool {
        self.inside.iter().any(|(other, stay)| *other != id && *stay == Stay::Gone)
    }

    /// How long a trial that begins now may keep others out; `None`: it keeps out nobody.
    pub(crate) fn trial(&self, id: PlaceId) -> Option<Duration> {
        (self.inside.get(&id) == Some(&Stay::OnTrial)).then(|| self.trial_length())
    }

    fn trial_length(&self) -> Duration {
        (TRIALS_IN_ALL / self.crowd.max(1)).clamp(TRIAL_MIN, TRIAL_MAX)
    }

    /// Its trial is over; it stays inside.
    pub(crate) fn make_way(&mut self, id: PlaceId) {
        if let Some(stay @ Stay::OnTrial) = self.inside.get_mut(&id) {
            *stay = Stay::Beside;
        }
        self.solitary = self.solitary.filter(|solitary| *solitary != id);
    }

    /// Its client has left; it leaves soon.
    pub(crate) fn go(&mut self, id: PlaceId) {
        if let Some(stay) = self.inside.get_mut(&id) {
            *stay = Stay::Gone;
        }
    }

    /// It is done, or does not wait any longer.
    pub(crate) fn leave(&mut self, id: PlaceId) {
        self.inside.remove(&id);
        self.solitary = self.solitary.filter(|solitary| *solitary != id);
        self.waiting.retain(|waiting| waiting.id != id);
    }

    /// When [`Lane::advance`] has something to say though nobody has come or gone.
    pub(crate) fn due(&self) -> Option<Moment> {
        let reserved = self.inside.values().filter_map(|stay| match stay {
            Stay::Reserved { until, .. } => Some(*until),
            Stay::OnTrial | Stay::Beside | Stay::Gone => None,
        });
        let has_suspects = self.waiting.iter().any(|waiting| waiting.kind != Kind::Free);
        let hold = self.hold.map(|(_, ends)| ends);
        let next_hold = self.hold_not_before.filter(|_| self.solitary.is_none() && !self.hold_left.is_zero());
        let next = hold.or(next_hold).filter(|_| has_suspects);
        reserved.chain(next).min().filter(|_| !self.waiting.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(millis)
    }

    fn enters(lane: &mut Lane, kind: Kind, now: Moment) -> Option<PlaceId> {
        let id = lane.arrive(kind, now);
        (lane.advance(now).contains(&id) && lane.enter(id, kind)).then_some(id)
    }

    #[test]
    fn those_that_nothing_speaks_against_go_as_they_come() {
        let mut lane = Lane::default();
        for _ in 0..3 {
            enters(&mut lane, Kind::Free, at(0)).unwrap();
        }
        assert_eq!((lane.due(), lane.inside.len()), (None, 3));
    }

    #[test]
    fn suspects_go_before_others_alone_and_one_after_another() {
        let mut lane = Lane::default();
        let admitted = lane.arrive(Kind::Free, at(0));
        assert_eq!(lane.advance(at(0)), [admitted]);
        let (first, second) = (lane.arrive(Kind::Suspect, at(0)), lane.arrive(Kind::Alone, at(0)));
        let late = lane.arrive(Kind::Free, at(0));
        assert_eq!(lane.advance(at(0)), [first], "who has not entered is in nobody's way");
        assert!(!lane.enter(admitted, Kind::Free), "it has to come again");
        assert!(lane.is_solitary(first) && lane.enter(first, Kind::Suspect));
        assert_eq!(lane.advance(at(9_000)), []);
        lane.leave(first);
        assert_eq!(lane.advance(at(9_000)), [second]);
        lane.leave(second);
        assert_eq!(lane.advance(at(9_000)), [late]);
        assert!(lane.enter(late, Kind::Free));
    }

    #[test]
    fn a_trial_that_is_over_lets_others_in_and_the_next_one_waits_for_its_answer() {
        let mut lane = Lane::default();
        let first = enters(&mut lane, Kind::Suspect, at(0)).unwrap();
        assert_eq!(lane.trial(first), Some(TRIAL_MAX));
        let (second, free) = (lane.arrive(Kind::Suspect, at(0)), lane.arrive(Kind::Free, at(0)));
        lane.make_way(first);
        assert_eq!(lane.advance(at(10_000)), [], "it holds the free one back");
        assert_eq!(lane.due(), Some(at(20_000)));
        assert_eq!(lane.advance(at(20_000)), [second, free]);
        assert!(!lane.is_solitary(second), "it goes beside the first one's long answer");
        let third = lane.arrive(Kind::Suspect, at(0));
        assert_eq!(lane.advance(at(21_000)), [], "one goes at a time");
        assert!(enters(&mut lane, Kind::Free, at(21_000)).is_some(), "nobody is held back again so soon");
        lane.leave(second);
        assert_eq!(lane.advance(at(22_000)), [third]);
    }

    #[test]
    fn who_has_to_go_alone_never_goes_beside_others_and_holds_them_back_now_and_then() {
        let mut lane = Lane::default();
        let long = enters(&mut lane, Kind::Free, at(0)).unwrap();
        let alone = lane.arrive(Kind::Alone, at(0));
        assert_eq!(lane.advance(at(0)), []);
        assert_eq!(lane.due(), Some(at(10_000)));
        assert!(enters(&mut lane, Kind::Free, at(9_999)).is_none());
        assert_eq!(lane.advance(at(10_000)).len(), 1, "the free one");
        assert_eq!(lane.due(), Some(at(70_000)));
        assert_eq!(lane.advance(at(70_000)), []);
        assert!(lane.is_closed());
        lane.leave(long);
        assert_eq!(lane.advance(at(71_000)), [alone]);
        assert!(lane.is_solitary(alone));
    }

    #[test]
    fn who_does_not_wait_any_longer_holds_nobody_back() {
        let mut lane = Lane::default();
        enters(&mut lane, Kind::Free, at(0)).unwrap();
        let (suspect, free) = (lane.arrive(Kind::Suspect, at(0)), lane.arrive(Kind::Free, at(0)));
        assert_eq!(lane.advance(at(0)), []);
        lane.leave(suspect);
        assert_eq!(lane.advance(at(1)), [free]);
        assert_eq!(lane.due(), None);
    }
}
