//! What the endpoint knows and decides.
//!
//! Owns the connections that stand, the pictures of membership and of the way to each peer, and what follows
//! from what happens to them. It waits for nothing: what takes time leaves it as an [`Effect`]. The deciders
//! do the thinking; here they meet. Refuses to know tasks and threads.

mod control;
mod copies;
mod credentials;
mod doubting;
mod hearsay;
mod hello;
mod own;
mod picture;
mod sightings;

pub(super) use hello::{DialEvent, DialStep};

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arw_kit::clock::Clock;
use arw_kit::moment::{Moment, WallTime};
use bytes::{BufMut as _, Bytes, BytesMut};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::connection::{PeerConnection, Wire, close_with_address};
use super::counters::Counters;
use super::dial_schedule::{DialAttempt, DialSchedule, Sighting};
use super::doubts::Doubts;
use super::events::{EndpointEvent, EventQueue, PeerCard};
use super::issuer::IssuerState;
use super::life_signs::LifeSigns;
use super::limiter::{Admission, HandshakeLimiter};
use super::options::{Known, Limits};
use super::picture::{CopyRow, Fence};
use super::services::PeerDownReason;
use crate::certificate::{Certificate, ClusterPublicKey, RevocationSet, SignedCertificate};
use crate::handshake::{DialSide, Peer, Start};
use crate::identity::NodeId;
use crate::membership::{
    DatagramError, MemberIdentity, Membership, MembershipConfig, MembershipEvent, MembershipOutput,
    MembershipView, RecordKey,
};
use crate::token::TokenId;
use crate::wire::{CloseCode, Control, GoodbyeReason};

/// WIRE-16: the first byte of a datagram says whose it is.
pub(super) const DATAGRAM_MEMBERSHIP: u8 = 1;

/// How often what ends by the calendar is looked at: certificates, removals, tokens.
const HOUSEKEEPING_PERIOD: Duration = Duration::from_secs(1);

/// A connection that stands.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: u64,
    pub(super) peer: Arc<Peer>,
    pub(super) connection: PeerConnection,
    dialed_by: DialSide,
    since: Moment,
}

/// Something that takes time, or that somebody else does.
#[derive(Debug)]
pub(super) enum Effect {
    /// Tell the services of a connection.
    Up(Arc<Peer>, PeerConnection),
    /// Tell them that it is over.
    Down(NodeId, u64, PeerDownReason),
    /// Give them a message.
    Control(Arc<Peer>, Control),
    /// Dial.
    Dial(DialAttempt),
    /// Reserve serials.
    ReserveSerials,
    /// Forget tokens.
    ForgetTokens(Vec<TokenId>),
}

/// What the core is made of at the start.
#[derive(Debug)]
pub(super) struct Beginning {
    pub(super) identity: MemberIdentity,
    pub(super) record_key: RecordKey,
    pub(super) name: String,
    pub(super) signed: SignedCertificate,
    pub(super) certificate: Certificate,
    pub(super) cluster_key: ClusterPublicKey,
    pub(super) revoked: RevocationSet,
    pub(super) renewed_by: Option<NodeId>,
    pub(super) issuer: Option<IssuerState>,
    pub(super) known: Vec<Known>,
    pub(super) limits: Limits,
    pub(super) membership: MembershipConfig,
    pub(super) seed: [u8; 32],
    pub(super) events: Arc<EventQueue>,
    pub(super) clock: Clock,
}

