//! The state machine of membership.
//!
//! Owns foca, its timers, and what foca lacks: who may say what, verdicts that a stall or a refutation made
//! void, contact with nodes that do not know us yet or no longer. Refuses to know sockets, connections,
//! clocks and where randomness comes from.

mod accusation;
mod contact;
mod snapshot;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::sync::Arc;

use arw_kit::moment::Moment;
use foca::{Foca, Member, Message, NoCustomBroadcast, State, Timer};
use parking_lot::Mutex;
use rand::SeedableRng;
use rand::rngs::StdRng;

use self::accusation::Asked;
use self::contact::Contacts;
use super::config::{
    MembershipConfig, REFUTE_PERIOD, RENEWAL_PERIOD, STALL, SUSPECT_TO_DOWN, protocol, transmissions,
};
use super::event::{DownReason, MembershipCounters, MembershipEvent, MembershipOutput};
use super::hearsay::{self, Hearsay, Judged};
use super::identity::MemberIdentity;
use super::outbox::Outbox;
use super::packet::{DatagramError, Packet, PacketCodec, judged};
use super::record::{Forged, RecordKey, Records, Standing};
use super::suspicion::Suspicions;
use super::timers::Due;
use crate::identity::NodeId;

/// This node's part in the membership protocol.
///
/// After each call drain [`Membership::poll_output`]. When the driver wakes up late, it hands over all
/// datagrams that have arrived before it calls [`Membership::on_timer`]: answers that came in time must
/// count.
///
/// ```
/// use std::sync::Arc;
/// use arw_kit::moment::Moment;
/// use arw_transport::certificate::ClusterId;
/// use arw_transport::identity::NodeKey;
/// use arw_transport::membership::{
///     MemberIdentity, Membership, MembershipConfig, MembershipEvent, MembershipOutput, RecordKey,
/// };
///
/// let cluster = ClusterId::from_bytes([7; 16]);
/// let node = |byte| {
///     let key = Arc::new(NodeKey::from_seed(&[byte; 32]).unwrap());
///     let own = MemberIdentity::new(key.id(), ([127, 0, 0, 1], 7000).into(), 1);
///     Membership::new(own, RecordKey::new(key, cluster), MembershipConfig::default(), [byte; 32])
/// };
/// let (mut one, mut two) = (node(1), node(2));
/// let now = Moment::ZERO;
/// two.on_peer_connected(now, one.own().id);
/// let Some(MembershipOutput::Datagram { bytes, .. }) = two.poll_output() else { panic!("it announces itself") };
/// one.on_datagram(now, two.own().id, &bytes).unwrap();
/// let Some(MembershipOutput::Event(MembershipEvent::MemberUp { member })) = one.poll_output() else { panic!("it is heard") };
/// assert_eq!(member.id, two.own().id);
/// ```
pub struct Membership {
    foca: Foca<MemberIdentity, PacketCodec, StdRng, NoCustomBroadcast>,
    outbox: Outbox,
    config: MembershipConfig,
    transmissions: NonZeroU8,
    suspicions: Suspicions,
    contacts: Contacts,
    accusing: BTreeSet<NodeId>,
    /// Whom this node has asked because others doubt that it lives: the last question to each.
    asked: BTreeMap<NodeId, Asked>,
    renewed_at: Option<Moment>,
    /// When a doubt of this node was last answered.
    doubted_at: Option<Moment>,
    is_gossiping: bool,
    hearsay: Hearsay,
    records: Arc<Mutex<Records>>,
    has_left: bool,
}

