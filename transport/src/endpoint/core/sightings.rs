//! What follows from what membership says of others.
//!
//! Owns whom this node wants a connection with, and whose word ends. Refuses to judge members.

use arw_kit::moment::Moment;

use super::Core;
use super::hearsay::is_dialable;
use crate::endpoint::dial_schedule::Sighting;
use crate::endpoint::events::EndpointEvent;
use crate::membership::{DownReason, MemberIdentity, ViewChange};

impl Core {
    /// WIRE-17: whom membership knows is dialed, until it has left or is forgotten.
    pub(super) fn follow(&mut self, now: Moment, changes: Vec<ViewChange>) {
        for change in changes {
            match &change {
                ViewChange::Joined { member }
                | ViewChange::Returned { member, .. }
                | ViewChange::Moved { member, .. } => self.want_member(now, member),
                ViewChange::Restarted { after, .. } => {
                    self.want_member(now, after);
                    let held = self.sessions.get(&after.id);
                    // WIRE-23: if it is true nobody answers at the other end, or the new start says hello.
                    if held.is_some_and(|held| held.peer.incarnation < after.incarnation) {
                        self.doubt(now, after.id);
                    }
                }
                ViewChange::WentDown { member, reason: DownReason::Left } => {
                    self.schedule.unwant(member.id);
                    self.forget_teller(member.id);
                }
                // The issuer knows everybody: who was away for longer than others remember comes back by it.
                ViewChange::Forgotten { member, .. }
                    if !self.sessions.contains_key(&member.id) && self.renewed_by != Some(member.id) =>
                {
                    self.schedule.unwant(member.id);
                    self.forget_teller(member.id);
                }
                ViewChange::Suspected { member } | ViewChange::WentDown { member, .. } => {
                    self.doubt(now, member.id);
                }
                ViewChange::Forgotten { .. } | ViewChange::Cleared { .. } | ViewChange::Refused { .. } => {}
            }
            self.events.push(EndpointEvent::Membership(change));
        }
    }

    pub(super) fn want_member(&mut self, now: Moment, member: &MemberIdentity) {
        self.want_node(now, member, false);
    }

    /// `is_introduced`: only others speak of it (MEMBER-24).
    pub(super) fn want_node(&mut self, now: Moment, member: &MemberIdentity, is_introduced: bool) {
        if member.id == self.own || self.is_removed {
            return;
        }
        // It hears of this node too, and of two who dial each other the one with the lower id prevails: the
        // other need not try first.
        let news = if self.own < member.id { Sighting::Here } else { Sighting::HereAndDials };
        // WIRE-17: an address where nobody can be is made up. One that is this node's own is told by machines
        // with Docker, which have one of the same: such a member is up, where it was before.
        let own = self.membership.own().address;
        let is_own = member.address == own || self.own_addresses.contains(&member.address);
        if is_own {
            self.schedule.heard_of(now, member.id, news);
        } else if is_dialable(member.address, own) && is_introduced {
            self.schedule.want_introduced(now, member.id, member.address, news);
        } else if is_dialable(member.address, own) {
            self.schedule.want(now, member.id, member.address, news);
        } else {
            self.counters.addresses_refused += 1;
            return;
        }
        if self.sessions.contains_key(&member.id) {
            self.schedule.connected(now, member.id);
        }
    }
}
