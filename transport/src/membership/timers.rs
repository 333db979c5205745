//! What is due when.
//!
//! Owns the order of timers: by deadline, then as foca wants them, then as they were set. Refuses to know
//! what they do.

use std::collections::{BTreeMap, BTreeSet};

use arw_kit::moment::Moment;
use foca::Timer;

use super::identity::MemberIdentity;
use crate::identity::NodeId;

/// What a timer is for. The order of the variants is the order at one deadline.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Due {
    /// A step of the protocol. foca orders its timers itself; an unordered one would fail a probe that was
    /// answered.
    Protocol(Timer<MemberIdentity>),
    /// Repeat an announcement, unless it is of an older attempt.
    Announce(NodeId, u64),
    /// See whether our new identity was accepted, unless it is of an older attempt.
    Settle(u64),
    /// Tell a suspect again that it is one.
    Accuse(NodeId),
    /// Ask a member again that others suspect, if it is still under that suspicion.
    Ask(NodeId, (u64, u32), u16),
    /// Judge a member whose connection was lost, if it is still under that suspicion: in that incarnation and
    /// renewal, and life.
    Judge(NodeId, (u64, u32), u16),
    /// Pass news on.
    Gossip,
    /// Ask a member whom it knows, unless it is of an older attempt.
    Repair(u64),
    /// Look for members that are down.
    Seek,
}

type Key = (Moment, Due, u64);

/// All timers. Bounded: the protocol has a handful at a time, and one per member that is down.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BTreeSet<Key>,
    /// The one removal that counts per node: a node that flaps would leave one per life.
    removals: BTreeMap<NodeId, Key>,
    set: u64,
}

impl Timers {
    pub(super) fn set(&mut self, deadline: Moment, due: Due) {
        self.set += 1;
        let removes = match &due {
            Due::Protocol(Timer::RemoveDown(member)) => Some(member.id),
            Due::Protocol(_)
            | Due::Announce(..)
            | Due::Settle(_)
            | Due::Accuse(_)
            | Due::Ask(..)
            | Due::Judge(..)
            | Due::Gossip
            | Due::Repair(_)
            | Due::Seek => None,
        };
        let key = (deadline, due, self.set);
        if let Some(node) = removes
            && let Some(older) = self.removals.insert(node, key.clone())
        {
            self.queue.remove(&older);
        }
        self.queue.insert(key);
    }

    pub(super) fn next_deadline(&self) -> Option<Moment> {
        self.queue.first().map(|(deadline, _, _)| *deadline)
    }

    /// The next timer with a deadline up to `now`, with that deadline.
    pub(super) fn pop(&mut self, now: Moment) -> Option<(Moment, Due)> {
        if self.next_deadline()? > now {
            return None;
        }
        let (deadline, due, number) = self.queue.pop_first()?;
        if let Due::Protocol(Timer::RemoveDown(member)) = &due
            && self.removals.get(&member.id).is_some_and(|key| key.2 == number)
        {
            self.removals.remove(&member.id);
        }
        Some((deadline, due))
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.removals.clear();
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Moment {
        Moment::from_nanos(nanos)
    }

    fn member(incarnation: u64) -> MemberIdentity {
        MemberIdentity::new(NodeId::from_bytes([1; 32]), "127.0.0.1:1".parse().unwrap(), incarnation)
    }

    #[test]
    fn timers_run_by_deadline_then_as_the_protocol_wants_then_as_set() {
        let mut timers = Timers::default();
        let probe = Timer::ProbeRandomMember(0);
        let indirect = Timer::SendIndirectProbe { probed_id: member(1), token: 0 };
        timers.set(at(2), Due::Seek);
        timers.set(at(2), Due::Protocol(probe.clone()));
        timers.set(at(2), Due::Protocol(indirect.clone()));
        timers.set(at(2), Due::Settle(1));
        timers.set(at(1), Due::Announce(member(1).id, 1));
        timers.set(at(9), Due::Seek);
        let order: Vec<Due> = std::iter::from_fn(|| timers.pop(at(2))).map(|(_, due)| due).collect();
        let wanted = [
            Due::Announce(member(1).id, 1),
            Due::Protocol(indirect),
            Due::Protocol(probe),
            Due::Settle(1),
            Due::Seek,
        ];
        assert_eq!(order, wanted);
        assert_eq!(timers.next_deadline(), Some(at(9)));
    }

    #[test]
    fn a_node_that_flaps_has_one_removal() {
        let mut timers = Timers::default();
        for incarnation in 1..=50 {
            timers.set(at(incarnation), Due::Protocol(Timer::RemoveDown(member(incarnation))));
        }
        assert_eq!(timers.len(), 1);
        assert_eq!(timers.pop(at(50)), Some((at(50), Due::Protocol(Timer::RemoveDown(member(50))))));
        assert_eq!(timers.len(), 0);
    }
}