impl Membership {
    /// A node alone, under the identity `own`, which it signs with `key`. All its chance comes from `seed`,
    /// which must differ from node to node.
    #[must_use]
    pub fn new(own: MemberIdentity, key: RecordKey, config: MembershipConfig, seed: [u8; 32]) -> Self {
        let mut chance = StdRng::from_seed(seed);
        let protocol_chance = StdRng::from_rng(&mut chance);
        let records = Arc::new(Mutex::new(Records::new(key, own)));
        let codec = PacketCodec { records: Arc::clone(&records) };
        Self {
            foca: Foca::new(own, protocol(1, &config), protocol_chance, codec),
            outbox: Outbox::new(own.id),
            config,
            transmissions: transmissions(1),
            suspicions: Suspicions::default(),
            contacts: Contacts::new(chance),
            accusing: BTreeSet::new(),
            asked: BTreeMap::new(),
            renewed_at: None,
            doubted_at: None,
            is_gossiping: false,
            hearsay: Hearsay::new(own.id),
            records,
            has_left: false,
        }
    }

    /// A datagram has come over the authenticated connection with `from`.
    ///
    /// # Errors
    /// [`DatagramError`] when it is refused. It is counted; nothing else has happened, except after
    /// [`DatagramError::Protocol`], where what it said of members may have been taken in.
    pub fn on_datagram(&mut self, now: Moment, from: NodeId, bytes: &[u8]) -> Result<(), DatagramError> {
        let outcome = self.take_in(now, from, bytes);
        self.outbox.counters.count(bytes.len(), &outcome);
        outcome
    }

    fn take_in(&mut self, now: Moment, from: NodeId, bytes: &[u8]) -> Result<(), DatagramError> {
        if self.has_left {
            return Err(DatagramError::HasLeft);
        }
        let packet = Packet::read(bytes)?;
        let own = *self.foca.identity();
        packet.check_ends(from, own.id)?;
        let mut judged = self.believed(now, from, &packet)?;
        self.pace_own(now, &mut judged.members);
        let bytes = judged::write(&packet.header, &judged.members)
            .map_err(|error| DatagramError::Protocol { detail: error.to_string() })?;
        let is_for_this_life = packet.header.dst == own;
        if packet.header.message == Message::TurnUndead {
            if is_for_this_life && self.has_just_renewed(now) {
                self.outbox.counters.renewals_paced += 1;
                return Ok(());
            }
        } else if is_for_this_life {
            self.contacts.accepted();
            if packet.header.message == Message::Feed {
                self.contacts.answered(&from);
            }
        }
        self.outbox.begin(now, DownReason::Reported);
        self.question(&judged.members);
        if self.suspicions.holds(&from) {
            self.outbox.in_question.push(from);
        }
        let outcome = self.foca.handle_data(&bytes, &mut self.outbox);
        self.ask_doubted(now, &judged.doubted);
        self.conclude(now);
        outcome.map_err(|error| DatagramError::Protocol { detail: error.to_string() })
    }

    /// Notes who may be a suspect after these, or no longer.
    fn question(&mut self, members: &[Member<MemberIdentity>]) {
        for member in members {
            let is_suspect = member.state() == State::Suspect;
            self.outbox.is_suspected |= is_suspect && member.id() == self.foca.identity();
            if is_suspect || self.suspicions.holds(&member.id().id) {
                self.outbox.in_question.push(member.id().id);
            }
        }
    }

    /// MEMBER-9: each word against this node makes it speak to many. Whoever doubts it says so again, and
    /// others do too.
    fn pace_own(&mut self, now: Moment, members: &mut Vec<Member<MemberIdentity>>) {
        let own = *self.foca.identity();
        let before = members.len();
        members.retain(|member| {
            let is_paced = match member.state() {
                _ if *member.id() != own => false,
                State::Alive => false,
                State::Down => self.has_just_renewed(now),
                State::Suspect => self.doubted_at.is_some_and(|then| now.since(then) < REFUTE_PERIOD),
            };
            if *member.id() == own && member.state() == State::Suspect && !is_paced {
                self.doubted_at = Some(now);
            }
            !is_paced
        });
        self.outbox.counters.hearsay_dropped += (before - members.len()) as u64;
    }

