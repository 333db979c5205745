//! The first message of a connection, on either side: the deciders of handshake and join with what the
//! endpoint knows.
//!
//! Owns that a verdict and what follows from it are one step. Refuses to know streams.

use std::net::SocketAddr;

use arw_kit::moment::Moment;

use super::{Core, Effect};
use crate::certificate::CERTIFICATE_LIFETIME;
use crate::endpoint::connection::{PeerConnection, Wire};
use crate::endpoint::dial_schedule::DialAttempt;
use crate::handshake::{
    AcceptorAction, AcceptorEvent, DialSide, DialerAction, DialerEvent, Held, HelloAcceptor, HelloDialer,
    HelloFailure, LocalMember, PeerLink, Start,
};
use crate::identity::NodeId;
use crate::join::{IssuerAction, IssuerContext, IssuerEvent, JoinIssuer};
use crate::token::TokenRecord;
use crate::wire::{
    Hello, HelloAck, HelloRefusal, HelloRefused, JoinRefusal, JoinRefused, PEERS_MAX, PeerAddresses, Versions,
};

/// What the dialing side does next.
#[derive(Debug)]
pub(crate) enum DialStep {
    /// Send this.
    Send(Hello),
    /// The connection stands.
    Up(u64, PeerConnection),
    /// Close it.
    Close(HelloRefusal),
    /// Nothing: there is no connection.
    Nothing,
}

