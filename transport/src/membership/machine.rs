//! The state machine of membership.
//!
//! Owns foca, its timers, and what foca lacks: who may say what, verdicts that a stall or a refutation made void, contact with nodes
//! that do not know us yet or no longer. Refuses to know sockets, connections, clocks and where randomness comes from.

mod accusation;
mod contact;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU8;

use arw_kit::moment::Moment;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use foca::{Foca, Member, Message, NoCustomBroadcast, State, Timer};
use rand::SeedableRng;
use rand::rngs::StdRng;

use self::contact::Contacts;
use super::config::{MembershipConfig, RENEWAL_PERIOD, STALL, SUSPECT_TO_DOWN, protocol, transmissions};
use super::event::{DownReason, MembershipCounters, MembershipEvent, MembershipOutput};
use super::hearsay::{self, Hearsay};
use super::identity::MemberIdentity;
use super::outbox::Outbox;
use super::packet::{DatagramError, Packet, PacketCodec, read_member, write_member};
use super::suspicion::Suspicions;
use super::timers::Due;
use crate::identity::NodeId;

/// This node's part in the membership protocol.
///
/// After each call drain [`Membership::poll_output`]. When the driver wakes up late, it hands over all datagrams that have
/// arrived before it calls [`Membership::on_timer`]: answers that came in time must count.
///
/// ```
/// use arw_kit::moment::Moment;
/// use arw_transport::identity::NodeId;
/// use arw_transport::membership::{MemberIdentity, Membership, MembershipConfig, MembershipEvent, MembershipOutput};
///
/// let node = |byte| MemberIdentity::new(NodeId::from_bytes([byte; 32]), ([127, 0, 0, 1], 7000).into(), 1);
/// let mut one = Membership::new(node(1), MembershipConfig::default(), [1; 32]);
/// let mut two = Membership::new(node(2), MembershipConfig::default(), [2; 32]);
/// let now = Moment::ZERO;
/// two.on_peer_connected(now, node(1).id);
/// let Some(MembershipOutput::Datagram { bytes, .. }) = two.poll_output() else { panic!("it announces itself") };
/// one.on_datagram(now, node(2).id, &bytes).unwrap();
/// let Some(MembershipOutput::Event(MembershipEvent::MemberUp { member })) = one.poll_output() else { panic!("it is heard") };
/// assert_eq!(member.id, node(2).id);
/// ```
pub struct Membership {
    foca: Foca<MemberIdentity, PacketCodec, StdRng, NoCustomBroadcast>,
    outbox: Outbox,
    config: MembershipConfig,
    transmissions: NonZeroU8,
    suspicions: Suspicions,
    contacts: Contacts,
    accusing: BTreeSet<NodeId>,
    renewed_at: Option<Moment>,
    is_gossiping: bool,
    hearsay: Hearsay,
    has_left: bool,
}

impl Membership {
    /// A node alone, under the identity `own`. All its chance comes from `seed`, which must differ from node to node.
    #[must_use]
    pub fn new(own: MemberIdentity, config: MembershipConfig, seed: [u8; 32]) -> Self {
        let mut chance = StdRng::from_seed(seed);
        let protocol_chance = StdRng::from_rng(&mut chance);
        Self {
            foca: Foca::new(own, protocol(1, &config), protocol_chance, PacketCodec),
            outbox: Outbox::new(own.id),
            config,
            transmissions: transmissions(1),
            suspicions: Suspicions::default(),
            contacts: Contacts::new(chance),
            accusing: BTreeSet::new(),
            renewed_at: None,
            is_gossiping: false,
            hearsay: Hearsay::new(own.id),
            has_left: false,
        }
    }

    /// A datagram has come over the authenticated connection with `from`.
    ///
    /// # Errors
    /// [`DatagramError`] when it is refused. It is counted; nothing else has happened, except after [`DatagramError::Protocol`], where what
    /// it said of members may have been taken in.
    pub fn on_datagram(&mut self, now: Moment, from: NodeId, bytes: &[u8]) -> Result<(), DatagramError> {
        let outcome = self.take_in(now, from, bytes);
        self.outbox.counters.count(bytes.len(), &outcome);
        outcome
    }

