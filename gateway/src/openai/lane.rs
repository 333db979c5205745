//! The order in which requests for one model go to its engines, where some are suspected.
//!
//! Plain decider. HTTP-22: a suspect is tried alone, so that a death during its trial is its own. It goes
//! before whatever nothing speaks against, and holds that back until the room is empty, for [`HOLD`] at most.
//! Right after a death it is empty, since everybody was thrown out. Where it does not empty, because long
//! answers go on in it, one suspect at a time goes beside them. Owns who goes when. Refuses to decide who is
//! suspected (`suspects.rs`), and to wait (`trial.rs`).

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use arw_actors::moment::Moment;

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
pub(crate) const HOLD: Duration = Duration::from_secs(10);
/// After a hold that was in vain, so long nobody is held back.
const HOLD_PAUSE: Duration = Duration::from_secs(60);
/// What kills an engine does so when it is read, or soon after.
pub(crate) const TRIAL_MAX: Duration = Duration::from_secs(10);
/// Most prompts are read by then.
const TRIAL_MIN: Duration = Duration::from_millis(250);
/// All that wait for a trial shall have it within a request's usual wait for an engine.
const TRIALS_IN_ALL: Duration = Duration::from_secs(60);

/// The decider.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    last_id: u64,
    waiting: VecDeque<(PlaceId, Kind)>,
    /// Who may be with an engine, and whether on trial.
    inside: HashMap<PlaceId, bool>,
    /// On trial, and alone inside.
    solitary: Option<PlaceId>,
    hold_ends: Option<Moment>,
    hold_not_before: Option<Moment>,
    /// How many suspects waited at most since none did.
    crowd: u32,
}

impl Lane {
    /// A request comes. It may go when [`Lane::advance`] names it.
    pub(crate) fn arrive(&mut self, kind: Kind) -> PlaceId {
        self.last_id += 1;
        let id = PlaceId(self.last_id);
        self.waiting.push_back((id, kind));
        let suspects = self.waiting.iter().filter(|(_, kind)| *kind != Kind::Free).count();
        self.crowd = self.crowd.max(u32::try_from(suspects).unwrap_or(u32::MAX));
        id
    }

    /// Who may go now. A suspect counts as inside from now on, one that is free only when it has entered.
    pub(crate) fn advance(&mut self, now: Moment) -> Vec<PlaceId> {
        let mut admitted = Vec::new();
        while let Some(at) = self.next_suspect(now) {
            let Some((id, _)) = self.waiting.remove(at) else { break };
            if self.inside.is_empty() {
                self.solitary = Some(id);
                self.hold_ends = None;
            }
            self.inside.insert(id, true);
            admitted.push(id);
        }
        if !self.is_closed() {
            admitted.extend(self.waiting.iter().filter(|(_, kind)| *kind == Kind::Free).map(|(id, _)| *id));
            self.waiting.retain(|(_, kind)| *kind != Kind::Free);
        }
        admitted
    }

    /// Which of those that wait goes now, of the suspects. Begins and ends holds.
    fn next_suspect(&mut self, now: Moment) -> Option<usize> {
        if self.solitary.is_some() {
            return None;
        }
        let Some(first) = self.waiting.iter().position(|(_, kind)| *kind != Kind::Free) else {
            self.hold_ends = None;
            self.crowd = 0;
            return None;
        };
        if self.inside.is_empty() {
            return Some(first);
        }
        match self.hold_ends {
            Some(ends) if now < ends => return None,
            Some(_) => {
                self.hold_ends = None;
                self.hold_not_before = Some(now + HOLD_PAUSE);
            }
            None if self.hold_not_before.is_none_or(|at| at <= now) => {
                self.hold_ends = Some(now + HOLD);
                return None;
            }
            None => {}
        }
        let is_one_on_trial = self.inside.values().any(|is_on_trial| *is_on_trial);
        let beside = self.waiting.iter().position(|(_, kind)| *kind == Kind::Suspect);
        beside.filter(|_| !is_one_on_trial)
    }

    /// Nobody may enter that nothing speaks against.
    fn is_closed(&self) -> bool {
        self.solitary.is_some() || self.hold_ends.is_some()
    }

    /// Who has been admitted is about to be sent. False: the way was closed since then, it has to come again.
    pub(crate) fn enter(&mut self, id: PlaceId) -> bool {
        if self.inside.contains_key(&id) {
            return true;
        }
        if self.is_closed() {
            return false;
        }
        self.inside.insert(id, false);
        true
    }

    /// Nobody else is inside because of it.
    pub(crate) fn is_solitary(&self, id: PlaceId) -> bool {
        self.solitary == Some(id)
    }