impl Core {
    fn local(&self) -> LocalMember<'_> {
        LocalMember {
            id: self.own,
            start: Start { incarnation: self.incarnation, number: self.number },
            name: &self.name,
            certificate: &self.signed,
            cluster_key: self.cluster_key,
            revoked: &self.revoked,
        }
    }

    /// What this node has of a peer now.
    fn link(&self, now: Moment, peer: NodeId, from: SocketAddr) -> PeerLink {
        let live = |session: &&super::Session| session.connection.wire().is_open();
        let held = self.sessions.get(&peer).filter(live);
        PeerLink {
            own: self.own,
            peer,
            is_dialing: self.schedule.is_dialing(peer),
            held: held.map(|held| Held {
                dialed_by: held.dialed_by,
                start: held.peer.start(),
                age: now.since(held.since),
                is_elsewhere: held.connection.remote_address().ip() != from.ip(),
            }),
            incarnation_known: self.start_of(peer).map_or(0, |start| start.incarnation),
            seen: self.start_of(peer),
        }
    }

    /// A peer dialed and said hello.
    pub(crate) fn hello(
        &mut self,
        now: Moment,
        acceptor: &mut HelloAcceptor,
        (node, hello): (NodeId, Hello),
        wire: &Wire,
    ) -> Result<(HelloAck, u64, PeerConnection), HelloRefused> {
        let start = Start { incarnation: hello.incarnation, number: hello.number };
        let event = AcceptorEvent::HelloReceived { hello, link: self.link(now, node, wire.remote_address()) };
        let action = acceptor.handle((now, self.clock.wall()), &event, &self.local());
        let refused = match action {
            Some(AcceptorAction::Accept { ack, peer, .. }) => {
                let is_full = self.sessions.len() >= self.limits.connections_max;
                // WIRE-10: whom the issuer is about to remove waits for the verdict outside. If the removal
                // fails it comes back.
                let is_welcome = !self.is_stopping && !self.removing.contains_key(&node);
                if is_welcome && (!is_full || self.sessions.contains_key(&node)) {
                    let (id, connection) = self.session_up(now, *peer, wire, DialSide::Peer);
                    return Ok((ack, id, connection));
                }
                HelloRefused { reason: HelloRefusal::Busy, versions: Versions::OWN }
            }
            Some(AcceptorAction::Refuse(refused)) => refused,
            None => HelloRefused { reason: HelloRefusal::TooSlow, versions: Versions::OWN },
        };
        if refused.reason == HelloRefusal::Duplicate {
            let from = wire.remote_address();
            self.effects.extend(self.schedule.heard_from(now, node, from).map(Effect::Dial));
        }
        if matches!(refused.reason, HelloRefusal::OldIncarnation | HelloRefusal::Copied) {
            self.turned_away(now, (node, start), wire.remote_address());
        }
        self.counters.refuse_hello(refused.reason);
        Err(refused)
    }

    /// Something happened to a dialed connection.
    pub(crate) fn dial_step(
        &mut self,
        now: Moment,
        (dialer, attempt): (&mut HelloDialer, DialAttempt),
        event: DialEvent,
        wire: Option<&Wire>,
    ) -> DialStep {
        let start = match &event {
            DialEvent::Ack(ack) => Some(Start { incarnation: ack.incarnation, number: ack.number }),
            DialEvent::Other(_) => None,
        };
        let event = match event {
            DialEvent::Ack(ack) => {
                DialerEvent::AckReceived { ack, link: self.link(now, attempt.peer, attempt.address) }
            }
            DialEvent::Other(event) => event,
        };
        let action = dialer.handle(self.clock.wall(), &event, &self.local());
        let chance = rand::RngExt::random(&mut self.chance);
        match (action, wire) {
            (Some(DialerAction::SendHello(hello)), _) => DialStep::Send(hello),
            (Some(DialerAction::Up { .. }), _) if self.is_stopping => DialStep::Close(HelloRefusal::Busy),
            (Some(DialerAction::Up { .. }), _) if self.removing.contains_key(&attempt.peer) => {
                let busy = HelloFailure::PeerRefused(HelloRefusal::Busy);
                self.schedule.failed(now, attempt, busy, chance);
                DialStep::Close(HelloRefusal::Busy)
            }
            (Some(DialerAction::Up { peer, .. }), Some(wire)) => {
                let (id, connection) = self.session_up(now, *peer, wire, DialSide::Own);
                DialStep::Up(id, connection)
            }
            (Some(DialerAction::WaitForIncoming), _) => {
                self.schedule.waits_for_incoming(now, attempt, chance);
                DialStep::Close(HelloRefusal::Duplicate)
            }
            (Some(DialerAction::Fail(failure)), _) => {
                self.schedule.failed(now, attempt, failure, chance);
                if let Some(start) = start
                    && matches!(
                        failure,
                        HelloFailure::PeerRefused(HelloRefusal::OldIncarnation | HelloRefusal::Copied)
                    )
                {
                    self.turned_away(now, (attempt.peer, start), attempt.address);
                }
                if failure == HelloFailure::PeerRefused(HelloRefusal::Removed) {
                    self.schedule.unwant(attempt.peer);
                }
                match failure {
                    HelloFailure::PeerRefused(reason) => DialStep::Close(reason),
                    HelloFailure::Unreachable | HelloFailure::Refused(_) | HelloFailure::Closed(_) => {
                        DialStep::Nothing
                    }
                }
            }
            (Some(DialerAction::Up { .. }) | None, _) => DialStep::Nothing,
        }
    }

    /// Something happened to a connection whose node wants to join.
    pub(crate) fn join_step(
        &mut self,
        now: Moment,
        joiner: &mut JoinIssuer,
        event: IssuerEvent,
    ) -> Option<IssuerAction> {
        let peers = self.told_to_joiners();
        let is_fenced = self.fence().is_some();
        let is_present = self.is_present(joiner.node());
        let wall = self.clock.wall();
        let refuse = |reason| IssuerAction::Refuse(JoinRefused { reason, versions: Versions::OWN });
        let Some(issuer) = &mut self.issuer else {
            self.counters.refuse_join(JoinRefusal::NotIssuer);
            return Some(refuse(JoinRefusal::NotIssuer));
        };
        // WIRE-25: what it signs now nobody in the cluster knows of.
        if is_fenced {
            self.counters.refuse_join(JoinRefusal::Fenced);
            return Some(refuse(JoinRefusal::Fenced));
        }
        let is_first = matches!(event, IssuerEvent::JoinReceived { .. });
        // WIRE-10: the removal is decided, and its serial given out: the next certificate would not be
        // covered by it.
        if is_first && self.removing.contains_key(&joiner.node()) {
            self.counters.refuse_join(JoinRefusal::Removed);
            return Some(refuse(JoinRefusal::Removed));
        }
        let serial = match issuer.serial() {
            Some(serial) => serial,
            None if is_first => {
                self.counters.refuse_join(JoinRefusal::NotStored);
                return Some(refuse(JoinRefusal::NotStored));
            }
            // Its serial was taken when the use of its token was decided.
            None => 0,
        };
        let context = IssuerContext {
            own: self.own,
            cluster: &issuer.cluster,
            revoked: &self.revoked,
            serial,
            is_present,
            peers: &peers,
        };
        let action = joiner.handle((now, wall), event, &mut issuer.tokens, &context);
        match &action {
            Some(IssuerAction::Accept(_)) => {
                issuer.saw_end(wall + CERTIFICATE_LIFETIME);
                self.counters.joined += 1;
            }
            Some(IssuerAction::Refuse(refused)) => self.counters.refuse_join(refused.reason),
            Some(IssuerAction::StoreUse(_)) | None => {}
        }
        if is_first && matches!(action, Some(IssuerAction::StoreUse(_) | IssuerAction::Accept(_))) {
            issuer.take_serial();
            self.reserve_if_low();
        }
        action
    }

    /// The record of a token as it is now.
    pub(crate) fn token(&self, id: crate::token::TokenId) -> Option<TokenRecord> {
        self.issuer.as_ref()?.tokens.list().find(|record| record.id == id).cloned()
    }

    /// This node first: the joiner reached it.
    fn told_to_joiners(&self) -> Vec<PeerAddresses> {
        let own = self.membership.own();
        let others = self.sessions.values().map(|session| {
            let node = session.peer.id;
            let told = self.view.node(&node).map(|entry| entry.identity.address);
            let seen = session.connection.remote_address();
            let mut addresses = vec![seen];
            addresses.extend(told.filter(|told| *told != seen));
            (node, addresses)
        });
        std::iter::once((own.id, vec![own.address]))
            .chain(others)
            .take(PEERS_MAX)
            .map(|(node, addresses)| PeerAddresses { node: *node.as_bytes(), addresses })
            .collect()
    }
}

/// What happened to a dialed connection. An answer is judged with what is known when it is read.
#[derive(Debug)]
pub(crate) enum DialEvent {
    /// The peer answered.
    Ack(HelloAck),
    /// Anything else.
    Other(DialerEvent),
}
