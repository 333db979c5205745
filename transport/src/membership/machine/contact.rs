//! How a node makes itself heard by those who do not know it yet, or no longer.
//!
//! Owns four repetitions that foca lacks: announcing to a new peer, making a renewed identity known, asking
//! whom others know, looking for members that are down. Each is bounded in rate. Refuses to judge members.

use std::collections::BTreeMap;
use std::time::Duration;

use arw_kit::moment::Moment;
use foca::State;
use rand::RngExt;
use rand::rngs::StdRng;

use super::Membership;
use crate::identity::NodeId;
use crate::membership::config::{
    ANNOUNCE_FIRST, ANNOUNCE_MAX, RENEWALS_UNACCEPTED_MAX, REPAIR_FIRST, REPAIR_MAX, SEEK_PERIOD,
    SEEK_TARGETS,
};
use crate::membership::identity::MemberIdentity;
use crate::membership::packet::reference;
use crate::membership::timers::Due;

/// Whom this node is trying to reach.
#[derive(Debug)]
pub(super) struct Contacts {
    chance: StdRng,
    announcing: BTreeMap<NodeId, Repetition>,
    settling: Option<Repetition>,
    repairing: Option<Repetition>,
    is_seeking: bool,
    attempts: u64,
    renewals_unaccepted: u32,
}

/// Something that is repeated, less and less often.
#[derive(Clone, Copy, Debug)]
struct Repetition {
    attempt: u64,
    wait: Duration,
}

impl Contacts {
    pub(super) fn new(chance: StdRng) -> Self {
        Self {
            chance,
            announcing: BTreeMap::new(),
            settling: None,
            repairing: None,
            is_seeking: false,
            attempts: 0,
            renewals_unaccepted: 0,
        }
    }

    /// Somebody spoke to this node under its present identity.
    pub(super) fn accepted(&mut self) {
        self.settling = None;
        self.renewals_unaccepted = 0;
    }

    /// Counts a renewal; true when so many in a row found no ear that more will not help. Said once per such
    /// row.
    pub(super) fn renewed_in_vain(&mut self) -> bool {
        self.renewals_unaccepted = self.renewals_unaccepted.saturating_add(1);
        self.renewals_unaccepted == RENEWALS_UNACCEPTED_MAX
    }

    /// `peer` said whom it knows, which it does for members only.
    pub(super) fn answered(&mut self, peer: &NodeId) {
        self.announcing.remove(peer);
    }

    pub(super) fn gone(&mut self, peer: &NodeId) {
        self.announcing.remove(peer);
    }

    pub(super) fn clear(&mut self) {
        self.announcing.clear();
        self.settling = None;
        self.repairing = None;
    }

    /// One of so many.
    pub(super) fn random(&mut self, count: usize) -> usize {
        self.chance.random_range(0..count)
    }

    fn first(&mut self, wait: Duration) -> Repetition {
        self.attempts += 1;
        Repetition { attempt: self.attempts, wait }
    }

    /// `span`, a quarter more or less: nodes that were cut off together must not come back in step.
    fn jittered(&mut self, span: Duration) -> Duration {
        span * self.chance.random_range(75..=125) / 100
    }
}

impl Repetition {
    fn next(self, wait_max: Duration) -> Self {
        Self { wait: (self.wait * 2).min(wait_max), ..self }
    }
}

impl Membership {
    /// A connection with `peer` is up and it has accepted this node. Unless it is known as a member, this
    /// node announces itself. A suspect is told at once: what it was told before may have gone nowhere.
    pub fn on_peer_connected(&mut self, now: Moment, peer: NodeId) {
        if !self.knows_as_up(peer) {
            self.announce_to(now, peer);
        } else if self.accusing.contains(&peer) {
            self.tell_suspect(peer);
        }
    }

    /// MEMBER-2: tells `peer` that this node is there, and repeats it until `peer` answers or is
    /// disconnected, at most every 2 s. That it is heard of is not enough: its answer says who else is there.
    pub fn announce_to(&mut self, now: Moment, peer: NodeId) {
        if self.has_left || peer == self.own().id {
            return;
        }
        let repetition = self.contacts.first(ANNOUNCE_FIRST);
        self.contacts.announcing.insert(peer, repetition);
        self.announce(peer);
        self.repeat_later(now, Due::Announce(peer, repetition.attempt), repetition.wait);
    }