    /// How long a trial that begins now may keep others out; `None`: it keeps out nobody.
    pub(crate) fn trial(&self, id: PlaceId) -> Option<Duration> {
        if !self.inside.get(&id).is_some_and(|is_on_trial| *is_on_trial) {
            return None;
        }
        Some((TRIALS_IN_ALL / self.crowd.max(1)).clamp(TRIAL_MIN, TRIAL_MAX))
    }

    /// Its trial is over; it stays inside.
    pub(crate) fn make_way(&mut self, id: PlaceId) {
        if let Some(is_on_trial) = self.inside.get_mut(&id) {
            *is_on_trial = false;
        }
        self.solitary = self.solitary.filter(|solitary| *solitary != id);
    }

    /// It is done, or does not wait any longer.
    pub(crate) fn leave(&mut self, id: PlaceId) {
        self.make_way(id);
        self.inside.remove(&id);
        self.waiting.retain(|(waiting, _)| *waiting != id);
    }

    /// When [`Lane::advance`] has something to say though nobody has come or gone.
    pub(crate) fn due(&self) -> Option<Moment> {
        if self.waiting.is_empty() || self.solitary.is_some() {
            return None;
        }
        self.hold_ends.or(self.hold_not_before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Moment {
        Moment::ZERO + Duration::from_millis(millis)
    }

    fn enters(lane: &mut Lane, kind: Kind, now: Moment) -> Option<PlaceId> {
        let id = lane.arrive(kind);
        (lane.advance(now).contains(&id) && lane.enter(id)).then_some(id)
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
        let admitted = lane.arrive(Kind::Free);
        assert_eq!(lane.advance(at(0)), [admitted]);
        let (first, second) = (lane.arrive(Kind::Suspect), lane.arrive(Kind::Alone));
        let late = lane.arrive(Kind::Free);
        assert_eq!(lane.advance(at(0)), [first], "who has not entered is in nobody's way");
        assert!(!lane.enter(admitted), "it has to come again");
        assert!(lane.is_solitary(first) && lane.enter(first));
        assert_eq!(lane.advance(at(9_000)), []);
        lane.leave(first);
        assert_eq!(lane.advance(at(9_000)), [second]);
        lane.leave(second);
        assert_eq!(lane.advance(at(9_000)), [late]);
        assert!(lane.enter(late));
    }

    #[test]
    fn a_trial_that_is_over_lets_others_in_and_the_next_one_waits_for_its_answer() {
        let mut lane = Lane::default();
        let first = enters(&mut lane, Kind::Suspect, at(0)).unwrap();
        assert_eq!(lane.trial(first), Some(TRIAL_MAX));
        let (second, free) = (lane.arrive(Kind::Suspect), lane.arrive(Kind::Free));
        lane.make_way(first);
        assert_eq!(lane.advance(at(10_000)), [], "it holds the free one back");
        assert_eq!(lane.due(), Some(at(20_000)));
        assert_eq!(lane.advance(at(20_000)), [second, free]);
        assert!(!lane.is_solitary(second), "it goes beside the first one's long answer");
        let third = lane.arrive(Kind::Suspect);
        assert_eq!(lane.advance(at(21_000)), [], "one goes at a time");
        assert!(enters(&mut lane, Kind::Free, at(21_000)).is_some(), "nobody is held back again so soon");
        lane.leave(second);
        assert_eq!(lane.advance(at(22_000)), [third]);
    }

    #[test]
    fn who_has_to_go_alone_never_goes_beside_others_and_holds_them_back_now_and_then() {
        let mut lane = Lane::default();
        let long = enters(&mut lane, Kind::Free, at(0)).unwrap();
        let alone = lane.arrive(Kind::Alone);
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
        let (suspect, free) = (lane.arrive(Kind::Suspect), lane.arrive(Kind::Free));
        assert_eq!(lane.advance(at(0)), []);
        lane.leave(suspect);
        assert_eq!(lane.advance(at(1)), [free]);
        assert_eq!(lane.due(), None);
    }

    /// A server that ARW does not run may have hundreds in flight when it goes away.
    #[test]
    fn the_trials_of_many_take_a_minute_or_so_in_all() {
        let mut lane = Lane::default();
        let mut waiting: Vec<PlaceId> = (0..200).map(|_| lane.arrive(Kind::Suspect)).collect();
        let mut in_all = Duration::ZERO;
        while !waiting.is_empty() {
            for id in lane.advance(Moment::ZERO + in_all) {
                in_all += lane.trial(id).unwrap();
                waiting.retain(|other| *other != id);
                lane.leave(id);
            }
        }
        assert!(in_all <= Duration::from_secs(70), "{in_all:?}");
    }
}