    fn take_in(&mut self, now: Moment, from: NodeId, bytes: &[u8]) -> Result<(), DatagramError> {
        if self.has_left {
            return Err(DatagramError::HasLeft);
        }
        let mut packet = Packet::read(bytes)?;
        let own = *self.foca.identity();
        packet.check_ends(from, own.id)?;
        let rewritten = self.without_hearsay(from, &mut packet)?;
        let bytes = rewritten.as_deref().unwrap_or(bytes);
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
        for update in &packet.updates {
            let is_suspect = update.state() == State::Suspect;
            self.outbox.is_suspected |= is_suspect && *update.id() == own;
            if is_suspect || self.suspicions.holds(&update.id().id) {
                self.outbox.in_question.push(update.id().id);
            }
        }
        if self.suspicions.holds(&from) {
            self.outbox.in_question.push(from);
        }
        let outcome = self.foca.handle_data(bytes, &mut self.outbox);
        self.conclude(now);
        outcome.map_err(|error| DatagramError::Protocol { detail: error.to_string() })
    }

    /// MEMBER-9: a node renews itself at most once per 500 ms. A node whose start counter went back is told that it is down by
    /// everybody whom it tells of its renewal; unpaced, that would go round at the speed of the network.
    fn has_just_renewed(&self, now: Moment) -> bool {
        self.renewed_at.is_some_and(|then| now.since(then) < RENEWAL_PERIOD)
    }

    /// MEMBER-10, MEMBER-22: drops what is not credible of what a datagram says of others, and whom there is
    /// no room for. The rest counts: of members that are known, a node must hear also when it knows as many
    /// as it may. Returns the datagram anew if it is another one now.
    fn without_hearsay(
        &mut self,
        from: NodeId,
        packet: &mut Packet,
    ) -> Result<Option<Vec<u8>>, DatagramError> {
        let refused = self.without_room(packet.subjects());
        if refused.contains(&from) {
            return Err(DatagramError::Full { max: self.config.members_max });
        }
        let before = packet.updates.len();
        let hearsay = &self.hearsay;
        packet
            .updates
            .retain(|update| hearsay.is_credible(Some(from), update) && !refused.contains(&update.id().id));
        let dropped = before - packet.updates.len();
        if dropped == 0 {
            return Ok(None);
        }
        self.outbox.counters.hearsay_dropped += dropped as u64;
        let rewritten = packet.write();
        rewritten.map(Some).map_err(|error| DatagramError::Protocol { detail: error.to_string() })
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

    /// MEMBER-22: a start of a node is later than the one before, and none is later than this. Where nobody
    /// says so, all are believed.
    pub fn set_incarnation_max(&mut self, incarnation_max: u64) {
        self.hearsay.incarnation_max = incarnation_max;
    }

    /// MEMBER-22: there is a connection with `peer`, or none any more: as long as there is, it says itself
    /// that it leaves.
    pub fn set_connected(&mut self, peer: NodeId, is_connected: bool) {
        if is_connected {
            self.hearsay.connected.insert(peer);
        } else {
            self.hearsay.connected.remove(&peer);
        }
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
            // MEMBER-5: a verdict holds only against the very suspicion that it is about. foca 2.0.0 would go on and tell the
            // member that it is down, although it has spoken up.
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
        if self.foca.handle_timer(timer, &mut self.outbox).is_err() {
            self.outbox.counters.faults += 1;
        }
    }

    /// MEMBER-6: time in which this node did not run counts against nobody: it could not have heard the suspect.
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

    /// MEMBER-7: this node goes. It says so as a newest identity that is down, which nothing but a later start of it can
    /// supersede. Afterwards every datagram is refused and nothing is due any more.
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
        self.outbox.timers.clear();
    }

