//! Tells that came for actors which had no room.
//!
//! Owns what of one connection waits for its actor, in order, and what was taken and has not been told to who
//! sent it. Plain code, bounded by what LANE-17 lets a node send ahead; refuses to deliver.

use std::collections::{HashMap, VecDeque};

use crate::frame::{Address, TargetActor, Trace};
use crate::lanes::Tells;

/// What waits of one connection, and what is owed.
#[derive(Debug, Default)]
pub(super) struct Parking {
    parked: HashMap<TargetActor, Parked>,
    owed: HashMap<TargetActor, Tells>,
}

#[derive(Debug, Default)]
struct Parked {
    tells: VecDeque<ParkedTell>,
    held: Tells,
}

/// A tell that waits.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ParkedTell {
    pub(super) to: Address,
    pub(super) trace: Option<Trace>,
    pub(super) body: Box<[u8]>,
}

/// Actors of which little is owed. When there are more all is told, which makes both sides forget them:
/// actors come and go on a connection that stays.
const OWED_MAX: usize = 1_024;

/// What became of a tell for an actor without room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parks {
    /// It waits, and nobody sees to it yet.
    First,
    /// It waits behind others.
    Behind,
    /// The other node has sent more than it may.
    TooMany,
}

impl Parking {
    /// Something waits for this actor: what comes now comes after it.
    pub(super) fn holds(&self, actor: TargetActor) -> bool {
        self.parked.contains_key(&actor)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }

    pub(super) fn park(&mut self, tell: ParkedTell) -> Parks {
        let is_first = !self.holds(tell.to.actor);
        let parked = self.parked.entry(tell.to.actor).or_default();
        // LANE-17
        if parked.held.is_full() {
            return Parks::TooMany;
        }
        parked.held.add(Tells { count: 1, bytes: tell.body.len() });
        parked.tells.push_back(tell);
        if is_first { Parks::First } else { Parks::Behind }
    }

    /// The tell that has waited longest for this actor. What comes meanwhile still comes after it, until
    /// [`Parking::is_done`].
    pub(super) fn take_first(&mut self, actor: TargetActor) -> Option<ParkedTell> {
        let parked = self.parked.get_mut(&actor)?;
        let tell = parked.tells.pop_front()?;
        parked.held.count -= 1;
        parked.held.bytes -= tell.body.len();
        Some(tell)
    }

    /// It has to wait on.
    pub(super) fn put_back(&mut self, tell: ParkedTell) {
        let parked = self.parked.entry(tell.to.actor).or_default();
        parked.held.add(Tells { count: 1, bytes: tell.body.len() });
        parked.tells.push_front(tell);
    }

    /// Nothing waits for this actor any more.
    pub(super) fn is_done(&mut self, actor: TargetActor) -> bool {
        let is_done = self.parked.get(&actor).is_none_or(|parked| parked.tells.is_empty());
        if is_done {
            self.parked.remove(&actor);
        }
        is_done
    }

    /// Nobody sees to what waits for this actor. Returns what is lost.
    pub(super) fn forget(&mut self, actor: TargetActor) -> Tells {
        self.parked.remove(&actor).map(|parked| parked.held).unwrap_or_default()
    }

    /// So much was taken, or lost, of what was sent to this actor. Returns what is to be told now.
    pub(super) fn owe(&mut self, actor: TargetActor, taken: Tells) -> Vec<(TargetActor, Tells)> {
        let owed = self.owed.entry(actor).or_default();
        owed.add(taken);
        if owed.is_worth_telling() {
            return self.owed.remove_entry(&actor).into_iter().collect();
        }
        if self.owed.len() > OWED_MAX {
            return self.owed.drain().collect();
        }
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::MessageType;
    use crate::lanes::{TELL_BYTES_MAX, TELLS_MAX};

    const ACTOR: TargetActor = TargetActor(1);

    fn tell(number: u8, bytes: usize) -> ParkedTell {
        let to = Address { actor: ACTOR, message: MessageType(1) };
        ParkedTell { to, trace: None, body: vec![number; bytes].into() }
    }

    #[test]
    fn what_is_parked_comes_out_in_order_and_leaves_nothing_behind() {
        let mut parking = Parking::default();
        assert_eq!(parking.park(tell(0, 10)), Parks::First);
        assert_eq!(parking.park(tell(1, 20)), Parks::Behind);
        assert!(parking.holds(ACTOR) && !parking.holds(TargetActor(2)));
        assert_eq!(parking.take_first(ACTOR), Some(tell(0, 10)));
        parking.put_back(tell(0, 10));
        assert_eq!(parking.take_first(ACTOR), Some(tell(0, 10)));
        assert!(!parking.is_done(ACTOR));
        assert_eq!(parking.take_first(ACTOR), Some(tell(1, 20)));
        assert!(parking.holds(ACTOR), "the last one may have to wait on");
        assert!(parking.take_first(ACTOR).is_none() && parking.is_done(ACTOR));
        assert!(parking.is_empty());
        assert_eq!(parking.park(tell(2, 10)), Parks::First);
        assert_eq!(parking.forget(ACTOR), Tells { count: 1, bytes: 10 });
        assert!(parking.is_empty() && parking.is_done(ACTOR));
    }

    #[test]
    fn lane_17_a_node_that_sends_more_than_it_may_takes_no_more_memory() {
        // LANE-17
        let mut parking = Parking::default();
        let parks = (0..=TELLS_MAX).filter(|_| parking.park(tell(0, 1)) != Parks::TooMany).count();
        assert_eq!(parks, TELLS_MAX as usize);
        let mut parking = Parking::default();
        parking.park(tell(0, TELL_BYTES_MAX));
        assert_eq!(parking.park(tell(0, 1)), Parks::TooMany);
    }

    #[test]
    fn what_was_taken_is_told_once_and_soon_enough() {
        let mut parking = Parking::default();
        let one = Tells { count: 1, bytes: 10 };
        let told: Vec<_> = (0..TELLS_MAX).flat_map(|_| parking.owe(ACTOR, one)).collect();
        let quarter = Tells { count: TELLS_MAX / 4, bytes: 10 * (TELLS_MAX / 4) as usize };
        assert_eq!(told, [(ACTOR, quarter); 4]);
        assert_eq!(parking.owe(ACTOR, Tells { count: 1, bytes: TELL_BYTES_MAX / 4 - 1 }), []);
        let rest = Tells { count: 2, bytes: TELL_BYTES_MAX / 4 };
        assert_eq!(parking.owe(ACTOR, Tells { count: 1, bytes: 1 }), [(ACTOR, rest)]);
        assert!(parking.owed.is_empty());
        let mut told: Vec<_> = (0..=1_024).flat_map(|actor| parking.owe(TargetActor(actor), one)).collect();
        told.sort_by_key(|(actor, _)| *actor);
        assert_eq!(told, (0..=1_024).map(|actor| (TargetActor(actor), one)).collect::<Vec<_>>());
        assert!(parking.owed.is_empty(), "however many actors there were");
    }
}