/// The state of an endpoint.
#[derive(Debug)]
pub(super) struct Core {
    own: NodeId,
    incarnation: u64,
    name: String,
    signed: SignedCertificate,
    certificate: Certificate,
    cluster_key: ClusterPublicKey,
    revoked: RevocationSet,
    renewed_by: Option<NodeId>,
    renewal_asked_at: Option<Moment>,
    pub(super) issuer: Option<IssuerState>,
    is_reserving: bool,
    /// Nodes whose removal is decided and not stored yet, and how many removals of each.
    removing: BTreeMap<NodeId, u32>,
    membership: Membership,
    view: MembershipView,
    schedule: DialSchedule,
    sessions: BTreeMap<NodeId, Session>,
    sessions_begun: u64,
    doubts: Doubts,
    doubted: u64,
    /// This node has got another certificate since it was started.
    has_renewed: bool,
    /// The message with this node's card, as it is sent.
    card: Option<Bytes>,
    cards: BTreeMap<NodeId, PeerCard>,
    /// Where this node's own socket is: nobody else can be there.
    own_addresses: BTreeSet<SocketAddr>,
    limiter: HandshakeLimiter,
    limits: Limits,
    pub(super) counters: Counters,
    events: Arc<EventQueue>,
    effects: Vec<Effect>,
    chance: StdRng,
    clock: Clock,
    /// When a peer's hello has last agreed with this node's clock, by that clock (WIRE-14).
    agreed_at: Option<(Moment, WallTime)>,
    housekeeping_at: Moment,
    housekeepings: u64,
    is_removed: bool,
    is_outdated: bool,
    /// Drawn at this start.
    number: u64,
    /// The latest start of each peer that has said hello.
    starts: BTreeMap<NodeId, Start>,
    /// Peers of which more than one start runs, and when that was last seen.
    copies: BTreeMap<NodeId, (Moment, CopyRow)>,
    /// Who has told this node of another start of itself.
    tellers: BTreeMap<NodeId, Fence>,
    is_stopping: bool,
}

impl Core {
    pub(super) fn new(now: Moment, beginning: Beginning) -> Self {
        let Beginning { identity, limits, membership, .. } = beginning;
        let mut chance = StdRng::from_seed(beginning.seed);
        let mut seed = [0; 32];
        chance.fill(&mut seed);
        let number = chance.random();
        let mut schedule = DialSchedule::new(limits.dials_max);
        if let Some(issuer) = beginning.renewed_by {
            schedule.prefer(issuer);
        }
        for known in beginning.known.iter().filter(|known| known.node != identity.id) {
            // The best one last: the newest is tried first.
            for address in known.addresses.iter().rev() {
                schedule.want(now, known.node, *address, Sighting::None);
            }
        }
        Self {
            own: identity.id,
            incarnation: identity.incarnation,
            name: beginning.name,
            signed: beginning.signed,
            certificate: beginning.certificate,
            cluster_key: beginning.cluster_key,
            revoked: beginning.revoked,
            renewed_by: beginning.renewed_by,
            renewal_asked_at: None,
            issuer: beginning.issuer,
            is_reserving: false,
            removing: BTreeMap::new(),
            membership: Membership::new(identity, beginning.record_key, membership, seed),
            view: MembershipView::new(now, identity, membership),
            schedule,
            sessions: BTreeMap::new(),
            sessions_begun: 0,
            doubts: Doubts::default(),
            doubted: 0,
            has_renewed: false,
            card: None,
            cards: BTreeMap::new(),
            own_addresses: BTreeSet::new(),
            limiter: HandshakeLimiter::new(now, limits.handshakes),
            limits,
            counters: Counters::default(),
            events: beginning.events,
            effects: Vec::new(),
            chance,
            clock: beginning.clock,
            agreed_at: None,
            housekeeping_at: now,
            housekeepings: 0,
            is_removed: false,
            is_outdated: false,
            number,
            starts: BTreeMap::new(),
            copies: BTreeMap::new(),
            tellers: BTreeMap::new(),
            is_stopping: false,
        }
    }

    pub(super) fn own(&self) -> NodeId {
        self.own
    }

    pub(super) fn session(&self, node: NodeId) -> Option<&Session> {
        self.sessions.get(&node)
    }

    /// The peer of a session that still is the connection to it.
    pub(super) fn peer_of(&self, (node, session): (NodeId, u64)) -> Option<Arc<Peer>> {
        let held = self.sessions.get(&node).filter(|held| held.id == session)?;
        Some(Arc::clone(&held.peer))
    }

    /// The node is or was a member, or is wanted as a peer.
    pub(super) fn knows(&self, node: NodeId) -> bool {
        self.view.node(&node).is_some() || self.schedule.is_wanted(node) || self.sessions.contains_key(&node)
    }

    /// Judges a handshake that somebody began. An admitted one counts as pending until
    /// [`Core::handshake_ended`].
    pub(super) fn admit(&mut self, now: Moment, source: IpAddr, is_proven: bool) -> Admission {
        let Self { limiter, view, schedule, .. } = self;
        let is_known = || {
            view.nodes().any(|node| node.identity.address.ip() == source)
                || schedule
                    .routes()
                    .any(|(_, route)| route.addresses.iter().any(|known| known.ip() == source))
        };
        let admission = limiter.judge(now, (source, is_proven), is_known);
        let counter = match admission {
            Admission::Admit => &mut self.counters.handshakes,
            Admission::Retry => &mut self.counters.handshakes_retried,
            Admission::Refuse => &mut self.counters.handshakes_limited,
        };
        *counter += 1;
        admission
    }