    /// MEMBER-9: a node renews itself at most once per 500 ms. A node whose start counter went back is told
    /// that it is down by everybody whom it tells of its renewal; unpaced, that would go round at the speed
    /// of the network.
    fn has_just_renewed(&self, now: Moment) -> bool {
        self.renewed_at.is_some_and(|then| now.since(then) < RENEWAL_PERIOD)
    }

    /// MEMBER-10, MEMBER-23: what is believed of a datagram. Of members that are known, a node must hear also
    /// when it knows as many as it may.
    fn believed(&mut self, now: Moment, from: NodeId, packet: &Packet) -> Result<Judged, DatagramError> {
        let refused = self.without_room(packet.subjects());
        if refused.contains(&from) {
            return Err(DatagramError::Full { max: self.config.members_max });
        }
        let start = packet.source.identity.incarnation;
        if self.hearsay.start_met(from).is_some_and(|met| start < met) {
            return Err(DatagramError::OldStart { peer: from });
        }
        // It has a connection: its certificate was looked at.
        self.hearsay.meet(from, 0);
        let records = Arc::clone(&self.records);
        let mut records = records.lock();
        // Of an older renewal it is told that it is over, which needs no proof.
        let _: Standing = records.take(&packet.source)?;
        let mut judged = self.hearsay.judge(now, Some(from), &packet.statements, &mut records)?;
        drop(records);
        self.note(&mut judged, &refused);
        Ok(judged)
    }

    /// Counts what is not believed, and tells whom there is to meet.
    fn note(&mut self, judged: &mut Judged, refused: &BTreeSet<NodeId>) {
        let before = judged.members.len();
        judged.members.retain(|member| !refused.contains(&member.id().id));
        let dropped = (before - judged.members.len()) as u64 + judged.dropped;
        self.outbox.counters.hearsay_dropped += dropped;
        for member in judged.introduced.drain(..) {
            self.outbox.tell(MembershipEvent::Introduced { member });
        }
    }

    /// Of these, who is new and finds no room.
    fn without_room(&self, subjects: impl Iterator<Item = NodeId> + Clone) -> BTreeSet<NodeId> {
        let max = self.config.members_max;
        let known = self.foca.iter_membership_state();
        // Almost always there is room for all, and nothing needs to be looked up.
        if subjects.clone().count() <= max.saturating_sub(known.len()) {
            return BTreeSet::new();
        }
        let known: BTreeSet<NodeId> = known.map(|member| member.id().id).collect();
        hearsay::without_room(subjects, &known, max)
    }

    /// MEMBER-24: `peer` has shown its certificate, as the start `incarnation` of it, and there is a
    /// connection with it. What others doubt of it is decided there from now on.
    pub fn met(&mut self, peer: NodeId, incarnation: u64) {
        self.hearsay.meet(peer, incarnation);
        self.hearsay.set_connected(peer, true);
    }

    /// There is no connection with `peer` any more.
    pub fn parted(&mut self, peer: NodeId) {
        self.hearsay.set_connected(peer, false);
        if !self.foca.iter_membership_state().any(|member| member.id().id == peer) {
            self.forget(peer);
        }
    }

    /// As [`Membership::parted`], where it is not known yet.
    #[cfg(test)]
    pub(super) fn parted_for_now(&mut self, peer: NodeId) {
        self.hearsay.set_connected(peer, false);
    }

    /// MEMBER-24: `node` is no member any more: it was removed, or its certificate has expired. It is down,
    /// and what others say of it counts only once it has shown a certificate again.
    pub fn expel(&mut self, now: Moment, node: NodeId) {
        self.outbox.begin(now, DownReason::Reported);
        let found = self.foca.iter_members().find(|member| member.id().id == node);
        if let Some((identity, life)) = found.map(|member| (*member.id(), member.incarnation())) {
            self.say(Member::new(identity, life, State::Down));
        }
        self.hearsay.set_connected(node, false);
        self.hearsay.forget(node);
        self.conclude(now);
    }

    /// Nodes that were introduced and never met, of which nobody has spoken for an hour. They are forgotten.
    pub fn forget_strangers(&mut self, now: Moment) -> Vec<NodeId> {
        self.hearsay.forget_strangers(now)
    }

