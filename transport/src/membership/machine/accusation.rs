//! Suspicion beyond foca: how a suspect learns that it is one, and suspicion of those whose connection was
//! lost.
//!
//! foca leaves the first to gossip, which in a small cluster can spend itself on everybody but the suspect,
//! and it knows nothing of connections. Owns the datagrams to suspects and the verdicts on suspicions that
//! foca did not begin.

use std::sync::Arc;

use arw_kit::moment::Moment;
use bytes::BufMut;
use foca::{Codec, Header, Member, Message, State};

use super::Membership;
use crate::identity::NodeId;
use crate::membership::config::{
    ACCUSE_PERIOD, ASK_PERIOD, DOUBT_TO_DOWN, INDIRECT_PROBES, PACKET_BYTES_MAX, SUSPECT_TO_DOWN,
};
use crate::membership::event::DownReason;
use crate::membership::hearsay::Doubt;
use crate::membership::identity::MemberIdentity;
use crate::membership::packet::PacketCodec;
use crate::membership::timers::Due;

/// A question to a member whose life others doubt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// Which identity of it, and which life.
    suspicion: ((u64, u32), u16),
    at: Moment,
    /// It is said to be down.
    is_judged: bool,
}

impl Membership {
    /// The last connection with `peer` is gone, and this node did not want that. Nothing is announced to it
    /// any more.
    ///
    /// MEMBER-17: a lost connection is evidence, no proof: a member is suspected, and down only if it does
    /// not speak up, to whomever. That way a node also finds out what gossip failed to tell it.
    pub fn on_peer_disconnected(&mut self, now: Moment, peer: NodeId) {
        self.contacts.gone(&peer);
        let found = self.foca.iter_members().find(|member| member.id().id == peer);
        let Some((identity, life)) = found.map(|member| (*member.id(), member.incarnation())) else { return };
        if self.has_left {
            return;
        }
        self.outbox.begin(now, DownReason::Unreachable);
        self.say(Member::new(identity, life, State::Suspect));
        self.outbox.in_question.push(peer);
        self.outbox.accused.push(peer);
        self.outbox.timers.set(now + SUSPECT_TO_DOWN, Due::Judge(peer, identity.version(), life));
        self.conclude(now);
    }

    /// MEMBER-25: others doubt members with which this node has a connection. It asks each of them once, and
    /// who is said to be down is so when it has had time to answer.
    pub(super) fn ask_doubted(&mut self, now: Moment, doubts: &[Doubt]) {
        for doubt in doubts {
            let peer = doubt.member;
            let found = self.foca.iter_members().find(|member| member.id().id == peer);
            let Some(suspect) = found.filter(|member| member.state() == State::Suspect).cloned() else {
                continue;
            };
            let suspicion = (suspect.id().version(), suspect.incarnation());
            let mut asked = self.asked.get(&peer).copied().filter(|asked| asked.suspicion == suspicion);
            if asked.is_none() {
                self.outbox.counters.doubts_asked += 1;
                self.tell_suspect(peer);
                let (version, life) = suspicion;
                self.outbox.timers.set(now + ASK_PERIOD, Due::Ask(peer, version, life));
            }
            let asked = asked.get_or_insert(Asked { suspicion, at: now, is_judged: false });
            if doubt.is_down && !asked.is_judged {
                asked.is_judged = true;
                let (version, life) = suspicion;
                let until = asked.at + DOUBT_TO_DOWN;
                self.outbox.accused.push(peer);
                self.pass_on(&Member::new(*suspect.id(), life, State::Down));
                // Not at once: its answer may have arrived, and wait to be read.
                self.outbox.timers.set(until.max(now), Due::Judge(peer, version, life));
            }
            let asked = *asked;
            self.asked.insert(peer, asked);
        }
    }

    /// MEMBER-25: whoever suspected it may be gone without a verdict, and the question may have been lost.
    pub(super) fn ask_again(&mut self, now: Moment, peer: NodeId, suspicion: ((u64, u32), u16)) {
        let found = self.foca.iter_members().find(|member| member.id().id == peer);
        let is_suspected = found.is_some_and(|member| {
            member.state() == State::Suspect && (member.id().version(), member.incarnation()) == suspicion
        });
        if is_suspected && self.hearsay.is_connected(&peer) {
            self.tell_suspect(peer);
            let (version, life) = suspicion;
            self.outbox.timers.set(now + ASK_PERIOD, Due::Ask(peer, version, life));
        }
    }