    pub(super) fn handshake_ended(&mut self, source: IpAddr, is_proven: bool) {
        self.limiter.ended(source, is_proven);
    }

    /// A datagram came over a connection. Nobody speaks for another: it counts as from the peer that the
    /// connection has authenticated.
    pub(super) fn datagram(&mut self, now: Moment, session: (NodeId, u64), datagram: &[u8]) {
        let Some((&tag, bytes)) = datagram.split_first() else {
            self.counters.datagrams_unknown += 1;
            return;
        };
        if tag != DATAGRAM_MEMBERSHIP {
            self.counters.datagrams_unknown += 1;
        } else if self.peer_of(session).is_some() {
            match self.membership.on_datagram(now, session.0, bytes) {
                Ok(()) => self.view.heard(now, &session.0),
                Err(error) => {
                    self.counters.datagrams_refused += 1;
                    if let DatagramError::Forged { .. } = error {
                        self.end_forger(now, session.0);
                    }
                }
            }
        }
    }

    /// MEMBER-23: a member passes on only what it has verified. One that does not would have this node verify
    /// for ever, or tries to speak for others.
    fn end_forger(&mut self, now: Moment, peer: NodeId) {
        self.counters.malformed += 1;
        self.end_session(now, peer, CloseCode::Malformed);
    }

    /// This connection is the one with its peer from now on.
    pub(super) fn session_up(
        &mut self,
        now: Moment,
        peer: Peer,
        wire: &Wire,
        dialed_by: DialSide,
    ) -> (u64, PeerConnection) {
        let node = peer.id;
        let is_copy = self
            .sessions
            .get(&node)
            .is_some_and(|held| held.peer.incarnation == peer.incarnation && held.peer.number != peer.number);
        self.agreed_at = Some((now, self.clock.wall()));
        self.saw_start(now, &peer, wire.remote_address());
        let code = if is_copy { GoodbyeReason::Copied } else { GoodbyeReason::Replaced };
        self.end_session(now, node, CloseCode::Goodbye(code));
        if let Some(issuer) = &mut self.issuer {
            issuer.saw_end(peer.certificate.not_after);
        }
        self.saw_serial(peer.certificate.serial);
        let incarnation = peer.incarnation;
        let peer = Arc::new(peer);
        let connection = PeerConnection::new(&peer, wire.clone());
        let address = connection.remote_address();
        self.sessions_begun += 1;
        let id = self.sessions_begun;
        let session =
            Session { id, peer: Arc::clone(&peer), connection: connection.clone(), dialed_by, since: now };
        self.sessions.insert(node, session);
        self.schedule.want(now, node, address, Sighting::None);
        self.schedule.connected(now, node);
        self.counters.connections += 1;
        self.events.push(EndpointEvent::PeerUp { peer: Peer::clone(&peer), address });
        self.effects.push(Effect::Up(peer, connection.clone()));
        self.greet(now, node);
        self.membership.met(node, incarnation);
        self.membership.on_peer_connected(now, node);
        (id, connection)
    }

    /// This node ends the connection with a peer, if there is one.
    pub(super) fn end_session(&mut self, now: Moment, node: NodeId, code: CloseCode) {
        let Some(session) = self.sessions.get(&node) else { return };
        match code {
            CloseCode::Goodbye(GoodbyeReason::Removed) => {
                session.connection.close_with_proof(code, self.revoked.of(node).as_ref());
            }
            // Where the other one is, stands in what was noted of the two.
            CloseCode::Goodbye(GoodbyeReason::Copied) => {
                let elsewhere = self.copies.get(&node).map(|(_, row)| row.kept);
                close_with_address(session.connection.wire(), code, elsewhere);
            }
            _ => session.connection.close(code),
        }
        let key = (node, session.id);
        let reason = match code {
            CloseCode::Goodbye(reason) => PeerDownReason::Closed(reason),
            CloseCode::Hello(_) | CloseCode::Join(_) | CloseCode::Malformed | CloseCode::Unlisted(_) => {
                PeerDownReason::Malformed
            }
        };
        self.session_over(now, key, reason);
    }