    fn forget(&mut self, node: NodeId) {
        self.asked.remove(&node);
        self.hearsay.forget(node);
        self.records.lock().forget(node);
    }

    /// Runs what is due. Hand over the datagrams that have arrived first.
    pub fn on_timer(&mut self, now: Moment) {
        while let Some((deadline, due)) = self.outbox.timers.pop(now) {
            self.outbox.begin(now, DownReason::Unreachable);
            if matches!(due, Due::Protocol(Timer::ProbeRandomMember(_))) {
                self.outbox.pace.note_probe(now.since(deadline));
            }
            match due {
                Due::Protocol(timer) => self.run_protocol(now, deadline, timer),
                Due::Announce(peer, attempt) => self.repeat_announcement(now, peer, attempt),
                Due::Settle(attempt) => self.repeat_settling(now, attempt),
                Due::Accuse(suspect) => self.accuse(now, suspect),
                Due::Ask(suspect, version, life) => self.ask_again(now, suspect, (version, life)),
                Due::Judge(suspect, version, life) => self.judge(now, deadline, (suspect, version, life)),
                Due::Gossip => self.gossip(),
                Due::Repair(attempt) => self.repair(now, attempt),
                Due::Seek => self.seek(now),
            }
            self.conclude(now);
        }
    }

    fn run_protocol(&mut self, now: Moment, deadline: Moment, timer: Timer<MemberIdentity>) {
        if let Timer::ChangeSuspectToDown { member_id, incarnation, .. } = &timer {
            // MEMBER-5: a verdict holds only against the very suspicion that it is about. foca 2.0.0 would go
            // on and tell the member that it is down, although it has spoken up.
            let stands = self.foca.iter_membership_state().any(|member| {
                member.state() == State::Suspect
                    && member.incarnation() == *incarnation
                    && member.id() == member_id
            });
            if !stands {
                self.outbox.counters.verdicts_void += 1;
                return;
            }
            if self.postpones(now, deadline) {
                let span = self.outbox.pace.stretch_verdict(SUSPECT_TO_DOWN);
                self.outbox.timers.set(now + span, Due::Protocol(timer));
                return;
            }
        }
        let removed = match &timer {
            Timer::RemoveDown(member) => Some(member.id),
            _ => None,
        };
        if self.foca.handle_timer(timer, &mut self.outbox).is_err() {
            self.outbox.counters.faults += 1;
        }
        if let Some(node) = removed.filter(|node| !self.hearsay.is_connected(node))
            && !self.foca.iter_membership_state().any(|member| member.id().id == node)
        {
            self.forget(node);
        }
    }

    /// MEMBER-6: time in which this node did not run counts against nobody: it could not have heard the
    /// suspect.
    fn postpones(&mut self, now: Moment, deadline: Moment) -> bool {
        let is_stalled = now.since(deadline) > STALL;
        self.outbox.counters.verdicts_postponed += u64::from(is_stalled);
        is_stalled
    }

    /// What every step may have changed.
    fn conclude(&mut self, now: Moment) {
        if self.outbox.has_rejoined {
            self.renewed_at = Some(now);
            self.settle(now);
            if self.contacts.renewed_in_vain() {
                self.outbox.tell(MembershipEvent::Outdated { own: *self.foca.identity() });
            }
        }
        if !self.outbox.changed.is_empty() {
            self.begin_repair(now);
        }
        self.compare_suspicions();
        self.begin_accusations(now);
        if self.outbox.has_lost {
            self.start_seeking(now);
        }
        if !self.is_gossiping && self.foca.updates_backlog() > 0 && self.foca.num_members() > 0 {
            self.is_gossiping = true;
            let period = self.outbox.pace.next_gossip(now);
            self.outbox.timers.set(now + period, Due::Gossip);
        }
        let wanted = transmissions(self.foca.num_members() + 1);
        if wanted != self.transmissions {
            self.transmissions = wanted;
            let config = protocol(self.foca.num_members() + 1, &self.config);
            if self.foca.set_config(config).is_err() {
                self.outbox.counters.faults += 1;
            }
        }
    }

