//! What peers say on the control stream.
//!
//! Owns which messages are the endpoint's own and what they do. Refuses to know streams.

use std::sync::Arc;

use arw_kit::moment::Moment;
use bytes::{Bytes, BytesMut};

use super::{Core, Effect};
use crate::endpoint::events::{EndpointEvent, PeerCard};
use crate::handshake::DialSide;
use crate::identity::NodeId;
use crate::wire::{self, Card, CloseCode, Control, Pong, Revoked};

impl Core {
    /// What a new peer is told: who was removed, what this node says of itself, and a request for a
    /// certificate if one is due.
    pub(super) fn greet(&mut self, now: Moment, node: NodeId) {
        let Some(session) = self.sessions.get(&node) else { return };
        let connection = session.connection.clone();
        if self.has_renewed && session.dialed_by == DialSide::Own {
            // WIRE-21: the hello may have been on its way with the certificate before.
            drop(connection.send_control(&self.renewed()));
        }
        // WIRE-21: at hello everybody passes on who was removed.
        let revocations: Vec<Vec<u8>> =
            self.revoked.iter().map(|signed| signed.as_bytes().to_vec()).collect();
        for chunk in revocations.chunks(Revoked::MAX) {
            let told = connection.send_control(&Revoked { revocations: chunk.to_vec() }.into());
            debug_assert!(told.is_ok(), "a new queue has room for all of them");
        }
        if let Some(card) = &self.card {
            connection.queue().push_card(card.clone());
        }
        self.ask_for_renewal_of(now, node);
    }

    /// WIRE-18: what this node says of itself from now on. Every peer gets it, and each that comes.
    pub(crate) fn publish_card(&mut self, card: Bytes) {
        let message = self.card_message(card);
        for session in self.sessions.values() {
            session.connection.queue().push_card(message.clone());
        }
        self.card = Some(message);
    }

    /// The message with a card, as it is sent: written once, for all peers.
    pub(super) fn card_message(&self, card: Bytes) -> Bytes {
        let mut bytes = BytesMut::new();
        let message = Card { incarnation: self.incarnation, card: card.into() };
        // Its length was checked when it came.
        let put = wire::put(&message.into(), &mut bytes);
        debug_assert!(put.is_ok());
        bytes.freeze()
    }

    /// A message came. `Err`: the connection must end with that code.
    pub(crate) fn control(
        &mut self,
        now: Moment,
        key: (NodeId, u64),
        message: Control,
    ) -> Result<(), CloseCode> {
        let Some(peer) = self.peer_of(key) else { return Ok(()) };
        let node = key.0;
        match message {
            Control::Ping(ping) => {
                if let Some(session) = self.sessions.get(&node) {
                    // A full queue closes the connection by itself.
                    drop(session.connection.send_control(&Pong { nonce: ping.nonce }.into()));
                }
            }
            // The code of the close that follows says it all.
            Control::Pong(_) | Control::Goodbye(_) => {}
            Control::Revoked(revoked) => return self.learn_removals(now, &revoked.revocations, node),
            Control::Card(card) if card.incarnation == peer.incarnation => {
                let card = PeerCard { node, incarnation: card.incarnation, card: Bytes::from(card.card) };
                self.cards.insert(node, card.clone());
                self.events.push(EndpointEvent::Card(card));
            }
            Control::Card(_) => self.counters.cards_refused += 1,
            Control::Renew(renew) => self.renew_peer(now, node, renew.serial),
            Control::Renewed(renewed) => return self.take_certificate(node, &renewed.certificate),
            Control::Monitor(_) | Control::Demonitor(_) | Control::Down(_) => {
                self.effects.push(Effect::Control(Arc::clone(&peer), message));
            }
            Control::Hello(_)
            | Control::HelloAck(_)
            | Control::HelloRefused(_)
            | Control::Join(_)
            | Control::JoinAccepted(_)
            | Control::JoinRefused(_) => return Err(CloseCode::Malformed),
        }
        Ok(())
    }
}