    /// A connection is over. If it was replaced since, that was told already.
    pub(super) fn session_over(&mut self, now: Moment, key: (NodeId, u64), reason: PeerDownReason) {
        let node = key.0;
        if self.peer_of(key).is_none() {
            return;
        }
        let Some(session) = self.sessions.remove(&node) else { return };
        session.connection.queue().close();
        self.cards.remove(&node);
        self.doubts.end(node);
        self.membership.parted(node);
        let chance = self.chance.random();
        let peer_dials = reason == PeerDownReason::Goodbye(GoodbyeReason::Moving);
        self.schedule.lost(now, node, peer_dials, chance);
        if reason == PeerDownReason::Goodbye(GoodbyeReason::Leaving) {
            self.schedule.unwant(node);
        }
        if reason == PeerDownReason::Closed(GoodbyeReason::Stalled) {
            self.counters.stalled += 1;
        }
        if matches!(reason, PeerDownReason::Closed(GoodbyeReason::Removed | GoodbyeReason::Expired)) {
            self.membership.expel(now, node);
        }
        // MEMBER-17
        if reason.is_loss() {
            self.membership.on_peer_disconnected(now, node);
        }
        let incarnation = session.peer.incarnation;
        let address = session.connection.remote_address();
        self.effects.push(Effect::Down(node, incarnation, reason.clone()));
        self.events.push(EndpointEvent::PeerDown { node, incarnation, address, reason });
    }

    /// What is due by the clock. Whoever calls this has handed over first what had arrived.
    pub(super) fn on_timer(&mut self, now: Moment) {
        if self.membership.next_deadline().is_some_and(|deadline| deadline <= now) {
            self.membership.on_timer(now);
        }
        if self.view.next_deadline().is_some_and(|deadline| deadline <= now) {
            let changes = self.view.on_timer(now);
            self.follow(now, changes);
        }
        self.settle_doubts(now);
        if self.housekeeping_at <= now {
            self.housekeeping_at = now + HOUSEKEEPING_PERIOD;
            self.housekeepings += 1;
            self.keep_house(now);
        }
    }

    /// When [`Core::on_timer`] wants to be called next.
    pub(super) fn next_deadline(&self) -> Moment {
        let others = [
            self.membership.next_deadline(),
            self.view.next_deadline(),
            self.schedule.next_deadline(),
            self.doubts.next_deadline(),
        ];
        others.into_iter().flatten().fold(self.housekeeping_at, Moment::min)
    }

    /// What follows from a step: it is called after each.
    pub(super) fn settle(&mut self, now: Moment) -> Vec<Effect> {
        while let Some(output) = self.membership.poll_output() {
            match output {
                MembershipOutput::Datagram { to, bytes } => self.send_datagram(to, &bytes),
                MembershipOutput::Event(event) => {
                    match &event {
                        MembershipEvent::Outdated { .. } => self.note_later_start(),
                        MembershipEvent::Introduced { member } => self.want_node(now, member, true),
                        _ => {}
                    }
                    let changes = self.view.apply(now, &event);
                    self.follow(now, changes);
                }
            }
        }
        if !self.is_stopping {
            self.effects.extend(self.schedule.due(now).into_iter().map(Effect::Dial));
        }
        std::mem::take(&mut self.effects)
    }

    fn send_datagram(&mut self, to: NodeId, bytes: &[u8]) {
        let mut datagram = BytesMut::with_capacity(1 + bytes.len());
        datagram.put_u8(DATAGRAM_MEMBERSHIP);
        datagram.put_slice(bytes);
        let session = self.sessions.get(&to);
        let sent = session.map(|session| session.connection.wire().send_datagram(datagram.freeze()));
        if sent != Some(true) {
            self.counters.datagrams_unsent += 1;
        }
    }

    /// WIRE-22: what a connection gets that begins now.
    pub(super) fn life_signs(&self) -> LifeSigns {
        LifeSigns::for_peers(self.schedule.routes().count())
    }

    fn end_session_as(&mut self, now: Moment, key: (NodeId, u64), reason: PeerDownReason) {
        if let Some(session) = self.sessions.get(&key.0) {
            session.connection.close(CloseCode::Goodbye(GoodbyeReason::Replaced));
        }
        self.session_over(now, key, reason);
    }
}

#[cfg(test)]
pub(super) mod tests;