    /// This node's identity now.
    #[must_use]
    pub fn own(&self) -> MemberIdentity {
        *self.foca.identity()
    }

    /// The other nodes that are up or suspected, in no particular order.
    pub fn members(&self) -> impl Iterator<Item = &MemberIdentity> {
        self.foca.iter_members().map(Member::id)
    }

    /// What was counted since the start.
    #[must_use]
    pub fn counters(&self) -> MembershipCounters {
        self.outbox.counters
    }

    /// Everything that this node knows, for a node that joins: over a stream, since it exceeds a datagram from 26 nodes on. At
    /// most 70 bytes per node.
    #[must_use]
    pub fn snapshot(&self) -> Bytes {
        let own = *self.foca.identity();
        let others = || self.foca.iter_membership_state().filter(|member| member.id().id != own.id);
        let mut bytes = BytesMut::with_capacity(64 * (others().count() + 1));
        bytes.put_u8(SNAPSHOT_VERSION);
        bytes.put_u32(u32::try_from(others().count() + 1).unwrap_or(u32::MAX));
        write_member(&Member::alive(own), &mut bytes);
        others().for_each(|member| write_member(member, &mut bytes));
        bytes.freeze()
    }

    /// MEMBER-19: takes in the [`Membership::snapshot`] of a member. What this node knows better stays. Nothing is passed on: the cluster
    /// knows it.
    ///
    /// # Errors
    /// [`DatagramError`] when it is cut off, has bytes left over, is of another version or names too many nodes; nothing has
    /// happened then.
    pub fn merge_snapshot(&mut self, now: Moment, mut bytes: &[u8]) -> Result<(), DatagramError> {
        const CUT_OFF: DatagramError = DatagramError::Malformed { what: "the snapshot is cut off" };
        if self.has_left {
            return Err(DatagramError::HasLeft);
        }
        let version = bytes.try_get_u8().map_err(|_| CUT_OFF)?;
        if version != SNAPSHOT_VERSION {
            return Err(DatagramError::Version { found: version, known: SNAPSHOT_VERSION });
        }
        let count = bytes.try_get_u32().map_err(|_| CUT_OFF)? as usize;
        // Before any memory is taken for them. A snapshot may name this node too.
        if count > self.config.members_max.saturating_add(1) {
            return Err(DatagramError::Full { max: self.config.members_max });
        }
        let mut members = Vec::with_capacity(count.min(bytes.len()));
        for _ in 0..count {
            members.push(read_member(&mut bytes)?);
        }
        if !bytes.is_empty() {
            return Err(DatagramError::TrailingBytes { extra: bytes.len() });
        }
        let refused = self.without_room(members.iter().map(|member| member.id().id));
        let before = members.len();
        members.retain(|member| self.hearsay.is_credible(None, member) && !refused.contains(&member.id().id));
        self.outbox.counters.hearsay_dropped += (before - members.len()) as u64;
        self.outbox.begin(now, DownReason::Reported);
        let about_suspects = |member: &&Member<MemberIdentity>| {
            member.state() == State::Suspect || self.suspicions.holds(&member.id().id)
        };
        self.outbox.in_question.extend(members.iter().filter(about_suspects).map(|member| member.id().id));
        self.outbox.has_lost = members.iter().any(|member| member.state() == State::Down);
        if self.foca.apply_many(members.into_iter(), false, &mut self.outbox).is_err() {
            self.outbox.counters.faults += 1;
        }
        self.conclude(now);
        Ok(())
    }
}

/// The version of the layout of a snapshot: version[1] count[4] member*, with members as in datagrams.
const SNAPSHOT_VERSION: u8 = 1;

impl fmt::Debug for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Membership")
            .field("own", self.foca.identity())
            .field("members", &self.foca.num_members())
            .field("has_left", &self.has_left)
            .finish_non_exhaustive()
    }
}