    /// Others ask at the same time as this node, not one after the other.
    fn pass_on(&mut self, doubt: &Member<MemberIdentity>) {
        let subject = doubt.id().id;
        let mut others = self.nodes_with(|state| state == State::Alive);
        others.retain(|node| *node != subject);
        for _ in 0..INDIRECT_PROBES.min(others.len()) {
            let chosen = self.contacts.random(others.len());
            let to = others.swap_remove(chosen);
            let Some(member) = self.foca.iter_members().find(|member| member.id().id == to) else { continue };
            match self.saying(*member.id(), Message::Gossip, doubt) {
                Some(bytes) => self.outbox.send(to, &bytes),
                None => self.outbox.counters.faults += 1,
            }
        }
    }

    /// The verdict on a suspicion of this node's own. foca's have timers of their own.
    pub(super) fn judge(&mut self, now: Moment, deadline: Moment, suspicion: (NodeId, (u64, u32), u16)) {
        let (peer, version, life) = suspicion;
        // MEMBER-5, as for foca's verdicts.
        let found = self.foca.iter_membership_state().find(|member| {
            member.id().id == peer
                && member.id().version() == version
                && member.state() == State::Suspect
                && member.incarnation() == life
        });
        let Some(suspect) = found.map(|member| *member.id()) else {
            self.outbox.counters.verdicts_void += 1;
            return;
        };
        if self.postpones(now, deadline) {
            self.outbox.timers.set(now + SUSPECT_TO_DOWN, Due::Judge(peer, version, life));
            return;
        }
        self.say(Member::new(suspect, life, State::Down));
    }

    /// Takes in a piece of news of this node's own, and passes it on.
    pub(super) fn say(&mut self, news: Member<MemberIdentity>) {
        if self.foca.apply_many(std::iter::once(news), true, &mut self.outbox).is_err() {
            self.outbox.counters.faults += 1;
        }
    }

    /// Tells those whom this node has just begun to suspect.
    pub(super) fn begin_accusations(&mut self, now: Moment) {
        for suspect in std::mem::take(&mut self.outbox.accused) {
            // A suspect that is probed in vain again is being told already.
            if self.accusing.insert(suspect) {
                self.accuse(now, suspect);
            }
        }
    }

    /// MEMBER-16: until its suspicion has ended, the one who will judge a suspect tells it so, and asks for
    /// an answer. The answer refutes the suspicion where it counts. However late this node runs, the suspect
    /// hears it as often.
    pub(super) fn accuse(&mut self, now: Moment, suspect: NodeId) {
        if self.tell_suspect(suspect) {
            self.outbox.timers.set(now + ACCUSE_PERIOD, Due::Accuse(suspect));
        } else {
            self.accusing.remove(&suspect);
        }
    }

    /// Tells `suspect` that this node will judge it; `false` when it is none.
    pub(super) fn tell_suspect(&mut self, suspect: NodeId) -> bool {
        let found = self.foca.iter_membership_state().find(|member| member.id().id == suspect);
        let Some(suspicion) = found.filter(|member| member.state() == State::Suspect).cloned() else {
            return false;
        };
        match self.accusation(&suspicion) {
            Some(bytes) => self.outbox.send(suspect, &bytes),
            None => self.outbox.counters.faults += 1,
        }
        true
    }

    /// A probe that carries the suspicion. Its number is no matter: an answer to it proves life, whichever
    /// probe it is taken for.
    fn accusation(&self, suspicion: &Member<MemberIdentity>) -> Option<Vec<u8>> {
        self.saying(*suspicion.id(), Message::Ping(0), suspicion)
    }

    /// A datagram that says one thing.
    fn saying(
        &self,
        dst: MemberIdentity,
        message: Message<MemberIdentity>,
        what: &Member<MemberIdentity>,
    ) -> Option<Vec<u8>> {
        let header =
            Header { src: *self.foca.identity(), src_incarnation: self.outbox.own_life(), dst, message };
        let mut bytes = Vec::with_capacity(PACKET_BYTES_MAX);
        let mut codec = PacketCodec { records: Arc::clone(&self.records) };
        codec.encode_header(&header, &mut bytes).ok()?;
        bytes.put_u16(1);
        codec.encode_member(what, &mut bytes).ok()?;
        Some(bytes)
    }
}