    pub(super) fn repeat_announcement(&mut self, now: Moment, peer: NodeId, attempt: u64) {
        let Some(repetition) = self.contacts.announcing.get(&peer).filter(|it| it.attempt == attempt) else {
            return;
        };
        let next = repetition.next(ANNOUNCE_MAX);
        self.contacts.announcing.insert(peer, next);
        self.announce(peer);
        self.repeat_later(now, Due::Announce(peer, attempt), next.wait);
    }

    /// MEMBER-11: a renewed identity is told again until somebody has spoken to it. foca tells three members
    /// once; if those datagrams are lost, the cluster probes an identity that no longer answers, and the node
    /// hears nothing.
    pub(super) fn settle(&mut self, now: Moment) {
        let repetition = self.contacts.first(ANNOUNCE_FIRST);
        self.contacts.settling = Some(repetition);
        self.repeat_later(now, Due::Settle(repetition.attempt), repetition.wait);
    }

    pub(super) fn repeat_settling(&mut self, now: Moment, attempt: u64) {
        let Some(repetition) = self.contacts.settling.filter(|it| it.attempt == attempt) else { return };
        let mut targets = self.nodes_with(|state| state != State::Down);
        if targets.is_empty() {
            targets = self.nodes_with(|state| state == State::Down);
        }
        if !targets.is_empty() {
            let chosen = self.contacts.chance.random_range(0..targets.len());
            self.announce(targets[chosen]);
        }
        let next = repetition.next(ANNOUNCE_MAX);
        self.contacts.settling = Some(next);
        self.repeat_later(now, Due::Settle(attempt), next.wait);
    }

    /// MEMBER-18: after a change, whom others know is asked soon and then ever more rarely. Changes in a row
    /// ask no more often.
    pub(super) fn begin_repair(&mut self, now: Moment) {
        if self.contacts.repairing.is_none_or(|repetition| repetition.wait > REPAIR_FIRST) {
            let repetition = self.contacts.first(REPAIR_FIRST);
            self.contacts.repairing = Some(repetition);
            self.repeat_later(now, Due::Repair(repetition.attempt), repetition.wait);
        }
    }

    pub(super) fn repair(&mut self, now: Moment, attempt: u64) {
        let Some(repetition) = self.contacts.repairing.filter(|it| it.attempt == attempt) else { return };
        let members = self.nodes_with(|state| state != State::Down);
        if members.is_empty() {
            self.contacts.repairing = None;
            return;
        }
        let chosen = self.contacts.chance.random_range(0..members.len());
        self.announce(members[chosen]);
        let next = repetition.next(REPAIR_MAX);
        self.contacts.repairing = Some(next);
        self.repeat_later(now, Due::Repair(attempt), next.wait);
    }

    pub(super) fn start_seeking(&mut self, now: Moment) {
        if !self.contacts.is_seeking {
            self.contacts.is_seeking = true;
            self.repeat_later(now, Due::Seek, SEEK_PERIOD);
        }
    }

    /// MEMBER-12: as long as members are down and not forgotten, they are asked whether they are back, also
    /// when nobody else is left. Those who said good-bye are left in peace.
    pub(super) fn seek(&mut self, now: Moment) {
        let mut lost = self.nodes_with(|state| state == State::Down);
        if lost.is_empty() {
            self.contacts.is_seeking = false;
            return;
        }
        for _ in 0..SEEK_TARGETS.min(lost.len()) {
            let chosen = self.contacts.chance.random_range(0..lost.len());
            let peer = lost.swap_remove(chosen);
            self.announce(peer);
        }
        self.repeat_later(now, Due::Seek, SEEK_PERIOD);
    }

    /// The other nodes in a state that `wanted` picks, without those that have left.
    pub(super) fn nodes_with(&self, wanted: impl Fn(State) -> bool) -> Vec<NodeId> {
        let own = self.own().id;
        let is_wanted = |identity: &MemberIdentity| identity.id != own && !identity.has_left();
        self.foca
            .iter_membership_state()
            .filter(|member| wanted(member.state()) && is_wanted(member.id()))
            .map(|member| member.id().id)
            .collect()
    }

    fn knows_as_up(&self, peer: NodeId) -> bool {
        self.foca.iter_members().any(|member| member.id().id == peer)
    }

    fn announce(&mut self, peer: NodeId) {
        // Whatever life of it we know, an announcement reaches the one that it is in.
        if self.foca.announce(reference(peer, 0, 0), &mut self.outbox).is_err() {
            self.outbox.counters.faults += 1;
        }
    }

    fn repeat_later(&mut self, now: Moment, due: Due, wait: Duration) {
        let wait = self.contacts.jittered(wait);
        self.outbox.timers.set(now + wait, due);
    }
}