    fn gossip(&mut self) {
        self.is_gossiping = false;
        // Probes may have spent what there was.
        if self.foca.updates_backlog() > 0 && self.foca.gossip(&mut self.outbox).is_err() {
            self.outbox.counters.faults += 1;
        }
    }

    fn compare_suspicions(&mut self) {
        let mut in_question = std::mem::take(&mut self.outbox.in_question);
        in_question.extend(self.outbox.changed.drain(..).filter(|node| self.suspicions.holds(node)));
        in_question.sort_unstable();
        in_question.dedup();
        for node in in_question.drain(..) {
            let member = self.foca.iter_membership_state().find(|member| member.id().id == node);
            if let Some(event) = self.suspicions.compare(node, member) {
                self.outbox.tell(event);
            }
        }
        self.outbox.in_question = in_question;
    }

    /// When [`Membership::on_timer`] wants to be called next; `None` when nothing is due ever.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Moment> {
        self.outbox.timers.next_deadline()
    }

    /// The next thing to do, or `None` until the next call of another method.
    pub fn poll_output(&mut self) -> Option<MembershipOutput> {
        self.outbox.next()
    }

    /// This node is reachable at `address` from now on. Its incarnation stays.
    pub fn change_address(&mut self, now: Moment, address: SocketAddr) {
        let before = *self.foca.identity();
        let Some(after) = before.renewed_at(address) else { return };
        if self.has_left || after.address == before.address {
            return;
        }
        self.outbox.begin(now, DownReason::Reported);
        self.outbox.forget_own_life();
        if self.foca.change_identity(after, &mut self.outbox).is_err() {
            self.outbox.counters.faults += 1;
        }
        self.outbox.tell(MembershipEvent::Renamed { before, after });
        self.settle(now);
        self.conclude(now);
    }

    /// MEMBER-7: this node goes. It says so as a newest identity that is down, which nothing but a later
    /// start of it can supersede. Afterwards every datagram is refused and nothing is due any more.
    pub fn leave(&mut self, now: Moment) {
        /// Each reaches up to three members; they tell the rest.
        const FAREWELLS: usize = 3;
        if self.has_left {
            return;
        }
        self.outbox.begin(now, DownReason::Left);
        let farewell = Member::down(self.foca.identity().leaving());
        let mut outcome = self.foca.apply_many(std::iter::once(farewell), true, &mut self.outbox);
        for _ in 0..FAREWELLS {
            outcome = outcome.and_then(|()| self.foca.gossip(&mut self.outbox));
        }
        if outcome.is_err() {
            self.outbox.counters.faults += 1;
        }
        self.has_left = true;
        self.contacts.clear();
        self.accusing.clear();
        self.asked.clear();
        self.outbox.timers.clear();
    }

    /// This node's identity now.
    #[must_use]
    pub fn own(&self) -> MemberIdentity {
        *self.foca.identity()
    }

    #[cfg(test)]
    pub(super) fn own_life(&self) -> u16 {
        self.outbox.own_life()
    }

    /// The other nodes that are up or suspected, in no particular order.
    pub fn members(&self) -> impl Iterator<Item = &MemberIdentity> {
        self.foca.iter_members().map(Member::id)
    }

    /// What was counted since the start.
    #[must_use]
    pub fn counters(&self) -> MembershipCounters {
        MembershipCounters { records_verified: self.records.lock().verified(), ..self.outbox.counters }
    }
}

impl From<Forged> for DatagramError {
    fn from(forged: Forged) -> Self {
        Self::Forged { subject: forged.subject }
    }
}

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership")
            .field("own", self.foca.identity())
            .field("members", &self.foca.num_members())
            .field("has_left", &self.has_left)
            .finish_non_exhaustive()
    }
}
